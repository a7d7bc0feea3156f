"""What a fitted task takes and gives, told to those who do not know which task it is."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from ..errors import InputError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from .columns import Cell


@dataclass(frozen=True)
class Parameter:
    """What a request may set."""

    expected: str
    """What messages ask for, such as ``a number in [0, 1]``."""
    is_right: Callable[[Any], bool]
    schema: Mapping[str, Any] = field(default_factory=dict)
    """JSON Schema of its values."""
    example: Any = None


@dataclass(frozen=True, kw_only=True)
class TaskSchema:
    """What a fitted task takes and gives, for requests, OpenAPI, the page at /demo and the card."""

    inputs: tuple[Mapping[str, Cell], ...]
    """The forms of one input: role to cell. A text alone may also come bare, and two texts as a pair."""
    examples: tuple[Any, ...]
    """Inputs as a client may send them, one of each form."""
    reads: str = "object"
    """What /info calls the inputs."""
    answers: str
    """What /info calls the answers."""
    answer: Mapping[str, Any] = field(default_factory=dict)
    """JSON Schema of one answer."""
    answer_example: Any = None
    parameters: Mapping[str, Parameter] = field(default_factory=dict)
    options: Mapping[str, Any] = field(default_factory=dict)
    """What of the task a client may want to know, such as its threshold."""
    best: Callable[[Any], tuple[str, float]] | None = None
    """The one label of an answer and its score, where an answer has one; the V2 protocol has tensors for them."""
    pipeline: str = "other"
    """The Hub's name of the task."""
    does: str = "answers requests"
    """What the model does, for the card: ``gives a text one of 3 labels``."""
    model: str = "AutoModel"
    """The transformers class that loads it."""
    notes: tuple[str, ...] = ()
    """Further sentences for the card."""

    def check(self, parameters: Mapping[str, Any]) -> None:
        """Refuse parameters of a request that the answers do not have, and wrong values.

        Raises:
            InputError: as said.
        """
        for name, value in parameters.items():
            if name not in self.parameters:
                raise InputError(
                    f"parameters: expected {' or '.join(self.parameters) or 'none'}, found {repr(name)[:80]}.",
                    fix="Remove or correct the parameter.",
                )
            if not self.parameters[name].is_right(value):
                raise InputError(
                    f"parameters.{name}: expected {self.parameters[name].expected}, found {repr(value)[:80]}.",
                    fix="Correct the value.",
                )
