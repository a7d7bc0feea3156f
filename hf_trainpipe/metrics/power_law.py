"""How an error falls with the number of training rows: a power law between chance and a floor, and what it forecasts.

``(error - floor) / (chance - error) = c * n ** -slope``: far from chance a power law with an offset (Hestness et al. 2017; Rosenfeld
et al. 2020), and near it the slow beginning that few rows show (Alabdulmohsin et al. 2022, M4 with alpha = 1). Floor and slope are
hardly told apart by a few points, so none is fitted: every law on a grid is weighed by how well it explains the points, and a
forecast is what they say together. Before any point, the floor is uniform between 0 and the error, and the slope uniform in its
logarithm, between almost flat and proportional.

Shapes: P sizes, S seeds, D draws of laws.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from hf_trainpipe.metrics.base import Floats

SLOPES = (0.05, 1.0)
MISFIT = 0.02
"""Of an error: how far from a law the truth may lie at one size, beside what seeds and subsets change."""
_GRID = 48
_DRAWS = 20_000


@dataclass(frozen=True, kw_only=True)
class Forecast:
    """An error that was not measured."""

    rows: float
    value: float
    """The median."""
    low: float
    high: float


@dataclass(frozen=True, eq=False)
class Law:
    """Laws, each as often as it is likely."""

    largest: float
    errors: Floats
    """[D] at the largest size measured."""
    floors: Floats
    """[D]"""
    slopes: Floats
    """[D]"""
    noise: float
    """Of an error: the standard deviation of one run, by its seed and subset."""
    one_row: float
    """What one row of the test weighs in an error."""
    chance: float
    """The error of always giving the same answer; infinite: not known, or none."""
    confidence: float

    def drawn(self, rows: float) -> Floats:
        """[D]: the error that each law expects at a size."""
        return _error(rows / self.largest, self.errors, self.floors, self.slopes, self.chance)

    def at(self, rows: float, *, of_one_run: bool = True) -> Forecast:
        """The error at a size, on the same test rows.

        Args:
            of_one_run: The interval is that of one run, not of the law: with what seed and subset change, and with the chance by
                which just these test rows go over from wrong to right (a count, so its variance is its mean).
        """
        found = self.drawn(rows)
        if of_one_run:
            spread = np.sqrt((self.noise * found) ** 2 + np.abs(self.errors - found) * self.one_row)
            found = found + spread * np.random.Generator(np.random.Philox(1)).standard_normal(len(found))
        return self._forecast(rows, np.clip(found, 0, None))

    def gain(self, rows: float, *, beyond: float | None = None) -> Forecast:
        """How much lower the expected error is at a size than at another; by default the largest measured."""
        return self._forecast(rows, self.drawn(beyond or self.largest) - self.drawn(rows))

    def rows_for(self, gain: float, *, most: float = 1e9) -> tuple[float | None, float]:
        """Rows at which the expected error is lower by ``gain`` than at the largest size.

        Returns:
            The median over laws, None where half of them never get there with ``most`` rows; and the share of laws that do.
        """
        wanted = self.errors - gain
        with np.errstate(all="ignore"):
            left = (wanted - self.floors) / (self.errors - self.floors)
            if math.isfinite(self.chance):
                left = left * (self.chance - self.errors) / (self.chance - wanted)
            needed = np.where(left > 0, self.largest * np.maximum(left, 1e-300) ** (-1 / self.slopes), np.inf)
        reached = float((needed <= most).mean())
        middle = float(np.median(needed))
        return (middle if middle <= most else None), reached

    def _forecast(self, rows: float, drawn: Floats) -> Forecast:
        tail = (1 - self.confidence) / 2
        low, value, high = np.quantile(drawn, (tail, 0.5, 1 - tail))
        return Forecast(rows=rows, value=float(value), low=float(low), high=float(high))


def fit(
    sizes: Sequence[int],
    errors: Sequence[Sequence[float]],
    *,
    one_row: float = 0.0,
    chance: float = math.inf,
    confidence: float = 0.9,
) -> Law:
    """Weigh laws by measured errors.

    Args:
        sizes: [P] rows, ascending.
        errors: [P][S] the error of each run, at least one a size.
        one_row: What one row of the test weighs in an error: one over the rows, of an error that is a share of them.
        chance: The error of always giving the same answer.

    Raises:
        ValueError: fewer than two sizes.
    """
    if len(sizes) < 2:
        raise ValueError(f"expected two sizes or more, found {len(sizes)}.")
    means = np.asarray([float(np.mean(one)) for one in errors])
    finest = one_row / 2
    noise = _noise(errors, finest)
    counts = np.asarray([len(one) for one in errors], dtype=np.float64)
    last = means[-1]
    by_rows = np.abs(means - last) * one_row + finest**2
    spread = np.sqrt((noise * means) ** 2 / counts + (MISFIT * means) ** 2 + by_rows)
    reach = 4 * spread[-1]
    chance = max(chance, 1.02 * float(means.max()) + reach)  # few rows may teach worse than nothing
    shares = (np.arange(_GRID) + 0.5) / _GRID
    slopes = np.geomspace(SLOPES[0], SLOPES[1], _GRID)
    ends = np.maximum(last + np.linspace(-reach, reach, _GRID), 1e-9)
    end, share, slope = (axis.ravel() for axis in np.meshgrid(ends, shares, slopes, indexing="ij"))
    floor = share * end
    surprise = np.zeros(len(end))
    for size, mean, sd in zip(sizes, means, spread, strict=True):
        expected = _error(size / sizes[-1], end, floor, slope, chance)
        surprise += ((mean - expected) / sd) ** 2 if sd > 0 else np.where(mean == expected, 0.0, math.inf)
    weights = np.exp(-(surprise - surprise.min()) / 2)
    random = np.random.Generator(np.random.Philox(0))
    chosen = random.choice(len(end), size=_DRAWS, p=weights / weights.sum())
    return Law(float(sizes[-1]), end[chosen], floor[chosen], slope[chosen], noise, one_row, chance, confidence)


def _error(times: float, end: Floats, floor: Floats, slope: Floats, chance: float) -> Floats:
    """The error of laws at ``times`` the rows at which it is ``end``."""
    if math.isinf(chance):
        plain: Floats = floor + (end - floor) * times**-slope
        return plain
    odds = (end - floor) / (chance - end) * times**-slope
    found: Floats = (floor + chance * odds) / (1 + odds)
    return found


def _noise(errors: Sequence[Sequence[float]], finest: float) -> float:
    """Of an error: the standard deviation between runs of a size, over all sizes together."""
    squares, freedom = 0.0, 0
    for one in errors:
        mean = max(float(np.mean(one)), finest, 1e-9)
        squares += float(np.sum((np.asarray(one) - np.mean(one)) ** 2)) / mean**2
        freedom += len(one) - 1
    return math.sqrt(squares / freedom) if freedom else 0.05
