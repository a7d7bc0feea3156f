"""B23: pairs a second when a language model learns preferences, with questions computed once or twice; and TRL's losses beside ours.

    python scripts/bench/preferences.py --data-dir ../shared/data --model FOLDER
    python scripts/bench/preferences.py --data-dir ../shared/data --model FOLDER --cases dpo --sides ours,ours-twice --repeats 3
    python scripts/bench/preferences.py --smoke --sides ours,trl --steps 9 --rate 1e-2     losses alone, of a tiny model

Each side takes the same steps of 8 examples each in a process of its own, after one that is not counted. Questions and chosen answers
are Alpaca's; a rejected answer is that of another row. KTO learns the same answers one by one, every other one unwanted, from the same 8
in each step. Sides: `ours` (the question computed once), `ours-twice` (`task.shared_prompt=False`), `trl` (TRL's DPOTrainer and
KTOTrainer over the same tokens, references computed before; of ORPO its averages and odds in a plain loop, with the chosen answer's
loss on the answer alone, where TRL's has the question too). The reference is computed before the clock runs. Losses of the steps
are kept: all sides must agree. CPU seconds are those of the process, all threads.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent))

from processes import own_side
from public_data import Row
from results import Runs, Spread, Table, compare, make_parser, names_of, parse, ratio, spread
from sft import Clock, prepared, steps_of, timed

CASES = ("dpo", "kto", "orpo")
SIDES = ("ours", "ours-twice", "trl")
EXAMPLES = 8
BETA = 0.1


def rows_of(options: argparse.Namespace) -> list[Row]:
    """Questions with a chosen and a rejected answer, or with one that is wanted or not."""
    count = EXAMPLES if options.case == "kto" else EXAMPLES * (options.steps + 1)
    if options.smoke:
        from hf_trainpipe.testing import tiny_rows

        found = [{"prompt": row["text"][:20], "chosen": row["text"][-12:]} for row in tiny_rows(count, seed=1)]
    else:
        import gzip

        path = options.data_dir / "alpaca" / "alpaca_data.first5000.json.gz"
        with gzip.open(path, "rt") as stream:
            raw = [row for row in json.load(stream) if row["output"].strip()][:count]
        found = [
            {"prompt": "\n\n".join(filter(None, (row["instruction"], row["input"]))), "chosen": row["output"]}
            for row in raw
        ]
    for place, row in enumerate(found):
        others = (found[place - back]["chosen"] for back in range(1, count))
        row["rejected"] = next(other for other in others if other != row["chosen"])
    if options.case != "kto":
        return found
    sides = ("chosen", "rejected")
    return [
        {"prompt": row["prompt"], "completion": row[sides[place % 2]], "label": place % 2 == 0}
        for place, row in enumerate(found)
    ]


def recipe_of(options: argparse.Namespace) -> Any:
    import pandas

    from hf_trainpipe import Budget, Frame, Optim, PreferenceTuning, Pretrained, Recipe, Tokens

    return Recipe(
        name="preferences-bench",
        model=Pretrained(str(options.model), dropout=0.0),
        data=Frame(train=pandas.DataFrame(rows_of(options))),
        task=PreferenceTuning(loss=options.case, beta=BETA, shared_prompt=options.side != "ours-twice"),
        tokens=Tokens(max_length=60 if options.smoke else 1024, overflow="truncate"),
        optim=Optim(peak_lr=options.rate, schedule="constant", warmup=0.0, weight_decay=0.0, precision="fp32"),
        budget=Budget(
            max_steps=options.steps + 1,
            epochs=options.steps + 1,
            examples_per_step=EXAMPLES,
            micro_batch_tokens=options.micro_batch_tokens,
        ),
    )


def ours(options: argparse.Namespace) -> Row:
    """Steps of the training loop itself, timed from outside."""
    return timed(recipe_of(options))


def examples_of(options: argparse.Namespace) -> list[list[Row]]:
    """What this project makes of the data: ids of the question and of both answers, step by step."""
    recipe = recipe_of(options)
    features = prepared(recipe).features
    stream, rows = features.input, []
    for feature in range(features.num_features):
        place = slice(int(stream.starts[feature]), int(stream.starts[feature + 1]))
        ids, labels, branch = (stream[name][place] for name in ("input_ids", "labels", "branch"))
        asked = [*ids[branch == 0].tolist(), int(ids[branch == 1][0])]
        rows.append({"asked": asked, "first": labels[branch == 1].tolist(), "second": labels[branch == 2].tolist()})
        if "desirable" in features.dense:
            rows[-1]["label"] = bool(features.dense["desirable"][feature])
    return [[rows[place] for place in step] for step in steps_of(recipe, len(rows), options.steps + 1)]


def trl(options: argparse.Namespace) -> Row:
    """TRL's trainers over the same tokens."""
    if options.case == "orpo":
        return _odds_of_trl(options)
    import torch
    from datasets import Dataset
    from transformers import AutoModelForCausalLM, AutoTokenizer, TrainerCallback
    from trl import DPOConfig, DPOTrainer, KTOConfig, KTOTrainer

    steps, clock, losses = examples_of(options), Clock(), []
    names = {"asked": "prompt_ids", "first": "chosen_ids", "second": "rejected_ids", "label": "label"}
    if options.case == "kto":
        names |= {"first": "completion_ids", "second": "KL_completion_ids"}
    rows = Dataset.from_list([{names[name]: value for name, value in row.items()} for step in steps for row in step])
    base, config_of = (KTOTrainer, KTOConfig) if options.case == "kto" else (DPOTrainer, DPOConfig)

    class Prepared(base):  # type: ignore[misc, valid-type]
        def _prepare_dataset(self, dataset: Any, *_: Any) -> Any:
            return dataset

        def _compute_loss(self, *args: Any, **more: Any) -> Any:
            found = super()._compute_loss(*args, **more)
            losses.append(float((found[0] if isinstance(found, tuple) else found).detach()))
            return found

        def _get_train_sampler(self, *_: Any, **__: Any) -> Any:
            return torch.utils.data.SequentialSampler(rows)

    class Watch(TrainerCallback):  # type: ignore[misc]
        def on_step_end(self, *_: Any, **__: Any) -> None:
            clock.step(targets=EXAMPLES, tokens=0, loss=losses[-1])

    with tempfile.TemporaryDirectory() as folder:
        settings = config_of(
            output_dir=folder, per_device_train_batch_size=EXAMPLES, max_steps=options.steps + 1, learning_rate=options.rate,
            lr_scheduler_type="constant", max_length=None, use_cpu=True, report_to=[], save_strategy="no", logging_steps=100,
            gradient_checkpointing=False, bf16=False, weight_decay=0.0, beta=BETA, precompute_ref_log_probs=True,
        )  # fmt: skip
        trainer = Prepared(
            AutoModelForCausalLM.from_pretrained(options.model, dtype=torch.float32),
            args=settings,
            train_dataset=rows,
            processing_class=AutoTokenizer.from_pretrained(options.model),
            callbacks=[Watch()],
        )
        trainer.train()
    return clock.row()


