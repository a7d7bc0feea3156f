"""The stages: each is one verb, with what it takes from the stages before it."""

from __future__ import annotations

import re
from dataclasses import KW_ONLY, dataclass
from typing import Any, ClassVar, Literal

from hf_trainpipe.errors import RecipeError
from hf_trainpipe.pipelines.stage import Place, Stage

_TRAINING = ("train", "launch", "retrain")
"""Verbs that leave a run in the folder of their stage."""
_FOLDER = re.compile(r"\{([a-z][a-z0-9-]*)\}")


def switches(**given: bool) -> tuple[str, ...]:
    """Options without a value: ``no_model=True`` is ``--no-model``."""
    return tuple(f"--{name.replace('_', '-')}" for name, is_on in given.items() if is_on)


def values(**given: Any) -> tuple[str, ...]:
    """Options with a value; None is left out."""
    pairs = ((f"--{name.replace('_', '-')}", str(value)) for name, value in given.items() if value is not None)
    return tuple(word for pair in pairs for word in pair)


def repeated(option: str, given: tuple[str, ...]) -> tuple[str, ...]:
    """An option once for each value."""
    return tuple(word for value in given for word in (option, value))


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
    """Processes; above 1 it is ``launch``ed."""
    launch: tuple[str, ...] = ()
    """Options of ``accelerate launch``: ``("--config_file", "fsdp2.yaml")``."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.ranks < 1:
            raise RecipeError(f"{self.name}.ranks: expected 1 or more, found {self.ranks}.", fix="Write ranks=1.")

    def arguments(self, pipeline: Place) -> tuple[str, ...]:
        return (self.recipe, *self.fields, *values(run_dir=self.run_of(pipeline)))

    @property
    def trains(self) -> bool:
        return True

    def words(self, pipeline: Place) -> tuple[str, ...]:
        train = (*self.arguments(pipeline), *self.options)
        if self.ranks == 1 and not self.launch:
            return (self.verb, *train)
        from hf_trainpipe.studies.runs import Launch

        return tuple(Launch(ranks=self.ranks, options=self.launch).command(train)[3:])  # without python -m hf_trainpipe

    def run_of(self, pipeline: Place) -> str:
        return pipeline.folder_of(self.name)

    def recipe_of(self) -> tuple[str, tuple[str, ...]]:
        return self.recipe, self.fields

    def hands_on(self, pipeline: Place) -> tuple[str, ...]:
        run = self.run_of(pipeline)  # the rest of the package may be written again by later stages
        return (f"{run}/package/*.safetensors", f"{run}/recorded.jsonl")

    def writes(self, pipeline: Place) -> tuple[str, ...]:
        return (*self.hands_on(pipeline), *super().writes(pipeline))


@dataclass(frozen=True)
class _OfRun(Stage):
    """A stage that uses the run or the package of another one."""

    of: str
    """The stage whose run it uses: one that trains, or one that used it before; or the folder of a run or a package, with a ``/``."""
    _: KW_ONLY

    def takes_from(self) -> tuple[str, ...]:
        return () if "/" in self.of else (self.of,)

    def run_of(self, pipeline: Place) -> str:
        return self.of if "/" in self.of else pipeline.run_of(self.of)

    def package_of(self, pipeline: Place) -> str:
        """The folder of the package; of a path, what is there."""
        return self.of if "/" in self.of else f"{self.run_of(pipeline)}/package"

    def hands_on(self, pipeline: Place) -> tuple[str, ...]:
        return (self.of,) if "/" in self.of else pipeline.stage(self.of).hands_on(pipeline)

    def reads(self, pipeline: Place) -> tuple[str, ...]:
        return (*self.hands_on(pipeline), *super().reads(pipeline))


@dataclass(frozen=True)
class Evaluate(_OfRun):
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
class Package(_OfRun):
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
        before = (
            super().hands_on(pipeline) if "/" not in self.of else (f"{self.of}/*.safetensors",)
        )  # it writes the rest anew
        return (*before, *self.inputs)

    def writes(self, pipeline: Place) -> tuple[str, ...]:
        return (*self.hands_on(pipeline), *super().writes(pipeline))


@dataclass(frozen=True)
class Verify(_OfRun):
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
class Push(_OfRun):
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


@dataclass(frozen=True)
class Promote(_OfRun):
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
class Watch(_OfRun):
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
        begin = None
        if self.begin is not None:
            begin = self.begin if "/" in self.begin else pipeline.run_of(self.begin)
        chosen = values(run_dir=self.run_of(pipeline), ranks=self.ranks if self.ranks > 1 else None)
        before = () if begin is None else ("--from", begin)
        return (self.recipe, *self.fields, *chosen, *before, "--labels", *self.labels)

    def takes_from(self) -> tuple[str, ...]:
        return () if self.begin is None or "/" in self.begin else (self.begin,)

    def run_of(self, pipeline: Place) -> str:
        return pipeline.folder_of(self.name)

    def recipe_of(self) -> tuple[str, tuple[str, ...]]:
        return self.recipe, self.fields

    def reads(self, pipeline: Place) -> tuple[str, ...]:
        begin = (
            () if self.begin is None or "/" in self.begin else (f"{pipeline.run_of(self.begin)}/package/*.safetensors",)
        )
        return (*self.labels, *begin, *super().reads(pipeline))

    def writes(self, pipeline: Place) -> tuple[str, ...]:
        return (f"{self.run_of(pipeline)}/package/*.safetensors", *super().writes(pipeline))


@dataclass(frozen=True)
class Verb(Stage):
    """Any verb: ``Verb("simple", command=("baseline", "{train}"))``.

    ``{NAME}`` in its command, inputs and outputs is the folder of the stage NAME, which then comes before it; ``{self}`` is its own.
    """

    name: str
    """What other stages call it."""
    _: KW_ONLY
    command: tuple[str, ...]
    """The verb and its arguments."""
    json: bool = False
    """Ask for ``--json`` and keep what it prints as ``answer.json`` in its folder."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if not isinstance(self.command, tuple) or not self.command:
            raise RecipeError(
                f"{self.name}.command: expected a verb and its arguments as a tuple of texts, found {self.command!r}.",
                fix='Write command=("baseline", "reviews.py").',
            )

    @property
    def trains(self) -> bool:
        return self.command[0] in _TRAINING

    @property
    def tells(self) -> bool:
        return self.json

    def arguments(self, pipeline: Place) -> tuple[str, ...]:
        return self._filled(pipeline, self.command[1:])

    def words(self, pipeline: Place) -> tuple[str, ...]:
        options = (*self._filled(pipeline, self.options), *(("--json",) if self.json else ()))
        return (self.command[0], *self.arguments(pipeline), *options)

    def takes_from(self) -> tuple[str, ...]:
        told = " ".join((*self.command, *self.options, *self.inputs))
        return tuple(dict.fromkeys(name for name in _FOLDER.findall(told) if name != "self"))

    def run_of(self, pipeline: Place) -> str | None:
        return pipeline.folder_of(self.name) if self.trains else None

    def reads(self, pipeline: Place) -> tuple[str, ...]:
        before = (path for name in self.takes_from() for path in pipeline.stage(name).writes(pipeline))
        return (*before, *self._filled(pipeline, self.inputs))

    def writes(self, pipeline: Place) -> tuple[str, ...]:
        return self._filled(pipeline, super().writes(pipeline))

    def _filled(self, pipeline: Place, texts: tuple[str, ...]) -> tuple[str, ...]:
        def folder(found: re.Match[str]) -> str:
            return pipeline.folder_of(self.name if found[1] == "self" else found[1])

        return tuple(_FOLDER.sub(folder, text) for text in texts)
