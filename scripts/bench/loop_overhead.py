"""B3: overhead of the training loop: milliseconds a step beyond forward, backward and optimizer step.

    python scripts/bench/loop_overhead.py

A tiny model (two layers of 32) and synthetic texts of equal length, so that neither side pads and there is little to
compute. *Bare* is a loop over the same batches as ready tensors with fused AdamW, without clipping, logging or data
loading. Both sides collate, clip and log as by default.
"""

from __future__ import annotations

import argparse
import json
import random
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))

from processes import BENCH, FP32, last_json, peer, run_process, timed_steps
from public_data import Row
from results import Runs, Spread, Table, compare, make_parser, parse, spread
from workloads import Workload, open_workload, scratch, smoke_model, text_lengths, write_workload

SIDES = ("bare", "ours", "trainer")
WORDS = 21


def bare(workload: Workload, *, steps: int) -> Row:
    """The same steps without a loop around them."""
    import torch
    import transformers

    tokenizer = transformers.AutoTokenizer.from_pretrained(workload.model)
    model = transformers.AutoModelForSequenceClassification.from_pretrained(workload.model, num_labels=2).train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=5e-5, fused=True)
    rows, size = workload.train, workload.examples_per_step
    batches = []
    for step in range(4 + steps):
        chosen = [rows[(step * size + position) % len(rows)] for position in range(size)]
        batch = tokenizer([row["text"] for row in chosen], padding=True, return_tensors="pt")
        batches.append({**batch, "labels": torch.tensor([int(row["label"] == "positive") for row in chosen])})
    started = 0.0
    for step, batch in enumerate(batches):
        if step == 4:
            started = time.perf_counter()
        model(**batch).loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    return {"seconds": time.perf_counter() - started, "steps": steps, "examples": steps * size}


def equal_texts(count: int) -> list[Row]:
    """Texts of as many words each, all of them in the tiny model's vocabulary."""
    from hf_trainpipe.testing import BAD, GOOD, PLAIN

    generator = random.Random(3)

    def row() -> Row:
        label = generator.choice(("negative", "positive"))
        words = generator.choices(PLAIN, k=WORDS - 1) + generator.choices(GOOD if label == "positive" else BAD, k=1)
        return {"text": " ".join(words), "label": label}

    return [row() for _ in range(count)]


def summary(runs: Runs) -> tuple[dict[str, Spread | None], list[Table]]:
    sides = runs["tiny"]
    examples = {one["examples"] for found in sides.values() for one in found}
    assert len(examples) == 1, f"the sides saw different numbers of examples: {examples}"
    step = {side: [1000 * one["seconds"] / one["steps"] for one in found] for side, found in sides.items()}
    over = {side: [a - b for a, b in zip(step[side], step["bare"], strict=True)] for side in ("ours", "trainer")}
    each = [mine / theirs for mine, theirs in zip(over["ours"], over["trainer"], strict=True)]
    ratios: dict[str, Spread | None] = {f"{side}: overhead, ms": spread(values) for side, values in over.items()}
    ratios["overhead, ours / trainer"] = spread(each)
    rows = [
        (side, spread(step[side]).text(), spread(over[side]).text() if side in over else "-",
         spread(each).text() if side == "ours" else "-")
        for side in SIDES
    ]  # fmt: skip
    caption = "".join(f"{count:,} examples, each side" for count in examples)
    return ratios, [Table(caption, ("side", "a step, ms", "beyond the bare step, ms", "ours / trainer"), rows)]


def main(argv: list[str] | None = None) -> None:
    parser = make_parser(__doc__, out="speed-loop.json", data=False)
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument("--bare", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args(argv)
    if options.bare:
        print(json.dumps(bare(open_workload(options.bare), steps=options.steps)))
        return
    options = parse(parser, argv)
    steps = 10 if options.smoke else options.steps
    with scratch() as place:
        model, rows = smoke_model(place / "model"), equal_texts(3264)
        workload = write_workload(
            "sst2", place / "tiny", model=model, train=rows[:3200], validation=rows[3200:], smoke=True
        )
        lengths = text_lengths(workload)
        assert len(set(lengths)) == 1, "texts of different length"

        def measure(case: str, side: str) -> Row:
            if side == "ours":
                found = timed_steps(workload, lengths, *FP32, "--budget.micro-batch-tokens", "4096", steps=steps)
            elif side == "trainer":
                found = peer("train", workload.folder, "--way", side, "--steps", str(steps), "--warmup", "4")
            else:
                command = [sys.executable, str(BENCH / "loop_overhead.py"), "--bare", str(workload.folder)]
                return last_json(run_process([*command, "--steps", str(steps)], folder=workload.folder))
            found.pop("lengths")
            return found

        compare(
            options, ["tiny"], lambda case: SIDES, measure, summary,
            benchmark="B3", title="what the loop adds", doc=__doc__, settings={"steps": steps, "words": WORDS},
        )  # fmt: skip


if __name__ == "__main__":
    main()
