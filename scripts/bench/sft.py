"""B20: target tokens a second when a language model is tuned on instructions, packed, padded and by peers.

    python scripts/bench/sft.py --data-dir ../shared/data --model FOLDER
    python scripts/bench/sft.py --data-dir ../shared/data --model FOLDER --sides ours,plain --repeats 1 --peer-python OTHER/bin/python

Each side takes the same optimizer steps of 16 Alpaca examples each in a process of its own, after one that is not counted. Only
target tokens count: those of answers, with what ends them. Sides: `ours` (documents packed, attention a document, the head on answers
in chunks), `ours-padded` (`tokens.padding='batch'`), `plain` (a loop of torch over transformers' padded model and loss, the same
examples in the same order), `trl` (TRL's SFTTrainer, `padding_free`, so that its documents are flat too; needs a python with TRL).
Losses of the steps are kept: `ours` and `ours-padded` must agree. CPU seconds are those of the process, all threads; on a machine that others
use too, they are the fairer figure.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent))

from processes import own_side
from public_data import Row
from results import Runs, Spread, Table, compare, make_parser, names_of, parse, ratio, spread

SIDES = ("ours", "ours-padded", "plain", "trl")
EXAMPLES = 16
RATE = 1e-5


def recipe_of(options: argparse.Namespace) -> Any:
    from hf_trainpipe import Budget, Files, InstructionTuning, Optim, Pretrained, Recipe, Tokens

    if options.smoke:
        import pandas

        from hf_trainpipe import Frame
        from hf_trainpipe.testing import tiny_rows

        rows = [{"instruction": row["text"], "input": "", "output": row["label"]} for row in tiny_rows(96, seed=1)]
        data: Any = Frame(train=pandas.DataFrame(rows))
    else:
        data = Files(train="alpaca_data.first5000.json.gz", root=str(options.data_dir / "alpaca"))
    return Recipe(
        name="sft-bench",
        model=Pretrained(str(options.model), dropout=0.0),
        data=data,
        task=InstructionTuning(input="input"),
        tokens=Tokens(
            max_length=48 if options.smoke else 1024,
            overflow="drop",
            padding="batch" if options.side == "ours-padded" else "auto",
        ),
        optim=Optim(peak_lr=RATE, schedule="constant", warmup=0.0, weight_decay=0.0, precision="fp32"),
        budget=Budget(
            max_steps=options.steps + 1, examples_per_step=EXAMPLES, micro_batch_tokens=options.micro_batch_tokens
        ),
    )


def ours(options: argparse.Namespace) -> Row:
    """Steps of the training loop itself, timed from outside."""
    return timed(recipe_of(options))


def timed(recipe: Any, then: Callable[[Any], Row] = lambda run: {}) -> Row:
    """The steps of a recipe, and what ``then`` makes of the run."""
    from hf_trainpipe import RunOptions
    from hf_trainpipe.training.loop import train
    from hf_trainpipe.training.run import Run
    from hf_trainpipe.training.setup import set_up

    with (
        tempfile.TemporaryDirectory() as folder,
        set_up(recipe, RunOptions(), run_dir=Path(folder) / "run") as found,
    ):
        clock, run = Clock(), Run(found)
        for report in train(run):
            clock.step(targets=report.count, tokens=report.tokens, loss=float(report.loss_sum) / report.count)
        return {**clock.row(), **then(run)}


class Clock:
    """Times steps; the first one is not counted."""

    def __init__(self) -> None:
        self.wall = self.cpu = 0.0
        self.targets = self.tokens = 0.0
        self.losses: list[float] = []

    def step(self, *, targets: float, tokens: float, loss: float) -> None:
        self.losses.append(loss)
        if len(self.losses) == 1:
            self.wall, self.cpu = time.perf_counter(), time.process_time()
        else:
            self.targets, self.tokens = self.targets + targets, self.tokens + tokens

    def row(self) -> Row:
        wall, cpu = time.perf_counter() - self.wall, time.process_time() - self.cpu
        return {
            "targets_per_second": self.targets / wall,
            "targets_per_cpu_second": self.targets / cpu,
            "tokens": self.tokens,
            "targets": self.targets,
            "wall": wall,
            "cpu": cpu,
            "losses": self.losses,
        }


def examples_of(options: argparse.Namespace) -> tuple[list[list[int]], list[list[int]], list[list[int]]]:
    """What this project makes of the data: ids and labels of each example (of transformers: as long as the ids), and the steps."""
    recipe = recipe_of(options)
    data = prepared(recipe)
    stream = data.features.input
    ids, labels = [], []
    for feature in range(data.features.num_features):
        place = slice(int(stream.starts[feature]), int(stream.starts[feature + 1]))
        ids.append([*stream["input_ids"][place].tolist(), int(stream["labels"][place][-1])])
        labels.append([-100, *stream["labels"][place].tolist()])
    return ids, labels, steps_of(recipe, len(data.usable), options.steps + 1)


def prepared(recipe: Any) -> Any:
    """The training split of a recipe as this project encodes it."""
    from hf_trainpipe.data.prepare import prepare
    from hf_trainpipe.model.tokenizer import load_tokenizer
    from hf_trainpipe.utils.cache import cache_root

    return prepare(
        recipe,
        tokenizer=load_tokenizer(recipe.model),
        max_length=recipe.tokens.max_length or 0,
        vocab_size=None,
        root=cache_root(),
        say=lambda line: None,
    ).train


def steps_of(recipe: Any, examples: int, count: int) -> list[list[int]]:
    """The examples of the first ``count`` steps."""
    from hf_trainpipe.data.sampler import EpochSampler

    order = EpochSampler(num_examples=examples, examples_per_step=recipe.budget.examples_per_step, seed=recipe.seed)
    return [order.global_batch(step).tolist() for step in range(count)]


def plain(options: argparse.Namespace) -> Row:
    """transformers' padded model and loss in a loop."""
    import torch
    from transformers import AutoModelForCausalLM

    ids, labels, steps = examples_of(options)
    model = AutoModelForCausalLM.from_pretrained(options.model, dtype=torch.float32).train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=RATE, weight_decay=0.0, fused=True)
    clock = Clock()
    for chosen in steps:
        width = max(len(ids[one]) for one in chosen)
        rows = [[*ids[one], *[0] * (width - len(ids[one]))] for one in chosen]
        mask = [[1] * len(ids[one]) + [0] * (width - len(ids[one])) for one in chosen]
        gold = [[*labels[one], *[-100] * (width - len(ids[one]))] for one in chosen]
        batch = {"input_ids": rows, "attention_mask": mask, "labels": gold}
        out = model(**{name: torch.tensor(value) for name, value in batch.items()}, use_cache=False)
        out.loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        targets = sum(sum(label != -100 for label in labels[one]) for one in chosen)
        clock.step(targets=targets, tokens=sum(len(ids[one]) for one in chosen), loss=out.loss.item())
    return clock.row()


