"""The stages from raw rows to a package on the Hub: each is one verb, with what it takes from the stages before it."""

from __future__ import annotations

from dataclasses import KW_ONLY, dataclass
from typing import ClassVar, Literal

from hf_trainpipe.errors import RecipeError
from hf_trainpipe.pipelines.of_run import OfRun, repeated, switches, values
from hf_trainpipe.pipelines.stage import Place, Stage


@dataclass(frozen=True)
class Ingest(Stage):
    """``ingest FILE ... --to FOLDER``: raw rows to shards, cleaned, each text once, cut into splits.

    Files elsewhere (``s3://``, ``https://``) are not looked at again once the shards are there; delete the stage's folder to do so.
    """

    verb: ClassVar[str] = "ingest"

    files: tuple[str, ...]
    """Files and patterns of raw rows; with ``--sql`` in ``options`` tables or queries, which are not looked at again either."""
    _: KW_ONLY
    to: str
    """The folder of the shards, which a recipe reads as ``Shards(FOLDER)``."""
    text: tuple[str, ...] = ()
    """Columns of text to clean; empty: ``text``."""
    validation: float | str | None = None
    """A fraction of the rows, or a file that is that split."""
    test: float | str | None = None
    """The same."""

    def arguments(self, pipeline: Place) -> tuple[str, ...]:
        chosen = values(to=self.to, validation=self.validation, test=self.test)
        return (*self.files, *chosen, *repeated("--text", self.text), "--replace")

    def reads(self, pipeline: Place) -> tuple[str, ...]:
        splits = tuple(split for split in (self.validation, self.test) if isinstance(split, str))
        files = () if "--sql" in self.options else self.files
        return (*(file for file in (*files, *splits) if "://" not in file), *super().reads(pipeline))

    def writes(self, pipeline: Place) -> tuple[str, ...]:
        return (self.to, *super().writes(pipeline))


@dataclass(frozen=True)
class Audit(Stage):
    """``audit RECIPE``: what repeats, leaks or contradicts itself in the recipe's data."""

    verb: ClassVar[str] = "audit"

    recipe: str
    """``FILE.py``, ``FILE.py:FUNCTION`` or ``FILE.json``."""
    _: KW_ONLY
    fields: tuple[str, ...] = ()
    """Options of the recipe's fields: ``("--data.root", "messages")``."""
    fail_on: Literal["never", "wrong", "costs", "look"] = "wrong"
    """The pipeline ends (2) where a finding is as bad as this."""
    no_model: bool = False
    """Learn nothing: wrong labels are not looked for."""

    def arguments(self, pipeline: Place) -> tuple[str, ...]:
        return (self.recipe, *self.fields, *values(fail_on=self.fail_on), *switches(no_model=self.no_model))

    def recipe_of(self) -> tuple[str, tuple[str, ...]]:
        return self.recipe, self.fields


