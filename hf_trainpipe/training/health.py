"""Warnings while a run goes on: a loss spike, a slow rank."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

MEMORY = 0.9
"""Weight of the past in the running means, a logging interval."""
SETTLED = 5
"""Logging intervals before a spike can be reported."""
TIMES = 3.0
DEVIATIONS = 6.0
SLOW = 2.0
"""A rank is slow if it computes longer than this times the median of the others."""
LOST_SECONDS = 0.1
"""Seconds in a logging interval that the others must lose before there is a warning."""


@dataclass
class LossSpikeDetector:
    """The usual loss of a logging interval, as running means; part of the run's state."""

    mean: float = 0.0
    deviation: float = 0.0
    intervals: int = 0

    def spike(self, loss: float) -> float | None:
        """How many times the usual loss this one is, if that is a spike; a spike does not change the means.

        >>> usual = LossSpikeDetector()
        >>> [usual.spike(loss) for loss in (0.7, 0.6, 0.7, 0.6, 0.65, 0.6, 65.0, 0.6)]
        [None, None, None, None, None, None, 101.0, None]
        """
        gap = abs(loss - self.mean)
        if self.intervals >= SETTLED and loss > TIMES * self.mean and gap > DEVIATIONS * self.deviation:
            return round(loss / self.mean, 0) if self.mean > 0 else float("inf")
        memory = min(MEMORY, self.intervals / (self.intervals + 1))
        self.deviation = memory * self.deviation + (1 - memory) * (gap if self.intervals else 0.0)
        self.mean = memory * self.mean + (1 - memory) * loss
        self.intervals += 1
        return None


def straggler(seconds: Sequence[float]) -> tuple[int, float] | None:
    """The rank that computed much longer than the others, and how many times as long.

    Args:
        seconds: Computing time of each rank, before it waited for the others.

    >>> straggler([1.0, 1.1, 4.4]), straggler([1.0, 1.2]), straggler([5.0])
    ((2, 4.2), None, None)
    """
    if len(seconds) < 2:
        return None
    slowest = max(range(len(seconds)), key=seconds.__getitem__)
    others = sorted(value for rank, value in enumerate(seconds) if rank != slowest)
    middle = (others[(len(others) - 1) // 2] + others[len(others) // 2]) / 2
    if seconds[slowest] <= max(SLOW * middle, middle + LOST_SECONDS):
        return None
    return slowest, round(seconds[slowest] / max(middle, 1e-3), 1)
