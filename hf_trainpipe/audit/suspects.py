"""Labels that are probably wrong: those that a model which never saw the row finds unlikely, and how far it can be believed.

The model learns four fifths of the rows at a time, with all near duplicates of a row on one side, and is asked about the rest. Then
it is tried on these very rows: flips are planted where nothing was suspected, and it is counted how many of them it finds.
Shapes: N rows, C labels, K rows of a list.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import NDArray

from hf_trainpipe.audit.columns import MOST_LABELS
from hf_trainpipe.audit.finding import Finding, Level, example, share
from hf_trainpipe.audit.twins import digest
from hf_trainpipe.baselines.learners import logistic, ridge
from hf_trainpipe.baselines.vectors import Unfit

if TYPE_CHECKING:
    from hf_trainpipe.audit.corpus import Corpus
    from hf_trainpipe.audit.twins import Twins
    from hf_trainpipe.audit.vectors import Reader

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]
FOLDS = 5
PLANTED = 0.05
"""Share of the rows that get a wrong label in the self-test, and that a list has at most."""
INVERSE = 1.0
"""Inverse regularisation: wrong labels are found by models that do not learn them by heart (docs/results/audit.md)."""
INVERSE_BESIDE = 10.0
"""Of the model of words beside that of an encoder's vectors."""
LEAST = 60
"""Rows and clusters below which nothing is learnt."""
_ODD = np.uint64(0x9E3779B97F4A7C15)
"""Multiplies keys, so that further self-tests plant other flips."""
_CELLS = 800_000
"""Rows times labels that a fold learns from at most, but no fewer than 4,000 rows and no more than 40,000."""


@dataclass(frozen=True, eq=False, kw_only=True)
class Suspects:
    """Rows of the training split by how unlikely their label is, and what the self-test measured."""

    corpus: Corpus
    rows: Ints
    """[K] of the corpus, the unlikeliest first: a twentieth of all."""
    likely: tuple[str, ...]
    """[K] what the model would have said."""
    margins: Floats
    """[K] the logarithm of how likely the row's label is against the likeliest other one; of numbers less the error. Where there are
    many labels, a difference of probabilities would put rows that nothing fits before those that something else fits."""
    listed: int
    """How many of them are believed to be wrong."""
    precision: float
    """Share of the list that the self-test finds to be wrong."""
    planted: int
    """Flips that were planted."""
    found: int
    """How many of them are among as many rows as there were flips."""
    told: str
    """What the model reads."""
    score: float
    """Its accuracy out of fold, or correlation."""
    between: tuple[float, float] | None = None
    """Where the precision lies in 95 % of the self-tests, where several were made."""
    splits: tuple[str, ...] = ("train",)
    """The splits that were looked at."""

    def listed_rows(self) -> Iterator[tuple[int, str, str]]:
        """The rows of the list: row, its label, the likely one."""
        for row, likely in zip(self.rows[: self.listed].tolist(), self.likely, strict=False):
            yield row, str(self.corpus.targets[row]), likely

    def findings(self) -> Iterator[Finding]:
        """As a finding; the list is complete, and in order."""
        corpus, total = self.corpus, sum(len(self.corpus.rows_of(split)) for split in self.splits)
        listed = tuple(
            {**example(corpus, row), "label": given, "likely": likely} for row, given, likely in self.listed_rows()
        )
        if not listed:
            return
        between = "" if self.between is None else f" [{self.between[0]:.0%}, {self.between[1]:.0%}]"
        by = "" if self.between is None else f", by {self.told}"
        yield Finding(
            kind="suspect",
            level=Level.COSTS if self.listed >= 0.005 * total else Level.LOOK,
            split=" and ".join(self.splits),
            line=f"{share(self.listed, total)} probably have a wrong label{by}; of such a list {self.precision:.0%} are wrong"
            f"{between} (measured: {self.found:,} of {self.planted:,} planted flips found)",
            fix="Look at them one by one: --json and --fix list them, the likeliest first.",
            count=self.listed,
            total=total,
            rows=listed,
            facts=self.facts(),
        )

    def facts(self) -> dict[str, Any]:
        """What was measured."""
        return {
            "precision": self.precision,
            **({} if self.between is None else {"precision_between": list(self.between)}),
            "planted": self.planted,
            "found": self.found,
            "precision_at_planted": self.found / max(1, self.planted),
            "model": self.told,
            "score_out_of_fold": self.score,
            "ranked": [
                {
                    "split": self.corpus.home(row)[0],
                    "row": self.corpus.home(row)[1],
                    "label": str(self.corpus.targets[row]),
                    "likely": likely,
                }
                for row, likely in zip(self.rows.tolist(), self.likely, strict=True)
            ],
        }


