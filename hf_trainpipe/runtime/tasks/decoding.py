"""Logits to answers, the same way in evaluation, in a package and on a server."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import numpy.typing as npt

from ..errors import SchemaError
from .decoder import Decoder, Floats, Outputs, is_probability, sigmoid, softmax
from .decoding_tags import Tags

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["DECODERS", "Decoder", "MultiLabel", "Outputs", "Regression", "SingleLabel", "Tags"]


@dataclass(frozen=True)
class SingleLabel(Decoder):
    """Exactly one of the labels holds: softmax. An answer lists labels with scores, the best first."""

    kind: ClassVar[str] = "single_label"
    parameters: ClassVar[tuple[str, ...]] = ("top_k",)

    def _answers(self, outputs: Outputs, parameters: Mapping[str, Any]) -> list[Any]:
        top_k = parameters.get("top_k")
        probabilities = softmax(outputs.outputs)
        order = np.argsort(-probabilities, axis=1, kind="stable")[:, :top_k]
        return [
            [{"label": self.labels[i], "score": float(row[i])} for i in best]
            for row, best in zip(probabilities, order.tolist(), strict=True)
        ]


@dataclass(frozen=True)
class MultiLabel(Decoder):
    """Any number of labels hold: sigmoid. An answer lists the labels at or above the threshold, best first.

    ``options.threshold``: one number, or one for each label; 0.5 without it. Over windows the largest
    logit counts: what one window shows holds for the text.
    """

    kind: ClassVar[str] = "multi_label"
    parameters: ClassVar[tuple[str, ...]] = ("top_k", "threshold")
    known_options: ClassVar[tuple[str, ...]] = ("threshold",)

    def __post_init__(self) -> None:
        super().__post_init__()
        value = self.options.get("threshold", 0.5)
        values = value if isinstance(value, (list, tuple)) else [value]
        if not all(is_probability(x) for x in values) or (values is value and len(value) != len(self.labels)):
            raise SchemaError(
                f"decoder.options.threshold: expected a number in [0, 1], or {len(self.labels)} of them, "
                f"found {value!r}.",
                fix="Correct the threshold.",
            )

    @property
    def thresholds(self) -> npt.NDArray[np.float64]:
        """[C]"""
        return np.broadcast_to(np.asarray(self.options.get("threshold", 0.5), dtype=np.float64), (len(self.labels),))

    def _pool(self, logits: Floats, row: npt.NDArray[np.int64], num_examples: int) -> Floats:
        largest = np.full((num_examples, logits.shape[1]), -np.inf, dtype=np.float32)
        np.maximum.at(largest, row, logits)
        return largest

    def _answers(self, outputs: Outputs, parameters: Mapping[str, Any]) -> list[Any]:
        top_k, threshold = parameters.get("top_k"), parameters.get("threshold")
        probabilities = sigmoid(outputs.outputs)
        limits = self.thresholds if threshold is None else np.full(len(self.labels), threshold)
        order = np.argsort(-probabilities, axis=1, kind="stable")
        return [
            [{"label": self.labels[i], "score": float(row[i])} for i in best if row[i] >= limits[i]][:top_k]
            for row, best in zip(probabilities, order.tolist(), strict=True)
        ]


@dataclass(frozen=True)
class Regression(Decoder):
    """One number: ``{"score": 3.2}``. ``options.low`` and ``options.high`` bound what is answered."""

    kind: ClassVar[str] = "regression"
    known_options: ClassVar[tuple[str, ...]] = ("low", "high")

    def _answers(self, outputs: Outputs, parameters: Mapping[str, Any]) -> list[Any]:
        low, high = (self.options.get(name) for name in ("low", "high"))
        bounded = outputs.outputs if low is None and high is None else np.clip(outputs.outputs, low, high)
        return [{"score": float(row[0])} for row in bounded]


DECODERS: Mapping[str, type[Decoder]] = {
    decoder.kind: decoder for decoder in (SingleLabel, MultiLabel, Regression, Tags)
}
"""Decoders by kind."""
