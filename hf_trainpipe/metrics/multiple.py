"""Many tests at once: Holm's step-down, in which scores of the same rows count as far as they differ.

Accuracy and F1 of the same answers rise and fall together. Holm's correction, which is right for tests that have nothing to do with
each other, would find a difference between equal models in half a percent of comparisons instead of five (docs/results/compare.md).
Their resamples say how much they have in common (Westfall & Young 1993, step-down minP); between families of scores, which have
other rows or other models, Holm's sum stays.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from hf_trainpipe.metrics.base import Floats


@dataclass(frozen=True, eq=False, kw_only=True)
class Family:
    """Tests on the same resamples of the same rows."""

    p_values: Sequence[float]
    """Of each test alone; NaN where it is undefined."""
    drawn: Sequence[Floats]
    """Of each test the differences [R] of its resamples."""

    def null(self) -> Floats:
        """[R, tests]: p-values that the resamples would have where nothing differs."""
        count = min((len(one) for one in self.drawn), default=0)
        columns = []
        for one in self.drawn:
            away = np.abs(one[:count] - one.mean()) if count else np.zeros(0)
            columns.append((count - np.searchsorted(np.sort(away), away, side="left")) / max(count, 1))
        return np.stack(columns, axis=1) if columns else np.zeros((0, 0))


def step_down(families: Sequence[Family]) -> list[list[float]]:
    """The p-values of each family adjusted for all of them together: at most ``alpha`` of such calls have a false one below it.

    Tests alone in their families are adjusted as Holm's:

    >>> [p for [p] in step_down([Family(p_values=[p], drawn=[np.arange(99.0)]) for p in (0.01, 0.04, 0.03)])]
    [0.03, 0.06, 0.06]
    """
    nulls = [family.null() for family in families]
    order = sorted(
        (p, number, at)
        for number, family in enumerate(families)
        for at, p in enumerate(family.p_values)
        if not math.isnan(p)
    )
    adjusted = [[math.nan] * len(family.p_values) for family in families]
    left = [[at for at, p in enumerate(family.p_values) if not math.isnan(p)] for family in families]
    highest = 0.0
    for p, number, at in order:
        chance = sum(_chance(null, tests, p) for null, tests in zip(nulls, left, strict=True) if tests)
        highest = max(highest, min(1.0, chance))
        adjusted[number][at] = highest
        left[number].remove(at)
    return adjusted


def _chance(null: Floats, tests: Sequence[int], p: float) -> float:
    """That any of the tests of a family gets ``p`` or less, where nothing differs."""
    if len(tests) == 1 or not len(null):
        return p * len(tests)
    smallest: NDArray[np.float64] = null[:, list(tests)].min(axis=1)
    return min(p * len(tests), max(p, float((smallest <= p).mean())))
