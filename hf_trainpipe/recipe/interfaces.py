"""What a recipe is made of that others may write: where the data comes from, and who is told the numbers."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from datasets import Dataset, DatasetDict

    from hf_trainpipe.data.streaming import TrainStream


class Size(NamedTuple):
    """Rows of a split."""

    rows: int
    exact: bool

    def __str__(self) -> str:
        if self.exact:
            return f"{self.rows:,} rows"
        rounded = round(self.rows, 2 - len(str(self.rows)))
        return f"about {rounded:,} rows, judged by the first ones"


@dataclass(frozen=True)
class Preview:
    """What a source can show at once."""

    rows: Mapping[str, Dataset] = field(default_factory=dict)
    """First rows of splits, shaped as training gets them. A split that is cut from train is here only with ``whole``."""
    sizes: Mapping[str, Size] = field(default_factory=dict)
    """Rows of every split, as far as they are known."""
    whole: bool = False
    """Whether ``rows`` are all there are."""
    streamed: bool = False
    """Whether the sizes are those of a window of a stream."""
    unchecked: tuple[str, ...] = ()
    """What could not be looked at, and why; a sentence each."""


class Data(ABC):
    """Where the examples come from. Subclasses are frozen dataclasses."""

    @abstractmethod
    def splits(self) -> DatasetDict:
        """Load ``train`` and, where the recipe names them, ``validation`` and ``test``.

        Raises:
            DataError: with file and line where they are known.
        """

    def stream(self) -> TrainStream | None:
        """The training rows after those of :meth:`splits`, where they are too many to be kept; None: there are none."""
        return None

    def preview(self) -> Preview | None:
        """First rows of the splits, for a look that takes no time; None: :meth:`splits` takes none either."""
        return None

    @abstractmethod
    def describe(self) -> str:
        """One line for plans and model cards; touches no network and no file."""


@dataclass(frozen=True)
class RunInfo:
    """What a tracker is told about a run when it starts."""

    name: str
    """The recipe's name."""
    uid: str
    """Stable over resumes; a tracker continues the run that carries it."""
    directory: Path
    """The run's directory."""
    attempt: int
    """Which start of the run it is, from 1."""
    recipe: Mapping[str, Any] = field(default_factory=dict)
    """The recipe as JSON."""


class Session(ABC):
    """An open connection of a tracker. Called from the follower process, never from the trainer."""

    @abstractmethod
    def log(self, values: Mapping[str, float], *, step: int, time: float) -> None:
        """Send numbers of one step; ``time`` is in seconds since the epoch."""

    @abstractmethod
    def artifact(self, path: Path) -> None:
        """Upload one file."""

    @abstractmethod
    def finish(self) -> None:
        """Flush and close, within a few seconds."""


class Tracker(ABC):
    """Frozen settings of an experiment tracker. Secrets come from the environment."""

    @abstractmethod
    def start(self, run: RunInfo) -> Session:
        """Connect, or continue the run that carries ``run.uid``."""
