"""One label for a text, or for a pair of texts.

Shapes: N examples, B features of a micro-batch, C classes.
"""

from __future__ import annotations

from dataclasses import KW_ONLY, dataclass, replace
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np
import numpy.typing as npt

from ..errors import RecipeError
from .base import Requests, TaskSchema
from .columns import CLASS, Column, Labels
from .merging import softmax
from .texts import TOP_K, TextTask, label_maps, labelled

if TYPE_CHECKING:
    from collections.abc import Mapping

    import torch

    from ..model.outputs import Outputs


@dataclass(frozen=True)
class TextClassification(TextTask):
    """One label for a text, or for a pair of texts.

    >>> TextClassification("sentence", names=("negative", "positive")).target
    Column(name='label', cell=Cell(name='class'))
    """

    text: str = "text"
    """The column with the text."""
    _: KW_ONLY
    text_pair: str | None = None
    """The column with the second text, where pairs are classified."""
    label: str = "label"
    """The column with the label."""
    names: tuple[str, ...] | None = None
    """Label names in the order of their ids; None: read from the data."""
    class_weights: tuple[float, ...] | Literal["balanced"] | None = None
    """A weight a class; ``balanced`` weighs each inversely to its share of the training data."""
    label_smoothing: float = 0.0
    """The share of the target that is spread over all labels, in [0, 1)."""
    focal_gamma: float = 0.0
    """Above 0: the focal loss (Lin et al. 2017, arXiv 1708.02002), which dwells on hard examples."""
    pooling: Literal["cls", "mean", "max"] | None = None
    """What the outputs are computed from, by one linear layer: the vector of the first token, or the mean or the largest numbers of
    those of all tokens. None: the model's own head (docs/heads.md)."""

    learned: ClassVar[tuple[str, ...]] = ("names",)
    judged_as: ClassVar[str] = "single_label"

    def __post_init__(self) -> None:
        self.check_pooling()
        if not 0.0 <= self.label_smoothing < 1.0:
            raise RecipeError(
                f"task.label_smoothing: expected a number in [0, 1), found {self.label_smoothing}.",
                fix="Set task.label_smoothing to 0, or to a small number such as 0.1.",
            )
        if self.focal_gamma < 0.0:
            raise RecipeError(
                f"task.focal_gamma: expected 0 or more, found {self.focal_gamma}.",
                fix="Set task.focal_gamma to 0 for the usual loss, or to 2.0 for the focal loss.",
            )
        if self.names:
            self._check_weights(self.names)

    def _check_weights(self, names: tuple[str, ...]) -> None:
        if isinstance(self.class_weights, tuple) and len(self.class_weights) != len(names):
            raise RecipeError(
                f"task.class_weights: expected {len(names)} numbers, one a label ({', '.join(names[:12])}), "
                f"found {len(self.class_weights)}.",
                fix="Give a weight for each label, in this order, or 'balanced'.",
            )

    def columns(self) -> dict[str, Column]:
        target = Column(self.label, CLASS, is_target=True, usual=("label",))
        return {**self.text_columns(), "label": target}

    def fit(self, rows: Any) -> TextClassification:
        """Read the labels; replace ``balanced`` by N / (C * count of the class), as scikit-learn defines it.

        Raises:
            RecipeError: weights that are not one a label.
        """
        labels: Labels = rows.labels(self.target, said=self.names)
        self._check_weights(labels)
        weights = self.class_weights
        if isinstance(weights, tuple) and not labels.is_ordered:
            pairs = ", ".join(f"{name} {weight}" for name, weight in list(zip(labels, weights, strict=False))[:8])
            rows.note(f"task.class_weights go by the sorted labels: {pairs}; task.names would fix the order")
        if weights == "balanced":
            ids = rows.class_ids(self.target, labels)
            counts = np.bincount(ids, minlength=len(labels))
            balanced = len(ids) / (len(labels) * np.maximum(counts, 1))
            weights = tuple(float(weight) for weight in balanced)
        return replace(self, names=labels, class_weights=weights)

    def targets(self, rows: Any) -> npt.NDArray[Any]:
        return np.asarray(rows.class_ids(self.target, self.label_names))

    def model_options(self) -> dict[str, Any]:
        return {**label_maps(self.label_names), "problem_type": "single_label_classification"}

    def weigh(self, batch: Mapping[str, torch.Tensor]) -> torch.Tensor:
        """float32[B]: the share of an example that a feature is, times the weight of its class."""
        from ..model.constants import constant

        weights = batch["weights"]
        if isinstance(self.class_weights, tuple):
            weights = weights * constant(self.class_weights, weights.dtype, weights.device)[batch["labels"]]
        return weights

    def loss_sum(self, outputs: Mapping[str, torch.Tensor], batch: Mapping[str, torch.Tensor]) -> torch.Tensor:
        from torch.nn import functional

        logits_BC = outputs["logits"].float()
        losses_B = functional.cross_entropy(
            logits_BC, batch["labels"], reduction="none", label_smoothing=self.label_smoothing
        )
        if self.focal_gamma > 0.0:
            log_p_B = functional.log_softmax(logits_BC, dim=-1).gather(1, batch["labels"][:, None])[:, 0]
            losses_B = losses_B * (1.0 - log_p_B.exp()).clamp(min=0.0) ** self.focal_gamma
        return (losses_B * self.weigh(batch)).sum()

    def count(self, batch: Mapping[str, torch.Tensor]) -> torch.Tensor:
        return self.weigh(batch).double().sum()

    def metrics(self) -> tuple[str, ...]:
        return ("accuracy", "f1_macro", "mcc")

    def answers(self, predictions: Outputs, asked: Requests, **parameters: Any) -> list[Any]:
        """Labels with scores, the best first."""
        names = self.label_names
        probabilities_NC = softmax(predictions["logits"])
        order = np.argsort(-probabilities_NC, axis=1, kind="stable")[:, : parameters.get("top_k")]
        return [
            [{"label": names[i], "score": float(row[i])} for i in best]
            for row, best in zip(probabilities_NC, order.tolist(), strict=True)
        ]

    def answer_columns(self, parameters: Mapping[str, Any]) -> tuple[str, ...]:
        return ("label", "score", *(("answers",) if parameters.get("top_k") is not None else ()))

    def answer_cells(self, answer: Any, parameters: Mapping[str, Any]) -> tuple[Any, ...]:
        best = answer[0] if answer else {"label": None, "score": None}
        return (best["label"], best["score"], *((answer,) if parameters.get("top_k") is not None else ()))

    def schema(self) -> TaskSchema:
        names = self.label_names
        return TaskSchema(
            **self.text_schema(),
            answers="single_label",
            **labelled(names),
            parameters={"top_k": TOP_K},
            best=lambda answer: (answer[0]["label"], answer[0]["score"]),
            does=f"gives each text one of {len(names)} labels",
        )
