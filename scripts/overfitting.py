"""How often overfitting is shown, of runs that do not overfit and of runs that must: real trainings of a tiny model.

    scripts/overfitting --healthy 50 --shuffled 20 --out FILE.jsonl     # continues behind what is in the file
    scripts/overfitting --table FILE.jsonl

A healthy run sees each of its examples at most twice; an eighth of the labels, in training and validation, are wrong, so that
the validation loss does not fall to zero but comes to rest and jumps around. A shuffled run trains 40 epochs on few examples
whose labels were shuffled: what it learns is only its examples by heart. Each run evaluates 16 times. The trainings are the
pipeline's own up to the end of the loop, without scoring and packaging. The table also has two checks without training:
losses that wander at rest, by independent and by lasting jumps.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import tempfile
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("HF_TRAINPIPE_THREADS", "1")

import numpy as np

from hf_trainpipe import Budget, Evaluation, Frame, Optim, Pretrained, Recipe, RunOptions, TextClassification, Tokens
from hf_trainpipe.metrics.overfitting import BLOCKS, Gaps
from hf_trainpipe.testing import tiny_model, tiny_rows

EXAMPLES_PER_STEP, EVALUATIONS = 16, 16
LABELS = ("negative", "positive")


def recipe(folder: Path, *, shuffled: bool, seed: int) -> Recipe:
    import pandas

    draw = random.Random(seed)
    train, validation = tiny_rows(96 if shuffled else 1280, seed=2 * seed), tiny_rows(300, seed=2 * seed + 1)
    if shuffled:
        labels = draw.sample([row["label"] for row in train], len(train))
        train = [{**row, "label": label} for row, label in zip(train, labels, strict=True)]
    else:
        train, validation = (
            [{**row, "label": draw.choice(LABELS) if draw.random() < 0.25 else row["label"]} for row in rows]
            for rows in (train, validation)
        )
    epochs = 40 if shuffled else 2
    steps = epochs * len(train) // EXAMPLES_PER_STEP
    return Recipe(
        name="overfitting",
        model=Pretrained(str(folder / "model"), dropout=0.0 if shuffled else 0.1),
        data=Frame(train=pandas.DataFrame(train), validation=pandas.DataFrame(validation)),
        task=TextClassification("text", label="label"),
        tokens=Tokens(max_length=32),
        optim=Optim(peak_lr=3e-3, precision="fp32"),
        budget=Budget(
            epochs=epochs,
            examples_per_step=EXAMPLES_PER_STEP,
            evaluate_every=max(1, steps // EVALUATIONS),
            save_every=10**6,
            log_every=50,
        ),
        evaluation=Evaluation(resamples=20),
        seed=seed,
    )


def train(made: Recipe, place: Path) -> dict[str, Any]:
    """A run up to the end of its loop: where overfitting was shown, and its losses."""
    from hf_trainpipe.training.loop import train as steps
    from hf_trainpipe.training.monitor import Evaluator, TrainingLog
    from hf_trainpipe.training.run import Run
    from hf_trainpipe.training.setup import set_up

    with set_up(made, RunOptions(), run_dir=place) as setup:
        run = Run(setup)
        with TrainingLog(run) as log:
            log.open(offset=0)
            evaluator = Evaluator(run, log)
            shown = None
            for report in steps(run):
                log.log_step(report)
                if run.plan.evaluates_at(report.step):
                    evaluator.evaluate()
                    shown = shown or run.state.gaps.shown_from
        gaps = run.state.gaps
        return {
            "shown_from": shown,
            "evaluations": len(gaps.steps),
            "steps": gaps.steps,
            "validation": [[round(loss, 5) for loss in one] for one in gaps.validation],
            "train": [[round(loss, 5) for loss in one] for one in gaps.train],
        }


def wandering(*, runs: int, lasting: float, rise: float = 0.0) -> float:
    """The share of simulated runs whose losses come to rest, jump by 0.03 and rise by ``rise`` an evaluation, that are called
    overfitting at any of 20 evaluations; of each jump ``lasting`` remains at the next."""
    draw, found = np.random.default_rng(1), 0
    for _ in range(runs):
        gaps, jump, base = Gaps(), 0.0, draw.normal(0, 0.1, (2, BLOCKS))
        for number in range(20):
            jump = lasting * jump + (1 - lasting**2) ** 0.5 * 0.03 * draw.normal()
            rest = 0.5 + 1.5 * np.exp(-2.0 * number)
            validation = base[0] + rest + jump + rise * number + draw.normal(0, 0.01, BLOCKS)
            training = base[1] + rest + 0.8 * jump - 0.05 * (1 - np.exp(-number / 3)) + draw.normal(0, 0.01, BLOCKS)
            if gaps.add(number + 1, validation.tolist(), training.tolist()).shown_from is not None:
                found += 1
                break
    return found / runs


def table(lines: list[dict[str, Any]]) -> str:
    rows = [
        "| runs | number | overfitting shown | validation loss, lowest to last | training loss, last |",
        "|---|---|---|---|---|",
    ]
    for kind in ("healthy", "shuffled"):
        found = [line for line in lines if line["kind"] == kind]
        if found:
            shown = sum(line["shown_from"] is not None for line in found)
            low, last, train = (
                np.median([pick(*(np.mean(line[side], axis=1) for side in ("validation", "train"))) for line in found])
                for pick in (lambda held, _: held.min(), lambda held, _: held[-1], lambda _, learnt: learnt[-1])
            )
            rows.append(f"| {kind} | {len(found)} | {shown} | {low:.3f} to {last:.3f} | {train:.3f} |")
    for lasting in (0.0, 0.5, 0.8, 0.95):
        share = wandering(runs=100, lasting=lasting)
        rows.append(f"| simulated at rest, {lasting:g} of a jump lasts | 100 | {share:.1%} | | |")
    rows.append(
        f"| simulated, rising by 0.02 an evaluation | 100 | {wandering(runs=100, lasting=0.0, rise=0.02):.1%} | | |"
    )
    return "\n".join(rows)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--healthy", type=int, default=0)
    parser.add_argument("--shuffled", type=int, default=0)
    parser.add_argument("--out", type=Path, default=Path("overfitting.jsonl"))
    parser.add_argument("--table", type=Path)
    parser.add_argument("--seconds", type=float, default=float("inf"), help="begin no run after so many")
    given = parser.parse_args()
    if given.table is not None:
        print(table([json.loads(line) for line in given.table.read_text().splitlines()]))
        return
    import time

    begun = time.monotonic()
    done = [json.loads(line) for line in given.out.read_text().splitlines()] if given.out.exists() else []
    known = {(line["kind"], line["seed"]) for line in done}
    wanted = [(kind, seed) for kind in ("shuffled", "healthy") for seed in range(getattr(given, kind))]
    with tempfile.TemporaryDirectory() as folder:
        os.environ["HF_TRAINPIPE_CACHE"] = str(Path(folder) / "cache")
        tiny_model(Path(folder) / "model")
        for kind, seed in wanted:
            if (kind, seed) in known or time.monotonic() - begun > given.seconds:
                continue
            made = recipe(Path(folder), shuffled=kind == "shuffled", seed=seed)
            found = {"kind": kind, "seed": seed, **train(made, Path(folder) / f"{kind}-{seed}")}
            with given.out.open("a") as stream:
                stream.write(json.dumps(found) + "\n")


if __name__ == "__main__":
    main()