def suspects(twins: Twins, reader: Reader) -> Suspects | None:
    """The probably wrong labels of the training split; None where a task has no single label or number a row.

    Raises:
        Unfit: there are too few rows or labels to learn from.
    """
    corpus = twins.corpus
    if corpus.kind not in ("class", "number") or "train" not in corpus.names:
        return None
    kept = [
        row for row in corpus.rows_of("train").tolist() if corpus.targets[row] is not None and not corpus.is_empty[row]
    ]
    rows = np.array(sorted(kept, key=lambda row: (corpus.raw[row], str(corpus.targets[row]))), dtype=np.int64)
    _, clusters = np.unique(twins.cluster[rows], return_inverse=True)
    if len(rows) < LEAST or clusters.max() < LEAST // 2:
        raise Unfit(f"{len(rows):,} different rows are too few to learn from")
    targets = targets_of(corpus, rows)
    is_number = corpus.kind == "number"
    vectors, words = reader.vectors(rows), None if is_number else reader.words_beside(rows)
    keys = keys_of(corpus, rows)
    folds = _folds(clusters, targets, keys)
    model = _Model(vectors.features, folds, is_number=is_number, words=None if words is None else words.features)
    told = vectors.told if words is None else f"{vectors.told} and {words.told}"
    return judged(corpus, rows, targets, keys, model, told=told)


def keys_of(corpus: Corpus, rows: Ints) -> NDArray[np.uint64]:
    """[N] what orders rows by what they say alone."""
    found = (int(digest(corpus.raw[row] + str(corpus.targets[row])), 16) for row in rows.tolist())
    return np.fromiter(found, dtype=np.uint64, count=len(rows))


class Judge(Protocol):
    """What judges labels of rows that it did not learn from."""

    @property
    def is_number(self) -> bool: ...

    def judge(self, targets: NDArray[Any]) -> tuple[Floats, NDArray[Any]]:
        """How likely each row's label is, and the likeliest other one (of numbers: the expected one)."""
        ...


def judged(
    corpus: Corpus,
    rows: Ints,
    targets: NDArray[Any],
    keys: NDArray[np.uint64],
    model: Judge,
    *,
    told: str,
    plantings: int = 1,
    splits: tuple[str, ...] = ("train",),
) -> Suspects:
    """The rows by how unlikely a model finds their labels, and how far to believe it.

    Args:
        rows: [N] of the corpus.
        targets: [N] their labels, numbered over those that occur, or numbers.
        keys: [N] as :func:`keys_of` gives.
        told: What the model is.
        plantings: Self-tests, each with other flips.
        splits: What the rows are of.
    """
    margins, likely = model.judge(targets)
    order = np.lexsort((keys, np.round(margins, 6)))
    number = max(1, round(PLANTED * len(rows)))
    tests = [
        _tried(model, targets, margins, likely, order[:number], (keys + np.uint64(at)) * _ODD if at else keys)
        for at in range(plantings)
    ]
    precisions = [test.precision for test in tests]
    low, high = np.quantile(precisions, (0.025, 0.975)).tolist()
    return Suspects(
        corpus=corpus,
        rows=rows[order[:number]],
        likely=tuple(_named(corpus, likely[at]) for at in order[:number]),
        margins=margins[order[:number]],
        listed=round(float(np.median([test.listed for test in tests]))),
        precision=float(np.mean(precisions)),
        planted=number,
        found=round(float(np.mean([test.found for test in tests]))),
        told=told,
        score=float(np.corrcoef(targets, likely)[0, 1]) if model.is_number else float((margins > 0).mean()),
        between=(low, high) if plantings > 1 else None,
        splits=splits,
    )


