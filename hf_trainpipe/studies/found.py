"""What a search found: trials, finalists with what they scored on fresh seeds, the winner; and how they are said on a line."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hf_trainpipe.utils.brief import first_line

if TYPE_CHECKING:
    from hf_trainpipe.studies.trials import Trial


@dataclass(frozen=True, kw_only=True)
class Finalist:
    """A trial that ran again on fresh seeds."""

    trial: Trial
    again: Sequence[Trial]
    """Its complete runs, by seed."""

    @property
    def mean(self) -> float:
        return statistics.fmean(one.score for one in self.again if one.score is not None)

    @property
    def spread(self) -> float | None:
        """The standard deviation over the seeds."""
        scores = [one.score for one in self.again if one.score is not None]
        return statistics.stdev(scores) if len(scores) > 1 else None

    @property
    def optimism(self) -> float:
        """By how much its search score is above the mean over fresh seeds; of a loss, below."""
        assert self.trial.score is not None
        return self.trial.score - self.mean


@dataclass(frozen=True, kw_only=True)
class Found:
    """What a search found."""

    folder: Path
    metric: str
    trials: Sequence[Trial]
    finalists: Sequence[Finalist]
    """The best first."""
    winner: Trial
    """The run that is packaged: the winner's on its first fresh seed, not on the luckiest."""
    result: Mapping[str, Any]
    """Its result.json, with the test score."""
    greater_is_better: bool = True
    unfinished: str = ""
    """Why there are fewer trials than asked for; empty where there are not."""
    earlier_winners: Sequence[str] = field(default_factory=tuple)
    """Other runs of this study that the test split was scored for before."""


def final_name(trial: Trial, place: int) -> str:
    """The folder of a finalist's run on the fresh seed at a place, from 1."""
    return f"finals/{trial.number:03d}-{place}"


def line_of(trial: Trial, metric: str) -> str:
    """A run that has ended, on a line."""
    values = "  ".join(f"{name.rpartition('.')[2]} {shown(value)}" for name, value in trial.values.items())
    what = (
        f"trial {trial.number}" if trial.run.startswith("trials/") else f"finalist {trial.number} on seed {trial.seed}"
    )
    told = f"{metric} {trial.score:.4f}" if trial.score is not None else f"{trial.state}: {trial.reason}".rstrip(": ")
    return f"{what}  {first_line(told)}  {values}  {trial.seconds:,.0f} s"


def shown(value: Any) -> str:
    """A value of a space, short."""
    return f"{value:.3g}" if isinstance(value, float) else str(value)
