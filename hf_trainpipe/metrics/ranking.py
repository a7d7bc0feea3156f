"""Scores that depend on order, for many weightings of the examples at once and with one sort.

``weights`` are whole numbers [R, N]; each result [R] is the score with every example repeated
``weight`` times. Ties are handled exactly: examples of equal score form a group.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from hf_trainpipe.metrics.base import Floats, divide

if TYPE_CHECKING:
    from numpy.typing import NDArray


class _Groups:
    """Examples grouped by equal value, in rising order of the value."""

    def __init__(self, values: NDArray[Any]) -> None:
        _, self.group = np.unique(values, return_inverse=True)
        self.order = np.argsort(self.group, kind="stable")
        self.starts = np.flatnonzero(np.diff(self.group[self.order], prepend=-1))

    def sums(self, weights: Floats) -> Floats:
        """Weights [R, N] to sums over each group, [R, groups]."""
        result: Floats = np.add.reduceat(weights[:, self.order], self.starts, axis=1)
        return result


def ranks(values: NDArray[Any], weights: Floats) -> Floats:
    """Mean ranks from 1 on, [R, N], of the repeated examples."""
    groups = _Groups(values)
    sums = groups.sums(weights)
    middle = np.cumsum(sums, axis=1) - sums + (sums + 1) / 2
    result: Floats = middle[:, groups.group]
    return result


def roc_auc(scores: NDArray[Any], positive: NDArray[Any], weights: Floats) -> Floats:
    """Probability that a positive scores above a negative, ties count half; NaN without positives or negatives."""
    groups = _Groups(scores)
    chosen = np.asarray(positive, bool)
    positives, negatives = groups.sums(weights * chosen), groups.sums(weights * ~chosen)
    below = np.cumsum(negatives, axis=1) - negatives
    wins = (positives * (below + negatives / 2)).sum(axis=1)
    return divide(wins, positives.sum(axis=1) * negatives.sum(axis=1), otherwise=np.nan)


def average_precision(scores: NDArray[Any], positive: NDArray[Any], weights: Floats) -> Floats:
    """Precision averaged over the steps in recall, as scikit-learn does; NaN without positives."""
    groups = _Groups(scores)
    positives = groups.sums(weights * np.asarray(positive, bool))[:, ::-1]
    predicted = np.cumsum(groups.sums(weights)[:, ::-1], axis=1)
    precision = divide(np.cumsum(positives, axis=1), predicted, otherwise=0.0)
    return divide((positives * precision).sum(axis=1), positives.sum(axis=1), otherwise=np.nan)


def correlation(x: Floats, y: Floats, weights: Floats) -> Floats:
    """Pearson's r [R] of x and y, each [N] or [R, N]; NaN where either is constant.

    Variances below 1e-13 of the mean square count as zero: that is what rounding leaves of a constant.
    """
    total = weights.sum(axis=1)

    def mean(values: Floats) -> Floats:
        if values.ndim == 1:
            return divide(weights @ values, total, otherwise=np.nan)
        return divide(np.einsum("rn,rn->r", weights, values), total, otherwise=np.nan)

    with np.errstate(all="ignore"):
        # Moved near zero first, so that little is lost when squares of means are taken off.
        x, y = x - x.mean(axis=-1, keepdims=True), y - y.mean(axis=-1, keepdims=True)
        mean_x, mean_y, square_x, square_y = mean(x), mean(y), mean(x * x), mean(y * y)
        variance_x, variance_y = square_x - mean_x**2, square_y - mean_y**2
        constant = (variance_x <= 1e-13 * square_x) | (variance_y <= 1e-13 * square_y)
        r = (mean(x * y) - mean_x * mean_y) / (np.sqrt(variance_x) * np.sqrt(variance_y))
        result: Floats = np.where(constant, np.nan, np.clip(r, -1.0, 1.0))
    return result


def mean_defined(scores: list[Floats]) -> Floats:
    """The mean [R] over scores [R] of each label, leaving out NaN; NaN where all are."""
    table = np.stack(scores)
    defined = ~np.isnan(table)
    return divide(np.where(defined, table, 0.0).sum(axis=0), defined.sum(axis=0).astype(np.float64), otherwise=np.nan)
