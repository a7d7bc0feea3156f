"""Many tests of which some are called findings: the share of false ones is held, and intervals allow for the choice.

Benjamini & Yekutieli 2001 hold that share whatever the tests have to do with each other; Benjamini & Hochberg 1995 is proven only
where they rise and fall together. Slices overlap, and disjoint ones compete for the same errors: both directions occur.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from hf_trainpipe.metrics.base import Floats


def by_yekutieli(p_values: Sequence[float] | Floats, *, tests: int | None = None) -> Floats:
    """P-values adjusted so that of the findings at most ``q`` are false on average, if those at or below ``q`` are called so.

    Args:
        tests: Of how many tests these are the smallest p-values; None: of themselves.

    >>> by_yekutieli([0.01, 0.04, 0.5]).round(4).tolist()
    [0.055, 0.11, 0.9167]
    """
    p = np.asarray(p_values, dtype=np.float64)
    count = max(len(p), tests or 0)
    if not count:
        return p
    order = np.argsort(p, kind="stable")
    scaled = p[order] * count * harmonic(count) / np.arange(1, len(p) + 1)
    adjusted = np.empty_like(p)
    adjusted[order] = np.minimum(np.minimum.accumulate(scaled[::-1])[::-1], 1.0)
    return adjusted


def harmonic(count: int) -> float:
    """1 + 1/2 + ... + 1/count: what Benjamini and Yekutieli pay for any dependence."""
    return math.fsum(1 / rank for rank in range(1, count + 1))


def level_of_chosen(confidence: float, *, chosen: int, tests: int) -> float:
    """The level of each interval so that of those of the ``chosen`` findings a share of 1 - ``confidence`` misses at most, on average
    (false coverage rate, Benjamini & Yekutieli 2005, theorem 4, for any dependence).

    >>> round(level_of_chosen(0.95, chosen=2, tests=10), 4)
    0.9966
    """
    if not chosen:
        return confidence
    return 1 - (1 - confidence) * chosen / (tests * harmonic(tests))


def wilson(passed: int, count: int, *, confidence: float = 0.95) -> tuple[float, float]:
    """The interval of a share (Wilson 1927), which holds for few rows and for shares near 0 and 1; NaN of no rows.

    >>> tuple(round(end, 3) for end in wilson(10, 10))
    (0.722, 1.0)
    """
    from scipy.stats import norm

    if not count:
        return math.nan, math.nan
    z = float(norm.ppf(0.5 + confidence / 2))
    share, spread = passed / count, z * z / count
    centre = (share + spread / 2) / (1 + spread)
    half = math.sqrt(share * (1 - share) * spread + spread * spread / 4) / (1 + spread)
    return max(0.0, centre - half), min(1.0, centre + half)


def tail_of_draws(sizes: NDArray[np.int64], sums: Floats, residuals: Floats) -> Floats:
    """For each subset the chance that as many rows drawn at random have as large a sum of ``residuals``, [S].

    By the first three moments of sums of draws without replacement, as a Pearson distribution of type III.

    Args:
        sizes: [S] rows of each subset.
        sums: [S] its sum of residuals.
        residuals: [N] of all rows; their mean is taken away.
    """
    from scipy.stats import pearson3

    centred = residuals - residuals.mean()
    count, n = len(centred), np.asarray(sizes, dtype=np.float64)
    second, third = float((centred**2).sum()), float((centred**3).sum())
    spread = np.sqrt(n * (count - n) / (count * max(count - 1, 1)) * second)
    with np.errstate(all="ignore"):
        skew = n * (count - n) * (count - 2 * n) / (count * (count - 1) * (count - 2)) * third / spread**3
        found = pearson3.sf((sums - n * residuals.mean()) / spread, np.nan_to_num(skew))
    return np.where(spread > 0, found, 1.0)


def tail_of_counts(sizes: NDArray[np.int64], wrong: NDArray[np.int64], *, count: int, total: int) -> Floats:
    """The same of wrong answers, exactly: Fisher's one-sided test, [S].

    Args:
        sizes: [S] rows of each subset.
        wrong: [S] wrong ones among them.
        count: N
        total: Wrong ones of all.
    """
    from scipy.stats import hypergeom

    return np.asarray(hypergeom.sf(wrong - 1, count, total, sizes), dtype=np.float64)
