"""Scores of preferences: how often, and by how much, a model's rewards tell wanted answers from others.

Legend: N examples.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from .base import Metric

Array = npt.NDArray[Any]


class Judged(NamedTuple):
    """What metrics score of N examples."""

    gain: Array
    """[N, 2] how much likelier both answers are than to the reference; without one, the means of their logarithms."""
    beta: float
    desirable: Array
    """[N] of KTO: 1 of wanted answers, 0 of others."""

    @property
    def reward(self) -> Array:
        """[N, 2]"""
        found: Array = self.beta * self.gain
        return found

    @property
    def baseline(self) -> float:
        """Of KTO, over all of them."""
        return max(0.0, float(self.gain[:, 1].mean()))


def _mean_of(wanted: bool) -> Metric:
    name = "reward_desirable" if wanted else "reward_undesirable"
    return Metric(
        name,
        lambda found: np.where((found.desirable > 0) == wanted, found.reward[:, 0], np.nan),
        greater_is_better=wanted,
    )


def _both(found: Judged) -> Array:
    """[N, 4] sums of rewards and numbers of wanted and of other answers."""
    wanted = found.desirable > 0
    reward = found.reward[:, 0]
    return np.stack([reward * wanted, wanted, reward * ~wanted, ~wanted], axis=1).astype(np.float64)


def _difference(sums: Array) -> Array:
    with np.errstate(invalid="ignore", divide="ignore"):
        found: Array = sums[..., 0] / sums[..., 1] - sums[..., 2] / sums[..., 3]
    return found


METRICS_OF_PAIRS = (
    Metric("accuracy", lambda found: (found.reward[:, 0] > found.reward[:, 1]).astype(np.float64)),
    Metric("margin", lambda found: found.reward[:, 0] - found.reward[:, 1]),
    Metric("reward_chosen", lambda found: found.reward[:, 0]),
    Metric("reward_rejected", lambda found: found.reward[:, 1], greater_is_better=False),
    Metric("kl", lambda found: found.gain.mean(axis=1), greater_is_better=False),
)
METRICS_OF_SINGLE = (
    Metric("accuracy", lambda found: ((found.gain[:, 0] > found.baseline) == (found.desirable > 0)).astype(np.float64)),
    Metric("margin", _both, finish=_difference),
    _mean_of(True),
    _mean_of(False),
    Metric("kl", lambda found: found.gain[:, 1], greater_is_better=False),
)
