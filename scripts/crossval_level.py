"""How often the interval of `crossval` holds the truth, and what its rivals would do.

    scripts/crossval_level                      # learners on simulated data, whose true accuracy is known exactly; three minutes
    scripts/crossval_level --data-dir DIR       # TF-IDF with logistic regression on draws from AG News too; ten minutes

200 data sets each, five folds, intervals of 95 %. The truth is the mean true accuracy of the fold models (``models``), and that of
the learner over all data sets of this size (``learner``). Rivals: the rows alone (bootstrap, as Bayle et al. 2020), and Nadeau and
Bengio's corrected t over the scores of folds. Learners: discriminant analysis; one that takes a single variable, and so changes
with few rows; one that draws a quarter of the variables by its seed; one of which every tenth run fails; and duplicates in
clusters of three on average, folds by cluster.
"""

from __future__ import annotations

import argparse
import csv
import gzip
import math
import os
from collections.abc import Callable
from functools import partial
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
from numpy.typing import NDArray

from hf_trainpipe.metrics import Predictions
from hf_trainpipe.metrics.folds import Fold, FoldsScore, score_folds
from hf_trainpipe.studies.folds import Strata, deal
from hf_trainpipe.utils.tables import table

VARIABLES, FOLDS, Z, T = 20, 5, 1.96, 2.776
Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


def below(z: float) -> float:
    return 0.5 * (1 + math.erf(z / math.sqrt(2)))


def drawn(random: np.random.Generator, rows: int, middle: Floats, *, clustered: bool) -> tuple[Floats, Ints, Ints]:
    """Variables, labels and clusters."""
    group = np.repeat(np.arange(rows), random.geometric(1 / 3, rows))[:rows] if clustered else np.arange(rows)
    label = random.integers(0, 2, group[-1] + 1)
    found = random.normal(size=(len(label), VARIABLES)) + np.outer(2 * label - 1, middle)
    return found[group], label[group], group


