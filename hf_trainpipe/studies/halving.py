"""How a portfolio of candidates is tried within a budget: all of them for few steps, the better half for three times as many, and so
on (successive halving, Jamieson & Talwalkar 2016, arXiv 1502.07943)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product

FACTOR = 3
"""Steps of a rung against the one before."""
FEWEST = 20
"""Steps of any run: below, scores tell nothing."""
SHARES = (1.0, 0.75, 0.5)
"""Of the steps of the longest run, if all of them leave no time for as many candidates."""
RESERVE = 0.9
"""The part of what is left that is planned: the rest is for what takes longer than it did before."""


@dataclass(frozen=True, kw_only=True)
class Rung:
    """Candidates that are trained for equally many steps."""

    candidates: int
    steps: int


def rungs(*, seconds: float, start: float, step: float, end: float, full: int, candidates: int) -> list[Rung]:
    """The widest plan that fits.

    Args:
        seconds: What is left of the budget.
        start: Seconds of a run beside its steps: to begin, and to evaluate.
        step: Seconds of a step.
        end: Seconds to package the best run behind each rung.
        full: Steps of the last rung, if there is time for them, or for three quarters or a half of them beside other candidates.
        candidates: How many there are.

    Returns:
        The rungs, the last with one candidate; none if not even the fewest steps fit.
    """
    left = seconds * RESERVE
    for width, share in product(_widths(candidates), SHARES):
        found = _plan(width, max(min(full, FEWEST), int(share * full)))
        if sum(rung.candidates * (start + rung.steps * step) + end for rung in found) <= left:
            return found
    steps = min(full, int((left - start - end) / step)) if step > 0 else full
    return [Rung(candidates=1, steps=steps)] if steps >= FEWEST else []


def _widths(candidates: int) -> Sequence[int]:
    """Numbers of candidates to begin with: all, then powers of two."""
    powers = [2**power for power in range(10, 0, -1) if 2**power < candidates]
    return [candidates, *powers] if candidates > 1 else []


def _plan(width: int, full: int) -> list[Rung]:
    sizes = [width]
    while sizes[-1] > 1:
        sizes.append((sizes[-1] + 1) // 2)
    last = len(sizes) - 1
    found: list[Rung] = []
    for place, size in enumerate(sizes):
        steps = max(FEWEST, full // FACTOR ** (last - place))
        if found and found[-1].steps >= min(steps, full):
            continue  # of a small data set: nothing is gained between rungs of equally few steps
        found.append(Rung(candidates=size, steps=min(steps, full)))
    return found
