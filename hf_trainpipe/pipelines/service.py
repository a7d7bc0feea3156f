"""The stages of a model in service: deployed, watched, trained again, promoted."""

from __future__ import annotations

from dataclasses import KW_ONLY, dataclass
from typing import ClassVar

from hf_trainpipe.pipelines.of_run import OfRun, repeated, values
from hf_trainpipe.pipelines.stage import Place, Stage


@dataclass(frozen=True)
class Promote(OfRun):
    """``promote RUN --over ALIAS``: the run takes the alias if it is shown to be no worse than the champion, else 11.

    What comes after it runs where it was promoted; ``runs_if={"promote": (11,)}`` runs where it was not.
    """

    verb: ClassVar[str] = "promote"

    _: KW_ONLY
    over: str
    """The alias: a folder such as ``aliases/reviews``, ``mlflow:NAME`` or ``hub:USER/NAME``."""
    test: tuple[str, ...] = ()
    """Files of frozen test rows; empty: the test split of the recipe's data."""
    fresh: tuple[str, ...] = ()
    """Files of fresh labels; empty: what ``retrain`` held out."""
    margin: float | None = None
    """Hundredths of the score that may be lost on the test rows; None: as the verb has it."""
    recipe: str | None = None
    """Needed where the recipe file has classes of its own."""

    def arguments(self, pipeline: Place) -> tuple[str, ...]:
        files = (*repeated("--test", self.test), *repeated("--fresh", self.fresh))
        chosen = values(over=self.over, margin=self.margin, recipe=self.recipe)
        return (self.run_of(pipeline), *chosen, *files)

    def reads(self, pipeline: Place) -> tuple[str, ...]:
        return (self.package_of(pipeline), *super().reads(pipeline), *self.test, *self.fresh)


@dataclass(frozen=True)
class Deploy(Promote):
    """``promote RUN --over ALIAS``, so that the servers that follow the alias take the package. The first one takes it as it is; later
    ones have to be shown to be no worse."""

    def __post_init__(self) -> None:
        if not self.name:
            object.__setattr__(self, "name", "deploy")
        super().__post_init__()


@dataclass(frozen=True)
class Watch(OfRun):
    """``watch PACKAGE --input LOG``: whether traffic is still like what the package was tried on, else 10.

    What is to follow a drift has ``runs_if={"watch": (10,)}``.
    """

    verb: ClassVar[str] = "watch"

    _: KW_ONLY
    input: str
    """The log: any file that training reads."""
    column: str | None = None
    """Of the texts; None: the recipe's."""
    window: int | None = None
    """Texts that are tested at a time; None: as the verb has it."""

    def arguments(self, pipeline: Place) -> tuple[str, ...]:
        state = f"{pipeline.folder_of(self.name)}/state"
        chosen = values(input=self.input, state=state, column=self.column, window=self.window)
        return (self.package_of(pipeline), *chosen)

    def reads(self, pipeline: Place) -> tuple[str, ...]:
        return (*super().reads(pipeline), self.input)


@dataclass(frozen=True)
class Retrain(Stage):
    """``retrain RECIPE --labels FILE``: a challenger, trained on new labels merged with the training rows, in the stage's folder."""

    verb: ClassVar[str] = "retrain"

    recipe: str
    """``FILE.py``, ``FILE.py:FUNCTION`` or ``FILE.json``."""
    _: KW_ONLY
    labels: tuple[str, ...]
    """Files of new labels."""
    begin: str | None = None
    """Whose weights it begins with: a stage that trains, or the folder of a run or a package, with a ``/``; None: the recipe's model."""
    fields: tuple[str, ...] = ()
    """Options of the recipe's fields."""
    ranks: int = 1
    """Processes of the run."""

    @property
    def trains(self) -> bool:
        return True

    def arguments(self, pipeline: Place) -> tuple[str, ...]:
        chosen = values(run_dir=pipeline.folder_of(self.name), ranks=self.ranks if self.ranks > 1 else None)
        begin = self.begin if self.begin is None or "/" in self.begin else pipeline.run_of(self.begin)
        before = () if begin is None else ("--from", begin)
        return (self.recipe, *self.fields, *chosen, *before, "--labels", *self.labels)

    def takes_from(self) -> tuple[str, ...]:
        return () if self.begin is None or "/" in self.begin else (self.begin,)

    def recipe_of(self) -> tuple[str, tuple[str, ...]]:
        return self.recipe, self.fields

    def reads(self, pipeline: Place) -> tuple[str, ...]:
        before = (path for name in self.takes_from() for path in pipeline.stage(name).hands_on(pipeline))
        folder = () if self.begin is None or self.takes_from() else (f"{self.begin}/**/*.safetensors",)
        return (*self.labels, *before, *folder, *super().reads(pipeline))

    def writes(self, pipeline: Place) -> tuple[str, ...]:
        return (*self.hands_on(pipeline), *super().writes(pipeline))
