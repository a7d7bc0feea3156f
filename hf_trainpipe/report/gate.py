"""Whether runs are shown to be no worse than another by more than a margin: what ``compare --margin`` decides."""

from __future__ import annotations

import math
from dataclasses import dataclass

from hf_trainpipe.metrics.margin import NoWorse
from hf_trainpipe.metrics.paired import holm
from hf_trainpipe.metrics.registry import OF_HUNDRED


@dataclass(frozen=True, kw_only=True)
class Margin:
    """How much worse a run may be."""

    points: float
    """Hundredths of a score; where less is better, percent of the first's."""
    metric: str | None = None
    """None: the one that selects the best model."""

    def of(self, score: float, metric: str, *, greater_is_better: bool) -> float:
        """The margin in the unit of the score."""
        if not greater_is_better:
            return self.points / 100 * abs(score)
        return self.points if metric in OF_HUNDRED else self.points / 100


@dataclass(kw_only=True)
class Gate:
    """A run held against the margin."""

    run: str
    split: str
    metric: str
    margin: float
    """In the unit of the score."""
    gain: float
    """Of the run over the first; below 0 it is worse."""
    least: float
    """Lower bound of the gain, one-sided."""
    p: float
    adjusted: float = math.nan
    """By Holm's correction for all runs that pass or fail."""
    shown: bool = False
    """Whether it is shown to be no worse."""

    def told(self, against: str, *, confidence: float) -> str:
        """The decision in a sentence."""
        what = f"{self.run} is {'' if self.shown else 'not '}shown to be no worse than {against} by {self.margin:.4g}"
        return (
            f"{what} in {self.metric} on {self.split}: {self.gain:+.4f}, at least {self.least:+.4f} "
            f"({100 * confidence:g} % confidence, one-sided; p {self.adjusted:.4f})"
        )


def gate(found: NoWorse, *, run: str, split: str, metric: str, margin: float) -> Gate:
    return Gate(run=run, split=split, metric=metric, margin=margin, gain=found.gain, least=found.least, p=found.p)


def decide(gates: list[Gate], *, confidence: float) -> None:
    """Decide all of them together: a wrong pass among them is as rare as one alone would be."""
    for one, adjusted in zip(gates, holm([one.p for one in gates]), strict=True):
        one.adjusted, one.shown = adjusted, adjusted < 1 - confidence
