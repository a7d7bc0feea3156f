"""Errors of the runtime. They stand alone, since the runtime travels without the rest of the project."""

from __future__ import annotations

from typing import Any

__all__ = ["InputError", "MissingPipeline", "MissingRuntime", "RuntimeProblem", "SchemaError", "TooMuch"]


class RuntimeProblem(Exception):
    """An error that a person can act on.

    Args:
        message: What was expected and what was found, values included.
        fix: What to do, as a sentence or a command.
        data: Further facts, kept as attributes (``error.position``) and in ``error.data``.
    """

    def __init__(self, message: str, *, fix: str, **data: Any) -> None:
        super().__init__(message)
        self.message = message
        self.fix = fix
        self.data = data
        for name, value in data.items():
            setattr(self, name, value)

    def __str__(self) -> str:
        return f"{self.message}\n{self.fix}" if self.fix else self.message


class InputError(RuntimeProblem, ValueError):
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


class MissingPipeline(RuntimeProblem, ImportError):
    """A spaCy pipeline, or spaCy itself, is not installed. ``fix`` names the command."""


class MissingRuntime(RuntimeProblem, ImportError):
    """ONNX Runtime is not installed. ``fix`` names the command."""
