"""What tasks over a text, or over a pair of texts, have in common."""

from __future__ import annotations

from abc import abstractmethod
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np
import numpy.typing as npt

from ..errors import RecipeError
from ..model.pooling import APART, AUTO, POOLINGS
from .base import Augmentable, Task
from .columns import TEXT, Column
from .schema import Parameter
from .several import refuse_windows, side_by_side

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import torch

    from ..model.outputs import Outputs
    from ..model.pooling import Pooling
    from ..tokens.encoder import Encoder
    from ..tokens.features import Features
    from .calibration import Calibration
    from .columns import Labels

SCORE: Mapping[str, Any] = {"type": "number", "minimum": 0, "maximum": 1}
"""JSON Schema of a probability."""
TOP_K = Parameter(
    "a whole number of 1 or more, or null",
    lambda value: value is None or (type(value) is int and value >= 1),
    {"type": ["integer", "null"], "minimum": 1, "description": "How many labels, the best first."},
    1,
)


class TextTask(Task):
    """A task over a text or a pair of texts, with one row of logits each, and one row of targets, ``labels``."""

    text: str
    text_pair: str | None
    pooling: Pooling | None = None
    """Of a task that may pool a field: which vector of a text its outputs are computed from; None: the model's own head."""
    pairs: Literal["apart"] | None = None
    """Of such a task a field too: whether the sides of a pair are read apart; None: as one text."""

    augmentable: ClassVar[Augmentable] = "text"
    exportable: ClassVar[bool] = True
    encodes_by: ClassVar[tuple[str, ...]] = ("pairs",)
    unpadded: ClassVar[tuple[str, ...]] = ("input", "pair")

    def check_reading(self) -> None:
        """Refuse a way to pool that there is not, and sides apart where there is no pair or no vector of each.

        Raises:
            RecipeError: as said.
        """
        if self.pooling not in (None, *POOLINGS):
            raise RecipeError(
                f"task.pooling: expected {', '.join(POOLINGS)} or None, found {self.pooling!r}.",
                fix="Leave it out for the model's own head, or set it to 'mean'.",
            )
        if self.pairs not in (None, "apart"):
            raise RecipeError(
                f"task.pairs: expected 'apart' or None, found {self.pairs!r}.",
                fix="Leave it out where both sides are to be read as one text.",
            )
        if self.pairs is not None and (self.text_pair is None or self.pooling is None):
            missing = "text_pair" if self.text_pair is None else "pooling"
            raise RecipeError(
                f"task.pairs: sides that are read apart need task.text_pair and task.pooling, found no task.{missing}.",
                fix="Name the column of the second text." if missing == "text_pair" else "Set task.pooling to 'mean'.",
            )

    def model_class(self) -> type[Any]:
        if self.pooling is None:
            return super().model_class()
        return (AUTO if self.pairs is None else APART)[self.pooling]

    def text_columns(self) -> dict[str, Column]:
        """The columns of its inputs."""
        pair = {} if self.text_pair is None else {"text_pair": Column(self.text_pair, TEXT)}
        return {"text": Column(self.text, TEXT), **pair}

    def encode(self, inputs: Mapping[str, Sequence[Any]], encoder: Encoder) -> Features:
        if self.pairs is None:
            return encoder.texts(inputs["text"], inputs.get("text_pair"))
        refuse_windows(encoder)
        flat = [text for sides in zip(inputs["text"], inputs["text_pair"], strict=True) for text in sides]
        return side_by_side(encoder.texts(flat, owners=np.repeat(np.arange(len(flat) // 2), 2)))

    @abstractmethod
    def targets(self, rows: Any) -> npt.NDArray[Any]:
        """[N] or [N, C]: what is right.

        Raises:
            DataError: as :meth:`supervise`.
        """

    def check(self, rows: Any) -> None:
        self.targets(rows)

    def supervise(self, rows: Any, features: Features) -> Features:
        targets_N = self.targets(rows)
        return features.with_targets(labels=targets_N[features.example], of_examples={"labels": targets_N})

    def weigh(self, batch: Mapping[str, torch.Tensor]) -> torch.Tensor:
        """float32[B]: how much each feature counts in the loss."""
        return batch["weights"]

    def unknown_labels(self, rows: Any) -> list[tuple[int, str]]:
        return list(rows.unknown(self.target, self.label_names)) if self.label_names else []

    def merged_batch(self, predictions: Outputs, features: Features) -> tuple[dict[str, Any], dict[str, Any]]:
        labels_N = features.of_examples["labels"][predictions.items]
        weights_N = np.ones(len(predictions), dtype=np.float32)
        return dict(predictions.arrays), {"labels": labels_N, "weights": weights_N}

    def judge(self, predictions: Outputs, features: Features) -> dict[str, Any]:
        return {
            "outputs": predictions["logits"],
            "references": features.of_examples["labels"][predictions.items],
            "labels": tuple(self.label_names),
        }

    def text_schema(self) -> dict[str, Any]:
        """What of its schema follows from its inputs and its model."""
        examples: tuple[Any, ...] = ("The parcel arrived a day early.", {"text": "Nobody answers the phone."})
        if self.text_pair is not None:
            examples = ({"text": "A man sleeps.", "text_pair": "Nobody is awake."},)
        return {
            "inputs": ({"text": TEXT} if self.text_pair is None else {"text": TEXT, "text_pair": TEXT},),
            "examples": examples,
            "reads": "text" if self.text_pair is None else "pair",
            "pipeline": "text-classification",
            **self._model_schema(),
        }

    def _model_schema(self) -> dict[str, Any]:
        if self.pooling is None:
            return {"model": "AutoModelForSequenceClassification"}
        vector = {"cls": "the vector of the first token", "mean": "the mean of the vectors of its tokens"}.get(
            self.pooling, "the largest numbers of the vectors of its tokens"
        )
        read = vector
        if self.pairs is not None:
            read = f"the vectors of both texts, their difference and their product; that of a text is {vector}"
        return {
            "model": "AutoModel",  # loads the encoder alone
            "notes": (f"Its outputs are a linear layer over {read}. The handler computes it.",),
        }


def label_maps(labels: Labels) -> dict[str, Any]:
    """``num_labels``, ``id2label`` and ``label2id`` of a transformers configuration."""
    return {"num_labels": len(labels), "id2label": dict(enumerate(labels)), "label2id": labels.ids}


def is_probability(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and 0.0 <= value <= 1.0


def record(properties: Mapping[str, Any]) -> dict[str, Any]:
    """JSON Schema of an object with just these properties."""
    return {
        "type": "object",
        "properties": dict(properties),
        "required": list(properties),
        "additionalProperties": False,
    }


def labelled(labels: Labels, calibration: Calibration | None = None) -> dict[str, Any]:
    """What of a schema follows from answers that are a list of labels with their scores."""
    names = list(labels) or ["label"]
    cost = {} if calibration is None or calibration.costs is None else {"cost": {"type": "number", "minimum": 0}}
    item = record({"label": {"type": "string", "enum": names}, "score": SCORE, **cost})
    if calibration is not None and calibration.promise is not None:
        abstains = record({"label": {"type": "null"}, "score": SCORE, "abstains": {"const": True}})
        item = {"anyOf": [item, abstains]}
    example = [{"label": names[0], "score": 0.98, **dict.fromkeys(cost, 0.02)}]
    return {"answer": {"type": "array", "items": item}, "answer_example": example}