def trl(options: argparse.Namespace) -> Row:
    """TRL's trainer over the same tokens, flat."""
    import torch
    from datasets import Dataset
    from transformers import AutoModelForCausalLM, AutoTokenizer, TrainerCallback
    from trl import SFTConfig, SFTTrainer

    ids, labels, steps = examples_of(options)
    chosen = [one for step in steps for one in step]
    rows = Dataset.from_list([{"input_ids": ids[one], "labels": labels[one]} for one in chosen])
    clock = Clock()

    class Watch(TrainerCallback):  # type: ignore[misc]
        done = 0

        def on_step_end(self, *_: Any, **__: Any) -> None:
            step = steps[self.done]
            self.done += 1
            targets = sum(sum(label != -100 for label in labels[one]) for one in step)
            clock.step(targets=targets, tokens=sum(len(ids[one]) for one in step), loss=float("nan"))

    with tempfile.TemporaryDirectory() as folder:
        settings = SFTConfig(
            output_dir=folder, per_device_train_batch_size=EXAMPLES, max_steps=options.steps + 1, learning_rate=RATE,
            lr_scheduler_type="constant", max_length=None, padding_free=True, completion_only_loss=True, use_cpu=True,
            report_to=[], save_strategy="no", logging_steps=1, gradient_checkpointing=False, bf16=False,
            dataset_kwargs={"skip_prepare_dataset": True}, shuffle_dataset=False, weight_decay=0.0,
        )  # fmt: skip
        model = AutoModelForCausalLM.from_pretrained(options.model, dtype=torch.float32)
        trainer = SFTTrainer(
            model, args=settings, train_dataset=rows, processing_class=AutoTokenizer.from_pretrained(options.model),
            callbacks=[Watch()],
        )  # fmt: skip
        trainer._get_train_sampler = lambda *_: torch.utils.data.SequentialSampler(rows)
        trainer.train()
        row = clock.row()
        said = [line["loss"] for line in trainer.state.log_history if "loss" in line]
    return {**row, "losses": said}


