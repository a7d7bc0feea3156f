"""Base classes for parts of a recipe that users may write: data sources, augmentation and trackers."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal, NamedTuple, get_args

from hf_trainpipe.recipe.settings import check_share

if TYPE_CHECKING:
    import numpy as np
    from datasets import Dataset, DatasetDict

    from hf_trainpipe.data.streaming import TrainStream
    from hf_trainpipe.runtime.text.edits import Edit
    from hf_trainpipe.runtime.tokens.masking import Masker

Changes = Literal["tokens", "words", "text"]
"""What a step of augmentation changes, the least first: which tokens are hidden; words, which stay as many; whole texts."""


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


@dataclass(frozen=True, kw_only=True)
class Augmentation(ABC):
    """Changes texts of the training, anew in each epoch; evaluations, baselines and packages never see it (docs/augmentation.md).

    Subclasses are frozen dataclasses. What they draw follows from the recipe's seed, the epoch and the example, so that a resumed
    run, on any ranks, changes the same. Texts come as the preprocessing leaves them.

    >>> from hf_trainpipe.runtime.text.edits import Edit, apply_edits
    >>> @dataclass(frozen=True, kw_only=True)
    ... class Shouting(Augmentation):
    ...     changes = "words"
    ...
    ...     def edits(self, text, draws):
    ...         return [Edit(0, len(text), text.upper())]
    >>> apply_edits("so good", Shouting(examples=0.2).edits("so good", None))
    'SO GOOD'
    """

    changes: ClassVar[Changes] = "text"
    """What it changes. With ``words`` it may also get each word of a text by itself."""
    examples: float = 1.0
    """The probability of each example in each epoch; the others stay as they are, in (0, 1]."""

    def __post_init__(self) -> None:
        check_share(f"{type(self).__name__}.examples", self.examples, closed=True)

    @abstractmethod
    def edits(self, text: str, draws: np.random.Generator) -> list[Edit]:
        """The edits to make, sorted and without overlap."""

    def hidden(self, ids: np.ndarray, draws: np.random.Generator, masker: Masker) -> np.ndarray:
        """Of a step that changes ``tokens``: int64[n], the ids of a feature as the model reads them."""
        return ids

    def check(self, tokenizer: Any) -> None:  # noqa: B027  nothing to refuse
        """Refuse, before training, a tokenizer that it cannot work with.

        Raises:
            RecipeError: as said.
        """

    def data_files(self) -> Mapping[str, bytes]:
        """What it reads beside its code, by name; a resumed run must find the same.

        Raises:
            MissingPipeline: a file is not on this machine.
        """
        return {}

    def fits(self, most: Changes | None) -> bool:
        """Whether a task whose inputs may change so much takes it; None: not at all."""
        known = get_args(Changes)
        return most is not None and known.index(self.changes) <= known.index(most)


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
