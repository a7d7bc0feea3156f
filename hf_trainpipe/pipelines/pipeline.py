"""A pipeline: stages, in whatever order; which comes before which follows from what they take and from ``after``."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import KW_ONLY, dataclass, field
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

from hf_trainpipe.errors import RecipeError, closest
from hf_trainpipe.pipelines.ancestors import ancestors
from hf_trainpipe.pipelines.stage import IN_NAMES, NAME, Stage
from hf_trainpipe.recipe.source import RecipeSource
from hf_trainpipe.utils.resources import PATTERN, is_pattern

FUNCTION = "pipeline"
"""Of a pipeline's file, unless another one is named."""


@dataclass(frozen=True)
class Pipeline:
    """Stages that belong together. Every path is relative to the folder of its file, where each stage's verb runs."""

    name: str
    """Of its folder of state, and what engines call it."""
    _: KW_ONLY
    stages: tuple[Stage, ...]
    """In any order; those that come before another are found by what it takes from them, and by its ``after``."""
    runs: str = "runs"
    """The folder of the state: each stage's is ``runs/NAME/STAGE``. Engines on several machines need one that all of them see."""
    interruptions: int = 20
    """How often one stage may be interrupted (75) and continued within one run of the pipeline."""
    push_retries: int = 5
    """How often a push that failed (5) is tried again within one run of the pipeline."""
    source: RecipeSource | None = field(default=None, compare=False, repr=False)
    """Its file and function; set when the file is loaded."""

    def __post_init__(self) -> None:
        if not NAME.fullmatch(self.name):
            raise RecipeError(
                f"Pipeline.name: expected {IN_NAMES}, found {self.name!r}.",
                fix='Write a name that every engine takes: Pipeline("support-messages", ...).',
            )
        if is_pattern(self.runs):
            raise RecipeError(
                f"Pipeline.runs: expected a folder without {' '.join(PATTERN)}, found {self.runs!r}: paths with these are patterns.",
                fix='Write runs="runs", or the name of another folder.',
            )
        for name in ("interruptions", "push_retries"):
            if getattr(self, name) < 0:
                raise RecipeError(
                    f"Pipeline.{name}: expected 0 or more, found {getattr(self, name)}.", fix=f"Write {name}=0."
                )
        self._check_stages()
        for stage in self.stages:
            self._check_names(stage)
        self._check_circles({stage.name: _named(stage) for stage in self.stages})  # runs are asked for along these
        for stage in self.stages:
            self._check_runs(stage)
        needs = {stage.name: self.needs_of(stage.name) for stage in self.stages}
        self._check_circles(needs)
        self._check_writers(needs)

    def stage(self, name: str) -> Stage:
        """The stage of that name.

        Raises:
            RecipeError: there is none.
        """
        for stage in self.stages:
            if stage.name == name:
                return stage
        names = [stage.name for stage in self.stages]
        raise RecipeError(
            f"{self.name}: there is no stage {name!r}.{closest(name, names)}", fix=f"Its stages: {', '.join(names)}."
        )

    def folder_of(self, name: str) -> str:
        """The folder of a stage's state, relative to :attr:`folder`."""
        return f"{self.runs}/{self.name}/{name}"

    def run_of(self, name: str) -> str:
        """The folder of the run that a stage makes or hands on.

        Raises:
            RecipeError: it has none.
        """
        found = self.stage(name).run_of(self)
        if found is None:
            having = ", ".join(stage.name for stage in self.stages if stage.trains)
            raise RecipeError(
                f"{self.name}: {name} leaves no run that another stage could use.",
                fix=f"Stages that train: {having or 'none'}. Name one of them, or the folder of a run or a package.",
            )
        return found

    def needs_of(self, name: str) -> tuple[str, ...]:
        """Names of the stages that come right before one, in the order of the file."""
        stage = self.stage(name)
        asked = {*_named(stage), *self._writers_of(stage)}
        return tuple(other.name for other in self.stages if other.name in asked)

    def before(self, name: str) -> frozenset[str]:
        """All stages that come before one, directly or not."""
        return ancestors({stage.name: self.needs_of(stage.name) for stage in self.stages})[name]

    @property
    def spelled(self) -> str:
        """``FILE.py`` or ``FILE.py:FUNCTION``, as commands name it in :attr:`folder`; the name, where there is no file."""
        if self.source is None:
            return self.name
        return self.source.path.name + ("" if self.source.function == FUNCTION else f":{self.source.function}")

    @property
    def folder(self) -> Path:
        """The folder of its file, absolute; all paths start from it."""
        return Path.cwd() if self.source is None else self.source.path.parent

    def _writers_of(self, stage: Stage) -> Iterable[str]:
        """Stages whose further outputs are its further inputs."""
        for other in self.stages:
            written = (path for path in other.writes(self) if not path.startswith(f"{self.runs}/{self.name}/"))
            if other is not stage and any(_overlap(one, two) for two in written for one in stage.inputs):
                yield other.name

    def _check_stages(self) -> None:
        if not self.stages or not all(isinstance(stage, Stage) for stage in self.stages):
            raise RecipeError(
                f"{self.name}.stages: expected one stage or more, found {self.stages!r:.80}.",
                fix='Write stages=(Train("reviews.py"), Evaluate("train")).',
            )
        names = [stage.name for stage in self.stages]
        if twice := next((name for name in names if names.count(name) > 1), None):
            raise RecipeError(
                f"{self.name}: two stages are called {twice!r}.", fix=f'Give one another name: name="{twice}-2".'
            )

    def _check_names(self, stage: Stage) -> None:
        names = [other.name for other in self.stages]
        for name, field_name in _named(stage).items():
            if name in names and name != stage.name:
                continue
            where = f"{stage.name}.{field_name}" if field_name else stage.name
            found = "itself" if name == stage.name else f"{name!r}"
            path = "" if field_name else " The folder of a run or of a package has a '/': './package'."
            raise RecipeError(
                f"{where}: expected the name of another stage, found {found}.{closest(name, names)}",
                fix=f"Stages of {self.name}: {', '.join(names)}.{path}",
            )

    def _check_runs(self, stage: Stage) -> None:
        for name in stage.takes_from():
            stage.run_of(self)
            if self.stage(name).run_of(self) is None and stage.run_of(self) is not None:
                self.run_of(name)

    def _check_circles(self, needs: Mapping[str, Collection[str]]) -> None:
        try:
            TopologicalSorter(needs).prepare()
        except CycleError as error:
            circle: list[str] = error.args[1][1:]  # its first stage is its last one too
            first = circle.index(next(stage.name for stage in self.stages if stage.name in circle))
            told = ", ".join([*circle[first:], *circle[: first + 1]])
            raise RecipeError(
                f"{self.name}: stages wait for each other in a circle: {told}.",
                fix="Leave out what one of them takes from another, or one of their after, runs_if, inputs or outputs.",
            ) from None

    def _check_writers(self, needs: Mapping[str, Collection[str]]) -> None:
        """Two stages that touch the same path, and may run at the same time."""
        before = ancestors(needs)
        written = {stage.name: stage.writes(self) for stage in self.stages}
        touched = {stage.name: (*stage.reads(self), *written[stage.name]) for stage in self.stages}
        for position, one in enumerate(self.stages):
            for two in self.stages[position + 1 :]:
                if one.name in before[two.name] or two.name in before[one.name]:
                    continue
                for writer, other in ((one, two), (two, one)):
                    paths = touched[other.name]
                    path = next((p for p in written[writer.name] if any(_overlap(p, q) for q in paths)), None)
                    if path is not None:
                        raise RecipeError(
                            f"{self.name}: {writer.name} writes {path}, which {other.name} uses, and neither comes first.",
                            fix=f'Say which: after=("{writer.name}",) in {other.name}, or the other way round.',
                        )


def _named(stage: Stage) -> dict[str, str]:
    """The stages that one names, with the field that does so; empty: it takes something from them."""
    taken, after, branches = stage.takes_from(), stage.after, stage.runs_if
    return {**dict.fromkeys(taken, ""), **dict.fromkeys(after, "after"), **dict.fromkeys(branches, "runs_if")}


def _overlap(one: str, other: str) -> bool:
    """Whether two paths may mean the same file: one lies in the other, as far as both are plain.

    >>> _overlap("data", "data/train.csv"), _overlap("data/*.csv", "data/train.csv"), _overlap("data", "database")
    (True, True, False)
    """
    first, second = _plain(one), _plain(other)
    return first == second or first in second.parents or second in first.parents


def _plain(path: str) -> Path:
    """A path up to its first part with a pattern."""
    parts = Path(path).parts
    plain = next((number for number, part in enumerate(parts) if is_pattern(part)), len(parts))
    return Path(*parts[:plain])
