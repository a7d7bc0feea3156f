"""What tasks over a text, or over a pair of texts, have in common."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .base import Parameter
from .columns import TEXT, Column

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from ..tokens.encoder import Encoder
    from ..tokens.features import Features
    from .columns import Cell, Labels

SCORE: Mapping[str, Any] = {"type": "number", "minimum": 0, "maximum": 1}
"""JSON Schema of a probability."""
TOP_K = Parameter(
    "a whole number of 1 or more, or null",
    lambda value: value is None or (type(value) is int and value >= 1),
    {"type": ["integer", "null"], "minimum": 1, "description": "How many labels, the best first."},
    1,
)


def text_columns(text: str, text_pair: str | None) -> dict[str, Column]:
    """The input columns of a task over a text or a pair of texts."""
    return {"text": Column(text, TEXT), **({} if text_pair is None else {"text_pair": Column(text_pair, TEXT)})}


def forms_of(text_pair: str | None) -> tuple[Mapping[str, Cell], ...]:
    """The one form of their requests."""
    return ({"text": TEXT} if text_pair is None else {"text": TEXT, "text_pair": TEXT},)


def examples_of(text_pair: str | None) -> tuple[Any, ...]:
    """Inputs as a client may send them."""
    if text_pair is None:
        return ("The parcel arrived a day early.", {"text": "Nobody answers the phone."})
    return ({"text": "A man sleeps.", "text_pair": "Nobody is awake."},)


def encode_texts(inputs: Mapping[str, Sequence[Any]], encoder: Encoder) -> Features:
    """Texts, or pairs of them, as one stream."""
    return encoder.texts(inputs["text"], inputs.get("text_pair"))


def label_maps(labels: Labels) -> dict[str, Any]:
    """``num_labels``, ``id2label`` and ``label2id`` of a transformers configuration."""
    return {"num_labels": len(labels), "id2label": dict(enumerate(labels)), "label2id": labels.ids}


def is_probability(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and 0.0 <= value <= 1.0


def labelled(labels: Labels) -> dict[str, Any]:
    """JSON Schema of a list of labels with their scores."""
    label = {"type": "string", "enum": list(labels) or ["label"]}
    item = {
        "type": "object",
        "properties": {"label": label, "score": SCORE},
        "required": ["label", "score"],
        "additionalProperties": False,
    }
    return {"type": "array", "items": item}
