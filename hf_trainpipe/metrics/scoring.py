"""Scores of predictions, and their bootstrap intervals over examples.

Every resample draws N of the N examples with replacement (Efron 1979) and is kept as the number of times
each example was drawn; all metrics see the same resamples. Sums of resamples are one matrix product.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from itertools import pairwise

import numpy as np

from hf_trainpipe.metrics import external
from hf_trainpipe.metrics.base import Floats, Interval, Metric, Predictions, SumMetric, WeightMetric
from hf_trainpipe.metrics.registry import LOSS, check, get, is_external

_CELLS = 1 << 22
"""Numbers that one table of weights or statistics holds at most (32 MiB of float64)."""


def score(predictions: Predictions, names: Iterable[str]) -> dict[str, float]:
    """Score predictions. Undefined scores (no examples, NaN in the outputs, constant numbers) are NaN.

    ``loss`` is left out: it does not follow from predictions. ``evaluate:NAME`` is computed by
    :mod:`hf_trainpipe.metrics.external`.

    Raises:
        RecipeError: for a name that :func:`~hf_trainpipe.metrics.registry.check` refuses.
    """
    names = [name for name in dict.fromkeys(names) if name != LOSS]
    check(names, predictions.kind, own=predictions.own)
    metrics = [metric_of(name, predictions) for name in names if not is_external(name)]
    if len(predictions) == 0 or not predictions.answered():
        return dict.fromkeys(names, float("nan"))
    computed = dict.fromkeys(names, float("nan"))
    compute = computation(predictions, metrics)
    for name, value in compute(np.ones((1, len(predictions)))).items():
        computed[name] = float(value[0])
    for name in names:
        if is_external(name):
            computed[name] = external.compute(name, predictions)
    return computed


def intervals(
    predictions: Predictions,
    names: Iterable[str],
    *,
    confidence: float = 0.95,
    resamples: int = 1000,
    seed: int = 0,
) -> dict[str, Interval]:
    """Score predictions, with percentile bootstrap intervals over the examples.

    The same arguments give the same intervals on every machine (numpy's Philox). Resamples in which a
    score is undefined are left out of its percentiles. ``loss`` and ``evaluate:NAME`` are left out.
    Where every example is right, or there is only one, the interval has no width: it then says nothing
    about the error of the score.

    Raises:
        RecipeError: as :func:`score`.
        ValueError: for a confidence outside (0, 1) or fewer than 1 resample.
    """
    if not 0 < confidence < 1 or resamples < 1:
        raise ValueError(f"expected confidence in (0, 1) and 1 or more resamples, found {confidence} and {resamples}.")
    names = [name for name in dict.fromkeys(names) if name != LOSS and not is_external(name)]
    values = score(predictions, names)
    num_examples = len(predictions)
    drawn = {name: np.full(resamples, np.nan) for name in names}
    if names and num_examples and predictions.answered():
        compute = computation(predictions, [metric_of(name, predictions) for name in names])
        for rows, weights in resampled(num_examples, resamples=resamples, seed=seed):
            for name, scores in compute(weights).items():
                drawn[name][rows] = scores
    tail = (1 - confidence) / 2
    found = {}
    for name in names:
        defined = drawn[name][~np.isnan(drawn[name])]
        low, high = np.quantile(defined, (tail, 1 - tail)) if len(defined) else (np.nan, np.nan)
        found[name] = Interval(
            value=values[name],
            low=float(low),
            high=float(high),
            confidence=confidence,
            n=num_examples,
            resamples=len(defined),
        )
    return found


def metric_of(name: str, predictions: Predictions) -> Metric:
    return get(name, predictions.kind, own=predictions.own, finishes=predictions.finishes)


def resampled(num_examples: int, *, resamples: int, seed: int) -> Iterator[tuple[slice, Floats]]:
    """Blocks of resamples as weights [r, N]. What a resample draws does not depend on the blocks."""
    random = np.random.Generator(np.random.Philox(seed))
    block = max(1, _CELLS // num_examples)
    for start in range(0, resamples, block):
        stop = min(start + block, resamples)
        weights = np.empty((stop - start, num_examples))
        for row in weights:
            row[:] = np.bincount(random.integers(0, num_examples, size=num_examples), minlength=num_examples)
        yield slice(start, stop), weights


def computation(predictions: Predictions, metrics: list[Metric]) -> Callable[[Floats], dict[str, Floats]]:
    """A function of weights [R, N] that gives the scores [R] of each metric."""
    families: dict[Callable[[Predictions], Floats], list[SumMetric]] = {}
    for metric in metrics:
        if isinstance(metric, SumMetric):
            families.setdefault(metric.statistics, []).append(metric)
    sums = {statistics: Sums(predictions, statistics) for statistics in families}

    def compute(weights: Floats) -> dict[str, Floats]:
        scores: dict[str, Floats] = {}
        for statistics, members in families.items():
            totals = sums[statistics](weights)
            scores.update({metric.name: metric.finish(totals) for metric in members})
        with np.errstate(all="ignore"):
            for metric in metrics:
                if isinstance(metric, WeightMetric):
                    scores[metric.name] = metric.weighted(predictions, weights)
        return scores

    return compute


class Sums:
    """Weighted sums of statistics, in row blocks where the whole table would be large."""

    def __init__(self, predictions: Predictions, statistics: Callable[[Predictions], Floats]) -> None:
        self.predictions, self.statistics = predictions, statistics
        num_examples = len(predictions)
        width = statistics(predictions.part(0, 1)).shape[1]
        step = max(1, _CELLS // max(width, 1))
        self.bounds = [*range(0, num_examples, step), num_examples]
        self.whole = statistics(predictions) if len(self.bounds) == 2 else None

    def __call__(self, weights: Floats) -> Floats:
        """Weights [R, N] to sums [R, K]."""
        if self.whole is not None:
            return weights @ self.whole
        blocks = (
            weights[:, start:stop] @ self.statistics(self.predictions.part(start, stop))
            for start, stop in pairwise(self.bounds)
        )
        return sum(blocks, start=np.zeros(()))