RUN = {"ours": ours, "ours-padded": ours, "plain": plain, "trl": trl}


def summary(runs: Runs) -> tuple[dict[str, Spread | None], list[Table]]:
    ratios: dict[str, Spread | None] = {}
    rows = []
    [(case, sides)] = runs.items()
    for side, found in sides.items():
        if not found:
            continue
        for key, name in (("targets_per_second", "wall"), ("targets_per_cpu_second", "CPU")):
            ratios[f"ours / {side}, {name}"] = ratio(sides, "ours", side, key)
        losses = (
            [abs(a - b) for a, b in zip(sides["ours"][0]["losses"], found[0]["losses"], strict=False)]
            if sides["ours"]
            else []
        )
        wall, cpu = (ratios[f"ours / {side}, {name}"] for name in ("wall", "CPU"))
        rows.append(
            (
                side,
                spread([one["targets_per_second"] for one in found]).text(".1f"),
                spread([one["targets_per_cpu_second"] for one in found]).text(".1f"),
                wall.text() if wall else "-",
                cpu.text() if cpu else "-",
                f"{max(losses):.1e}" if losses else "-",
            )
        )
    header = ("side", "target tokens/s", "a CPU second", "ours / it", "the same in CPU seconds", "losses differ by")
    return ratios, [Table(case, header, rows)]


def main(argv: list[str] | None = None) -> None:
    parser = make_parser(__doc__, out="sft.json", repeats=1)
    parser.add_argument("--model", type=Path, help="a causal model with a chat template")
    parser.add_argument("--sides", default="ours,ours-padded,plain")
    parser.add_argument("--steps", type=int, default=4, help="steps that are counted")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--micro-batch-tokens", type=int, default=None)
    parser.add_argument("--peer-python", default=sys.executable, help="of the side trl")
    parser.add_argument("--side", help="measure this side in this process, and print it")
    options = parse(parser, argv)
    sides = names_of(options.sides, SIDES, parser)
    if options.smoke:
        options.steps = 1
    with tempfile.TemporaryDirectory() as folder:
        if options.smoke and options.model is None:
            from hf_trainpipe.testing import tiny_causal_model

            options.model = tiny_causal_model(Path(folder) / "model")
        if options.side is not None:
            print(json.dumps(RUN[options.side](options)))
            return

        def measure(case: str, side: str) -> Row:
            python = options.peer_python if side == "trl" else sys.executable
            more = (
                [] if options.micro_batch_tokens is None else ["--micro-batch-tokens", str(options.micro_batch_tokens)]
            )
            command = [
                python,
                __file__,
                "--side",
                side,
                "--model",
                str(options.model),
                "--steps",
                str(options.steps),
                *more,
            ]
            command += ["--smoke"] if options.smoke else ["--data-dir", str(options.data_dir)]
            return own_side(command, side, threads=options.threads)

        compare(
            options, ["alpaca"], lambda _: sides, measure, summary, benchmark="B20", title="instruction tuning", doc=__doc__,
            settings={"steps": options.steps, "examples a step": EXAMPLES, "threads": options.threads},
        )  # fmt: skip


if __name__ == "__main__":
    main()
