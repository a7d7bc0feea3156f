"""What every stage of a pipeline has: a name, what comes before it, what it reads and writes, and the command of one verb."""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import KW_ONLY, dataclass, field
from typing import ClassVar, Protocol

from hf_trainpipe.errors import EXIT_CODES, RecipeError

NAME = re.compile(r"[a-z]([a-z0-9-]{0,38}[a-z0-9])?")
"""Names that every engine takes: of folders, jobs, tasks."""
IN_NAMES = "lower-case letters, digits, and '-' between them, at most 40"
_TEXTS = ("after", "inputs", "outputs", "options")


class Place(Protocol):
    """What a stage may ask of the pipeline that it is in."""

    def stage(self, name: str) -> Stage:
        """Another stage."""

    def folder_of(self, name: str) -> str:
        """The folder of a stage's state."""

    def run_of(self, name: str) -> str:
        """The folder of the run that a stage makes or hands on."""


@dataclass(frozen=True)
class Stage(ABC):
    """One verb of the command line. Paths are relative to the folder of the pipeline's file, where the verb runs.

    A stage of your own is a frozen dataclass too:

    >>> @dataclass(frozen=True)
    ... class Compare(Stage):
    ...     verb: ClassVar[str] = "compare"
    ...     old: str
    ...     new: str
    ...     _: KW_ONLY
    ...     margin: float = 0.5
    ...
    ...     def arguments(self, pipeline: Place) -> tuple[str, ...]:
    ...         return (pipeline.run_of(self.old), pipeline.run_of(self.new), "--margin", str(self.margin))
    ...
    ...     def takes_from(self) -> tuple[str, ...]:
    ...         return (self.old, self.new)
    >>> from hf_trainpipe.pipelines import Pipeline, Train
    >>> trained = Train("reviews.py"), Train("reviews.py", name="other", fields=("--seed", "3"))
    >>> pipeline = Pipeline("reviews", stages=(*trained, Compare("train", "other")))
    >>> pipeline.stage("compare").words(pipeline)
    ('compare', 'runs/reviews/train', 'runs/reviews/other', '--margin', '0.5', '--json')
    """

    _: KW_ONLY
    name: str = ""
    """What other stages call it; empty: its verb."""
    after: tuple[str, ...] = ()
    """Stages that have to be done before, besides those that it takes something from."""
    runs_if: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    """For stages before it: the exit codes after which this one runs, ``{"watch": (10,)}``; else 0 alone. After another one that is
    no failure it is left out, with all that comes after it."""
    inputs: tuple[str, ...] = ()
    """Further files, folders and patterns that it reads: it runs again when their content changes."""
    outputs: tuple[str, ...] = ()
    """Further files and folders that it writes: it runs again when they are gone or changed."""
    options: tuple[str, ...] = ()
    """Further options of its verb, as on the command line."""

    verb: ClassVar[str] = ""
    """Of the command line."""

    def __post_init__(self) -> None:
        if not self.name:
            object.__setattr__(self, "name", self.verb)
        if not NAME.fullmatch(self.name):
            raise RecipeError(
                f"{type(self).__name__}.name: expected {IN_NAMES}, found {self.name!r}.",
                fix='Write a name that every engine takes: name="train-large".',
            )
        for name in _TEXTS:
            given = getattr(self, name)
            if isinstance(given, str) or not all(isinstance(text, str) for text in given):
                raise RecipeError(
                    f"{self.name}.{name}: expected a tuple of texts, found {given!r}.",
                    fix=f"Write {name}=({given!r},)." if isinstance(given, str) else f'Write {name}=("...", "...").',
                )
            object.__setattr__(self, name, tuple(given))
        branches = {code: row.name for code, row in EXIT_CODES.items() if row.branch}
        for need, codes in self.runs_if.items():
            if not isinstance(codes, tuple) or not codes or not set(codes) <= set(branches):
                listed = ", ".join(f"{code} ({name})" for code, name in branches.items())
                raise RecipeError(
                    f"{self.name}.runs_if[{need!r}]: expected a tuple of exit codes that are no failures, found {codes!r}.",
                    fix=f"They are: {listed}. Write runs_if={{{need!r}: (10,)}}.",
                )

    @property
    def trains(self) -> bool:
        """Whether it trains, and leaves a run in its folder."""
        return False

    @property
    def tells(self) -> bool:
        """Whether it is asked for ``--json``, and what it prints is kept as ``answer.json`` in its folder."""
        return not self.trains

    @abstractmethod
    def arguments(self, pipeline: Place) -> tuple[str, ...]:
        """What follows the verb."""

    def takes_from(self) -> tuple[str, ...]:
        """Names of the stages whose runs or packages it uses."""
        return ()

    def run_of(self, pipeline: Place) -> str | None:
        """The folder of the run that it makes or hands on; None: it has none."""
        return pipeline.folder_of(self.name) if self.trains else None

    def hands_on(self, pipeline: Place) -> tuple[str, ...]:
        """Files, folders and patterns that tell whether that run is another one."""
        run = self.run_of(pipeline)  # the rest of the package may be written again by later stages
        return () if run is None else (f"{run}/package/*.safetensors", f"{run}/recorded.jsonl")

    def recipe_of(self) -> tuple[str, tuple[str, ...]] | None:
        """The recipe that it reads, as it is typed, and the options of its fields; None: it reads none."""
        return None

    def reads(self, pipeline: Place) -> tuple[str, ...]:
        """Files, folders and patterns whose content it depends on, besides its recipe's."""
        return self.inputs

    def writes(self, pipeline: Place) -> tuple[str, ...]:
        """Files, folders and patterns that are there when it is done."""
        told = (f"{pipeline.folder_of(self.name)}/answer.json",) if self.tells else ()
        return (*told, *self.outputs)

    def words(self, pipeline: Place) -> tuple[str, ...]:
        """What follows ``python -m hf_trainpipe``: the verb and its arguments."""
        return (self.verb, *self.arguments(pipeline), *self.options, *(("--json",) if self.tells else ()))
