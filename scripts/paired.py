"""How often `compare` calls runs different that are not, whether it finds one that is, and whether intervals hold their level.

    scripts/paired                        # about ten minutes of a core
    scripts/paired --recorded runs/a ...  # resamples the recorded predictions of these runs too
    scripts/paired --parts drawn seeds intervals margins   # without the trainings: three minutes

1,000 pairs each of: answers drawn row by row with equal skill; recorded predictions, both sides of a pair drawn from the same
model's (each row's answer is that of a random row with the same gold label); three seeds a side, whose seed moves the skill on all
rows. 200 pairs of real trainings of a tiny model with equal settings and other seeds, from 21 runs, and a run on a tenth of the data
against each of ten of them. A pair counts as different where any score is, after the correction. Intervals of `evaluate` over 1,000
splits drawn from a population whose score is known (of a million rows; or all recorded rows). Models that are worse by just the
margin, held against it.
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
from hf_trainpipe.metrics import Predictions, intervals, score
from hf_trainpipe.metrics.margin import by_rows
from hf_trainpipe.metrics.multiple import Family, step_down
from hf_trainpipe.metrics.paired import differences, mcnemar, right
from hf_trainpipe.metrics.saved import Predicted, folder_of, load, taken
from hf_trainpipe.metrics.seeds import seed_differences
from hf_trainpipe.testing import tiny_model, tiny_rows

DRAWN, PAIRS, ROWS, RUNS = 1000, 200, 600, 21
SCORES = ["accuracy", "f1_macro", "mcc"]
PARTS = ("drawn", "recorded", "seeds", "intervals", "margins", "trained")
LABELS = ("negative", "positive")


def smallest_p(one: Predictions, two: Predictions) -> float:
    """The smallest adjusted p-value: accuracy by McNemar's test, macro F1 and Matthews' coefficient by the bootstrap."""
    gaps = differences(one, two, SCORES, resamples=1000)
    sides = right(one), right(two)
    assert sides[0] is not None
    assert sides[1] is not None
    p_values = [mcnemar(*sides).p, gaps["f1_macro"].p, gaps["mcc"].p]
    return min(step_down([Family(p_values=p_values, drawn=[gap.drawn for gap in gaps.values()])])[0])


def seeds(
    random_: np.random.Generator, gold: np.ndarray, logits: np.ndarray, number: int, spread: float
) -> list[Predictions]:
    """Runs of one recipe on rows of different difficulty: their seed moves the skill on all of them."""
    chances = [1 / (1 + np.exp(-logits - random_.normal(0, spread))) for _ in range(number)]
    answers = [np.where(random_.random(len(gold)) < one, gold, 1 - gold) for one in chances]
    return [Predictions("single_label", outputs=np.eye(2)[one], references=gold, labels=("a", "b")) for one in answers]


def smallest_p_of_seeds(first: list[Predictions], second: list[Predictions], number: int) -> float:
    gaps = seed_differences(first, second, SCORES, resamples=500, seed=number)
    family = Family(p_values=[gap.p for gap in gaps.values()], drawn=[gap.drawn for gap in gaps.values()])
    return min(step_down([family])[0])


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


def covered(draws: list[Predictions], truth: dict[str, float], resamples: int = 1000) -> dict[str, list[bool]]:
    """Of each score whether the interval of each split has the true one."""
    held: dict[str, list[bool]] = {name: [] for name in truth}
    for number, one in enumerate(draws):
        for name, found in intervals(one, list(truth), resamples=resamples, seed=number).items():
            held[name].append(found.low <= truth[name] <= found.high)
    return held


def told(name: str, p_values: list[float]) -> None:
    count = sum(p < 0.05 for p in p_values)
    print(f"| {name} | {len(p_values):,} | {count} ({count / len(p_values):.1%}) |", flush=True)


def told_intervals(name: str, held: dict[str, list[bool]]) -> None:
    for metric, each in held.items():
        print(f"| {name} | {metric} | {np.mean(each[:200]):.1%} | {np.mean(each):.1%} of {len(each):,} |", flush=True)


def part_drawn(draw: np.random.Generator) -> None:
    for labels, skill, rows in ((3, 0.8, 300), (3, 0.8, 1000), (2, 0.95, 2000)):
        found = []
        for _ in range(DRAWN):
            gold = draw.integers(0, labels, rows)
            found.append(smallest_p(*(drawn(draw, gold, skill, labels) for _ in range(2))))
        told(f"drawn, {labels} labels, {skill:.0%} right, {rows:,} rows", found)


def part_recorded(draw: np.random.Generator, runs: list[Path]) -> None:
    for run in runs:
        for file in sorted(folder_of(run).glob("*.npz")):
            held = load(file).predictions
            found = [smallest_p(resampled(draw, held), resampled(draw, held)) for _ in range(DRAWN)]
            told(f"recorded, {held.num_labels} labels, {len(held):,} rows of {file.stem}, resampled", found)


def part_seeds(draw: np.random.Generator) -> None:
    for number, spread, rows in ((3, 0.0, 500), (3, 0.2, 500), (5, 0.2, 500), (3, 0.2, 2000)):
        found = []
        for at in range(DRAWN if rows < 1000 else PAIRS):
            gold, logits = draw.integers(0, 2, rows), draw.normal(2, 2, rows)
            found.append(smallest_p_of_seeds(*(seeds(draw, gold, logits, number, spread) for _ in range(2)), at))
        told(f"{number} seeds a side, spread {spread:g}, {rows:,} rows", found)


def part_intervals(draw: np.random.Generator, runs: list[Path]) -> None:
    print("\n| splits | score | first 200 | all |\n|---|---|---|---|", flush=True)
    for labels, skill, rows, shares in ((3, 0.8, 300, None), (3, 0.8, 1000, None), (2, 0.9, 500, (0.87, 0.13))):
        kind = [drawn(draw, draw.choice(labels, n, p=shares), skill, labels) for n in (1_000_000, *[rows] * DRAWN)]
        told_intervals(f"{labels} labels, {skill:.0%} right, {rows:,} rows" + (", one label rare" if shares else ""),
                       covered(kind[1:], score(kind[0], SCORES)))  # fmt: skip
    numbers = [draw.normal(size=n) for n in (1_000_000, *[400] * PAIRS)]
    pairs = [Predictions("regression", outputs=one + draw.normal(0, 0.7, len(one)), references=one) for one in numbers]
    told_intervals("numbers, 400 rows", covered(pairs[1:], score(pairs[0], ["spearman", "rmse"]), resamples=300))
    for run in runs:
        for file in sorted(folder_of(run).glob("*.npz")):
            whole = load(file)
            some = [picked(whole, draw.integers(0, len(whole), 400)) for _ in range(DRAWN)]
            told_intervals(f"400 of the recorded rows of {file.stem}", covered(some, score(whole.predictions, SCORES)))


def picked(whole: Predicted, rows: np.ndarray) -> Predictions:
    return taken(whole, rows).predictions


def part_margins(draw: np.random.Generator) -> None:
    print("\n| a model that is worse by the margin | number | passes |\n|---|---|---|", flush=True)
    for rows, disagreement, margin in ((872, 0.08, 0.01), (872, 0.02, 0.005), (3080, 0.08, 0.005)):
        shares = [(disagreement + margin) / 2, (disagreement - margin) / 2, 1 - disagreement]
        wins = draw.multinomial(rows, shares, 4000)
        told(f"{rows:,} rows, {disagreement:.0%} differ, margin {100 * margin:g}",
             [by_rows(int(first), int(second), rows, margin=margin).p for first, second, _ in wins])  # fmt: skip


def part_trained() -> None:
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


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--recorded", type=Path, nargs="*", default=[], help="folders of runs")
    parser.add_argument("--parts", nargs="*", choices=PARTS, default=PARTS, help="all unless named")
    given = parser.parse_args()
    draw = np.random.default_rng(3)
    print("| pairs | number | called different |\n|---|---|---|", flush=True)
    parts = {
        "drawn": lambda: part_drawn(draw),
        "recorded": lambda: part_recorded(draw, given.recorded),
        "seeds": lambda: part_seeds(draw),
        "trained": part_trained,
        "intervals": lambda: part_intervals(draw, given.recorded),
        "margins": lambda: part_margins(draw),
    }
    for name, run in parts.items():
        if name in given.parts:
            run()


if __name__ == "__main__":
    main()
