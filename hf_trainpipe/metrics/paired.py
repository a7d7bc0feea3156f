"""Two models on the same rows: paired bootstrap of each score, McNemar's test, Holm's correction.

Shapes: N examples, R resamples. The intervals are over rows: what another seed of the same training would give is not
in them.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from hf_trainpipe.metrics.base import Floats, Predictions
from hf_trainpipe.metrics.scoring import computation, metric_of, resampled

RESAMPLES, _FEWEST, _MOST_DRAWS = 10_000, 1000, 1_000_000_000
"""Enough for p-values that Holm's correction multiplies; of a split with more than 100,000 rows fewer."""


@dataclass(frozen=True, kw_only=True)
class Difference:
    """A score of the second model minus that of the first, on the same rows. NaN where undefined."""

    first: float
    second: float
    value: float
    low: float
    high: float
    p: float
    """Two-sided, by the paired bootstrap: how often a resample has the other sign, twice."""
    drawn: Floats = field(repr=False, compare=False)
    """Differences of the resamples in which both scores are defined."""

    @property
    def error(self) -> float:
        """The standard error."""
        return float(self.drawn.std()) if len(self.drawn) else math.nan


@dataclass(frozen=True, kw_only=True)
class McNemar:
    """Rows that only one of two models gets right (McNemar 1947), with the exact binomial test."""

    only_first: int
    only_second: int
    p: float


def differences(
    first: Predictions,
    second: Predictions,
    names: Sequence[str],
    *,
    confidence: float = 0.95,
    resamples: int | None = None,
    seed: int = 0,
) -> dict[str, Difference]:
    """Each score's difference with its interval: a resample draws the same rows for both (Efron & Tibshirani 1993, 16.4).

    Args:
        first: Predictions of N examples.
        second: Of the same examples, in the same order.
        resamples: None: :data:`RESAMPLES`, or as many as take a minute.
    """
    resamples = resamples or min(RESAMPLES, max(_FEWEST, _MOST_DRAWS // max(1, len(first))))
    assert len(first) == len(second), "pairs are of the same rows"
    found = {}
    names = [name for name in names if first.answered() and second.answered() and len(first)]
    sides = [computation(side, [metric_of(name, side) for name in names]) for side in (first, second)] if names else []
    whole = [side(np.ones((1, len(first)))) for side in sides]
    drawn = {name: np.full(resamples, np.nan) for name in names}
    for rows, weights in resampled(len(first), resamples=resamples, seed=seed) if names else ():
        scores = [side(weights) for side in sides]
        for name in names:
            drawn[name][rows] = scores[1][name] - scores[0][name]
    tail = (1 - confidence) / 2
    for name in names:
        one, other = (float(side[name][0]) for side in whole)
        defined = drawn[name][~np.isnan(drawn[name])]
        low, high = np.quantile(defined, (tail, 1 - tail)) if len(defined) else (np.nan, np.nan)
        found[name] = Difference(
            first=one,
            second=other,
            value=other - one,
            low=float(low),
            high=float(high),
            p=_p_value(defined),
            drawn=defined,
        )
    return found


def _p_value(drawn: NDArray[np.float64]) -> float:
    """Twice the rarer sign's share; a resample without a difference counts for both (Davison & Hinkley 1997, 4.4)."""
    if not len(drawn):
        return math.nan
    rarer = min(int((drawn <= 0).sum()), int((drawn >= 0).sum()))
    return min(1.0, 2 * (rarer + 1) / (len(drawn) + 1))


def mcnemar(first: NDArray[np.bool_], second: NDArray[np.bool_]) -> McNemar:
    """Which of two models is right more often, from whether each is right on N rows.

    >>> found = mcnemar(np.array([True] * 6), np.array([False] * 6))
    >>> found.only_first, found.only_second, round(found.p, 6)
    (6, 0, 0.03125)
    """
    only_first, only_second = int((first & ~second).sum()), int((second & ~first).sum())
    return McNemar(only_first=only_first, only_second=only_second, p=_binomial(only_first, only_second))


def _binomial(heads: int, tails: int) -> float:
    """Two-sided p-value of a fair coin; sums of logarithms, so that thousands of throws do not overflow."""
    total, rarer = heads + tails, min(heads, tails)
    if total == 0:
        return 1.0
    logs = [math.lgamma(total + 1) - math.lgamma(k + 1) - math.lgamma(total - k + 1) for k in range(rarer + 1)]
    return min(1.0, 2 * math.fsum(math.exp(one - total * math.log(2)) for one in logs))


def right(predictions: Predictions) -> NDArray[np.bool_] | None:
    """[N]: whether the whole answer to each example is right; None where answers are numbers or a task's own."""
    if predictions.kind in ("regression", "own"):
        return None
    same = predictions.decisions() == predictions.references
    if predictions.kind == "multi_label":
        return np.asarray(same.all(axis=1))
    if predictions.kind == "tags":
        assert predictions.word_starts is not None
        wrong = ~(same | (predictions.references < 0))
        before = np.concatenate([[0], np.cumsum(wrong)])
        return np.asarray(np.diff(before[predictions.word_starts]) == 0)
    return np.asarray(same)


def holm(p_values: Sequence[float]) -> list[float]:
    """The p-values adjusted for their number, so that at most ``alpha`` of such families have a false one (Holm 1979).

    >>> holm([0.01, 0.04, 0.03])
    [0.03, 0.06, 0.06]
    """
    order = sorted((p, at) for at, p in enumerate(p_values) if not math.isnan(p))
    adjusted, highest = [math.nan] * len(p_values), 0.0
    for rank, (p, at) in enumerate(order):
        highest = max(highest, min(1.0, p * (len(order) - rank)))
        adjusted[at] = highest
    return adjusted
