"""Whether a model is no worse than another by more than a margin: one-sided tests of non-inferiority."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, kw_only=True)
class NoWorse:
    """A gain of the second model over the first, positive where it is better, held against minus the margin."""

    gain: float
    least: float
    """Lower bound of the gain, one-sided; above minus the margin the second is shown to be no worse."""
    p: float
    """One-sided, of "worse by the margin or more"."""


def by_rows(only_first: int, only_second: int, rows: int, *, margin: float, confidence: float = 0.95) -> NoWorse:
    """Of shares of right answers on the same rows: the score test of Tango 1998, which holds with few or no rows that differ.

    Args:
        only_first: Rows that only the first gets right.
        margin: A share of the rows, above 0.
    """
    from scipy.special import ndtr, ndtri

    limit = float(ndtri(confidence))
    gain = (only_second - only_first) / rows
    low, high = -1.0, gain  # the score falls as the difference rises
    while high - low > 1e-9:
        middle = (low + high) / 2
        low, high = (middle, high) if _score(only_first, only_second, rows, middle) >= limit else (low, middle)
    return NoWorse(gain=gain, least=low, p=float(ndtr(-_score(only_first, only_second, rows, -margin))))


def _score(only_first: int, only_second: int, rows: int, difference: float) -> float:
    """How far what was found is above a difference in truth, in standard errors under that truth."""
    if difference * rows == only_second - only_first:
        return 0.0
    a = 2 * rows
    b = -only_first - only_second + (2 * rows - only_second + only_first) * difference
    c = -only_first * difference * (1 - difference)
    share = (math.sqrt(max(b * b - 4 * a * c, 0.0)) - b) / (
        2 * a
    )  # of rows that only the first gets right, most likely
    variance = rows * (2 * share + difference * (1 - difference))
    away = only_second - only_first - rows * difference
    return away / math.sqrt(variance) if variance > 0 else math.copysign(math.inf, away)


def by_resamples(gain: float, drawn: NDArray[np.float64], *, margin: float, confidence: float = 0.95) -> NoWorse:
    """Of any score, by a paired bootstrap.

    Args:
        drawn: Gains of the resamples.
    """
    if not len(drawn):
        return NoWorse(gain=gain, least=math.nan, p=math.nan)
    p = (int((drawn <= -margin).sum()) + 1) / (len(drawn) + 1)
    return NoWorse(gain=gain, least=float(np.quantile(drawn, 1 - confidence)), p=min(1.0, p))


def by_error(gain: float, error: float, freedom: float, *, margin: float, confidence: float = 0.95) -> NoWorse:
    """Of any score whose difference has a standard error with so many degrees of freedom."""
    from scipy.special import stdtr, stdtrit

    if error == 0:
        return NoWorse(gain=gain, least=gain, p=0.0 if gain > -margin else 1.0)
    least = gain - float(stdtrit(freedom, confidence)) * error
    return NoWorse(gain=gain, least=least, p=float(stdtr(freedom, -(gain + margin) / error)))
