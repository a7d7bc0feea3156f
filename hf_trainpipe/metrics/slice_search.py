"""Which slices of a split are worse than the rest: looked for in one half of the rows, tested in the other.

Whoever looks at thousands of slices finds bad ones in any split. So half of the rows (by a hash of their inputs, so that equal texts
stay together) choose a few slices, and the other half, which had no part in the choice, tests them: its scores are not made worse by
having been chosen. Splits too small to be halved are searched and tested at once, single conditions alone, corrected for all of them.
Either way the share of false findings is held (:mod:`.discovery`). Shapes: N rows, K slices.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hf_trainpipe.metrics.discovery import by_yekutieli, level_of_chosen
from hf_trainpipe.metrics.errors import Bools, Errors
from hf_trainpipe.metrics.slice_candidates import ranked, unlike
from hf_trainpipe.metrics.slices import RowFacts, Slice

HALVED = 400
"""Rows from which a split is halved."""
_WRONG = 40
"""And wrong answers, where answers are counted."""


@dataclass(frozen=True, kw_only=True)
class Weak:
    """A slice that was tested."""

    slice: Slice
    rows: int
    """Of the rows that it was tested on."""
    score: float
    low: float
    high: float
    """Its interval; of findings at the level that allows for their choice."""
    rest: float
    """The score of the other rows."""
    p: float
    adjusted: float
    """For all tests together."""
    is_found: bool
    """Whether it is shown to be worse than the rest."""
    share: float
    """Of all errors, those in it."""
    searched: float | None
    """Its score in the half that chose it, which is too bad by luck; None where there was one half."""
    members: Bools
    """[N] its rows, of all."""

    def to_json(self) -> dict[str, Any]:
        names = ("rows", "score", "low", "high", "rest", "p", "adjusted", "searched")
        return {
            "slice": str(self.slice),
            **{name: _defined(getattr(self, name)) for name in names},
            "found": self.is_found,
            "share_of_errors": self.share,
            "rows_of_all": int(self.members.sum()),
        }


def _defined(value: float | None) -> float | None:
    """As JSON has it: nothing for NaN."""
    return None if value is None or math.isnan(value) else value


@dataclass(frozen=True, kw_only=True)
class Search:
    """What :func:`weak_slices` found."""

    metric: str
    rows: int
    tested: int
    """Rows that tested; fewer than all where the others chose."""
    score: float
    """Of the rows that tested."""
    looked_at: int
    """Slices that were looked at."""
    level: float
    """The share of false findings that is held."""
    least: int
    """Rows of the smallest slice that was looked for."""
    confidence: float
    slices: tuple[Weak, ...]
    """Those that were tested, the findings first."""

    @property
    def is_halved(self) -> bool:
        return self.tested < self.rows

    @property
    def found(self) -> tuple[Weak, ...]:
        """Those that are shown to be worse."""
        return tuple(one for one in self.slices if one.is_found)

    def to_json(self) -> dict[str, Any]:
        names = ("metric", "rows", "tested", "score", "looked_at", "level", "least", "confidence")
        told = {name: getattr(self, name) for name in names}
        return {
            **told,
            "score": _defined(self.score),
            "halved": self.is_halved,
            "slices": [one.to_json() for one in self.slices],
        }


def weak_slices(
    errors: Errors,
    facts: RowFacts,
    hashes: NDArray[np.uint64],
    *,
    level: float = 0.1,
    least: int | None = None,
    most: int = 10,
    confidence: float = 0.95,
    seed: int = 0,
    halve: bool | None = None,
) -> Search:
    """Look for slices that are worse than the rest, and test them.

    Args:
        hashes: [N] of the inputs; equal ones are in the same half.
        level: The share of false findings, on average, that is held.
        least: Rows of the smallest slice; None: 30, or 1 % of the rows.
        most: Slices that are tested.
        halve: Whether one half chooses and the other tests; None: where there are enough rows and errors.
    """
    num = len(errors)
    least = least or max(30, num // 100)
    if halve is None:
        halve = num >= HALVED and (not errors.is_counted or errors.wrong.sum() >= _WRONG)
    chooses = _half(hashes, seed) if halve else np.ones(num, dtype=bool)
    tests = ~chooses if halve else chooses
    half = errors.part(chooses)
    worst, looked_at = ranked(half, facts, chooses, max(2, least // 2 if halve else least), with_pairs=halve)
    chosen = unlike(worst, facts, chooses, most)
    tested = errors.part(tests)
    members = [one.rows(facts) for one in chosen]
    p_values = np.array(
        [tested.p_value(inside[tests]) if 1 < inside[tests].sum() < tests.sum() else 1.0 for inside in members]
    )
    # Without halves these are the smallest p-values of all that were looked at. Slices like one of these are not among them, by
    # which the others' ranks and so the findings only become fewer.
    adjusted = by_yekutieli(p_values, tests=None if halve else looked_at)
    is_found = adjusted <= level
    count = len(chosen) if halve else looked_at
    exact = level_of_chosen(confidence, chosen=int(is_found.sum()), tests=count) if is_found.any() else confidence
    slices = []
    for at in np.lexsort((p_values, ~is_found)):
        inside = members[at][tests]
        low, high = tested.interval(inside, confidence=exact if is_found[at] else confidence)
        slices.append(
            Weak(
                slice=chosen[at],
                rows=int(inside.sum()),
                score=tested.value(inside),
                low=low,
                high=high,
                rest=tested.value(~inside),
                p=float(p_values[at]),
                adjusted=float(adjusted[at]),
                is_found=bool(is_found[at]),
                share=float(tested.wrong[inside].sum() / tested.wrong.sum()) if tested.wrong.sum() > 0 else 0.0,
                searched=half.value(members[at][chooses]) if halve else None,
                members=members[at],
            )
        )
    return Search(
        metric=errors.score, rows=num, tested=int(tests.sum()), score=tested.value(np.ones(len(tested), dtype=bool)),
        looked_at=looked_at, level=level, least=least, confidence=confidence, slices=tuple(slices),
    )  # fmt: skip


def _half(hashes: NDArray[np.uint64], seed: int) -> Bools:
    """[N]: one bit of each hash, spread by multiplication (Dietzfelbinger 1997)."""
    odd = np.random.Generator(np.random.Philox(seed)).integers(1 << 62, dtype=np.uint64) * np.uint64(2) + np.uint64(1)
    with np.errstate(over="ignore"):
        return np.asarray((hashes * odd) >> np.uint64(63) == 1)