def _odds_of_trl(options: argparse.Namespace) -> Row:
    from types import SimpleNamespace

    import torch
    from transformers import AutoModelForCausalLM
    from trl.experimental.orpo import ORPOTrainer

    model = AutoModelForCausalLM.from_pretrained(options.model, dtype=torch.float32).train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=options.rate, weight_decay=0.0, fused=True)
    clock = Clock()
    for step in examples_of(options):
        whole = [torch.tensor(row["asked"] + row[side]) for side in ("first", "second") for row in step]
        asked = [len(row["asked"]) for row in step] * 2
        labels = [
            torch.cat([torch.full((length,), -100), ids[length:]]) for ids, length in zip(whole, asked, strict=True)
        ]
        ids, mask = (
            torch.nn.utils.rnn.pad_sequence(parts, batch_first=True)
            for parts in (whole, [torch.ones_like(one) for one in whole])
        )
        gold = torch.nn.utils.rnn.pad_sequence(labels, batch_first=True, padding_value=-100)
        logits = model(ids, attention_mask=mask, use_cache=False).logits
        means = ORPOTrainer.get_batch_logps(logits, gold, average_log_prob=True)
        trainer = SimpleNamespace(beta=BETA, accelerator=SimpleNamespace(device="cpu"))
        odds, *_ = ORPOTrainer.odds_ratio_loss(trainer, means[: len(step)], means[len(step) :])
        loss = -means[: len(step)].mean() - odds.mean()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        clock.step(targets=EXAMPLES, tokens=0, loss=loss.item())
    return clock.row()


