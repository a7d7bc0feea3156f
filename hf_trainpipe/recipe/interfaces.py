"""Base classes for parts of a recipe that users may write: data sources and trackers."""

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
        return f"about {rounded:,} rows, estimated from the first ones"


@dataclass(frozen=True)
class Preview:
    """The first rows of a data source, without loading it."""

    rows: Mapping[str, Dataset] = field(default_factory=dict)
    """First rows of splits, shaped as training gets them. A split taken from train is included only with ``whole``."""
    sizes: Mapping[str, Size] = field(default_factory=dict)
    """Rows of every split, as far as they are known."""
    whole: bool = False
    """Whether ``rows`` are all rows."""
    streamed: bool = False
    """Whether the sizes are those of one window of a stream."""
    unchecked: tuple[str, ...] = ()
    """What could not be checked, and why, a sentence each."""


class Data(ABC):
    """Where the examples come from. Subclasses are frozen dataclasses."""

    @abstractmethod
    def splits(self) -> DatasetDict:
        """Load ``train`` and, where the recipe names them, ``validation`` and ``test``.

        Raises:
            DataError: with file and line where they are known.
        """

    def stream(self) -> TrainStream | None:
        """The training rows after those of :meth:`splits`, if they are streamed; else None."""
        return None

    def preview(self) -> Preview | None:
        """First rows of the splits, for a quick check; None: :meth:`splits` is fast enough."""
        return None

    def paths(self) -> tuple[Path, ...]:
        """Files and folders of this machine that it reads, so that a change of them is noticed; none where there are none."""
        return ()

    def origin(self) -> Data:
        """The source that the rows come from: this one; of chosen rows, the one that they are chosen from."""
        return self

    @abstractmethod
    def describe(self) -> str:
        """One line for plans and model cards; uses no network and no file."""


@dataclass(frozen=True)
class RunInfo:
    """Facts about a run for a tracker, when it starts."""

    name: str
    """The recipe's name."""
    uid: str
    """Stays the same over resumes; a tracker continues the run with this id."""
    directory: Path
    """The run's directory."""
    attempt: int
    """Number of this start of the run, from 1."""
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


@dataclass(frozen=True)
class Destination:
    """Where a tracker's numbers would go from here."""

    address: str | None = None
    """Of a server; None: files of this machine."""
    lacks: str | None = None
    """What it needs and the environment does not have."""
    fix: str = ""


class Tracker(ABC):
    """Frozen settings of an experiment tracker. Secrets come from the environment."""

    def destination(self) -> Destination:
        """Where the numbers would go, by these settings and the environment. Connects to nothing."""
        return Destination()

    @abstractmethod
    def start(self, run: RunInfo) -> Session:
        """Connect, or continue the run with ``run.uid``."""
