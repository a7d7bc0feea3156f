"""A stage of any verb."""

from __future__ import annotations

import re
from dataclasses import KW_ONLY, dataclass

from hf_trainpipe.errors import RecipeError
from hf_trainpipe.pipelines.stage import Place, Stage

_TRAINING = ("train", "launch", "retrain")
"""Verbs that leave a run in the folder of their stage."""
_FOLDER = re.compile(r"\{([a-z][a-z0-9-]*)\}")


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

    def reads(self, pipeline: Place) -> tuple[str, ...]:
        before = (path for name in self.takes_from() for path in pipeline.stage(name).writes(pipeline))
        return (*before, *self._filled(pipeline, self.inputs))

    def writes(self, pipeline: Place) -> tuple[str, ...]:
        is_here = self.trains and any("{self}" in word for word in (*self.command, *self.options))
        run = ("{self}/run.json",) if is_here else ()  # the same one, the same run; there may be no package
        return self._filled(pipeline, (*run, *super().writes(pipeline)))

    def _filled(self, pipeline: Place, texts: tuple[str, ...]) -> tuple[str, ...]:
        def folder(found: re.Match[str]) -> str:
            return pipeline.folder_of(self.name if found[1] == "self" else found[1])

        return tuple(_FOLDER.sub(folder, text) for text in texts)
