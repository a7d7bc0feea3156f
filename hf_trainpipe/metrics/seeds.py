"""Two ways of training, several seeds each, on the same rows: the hierarchical bootstrap over seeds, then rows.

A resample draws the same rows for all runs. Drawing seeds too would draw few things often: of three seeds it gives two thirds of
their variance, and what a seed does to single rows would be counted three times (Owen 2007). So the seeds' part of the variance
is taken in closed form, unbiased; what it has in common with the rows' part is counted once; and intervals use Student's t with
the degrees of freedom of Satterthwaite 1946.

Shapes: K runs of a side, N examples, R resamples.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from hf_trainpipe.metrics.base import Floats, Predictions
from hf_trainpipe.metrics.paired import RESAMPLES
from hf_trainpipe.metrics.scoring import computation, metric_of, resampled

_LEAST, _MOST_DRAWS = 1000, 300_000_000
"""Resamples at least, and rows drawn at most, all runs together."""
_MANY = 1e6
"""Degrees of freedom that are as good as infinitely many."""


@dataclass(frozen=True, kw_only=True)
class SeedDifference:
    """The mean score of the second side minus that of the first. NaN where undefined."""

    first: tuple[float, ...]
    """Of each run."""
    second: tuple[float, ...]
    value: float
    error: float
    """Standard error: over seeds and rows."""
    freedom: float
    """Degrees of freedom of the error."""
    low: float
    high: float
    p: float
    """Two-sided."""
    drawn: Floats = field(repr=False, compare=False)
    """Differences of the resamples of the rows, in which both are defined."""


def seed_differences(
    first: Sequence[Predictions],
    second: Sequence[Predictions],
    names: Sequence[str],
    *,
    confidence: float = 0.95,
    resamples: int | None = None,
    seed: int = 0,
) -> dict[str, SeedDifference]:
    """Each score's difference.

    Args:
        first: Predictions of each run of a side, all of the same N examples in the same order. Where a side is a single run, its
            seed is taken to matter as much as the other side's.
        second: Likewise; one of the two has several runs.
        resamples: None: as many as of :func:`.paired.differences`, or as take a minute.
    """
    runs = [*first, *second]
    num_rows = len(runs[0])
    assert all(len(one) == num_rows for one in runs), "pairs are of the same rows"
    assert len(runs) > 2, "a side has several seeds"
    names = [name for name in names if num_rows and all(one.answered() for one in runs)]
    if not names:
        return {}
    resamples = resamples or min(RESAMPLES, max(_LEAST, _MOST_DRAWS // (num_rows * len(runs))))
    compute = [computation(one, [metric_of(name, one) for name in names]) for one in runs]
    whole = [one(np.ones((1, num_rows))) for one in compute]
    drawn = {name: np.full((resamples, len(runs)), np.nan) for name in names}
    for rows, weights in resampled(num_rows, resamples=resamples, seed=seed):
        for number, one in enumerate(compute):
            for name, scores in one(weights).items():
                drawn[name][rows, number] = scores
    found = {}
    for name in names:
        scores = np.array([float(one[name][0]) for one in whole])
        found[name] = _difference(scores, drawn[name], len(first), confidence=confidence)
    return found


def _difference(scores: Floats, drawn: Floats, num_first: int, *, confidence: float) -> SeedDifference:
    """From scores [K + K] of all runs, the first side's first, and those of their resamples [R, K + K]."""
    from scipy.special import stdtr, stdtrit

    sides = slice(0, num_first), slice(num_first, None)
    first, second = (scores[side] for side in sides)
    value = float(second.mean() - first.mean())
    drawn = drawn[~np.isnan(drawn).any(axis=1)]
    gaps = drawn[:, sides[1]].mean(axis=1) - drawn[:, sides[0]].mean(axis=1)
    of_rows = float(gaps.var()) if len(gaps) else math.nan
    several = [side for side in sides if len(scores[side]) > 1]
    of_seeds, shared = [], 0.0  # each side's part, with its degrees of freedom; what of it the rows' part has too
    for side in several:
        size = len(scores[side])
        alone = drawn[:, side] - drawn[:, side].mean(axis=1, keepdims=True)
        spread, of_single_rows = float(scores[side].var(ddof=1)), float(alone.var(axis=0).sum()) / (size - 1)
        runs = 1 / size if len(several) == 2 else 1 + 1 / size  # a side of one run has the spread of the other
        of_seeds.append((spread * runs, size - 1))
        shared += of_single_rows * runs
    variance = float(np.maximum(of_rows - shared, 0.0)) + sum(part for part, _ in of_seeds)  # NaN stays
    error = math.sqrt(variance)
    shares = sum(part**2 / free for part, free in of_seeds)
    freedom = min(variance**2 / shares, _MANY) if shares > 0 else _MANY
    if error > 0:
        reach, p = float(stdtrit(freedom, (1 + confidence) / 2)) * error, 2 * float(stdtr(freedom, -abs(value) / error))
    else:
        reach, p = error, float(value == 0) if error == 0 else math.nan
    return SeedDifference(
        first=tuple(map(float, first)),
        second=tuple(map(float, second)),
        value=value,
        error=error,
        freedom=freedom,
        low=value - reach,
        high=value + reach,
        p=p,
        drawn=gaps,
    )
