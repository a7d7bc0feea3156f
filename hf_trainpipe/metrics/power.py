"""The smallest difference between two models that a split can show.

A difference is shown where its two-sided test is below ``level``; the smallest one is that which a comparison shows with
probability ``power``, if it is there.
"""

from __future__ import annotations

import math

import numpy as np

POWER = 0.8
"""How often the smallest difference is shown."""


def smallest_by_rows(rows: int, disagreement: float, *, level: float = 0.05, power: float = POWER) -> float:
    """The smallest difference in accuracy that McNemar's exact test shows, from the exact binomials (Connor 1987 approximates it).

    Args:
        rows: Examples that both models answer.
        disagreement: Share of them, in [0, 1], that just one of the two gets right.

    Returns:
        A share of the rows; infinity where not even a model that wins all of these rows is shown to be better.

    >>> round(smallest_by_rows(872, 0.08), 3)
    0.028
    >>> smallest_by_rows(20, 0.1)
    inf
    """
    from scipy.stats import binom

    spread = 7 * math.sqrt(max(rows * disagreement * (1 - disagreement), 1e-12)) + 7
    first, last = max(0, math.floor(rows * disagreement - spread)), min(rows, math.ceil(rows * disagreement + spread))
    discordant = np.arange(first, last + 1)  # how many such rows a split has by chance
    chances = binom.pmf(discordant, rows, disagreement)
    needed = binom.isf(level / 2, discordant, 0.5)  # more wins than this are shown

    def power_at(difference: float) -> float:
        wins = min(1.0, (1 + difference / disagreement) / 2)
        return float((chances * binom.sf(needed, discordant, wins)).sum())

    if not disagreement > 0 or power_at(disagreement) < power:
        return math.inf
    low, high = 0.0, disagreement
    while high - low > 1e-6:
        middle = (low + high) / 2
        low, high = (middle, high) if power_at(middle) < power else (low, middle)
    return high


def smallest_by_error(error: float, *, level: float = 0.05, power: float = POWER, freedom: float = math.inf) -> float:
    """The same of a score whose difference has this standard error.

    Args:
        freedom: Degrees of freedom of the error; few where it is told from few seeds.

    >>> round(smallest_by_error(0.01), 4)
    0.028
    """
    from scipy.stats import norm, t

    known = norm if math.isinf(freedom) else t(freedom)
    return float((known.ppf(1 - level / 2) + known.ppf(power)) * error)