@dataclass(frozen=True)
class Train(Stage):
    """``train RECIPE``, in the stage's own folder: the run, its package and ``result.json`` are there.

    An interrupted run continues. Where the recipe or its data changed, the run that was there is moved aside and kept.
    """

    verb: ClassVar[str] = "train"

    recipe: str
    """``FILE.py``, ``FILE.py:FUNCTION`` or ``FILE.json``."""
    _: KW_ONLY
    fields: tuple[str, ...] = ()
    """Options of the recipe's fields: ``("--budget.epochs", "5")``."""
    ranks: int = 1
    """Processes; above 1 ``launch`` starts it."""
    launch: tuple[str, ...] = ()
    """Options of ``accelerate launch``: ``("--config_file", "fsdp2.yaml")``."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.ranks < 1:
            raise RecipeError(f"{self.name}.ranks: expected 1 or more, found {self.ranks}.", fix="Write ranks=1.")

    def arguments(self, pipeline: Place) -> tuple[str, ...]:
        return (self.recipe, *self.fields, *values(run_dir=pipeline.folder_of(self.name)))

    @property
    def trains(self) -> bool:
        return True

    def words(self, pipeline: Place) -> tuple[str, ...]:
        train = (*self.arguments(pipeline), *self.options)
        if self.ranks == 1 and not self.launch:
            return (self.verb, *train)
        from hf_trainpipe.studies.runs import Launch

        return tuple(Launch(ranks=self.ranks, options=self.launch).command(train)[3:])  # without python -m hf_trainpipe

    def recipe_of(self) -> tuple[str, tuple[str, ...]]:
        return self.recipe, self.fields

    def writes(self, pipeline: Place) -> tuple[str, ...]:
        return (*self.hands_on(pipeline), *super().writes(pipeline))


@dataclass(frozen=True)
class Evaluate(OfRun):
    """``evaluate RUN``: scores with intervals, through the package."""

    verb: ClassVar[str] = "evaluate"

    _: KW_ONLY
    split: Literal["validation", "test"] | None = None
    """Of the recipe's data; None: validation, or the file."""
    file: str | None = None
    """Labelled rows, instead of a split."""
    recipe: str | None = None
    """Needed where the recipe file has classes of its own."""

    def arguments(self, pipeline: Place) -> tuple[str, ...]:
        file = () if self.file is None else (self.file,)
        return (self.run_of(pipeline), *file, *values(split=self.split, recipe=self.recipe))

    def reads(self, pipeline: Place) -> tuple[str, ...]:
        return (*super().reads(pipeline), *(() if self.file is None else (self.file,)))


@dataclass(frozen=True)
class Package(OfRun):
    """``package RUN --onnx``: models for ONNX Runtime beside the weights, behind the same gate."""

    verb: ClassVar[str] = "package"

    _: KW_ONLY
    onnx: bool = True
    """Add a model for ONNX Runtime; False: the package is written once more from the run."""
    int8: bool = False
    """One in int8 too, if it scores as well."""
    recipe: str | None = None
    """Needed where the recipe file has classes of its own."""

    def arguments(self, pipeline: Place) -> tuple[str, ...]:
        return (self.run_of(pipeline), *switches(onnx=self.onnx, int8=self.int8), *values(recipe=self.recipe))

    def hands_on(self, pipeline: Place) -> tuple[str, ...]:
        return (self.package_of(pipeline),)

    def reads(self, pipeline: Place) -> tuple[str, ...]:
        weights = (f"{self.of}/**/*.safetensors",) if "/" in self.of else super().hands_on(pipeline)
        return (*weights, *self.inputs)  # it writes the rest anew

    def writes(self, pipeline: Place) -> tuple[str, ...]:
        return (*self.hands_on(pipeline), *super().writes(pipeline))


@dataclass(frozen=True)
class Verify(OfRun):
    """``verify PACKAGE``: a fresh process reproduces the recorded predictions, else the pipeline ends (6)."""

    verb: ClassVar[str] = "verify"

    _: KW_ONLY
    clean: bool = False
    """In a new environment of its requirements alone; needs a package index."""

    def arguments(self, pipeline: Place) -> tuple[str, ...]:
        return (self.package_of(pipeline), *switches(clean=self.clean))

    def reads(self, pipeline: Place) -> tuple[str, ...]:
        return (self.package_of(pipeline), *super().reads(pipeline))


@dataclass(frozen=True)
class Push(OfRun):
    """``push RUN REPO``: to the Hub, whole or not visible. The token is HF_TOKEN's. A push that fails (5) is tried again alone."""

    verb: ClassVar[str] = "push"

    _: KW_ONLY
    repo: str
    """``user/name``."""
    public: bool = False
    """Make a new repository public."""
    revision: str | None = None
    """Branch; None: ``main``."""
    tag: str | None = None
    """Of the commit; None: ``v1``, ``v2``, ...; ``none``: no tag."""

    def arguments(self, pipeline: Place) -> tuple[str, ...]:
        chosen = values(revision=self.revision, tag=self.tag)
        return (self.run_of(pipeline), self.repo, *switches(public=self.public), *chosen)

    def reads(self, pipeline: Place) -> tuple[str, ...]:
        return (self.package_of(pipeline), *super().reads(pipeline))
