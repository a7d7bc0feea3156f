"""How often `compare` calls runs different that are not, and whether it finds one that is.

    scripts/paired                        # about two minutes of a core
    scripts/paired --recorded runs/a ...  # resamples the recorded predictions of these runs too

200 pairs each of: answers drawn row by row with equal skill; recorded predictions, both sides of a pair drawn from the same
model's (each row's answer is that of a random row with the same gold label); and real trainings of a tiny model with equal
settings and other seeds, from 21 runs. Then a run on a tenth of the data against each of ten of them. A pair counts as
different where any score is, after Holm's correction.
"""

from __future__ import annotations

import argparse
import itertools
import os
import random
import tempfile
from dataclasses import replace
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("HF_TRAINPIPE_THREADS", "1")

import numpy as np

from hf_trainpipe import Budget, Evaluation, Frame, Optim, Pretrained, Recipe, RunOptions, TextClassification, Tokens
from hf_trainpipe.metrics import Predictions
from hf_trainpipe.metrics.paired import differences, holm, mcnemar, right
from hf_trainpipe.metrics.saved import folder_of, load
from hf_trainpipe.testing import tiny_model, tiny_rows

PAIRS, ROWS, RUNS = 200, 600, 21
LABELS = ("negative", "positive")


def smallest_p(one: Predictions, two: Predictions) -> float:
    """The smallest of Holm's p-values: accuracy by McNemar's test, macro F1 and Matthews' coefficient by the bootstrap."""
    gaps = differences(one, two, ["f1_macro", "mcc"], resamples=1000)
    sides = right(one), right(two)
    assert sides[0] is not None
    assert sides[1] is not None
    return min(holm([mcnemar(*sides).p, *(gap.p for gap in gaps.values())]))


def drawn(random_: np.random.Generator, gold: np.ndarray, skill: float, labels: int) -> Predictions:
    hit = random_.random(len(gold)) < skill
    answers = np.where(hit, gold, (gold + random_.integers(1, labels, len(gold))) % labels)
    return Predictions(
        "single_label", outputs=np.eye(labels)[answers], references=gold, labels=tuple("abcdefgh"[:labels])
    )


def resampled(random_: np.random.Generator, held: Predictions) -> Predictions:
    """The answers to random rows of the same gold label, so that both sides of a pair have the same skill in truth."""
    picked = np.arange(len(held))
    for label in np.unique(held.references):
        places = np.flatnonzero(held.references == label)
        picked[places] = random_.choice(places, len(places))
    return replace(held, outputs=held.outputs[picked])


def recipe(folder: Path, *, seed: int, rows: int) -> Recipe:
    import pandas

    def noisy(count: int, seed: int) -> pandas.DataFrame:
        draw = random.Random(seed)
        made = tiny_rows(count, seed=seed)
        return pandas.DataFrame(
            [{**r, "label": draw.choice(LABELS) if draw.random() < 0.3 else r["label"]} for r in made]
        )

    steps = 2 * 960 // 16
    return Recipe(
        name="paired",
        model=Pretrained(str(folder / "model")),
        data=Frame(train=noisy(960, 1)[:rows], validation=noisy(ROWS, 2)),
        task=TextClassification("text", label="label"),
        tokens=Tokens(max_length=32),
        optim=Optim(peak_lr=3e-3, precision="fp32"),
        budget=Budget(epochs=2, examples_per_step=16, evaluate_every=steps, save_every=10**6, log_every=50),
        evaluation=Evaluation(resamples=20, train_sample=0),
        seed=seed,
    )


def trained(made: Recipe, place: Path) -> Predictions:
    """The predictions of a run on validation at the end of its loop."""
    from hf_trainpipe.engine.evaluation import judge
    from hf_trainpipe.training.loop import train
    from hf_trainpipe.training.run import Run
    from hf_trainpipe.training.setup import set_up

    with set_up(made, RunOptions(), run_dir=place) as setup:
        run = Run(setup)
        for _ in train(run):
            pass
        return judge(run.predict("validation"), run.data.splits["validation"].features, run.task)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--recorded", type=Path, nargs="*", default=[], help="folders of runs")
    given = parser.parse_args()
    draw = np.random.default_rng(3)
    print("| pairs | number | called different |\n|---|---|---|", flush=True)

    def told(name: str, p_values: list[float]) -> None:
        count = sum(p < 0.05 for p in p_values)
        print(f"| {name} | {len(p_values)} | {count} ({count / len(p_values):.1%}) |", flush=True)

    for labels, skill, rows in ((3, 0.8, 300), (2, 0.95, 2000)):
        found = []
        for _ in range(PAIRS):
            gold = draw.integers(0, labels, rows)
            found.append(smallest_p(*(drawn(draw, gold, skill, labels) for _ in range(2))))
        told(f"drawn, {labels} labels, {skill:.0%} right, {rows:,} rows", found)
    for run in given.recorded:
        for file in sorted(folder_of(run).glob("*.npz")):
            held = load(file).predictions
            found = [smallest_p(resampled(draw, held), resampled(draw, held)) for _ in range(PAIRS)]
            told(f"recorded, {held.num_labels} labels, {len(held):,} rows of {file.stem}, resampled", found)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        os.environ["HF_TRAINPIPE_CACHE"] = str(folder / "cache")
        tiny_model(folder / "model")
        models = [trained(recipe(folder, seed=seed, rows=960), folder / str(seed)) for seed in range(RUNS)]
        less = trained(recipe(folder, seed=0, rows=96), folder / "less")
        pairs = list(itertools.combinations(models, 2))[:PAIRS]
        told("trained, other seeds", [smallest_p(*pair) for pair in pairs])
        found = [smallest_p(one, less) for one in models[:10]]
        told("trained, a tenth of the data against all", found)
        accuracy = [float((one.decisions() == one.references).mean()) for one in [*models, less]]
        print(f"\naccuracy over seeds {min(accuracy[:-1]):.3f} to {max(accuracy[:-1]):.3f}, of a tenth {accuracy[-1]:.3f}; "
              f"its largest p {max(found):.2g}")  # fmt: skip


if __name__ == "__main__":
    main()
