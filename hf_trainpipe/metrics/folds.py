"""The scores of out-of-fold predictions, with intervals that respect how folds depend on each other.

Folds share training rows, so their scores are not independent, and no unbiased estimate of a mean's variance follows from them
alone (Bengio & Grandvalet 2004). Two parts are added here. The rows that were scored: groups of rows (a row alone, or its
duplicates) are resampled with all their predictions, over all folds and repeats at once; for a learner that one row more or less
changes little this is the central limit theorem of Bayle et al. (2020). And the models: where the scores of folds differ more than
their rows explain, that variance counts with the factor of Nadeau & Bengio (2003). scripts/crossval_level measures how often the
intervals hold the truth.

Shapes: n rows of a fold, G groups, R resamples, F folds.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from hf_trainpipe.metrics.base import Floats, Interval, Metric, Predictions, SumMetric, WeightMetric
from hf_trainpipe.metrics.registry import LOSS, check, is_external
from hf_trainpipe.metrics.scoring import Sums, metric_of, resampled


@dataclass(frozen=True, kw_only=True)
class Fold:
    """The rows that one fold held out."""

    predictions: Predictions
    groups: NDArray[np.int64]
    """[n] group of each row, from 0; a group lies in one fold, and in one fold of each repeat."""
    repeat: int = 0


@dataclass(frozen=True, kw_only=True)
class FoldsScore:
    """A score over all folds."""

    interval: Interval
    folds: tuple[float, ...]
    """The score of each fold."""
    rows_error: float
    """Standard error by the rows that were scored."""
    models_error: float
    """By the models beyond that, 0 where the folds differ no more than their rows explain."""


def score_folds(
    folds: Sequence[Fold], names: Iterable[str], *, confidence: float = 0.95, resamples: int = 1000, seed: int = 0
) -> dict[str, FoldsScore]:
    """Score all folds together.

    A score that follows from sums (accuracy, F1, BLEU) is that of all predictions pooled, which for F1 is the one without bias
    (Forman & Scholz 2010). One that ranks or correlates is the mean over folds, weighted by rows: outputs of different models have
    no common scale. ``loss`` and ``evaluate:NAME`` are left out.

    Args:
        folds: All repeats' folds. Their labels stand in one order.

    Raises:
        RecipeError: as :func:`~hf_trainpipe.metrics.scoring.score`.
    """
    held = folds[0].predictions
    names = [name for name in dict.fromkeys(names) if name != LOSS and not is_external(name)]
    check(names, held.kind, own=held.own)
    num_groups = 1 + max(int(fold.groups.max()) for fold in folds)
    known: dict[tuple[object, int], Sums] = {}
    scored = {name: [_OfFold(metric_of(name, fold.predictions), fold, known) for fold in folds] for name in names}
    ones = np.ones((1, num_groups))
    drawn = {name: np.full((resamples, 1 + len(folds)), np.nan) for name in names}
    for rows, weights in resampled(num_groups, resamples=resamples, seed=seed):
        sums: dict[Sums, Floats] = {}
        for name in names:
            drawn[name][rows] = _scores(scored[name], weights, sums)
    found = {}
    for name in names:
        whole, *alone = _scores(scored[name], ones, {})[0].tolist()
        bounds = _bounds(scored[name][0].metric, folds)
        found[name] = _interval(whole, alone, drawn[name], folds, bounds=bounds, confidence=confidence)
    return found


class _OfFold:
    """One metric on one fold, as a function of the weights of groups.

    Args:
        known: Statistics that metrics share, by their function and the fold.
    """

    def __init__(self, metric: Metric, fold: Fold, known: dict[tuple[object, int], Sums]) -> None:
        self.metric, self.fold = metric, fold
        self._sums: Sums | None = None
        if isinstance(metric, SumMetric):
            key = (metric.statistics, id(fold))
            if key not in known:
                known[key] = Sums(fold.predictions, metric.statistics)
            self._sums = known[key]

    def sums(self, weights: Floats, computed: dict[Sums, Floats]) -> Floats:
        """Weights [R, G] to sums [R, K]; those that another metric has asked for are in ``computed``."""
        assert self._sums is not None
        if self._sums not in computed:
            computed[self._sums] = self._sums(weights[:, self.fold.groups])
        return computed[self._sums]

    def score(self, weights: Floats) -> Floats:
        """Weights [R, G] to scores [R]."""
        assert isinstance(self.metric, WeightMetric)
        with np.errstate(all="ignore"):
            return self.metric.weighted(self.fold.predictions, weights[:, self.fold.groups])


def _scores(parts: Sequence[_OfFold], weights: Floats, computed: dict[Sums, Floats]) -> Floats:
    """Weights [R, G] to [R, 1 + F]: of all folds together, and of each."""
    metric = parts[0].metric
    if isinstance(metric, SumMetric):
        sums = [part.sums(weights, computed) for part in parts]
        return np.stack([metric.finish(np.sum(sums, axis=0)), *map(metric.finish, sums)], axis=1)
    alone = np.stack([part.score(weights) for part in parts], axis=1)
    sizes = np.asarray([len(part.fold.groups) for part in parts], dtype=np.float64)
    known = ~np.isnan(alone)
    with np.errstate(all="ignore"):
        mean = np.where(known, alone, 0) @ sizes / (known @ sizes)
    return np.column_stack([mean, alone])


def _bounds(metric: Metric, folds: Sequence[Fold]) -> tuple[float, float]:
    """What a score can be at the least and at the most; a mean of a task's own numbers lies among them."""
    own, finishes = folds[0].predictions.own, folds[0].predictions.finishes
    if metric.name not in own or metric.name in finishes:
        return metric.bounds
    numbers = np.concatenate([fold.predictions.own[metric.name] for fold in folds])
    numbers = numbers[~np.isnan(numbers)]
    return (float(numbers.min()), float(numbers.max())) if len(numbers) else metric.bounds


