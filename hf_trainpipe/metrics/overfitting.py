"""Whether a run overfits, with uncertainty: intervals on slopes of losses since validation was best.

At each evaluation two losses are taken without dropout: of the validation examples, and of a fixed sample of the training
examples, each in some fixed blocks of examples. Two slopes by steps since the lowest validation loss count: of the validation
loss, and of the gap, validation minus training. Overfitting is shown where the intervals of both lie above zero: the gap alone
grows in every run that learns its training examples by heart without harm.

A slope is taken in two ways, each at half the level. A steady rise: the median of the slopes between all pairs of evaluations
behind the lowest, with the interval that follows from Kendall's distribution (Theil 1950, Sen 1968): it asks for no shape of
the rise, and jumps may grow with it. The lowest itself is left out, since it was chosen for being low. A rise that has come to
rest: from the lowest to the mean of the later half of the evaluations behind it, where the quantile allows for the lowest of
all evaluations so far.

An interval holds two uncertainties: which examples were chosen (the spread of the slope over blocks, paired, since the
examples stay the same), and how much training jumps from evaluation to evaluation. Levels are spent over the evaluations,
alpha / (k (k + 1)) for the k-th test, so that a run that does not overfit is called so at any evaluation with at most the
probability alpha in all.

Shapes: E evaluations, K blocks.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cache, partial

import numpy as np

from hf_trainpipe.metrics.base import Floats

BLOCKS, TRAIN_BLOCKS = 32, 16
"""Of the examples of validation, and of the sample of the training, each of which is a forward pass of its own."""
FEWEST = 4
"""Evaluations behind the lowest that a line can be told from."""
PER_STEPS = 1000
"""Slopes are by so many steps."""


@dataclass(frozen=True, kw_only=True)
class Trend:
    """What is known after an evaluation. Slopes are of a loss by 1,000 steps."""

    since: int
    """The step of the lowest validation loss."""
    evaluations: int
    """Behind it."""
    slope: float
    """Of validation minus training loss; NaN before there are enough evaluations, as its interval."""
    low: float
    high: float
    shown_from: int | None
    """The step from which overfitting is shown; None: not shown."""

    @property
    def line(self) -> str:
        """For a person.

        >>> Trend(since=400, evaluations=5, slope=0.2, low=0.1, high=0.3, shown_from=400).line
        'shown from step 400'
        """
        return "not shown" if self.shown_from is None else f"shown from step {self.shown_from:,}"


@dataclass
class Gaps:
    """The losses of a run's evaluations, and whether overfitting was shown: part of the run's state."""

    steps: list[int] = field(default_factory=list)
    validation: list[list[float]] = field(default_factory=list)
    """[E][K] mean loss of each block of validation examples."""
    train: list[list[float]] = field(default_factory=list)
    """[E][K] the same of the sample of training examples."""
    looks: int = 0
    """Evaluations at which it was tested."""
    shown_from: int | None = None

    def add(self, step: int, validation: Sequence[float], train: Sequence[float], *, alpha: float = 0.05) -> Trend:
        """Take the losses of an evaluation; blocks of other numbers than before begin anew."""
        if self.steps and (len(validation) != len(self.validation[0]) or len(train) != len(self.train[0])):
            self.steps, self.validation, self.train, self.looks, self.shown_from = [], [], [], 0, None
        self.steps.append(step)
        self.validation.append([float(f"{loss:.7g}") for loss in validation])
        self.train.append([float(f"{loss:.7g}") for loss in train])
        losses = np.array(self.validation).mean(axis=1)
        lowest = int(np.flatnonzero(losses == losses.min())[-1]) if np.isfinite(losses).all() else len(losses) - 1
        behind = len(losses) - 1 - lowest
        if self.shown_from is not None and self.steps[lowest] > self.shown_from:
            self.shown_from = None  # validation has become better than it was before
        if behind < FEWEST:
            return self._trend(lowest, (math.nan,) * 3)
        self.looks += 1
        tail = alpha / (self.looks * (self.looks + 1)) / 2
        steps = np.array(self.steps[lowest:], dtype=np.float64) / PER_STEPS
        of_validation, of_train = (np.array(side[lowest:]) for side in (self.validation, self.train))
        found = []
        for estimate in (steady, partial(settled, among=len(losses))):
            rise = estimate(steps, [of_validation], tail=tail)
            gap = estimate(steps, [of_validation, -of_train], tail=tail)
            found.append((rise[1] > 0 and gap[1] > 0, gap))
        shown, gap = found[1] if found[1][0] and not found[0][0] else found[0]
        if self.shown_from is None and shown:
            self.shown_from = self.steps[lowest]
        return self._trend(lowest, gap)

    def _trend(self, lowest: int, slope: tuple[float, float, float]) -> Trend:
        return Trend(
            since=self.steps[lowest],
            evaluations=len(self.steps) - 1 - lowest,
            slope=slope[0],
            low=slope[1],
            high=slope[2],
            shown_from=self.shown_from,
        )


def steady(steps: Floats, sides: Sequence[Floats], *, tail: float) -> tuple[float, float, float]:
    """The slope of a sum of losses by Theil and Sen, without the first evaluation, and its interval.

    Args:
        steps: [E]
        sides: [E, K] each, of independent examples; a loss is the mean of its blocks.
        tail: The probability that the slope lies below the interval, and above.
    """
    steps, sides = steps[1:], [side[1:] for side in sides]
    summed = np.sum([side.mean(axis=1) for side in sides], axis=0)
    first, second = np.triu_indices(len(steps), 1)
    slopes = np.sort((summed[second] - summed[first]) / (steps[second] - steps[first]))
    slope, outside = float(np.median(slopes)), int((_inversions(len(steps)) <= tail).sum())
    if not outside:  # so few evaluations cannot show anything at this level
        return slope, -math.inf, math.inf
    centred = steps - steps.mean()
    weights = centred / float((centred**2).sum())
    examples = _examples([weights @ side for side in sides], tail)
    below, above = slope - float(slopes[outside - 1]), float(slopes[-outside]) - slope
    return slope, slope - math.hypot(below, examples), slope + math.hypot(above, examples)


@cache
def _inversions(count: int) -> Floats:
    """The probabilities of at most 0, 1, 2, ... inversions in a random order (Kendall 1938)."""
    chances = np.ones(1)
    for number in range(2, count + 1):
        chances = np.convolve(chances, np.full(number, 1 / number))
    return np.asarray(np.cumsum(chances))


def settled(steps: Floats, sides: Sequence[Floats], *, tail: float, among: int) -> tuple[float, float, float]:
    """The slope from the first evaluation to the mean of the later half of the others, and its interval.

    Args:
        steps: [E]
        sides: [E, K] each, of independent examples.
        tail: The probability that the slope lies below the interval, and above.
        among: The number of evaluations of which the first of these was the lowest.
    """
    later = max(3, len(steps) // 2)
    summed = np.sum([side.mean(axis=1) for side in sides], axis=0)
    way = float(steps[-later:].mean() - steps[0])
    rise = float(summed[-later:].mean() - summed[0])
    deviation = float(summed[-later:].std(ddof=1)) * math.sqrt(1 + 1 / later)
    jumps = _quantile(later - 1, tail / among) * deviation
    half = math.hypot(jumps, _examples([side[-later:].mean(axis=0) - side[0] for side in sides], tail))
    return rise / way, (rise - half) / way, (rise + half) / way


def _quantile(freedom: float, tail: float) -> float:
    """Of Student's t."""
    from scipy.special import stdtrit

    return float(stdtrit(freedom, 1 - tail))


def _examples(by_block: Sequence[Floats], tail: float) -> float:
    """Half the interval of a sum of means over blocks of independent sides (Welch 1947)."""
    parts = [(float(side.var(ddof=1)) / len(side), len(side) - 1) for side in by_block if len(side) > 1]
    variance = sum(part for part, _ in parts)
    if variance <= 0:
        return 0.0
    freedom = variance**2 / sum(part**2 / of for part, of in parts)
    return _quantile(max(freedom, 1.0), tail) * math.sqrt(variance)
