"""What a decoder is: how it merges windows, and how its requests are checked.

Legend: N examples, C outputs of the model, W words of all examples, F features.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np
import numpy.typing as npt

from ..errors import InputError, SchemaError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ..tokens.encoding import Encoded

__all__ = ["Decoder", "Outputs", "is_probability", "sigmoid", "softmax"]

Floats = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Outputs:
    """Logits of examples, with their windows merged."""

    examples: npt.NDArray[np.int64]
    """[N] ids, ascending; examples without a feature are absent."""
    outputs: Floats
    """[N, C], or for tags [W, C]: one row a word, in order."""
    word_starts: npt.NDArray[np.int64] | None = None
    """Tags: [N + 1] where the rows of each example start."""
    words: npt.NDArray[np.int32] | None = None
    """Tags: [W] the number of each row's word inside its example; words that were cut off have no row."""


@dataclass(frozen=True)
class Decoder(ABC):
    """What a model's outputs mean."""

    kind: ClassVar[str]
    level: ClassVar[Literal["sequence", "token"]] = "sequence"
    parameters: ClassVar[tuple[str, ...]] = ()
    """Parameters that a request may set."""
    known_options: ClassVar[tuple[str, ...]] = ()

    labels: tuple[str, ...]
    """Names in the order of the model's outputs; none for regression."""
    options: Mapping[str, Any]
    """JSON values of this kind of decoder."""

    def __post_init__(self) -> None:
        if unknown := sorted(set(self.options) - set(self.known_options)):
            raise SchemaError(
                f"decoder.options: {self.kind} takes {list(self.known_options)}, found {unknown[0]!r}.",
                fix="Remove or correct the option.",
            )

    @staticmethod
    def from_json(value: Mapping[str, Any]) -> Decoder:
        """Read ``{"kind", "labels", "options"}``.

        Raises:
            SchemaError: The kind or an option is not known.
        """
        from .decoding import DECODERS

        kind = value.get("kind")
        if not isinstance(kind, str) or kind not in DECODERS:
            raise SchemaError(
                f"decoder.kind: expected one of {', '.join(DECODERS)}, found {kind!r}.",
                fix="Use the version of the runtime that wrote the package.",
            )
        return DECODERS[kind](tuple(value.get("labels") or ()), dict(value.get("options") or {}))

    def to_json(self) -> dict[str, Any]:
        """What :meth:`from_json` reads."""
        return {"kind": self.kind, "labels": list(self.labels), "options": dict(self.options)}

    def merge(self, logits: Floats, encoded: Encoded, features: npt.NDArray[Any]) -> Outputs:
        """One row an example, from the rows of its windows: their mean.

        Args:
            logits: [len(features), C], rows as ``features``.
        """
        examples, row = np.unique(encoded.example[np.asarray(features, dtype=np.int64)], return_inverse=True)
        if len(examples) == len(row):
            merged = np.empty_like(logits)
            merged[row] = logits
        else:
            merged = self._pool(logits, row, len(examples))
        return Outputs(examples.astype(np.int64), merged)

    def _pool(self, logits: Floats, row: npt.NDArray[np.int64], num_examples: int) -> Floats:
        sums = np.zeros((num_examples, logits.shape[1]), dtype=np.float64)
        np.add.at(sums, row, logits)
        means: Floats = (sums / np.bincount(row, minlength=num_examples)[:, None]).astype(np.float32)
        return means

    def answers(self, outputs: Outputs, **parameters: Any) -> list[Any]:
        """One JSON answer an example, in the order of ``outputs.examples``.

        Raises:
            InputError: A parameter that this decoder does not have, or a wrong value of it.
        """
        self.check_parameters(parameters)
        return self._answers(outputs, parameters)

    def check_parameters(self, parameters: Mapping[str, Any]) -> None:
        """Refuse parameters that this decoder does not have, and wrong values.

        Raises:
            InputError: As said.
        """
        for name, value in parameters.items():
            if name not in self.parameters:
                raise InputError(
                    f"parameters: expected {' or '.join(self.parameters) or 'none'}, found {repr(name)[:80]}.",
                    fix="Remove or correct the parameter.",
                )
            if not _CHECKS[name][1](value):
                raise InputError(
                    f"parameters.{name}: expected {_CHECKS[name][0]}, found {repr(value)[:80]}.",
                    fix="Correct the value.",
                )

    @abstractmethod
    def _answers(self, outputs: Outputs, parameters: Mapping[str, Any]) -> list[Any]: ...


def softmax(logits: Floats) -> npt.NDArray[np.float64]:
    wide = logits.astype(np.float64)
    powers = np.exp(wide - wide.max(axis=1, keepdims=True, initial=-np.inf)) if wide.size else wide
    result: npt.NDArray[np.float64] = powers / powers.sum(axis=1, keepdims=True) if wide.size else wide
    return result


def sigmoid(logits: Floats) -> npt.NDArray[np.float64]:
    wide = logits.astype(np.float64)
    result: npt.NDArray[np.float64] = 0.5 * (1.0 + np.tanh(0.5 * wide))
    return result


def is_probability(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and 0.0 <= value <= 1.0


_CHECKS: dict[str, tuple[str, Any]] = {
    "top_k": ("a whole number of 1 or more, or null", lambda v: v is None or (type(v) is int and v >= 1)),
    "threshold": ("a number in [0, 1], or null", lambda v: v is None or is_probability(v)),
    "aggregation": ("'simple' or 'none'", lambda v: v in ("simple", "none", None)),
}