@dataclass(frozen=True)
class _Model:
    """What judges labels out of fold: a linear model, of labels the mean of two where there are words too."""

    features: Any
    folds: Ints
    is_number: bool
    words: Any = None

    def judge(self, targets: NDArray[Any]) -> tuple[Floats, NDArray[Any]]:
        """How likely each row's label is, and the likeliest other one (of numbers: the expected one)."""
        num_labels = 1 if self.is_number else int(targets.max()) + 1
        margins, likely = (
            np.zeros(len(targets)),
            np.zeros(len(targets), dtype=np.float64 if self.is_number else np.int64),
        )
        most = min(max(4000, _CELLS // num_labels), 40_000)
        for fold in range(FOLDS):
            learnt, asked = np.flatnonzero(self.folds != fold), np.flatnonzero(self.folds == fold)
            if not len(asked):
                continue
            if len(learnt) > most:  # spread over the rows, which are sorted by their texts
                learnt = learnt[np.linspace(0, len(learnt) - 1, most).astype(np.int64)]
            if self.is_number:
                found = ridge(self.features[learnt], targets[learnt])(self.features[asked])[:, 0].astype(np.float64)
                likely[asked], margins[asked] = found, -np.abs(found - targets[asked])
                continue
            read = ((self.features, INVERSE), *([] if self.words is None else [(self.words, INVERSE_BESIDE)]))
            chances = np.mean([_log_chances(*one, learnt, asked, targets, num_labels) for one in read], axis=0)
            own = chances[np.arange(len(asked)), targets[asked]]
            chances[np.arange(len(asked)), targets[asked]] = -np.inf
            likely[asked], margins[asked] = chances.argmax(axis=1), own - chances.max(axis=1)
        return margins, likely


def _log_chances(
    features: Any, inverse: float, learnt: Ints, asked: Ints, targets: NDArray[Any], num_labels: int
) -> Floats:
    """[A, C]: logarithms of how likely each label is of the rows that are asked about, learnt from others."""
    answers = logistic(features[learnt], targets[learnt], num_labels=num_labels, inverse=inverse, tol=1e-3)
    return answers(features[asked]).astype(np.float64)


@dataclass(frozen=True)
class _Tried:
    found: int
    precision: float
    listed: int


def _tried(
    model: Judge,
    targets: NDArray[Any],
    margins: Floats,
    likely: NDArray[Any],
    suspected: Ints,
    keys: NDArray[np.uint64],
) -> _Tried:
    """Plant flips among the rows that are not suspected, and find them again.

    Where the model is sure that a suspected label is wrong, it gets the model's: a list is tried on data that are nearly clean.
    """
    cleaned = targets.copy()
    if model.is_number:
        cleaned[suspected] = likely[suspected]
    else:
        sure = suspected[margins[suspected] < 0]
        cleaned[sure] = likely[sure]
    free = np.setdiff1d(np.arange(len(targets)), suspected)
    chosen = free[np.argsort(keys[free], kind="stable")[: len(suspected)]]
    if model.is_number:
        spread = np.sort(cleaned)
        half = len(spread) // 2
        cleaned[chosen] = spread[(np.searchsorted(spread, cleaned[chosen]) + half) % len(spread)]
    else:
        num_labels = int(targets.max()) + 1
        step = 1 + (keys[chosen] >> np.uint64(32)).astype(np.int64) % (num_labels - 1)
        cleaned[chosen] = (cleaned[chosen] + step) % num_labels
    tried, _ = model.judge(cleaned)
    is_planted = np.zeros(len(targets), dtype=bool)
    is_planted[chosen] = True
    worst = np.lexsort((keys, np.round(tried, 6)))[: len(chosen)]
    found = int(is_planted[worst].sum())
    # Of the rows below a threshold a share of the wrong labels and a share of the right ones: what is seen is a mixture of both.
    thresholds = np.quantile(tried[chosen], np.linspace(0.2, 0.8, 13))
    hit = np.array([(tried[chosen] <= threshold).mean() for threshold in thresholds])
    missed = np.array([(tried[~is_planted] <= threshold).mean() for threshold in thresholds])
    seen = np.array([(margins <= threshold).mean() for threshold in thresholds])
    wrong = float(np.clip(((seen - missed) / np.maximum(hit - missed, 1e-9)).min(), 0, PLANTED))
    listed = round(wrong * len(targets))
    return _Tried(found=found, precision=_precision(tried, is_planted, listed), listed=listed)


def _precision(tried: Floats, is_planted: NDArray[np.bool_], number: int) -> float:
    """Of a list of ``number`` rows the share that is wrong, where so many are: of fewer wrong ones there are as many right ones beside."""
    order = np.argsort(tried, kind="stable")
    hit = np.cumsum(is_planted[order]) / max(1, is_planted.sum())
    missed = np.cumsum(~is_planted[order]) / max(1, (~is_planted).sum())
    length = number * hit + (len(tried) - number) * missed
    at = min(int(np.searchsorted(length, number)), len(length) - 1)
    return float(number * hit[at] / max(length[at], 1e-9)) if number else 0.0


def _folds(clusters: Ints, targets: NDArray[Any], keys: NDArray[np.uint64]) -> Ints:
    """[N]: the fold of each row; clusters stay whole, and labels are spread evenly."""
    number = int(clusters.max()) + 1
    label, key = np.zeros(number), np.full(number, np.iinfo(np.uint64).max)
    np.minimum.at(key, clusters, keys)
    np.maximum.at(label, clusters, targets)
    fold = np.empty(number, dtype=np.int64)
    fold[np.lexsort((key, label))] = np.arange(number) % FOLDS
    return fold[clusters]


def targets_of(corpus: Corpus, rows: Ints) -> NDArray[Any]:
    """int64[N] labels, numbered over those that occur, or float64[N] numbers.

    Raises:
        Unfit: there is one label, or there are too many.
    """
    if corpus.kind == "number":
        values = np.array([corpus.targets[row] for row in rows.tolist()], dtype=np.float64)
        if np.ptp(values) == 0:
            raise Unfit("all rows have the same number")
        return values
    labels = corpus.classes[rows]
    number = len(np.unique(labels))
    if number < 2:
        raise Unfit("all rows have the same label")
    if number > MOST_LABELS:
        raise Unfit(f"{number:,} labels are too many to learn")
    return labels


def _named(corpus: Corpus, likely: Any) -> str:
    return f"{likely:.3g}" if corpus.kind == "number" else corpus.class_names[int(likely)]