def _interval(
    whole: float,
    alone: Sequence[float],
    drawn: Floats,
    folds: Sequence[Fold],
    *,
    bounds: tuple[float, float],
    confidence: float,
) -> FoldsScore:
    """The interval of the rows, made wider by what the models add, within what the score can be."""
    defined = drawn[:, 0][~np.isnan(drawn[:, 0])]
    tail = (1 - confidence) / 2
    low, high = np.quantile(defined, (tail, 1 - tail)) if len(defined) else (np.nan, np.nan)
    by_rows = float(np.var(defined)) if len(defined) else math.nan
    by_models = _variance_of_models(np.asarray(alone), drawn[:, 1:], np.asarray([fold.repeat for fold in folds]))
    wider = math.sqrt(1 + by_models / by_rows) if by_rows > 0 else 1.0
    return FoldsScore(
        interval=Interval(
            value=whole,
            low=float(np.clip(whole - (whole - low) * wider, *bounds)),
            high=float(np.clip(whole + (high - whole) * wider, *bounds)),
            confidence=confidence,
            n=sum(len(fold.groups) for fold in folds if fold.repeat == folds[0].repeat),
            resamples=len(defined),
        ),
        folds=tuple(alone),
        rows_error=math.sqrt(by_rows),
        models_error=math.sqrt(by_models),
    )


def _variance_of_models(alone: Floats, drawn: Floats, repeats: NDArray[np.int64]) -> float:
    """The variance of the mean that comes from the models: that between folds beyond what their rows explain, times
    ``1 / F + 1 / (folds - 1)``."""
    excess, sizes = [], []
    for repeat in np.unique(repeats):
        mine = repeats == repeat
        if mine.sum() > 1 and not np.isnan(alone[mine]).any():
            with np.errstate(all="ignore"):
                by_rows = np.nanvar(drawn[:, mine], axis=0)
            excess.append(float(np.var(alone[mine], ddof=1) - by_rows.mean()))
            sizes.append(int(mine.sum()))
    if not excess or math.isnan(sum(excess)):
        return 0.0
    return max(0.0, float(np.mean(excess))) * (1 / sum(sizes) + 1 / (float(np.mean(sizes)) - 1))