RUN = {"ours": ours, "ours-twice": ours, "trl": trl}


def summary(runs: Runs) -> tuple[dict[str, Spread | None], list[Table]]:
    ratios: dict[str, Spread | None] = {}
    tables = []
    header = (
        "side", "examples/s", "a CPU second", "ours / it", "the same in CPU seconds", "first loss", "losses differ by"
    )  # fmt: skip
    for case, sides in runs.items():
        rows = []
        for side, found in sides.items():
            if not found:
                continue
            for key, name in (("targets_per_second", "wall"), ("targets_per_cpu_second", "CPU")):
                ratios[f"{case}: ours / {side}, {name}"] = ratio(sides, "ours", side, key)
            mine = sides["ours"][0]["losses"] if sides.get("ours") else []
            apart = [abs(one - other) for one, other in zip(mine, found[0]["losses"], strict=False)]
            wall, cpu = (ratios[f"{case}: ours / {side}, {name}"] for name in ("wall", "CPU"))
            rows.append(
                (
                    side,
                    spread([one["targets_per_second"] for one in found]).text(".2f"),
                    spread([one["targets_per_cpu_second"] for one in found]).text(".2f"),
                    wall.text() if wall else "-",
                    cpu.text() if cpu else "-",
                    f"{found[0]['losses'][0]:.6f}",
                    f"{max(apart):.1e}" if apart else "-",
                )
            )
        tables.append(Table(case, header, rows))
    return ratios, tables


def main(argv: list[str] | None = None) -> None:
    parser = make_parser(__doc__, out="preferences.json", repeats=1)
    parser.add_argument("--model", type=Path, help="a causal model with a chat template")
    parser.add_argument("--cases", default="dpo,kto,orpo")
    parser.add_argument("--sides", default="ours,ours-twice,trl")
    parser.add_argument("--steps", type=int, default=3, help="steps that are counted")
    parser.add_argument("--rate", type=float, default=1e-5, help="the learning rate")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--micro-batch-tokens", type=int, default=None)
    parser.add_argument("--peer-python", default=sys.executable, help="of the side trl")
    parser.add_argument("--case", help=argparse.SUPPRESS)
    parser.add_argument("--side", help="measure this side of --case in this process, and print it")
    options = parse(parser, argv)
    sides, cases = names_of(options.sides, SIDES, parser), names_of(options.cases, CASES, parser)
    with tempfile.TemporaryDirectory() as folder:
        if options.smoke and options.model is None:
            from hf_trainpipe.testing import tiny_causal_model

            options.model = tiny_causal_model(Path(folder) / "model")
        if options.side is not None:
            print(json.dumps(RUN[options.side](options)))
            return

        def measure(case: str, side: str) -> Row:
            python = options.peer_python if side == "trl" else sys.executable
            command = [python, __file__, "--case", case, "--side", side, "--model", str(options.model)]
            command += ["--steps", str(options.steps), "--rate", str(options.rate)]
            if options.micro_batch_tokens is not None:
                command += ["--micro-batch-tokens", str(options.micro_batch_tokens)]
            command += ["--smoke"] if options.smoke else ["--data-dir", str(options.data_dir)]
            return own_side(command, side, threads=options.threads)

        compare(
            options, cases, lambda _: sides, measure, summary, benchmark="B23", title="preferences", doc=__doc__,
            settings={"steps": options.steps, "examples a step": EXAMPLES, "rate": options.rate, "threads": options.threads},
        )  # fmt: skip


if __name__ == "__main__":
    main()
