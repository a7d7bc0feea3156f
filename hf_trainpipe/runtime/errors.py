"""Errors that a person can act on. The runtime travels without the rest of the project, which adds its own kinds to these.

TrainpipeError(message, *, fix)
|- RecipeError
|- InputError (also ValueError)
|  |- TooMuch
|  '- SchemaError
|- NotReproduced
|- MissingPipeline (also ImportError)
'- MissingRuntime (also ImportError)
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar


def _as_it_is(text: str) -> str:
    return text


class TrainpipeError(Exception):
    """An error with a message and a fix, shown without a traceback.

    Args:
        message: What was expected and what was found, values included.
        fix: What to do, as a sentence or a command.
        data: Further facts, kept as attributes (``error.line``) and in ``error.data``.
    """

    exit_code: ClassVar[int] = 2
    spell: ClassVar[Callable[[str], str]] = staticmethod(_as_it_is)
    """How text is put into the words of the place where it is shown: a shell, Python, a notebook."""

    def __init__(self, message: str, *, fix: str, **data: Any) -> None:
        super().__init__(message)
        self.message = message
        self.fix = fix
        self.data = data
        for name, value in data.items():
            setattr(self, name, value)

    def __str__(self) -> str:
        return type(self).spell(f"{self.message}\n{self.fix}" if self.fix else self.message)


class RecipeError(TrainpipeError):
    """A recipe has a wrong value or an unknown name, or does not load."""


class InputError(TrainpipeError, ValueError):
    """A value given by a person or a request cannot be used."""


class TooMuch(InputError):
    """A request that is larger than a server takes (:mod:`.bounds`)."""

    def __init__(self, what: str, found: int, most: int, *, note: str = "") -> None:
        super().__init__(
            f"inputs: expected at most {most} {what}{note}, found {found}.",
            fix="Send shorter texts, or several requests.",
            what=what,
        )


class SchemaError(InputError):
    """A package's trainpipe.json, or a file that it names, is not as it must be."""

    def __init__(self, message: str, *, fix: str = "Fetch the package again.", **data: Any) -> None:
        super().__init__(message, fix=fix, **data)


class NotReproduced(TrainpipeError):
    """A package does not answer as it has to."""

    exit_code: ClassVar[int] = 6


class MissingPipeline(TrainpipeError, ImportError):
    """A spaCy pipeline, data of NLTK, or one of these libraries itself is not installed. ``fix`` names the command."""


class MissingRuntime(TrainpipeError, ImportError):
    """ONNX Runtime is not installed. ``fix`` names the command."""