def learnt(x: Floats, y: Ints, random: np.random.Generator, learner: str) -> tuple[Floats, float]:
    """Weights and constant of a linear model."""
    weights = np.zeros(VARIABLES)
    if learner == "every tenth fails" and random.random() < 0.1:
        return weights, 1.0
    if learner == "one variable":
        gap = x[y == 1].mean(axis=0) - x[y == 0].mean(axis=0)
        at = int(np.argmax(np.abs(gap)))
        weights[at] = np.sign(gap[at])
        return weights, float(-weights[at] * x[:, at].mean())
    some = random.choice(VARIABLES, VARIABLES // 4, replace=False) if learner == "a quarter by seed" else slice(None)
    held = x[:, some]
    one, zero = held[y == 1].mean(axis=0), held[y == 0].mean(axis=0)
    weights[some] = np.linalg.solve(np.cov(held.T) + 1e-3 * np.eye(held.shape[1]), one - zero)
    return weights, float(-weights @ (x[y == 1].mean(axis=0) + x[y == 0].mean(axis=0)) / 2)


def true_accuracy(weights: Floats, constant: float, middle: Floats) -> float:
    size = float(np.linalg.norm(weights))
    if size == 0:
        return 0.5
    return (below((weights @ middle + constant) / size) + below((weights @ middle - constant) / size)) / 2


Found = tuple[FoldsScore, list[float]]


def simulated(seed: int, *, rows: int, learner: str) -> Found:
    random = np.random.Generator(np.random.Philox(seed))
    middle = np.full(VARIABLES, 1.1 / math.sqrt(VARIABLES))
    if learner == "one variable":
        middle = np.linspace(0.9, 0.2, VARIABLES)
    x, y, group = drawn(random, rows, middle, clustered=learner == "clusters")
    part = deal(Strata.of_ids(y, ("a", "b")), group, [1 / FOLDS] * FOLDS, seed=seed)
    folds, truth = [], []
    for number in range(FOLDS):
        test = part == number
        weights, constant = learnt(x[~test], y[~test], random, learner)
        truth.append(true_accuracy(weights, constant, middle))
        answers = (x[test] @ weights + constant > 0).astype(np.int64)
        held = Predictions("single_label", outputs=answers, references=y[test], labels=("a", "b"))
        folds.append(Fold(predictions=held, groups=group[test]))
    return score_folds(folds, ["accuracy"], resamples=400)["accuracy"], truth


def news(folder: Path) -> tuple[NDArray[np.object_], Ints]:
    """All rows of AG News that are there."""
    rows = []
    for name in ("train_sample.csv.gz", "test.csv.gz"):
        with gzip.open(folder / "ag_news" / name, "rt", encoding="utf-8") as stream:
            rows += [row for row in csv.reader(stream) if row[0].isdigit()]
    return np.array([f"{row[1]} {row[2]}" for row in rows], dtype=object), np.array([int(row[0]) - 1 for row in rows])


def of_news(seed: int, *, rows: int, texts: NDArray[np.object_], labels: Ints) -> Found:
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.linear_model import LogisticRegression

    random = np.random.Generator(np.random.Philox(seed))
    order = random.permutation(len(texts))
    x, y, rest = texts[order[:rows]], labels[order[:rows]], order[rows : rows + 6000]
    names = ("World", "Sports", "Business", "Sci/Tech")
    part = deal(Strata.of_ids(y, names), np.arange(rows), [1 / FOLDS] * FOLDS, seed=seed)
    folds, truth = [], []
    for number in range(FOLDS):
        test = part == number
        words = TfidfVectorizer(sublinear_tf=True, min_df=2)
        model = LogisticRegression(C=10, tol=1e-2).fit(words.fit_transform(x[~test]), y[~test])
        truth.append(float((model.predict(words.transform(texts[rest])) == labels[rest]).mean()))
        answers = model.predict(words.transform(x[test]))
        held = Predictions("single_label", outputs=answers, references=y[test], labels=names)
        folds.append(Fold(predictions=held, groups=np.flatnonzero(test)))
    return score_folds(folds, ["accuracy"], resamples=400)["accuracy"], truth


def intervals(found: FoldsScore) -> dict[str, tuple[float, float]]:
    value, rows, folds = found.interval.value, found.rows_error, np.asarray(found.folds)
    corrected = T * math.sqrt(float(folds.var(ddof=1)) * (1 / FOLDS + 1 / (FOLDS - 1)))
    return {
        "crossval": (found.interval.low, found.interval.high),
        "rows alone": (value - Z * rows, value + Z * rows),
        "corrected t": (float(folds.mean()) - corrected, float(folds.mean()) + corrected),
    }


def line(title: str, rows: int, splits: int, once: Callable[[int], Found]) -> list[str]:
    found = [once(seed) for seed in range(splits)]
    learner = float(np.mean([truth for _, truth in found]))
    cells = [title, f"{rows:,}"]
    for name in ("crossval", "rows alone", "corrected t"):
        held = [intervals(score)[name] for score, _ in found]
        models = np.mean([low <= np.mean(truth) <= high for (low, high), (_, truth) in zip(held, found, strict=True)])
        always = np.mean([low <= learner <= high for low, high in held])
        width = np.mean([high - low for low, high in held])
        cells += [f"{100 * models:.1f} / {100 * always:.1f}", f"{100 * width:.1f}"]
    return cells


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--splits", type=int, default=200)
    parser.add_argument("--data-dir", type=Path)
    arguments = parser.parse_args()
    head = ["learner", "rows", "crossval", "width", "rows alone", "width", "corrected t", "width"]
    lines = []
    for learner in ("discriminant", "a quarter by seed", "clusters", "one variable", "every tenth fails"):
        for rows in (300, 1000):
            lines.append(line(learner, rows, arguments.splits, partial(simulated, rows=rows, learner=learner)))
            print("  ".join(lines[-1]), flush=True)
    if arguments.data_dir is not None:
        texts, labels = news(arguments.data_dir)
        lines.append(line("TF-IDF, AG News", 1000, arguments.splits,
                          partial(of_news, rows=1000, texts=texts, labels=labels)))  # fmt: skip
    print(
        f"\nof {arguments.splits} splits, % whose interval holds the truth (models / learner), and its mean width in points\n"
    )
    print(table(head, lines, width=200))


if __name__ == "__main__":
    main()
