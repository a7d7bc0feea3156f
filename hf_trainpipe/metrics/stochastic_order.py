"""Almost stochastic order: how far one training's scores, over seeds, are from being better at every quantile.

del Barrio, Cuesta-Albertos & Matran 2018; for models Dror, Shlomov & Reichart 2019. The bound is that of Dror et al., as
deepsig 1.2.8 computes it; the integrals over quantiles are exact here instead of sums over a grid.

Shapes: A and B scores of the two sides, R resamples.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from hf_trainpipe.metrics.base import Floats

RESAMPLES = 1000
ALMOST = 0.2
"""A bound below which one is called better: at 0.5 most would be wrong with few seeds (Ulmer, Hardmeier & Frellsen 2022)."""


@dataclass(frozen=True, kw_only=True)
class StochasticOrder:
    """Whether the second side is better than the first at almost every quantile."""

    violation: float
    """Share, in [0, 1], of the squared distance of the two where the first is better; 0: the second always is, 0.5: neither."""
    bound: float
    """Upper bound of it, at the confidence that was asked."""


def violation_ratio(better: NDArray[np.float64], worse: NDArray[np.float64]) -> Floats:
    """The violation ratio of "the first of the two is better", where more is better.

    Args:
        better: [..., A]
        worse: [..., B]

    Returns:
        [...]; 0.5 where the two are the same.

    >>> float(violation_ratio(np.array([3.0, 1.0]), np.array([2.0])))
    0.5
    """
    num_a, num_b = better.shape[-1], worse.shape[-1]
    whole = math.lcm(num_a, num_b)
    edges = np.union1d(np.arange(num_a + 1) * (whole // num_a), np.arange(num_b + 1) * (whole // num_b))
    widths, starts = np.diff(edges) / whole, edges[:-1]
    gaps = (
        np.sort(worse, axis=-1)[..., starts * num_b // whole] - np.sort(better, axis=-1)[..., starts * num_a // whole]
    )
    total = (gaps**2 * widths).sum(axis=-1)
    violated = (np.maximum(gaps, 0) ** 2 * widths).sum(axis=-1)
    with np.errstate(invalid="ignore"):
        ratio: Floats = np.where(total > 0, violated / total, 0.5)
    return ratio


def almost_stochastic_order(
    first: NDArray[np.float64], second: NDArray[np.float64], *, confidence: float = 0.95, seed: int = 0
) -> StochasticOrder:
    """Whether the second side's scores are better than the first's, where more is better.

    Args:
        first: [A] scores, one a seed.
        second: [B]
    """
    from scipy.special import ndtri

    random = np.random.Generator(np.random.Philox(seed))
    found = float(violation_ratio(second, first))
    drawn = violation_ratio(
        second[random.integers(0, len(second), (RESAMPLES, len(second)))],
        first[random.integers(0, len(first), (RESAMPLES, len(first)))],
    )
    error = float(np.std(drawn - found))
    return StochasticOrder(violation=found, bound=float(np.clip(found + error * ndtri(confidence), 0, 1)))
