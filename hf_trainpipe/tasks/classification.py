"""Text classification: one label, or any number of them, of a text or of a pair of texts.

Shapes: B features of a micro-batch, C classes.
"""

from __future__ import annotations

from dataclasses import KW_ONLY, dataclass, replace
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from hf_trainpipe.errors import RecipeError
from hf_trainpipe.tasks.base import Column, Labels, Task, model_inputs

if TYPE_CHECKING:
    from collections.abc import Mapping

    import numpy as np
    import torch

__all__ = ["MultiLabelClassification", "TextClassification"]


def text_columns(text: str, text_pair: str | None) -> tuple[Column, ...]:
    """The input columns of a task over a text or a pair of texts."""
    names = (text,) if text_pair is None else (text, text_pair)
    return tuple(Column(name, "text") for name in names)


def label_maps(labels: Labels) -> dict[str, Any]:
    """``num_labels``, ``id2label`` and ``label2id`` of a transformers configuration."""
    return {
        "num_labels": len(labels),
        "id2label": dict(enumerate(labels.names)),
        "label2id": labels.ids,
    }


@dataclass(frozen=True)
class TextClassification(Task):
    """One label for a text, or for a pair of texts.

    >>> TextClassification("sentence", names=("negative", "positive")).target()
    Column(name='label', kind='class')
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

    decoder: ClassVar[str] = "single_label"

    def __post_init__(self) -> None:
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
        if isinstance(self.class_weights, tuple) and self.names and len(self.class_weights) != len(self.names):
            raise RecipeError(
                f"task.class_weights: expected {len(self.names)} numbers, one a label, "
                f"found {len(self.class_weights)}.",
                fix="Give a weight for each name, or 'balanced'.",
            )

    def inputs(self) -> tuple[Column, ...]:
        return text_columns(self.text, self.text_pair)

    def target(self) -> Column:
        return Column(self.label, "class")

    def metrics(self) -> tuple[str, ...]:
        return ("accuracy", "f1_macro", "mcc")

    def label_names(self) -> tuple[str, ...] | None:
        return self.names

    def fit(self, labels: Labels, values: np.ndarray) -> TextClassification:
        """Replace ``balanced`` by N / (C * count of the class), as scikit-learn defines it.

        Raises:
            RecipeError: weights that are not one a label.
        """
        if isinstance(self.class_weights, tuple) and len(self.class_weights) != len(labels):
            raise RecipeError(
                f"task.class_weights: expected {len(labels)} numbers, one a label ({', '.join(labels.names[:12])}), "
                f"found {len(self.class_weights)}.",
                fix="Give a weight for each label, in this order, or 'balanced'.",
            )
        if self.class_weights != "balanced":
            return self
        import numpy as np

        counts = np.bincount(values, minlength=len(labels))
        weights = len(values) / (len(labels) * np.maximum(counts, 1))
        return replace(self, class_weights=tuple(float(weight) for weight in weights))

    def model_class(self) -> type[Any]:
        from transformers import AutoModelForSequenceClassification

        return AutoModelForSequenceClassification  # type: ignore[no-any-return]

    def model_options(self, labels: Labels) -> dict[str, Any]:
        return {**label_maps(labels), "problem_type": "single_label_classification"}

    def _weights(self, batch: Mapping[str, torch.Tensor]) -> torch.Tensor:
        """float32[B]: the share of an example that a feature is, times the weight of its class."""
        weights = batch["weights"]
        if isinstance(self.class_weights, tuple):
            weights = weights * weights.new_tensor(self.class_weights)[batch["labels"]]
        return weights

    def loss_sum(self, model: torch.nn.Module, batch: Mapping[str, torch.Tensor]) -> torch.Tensor:
        from torch.nn import functional

        logits_BC = model(**model_inputs(batch)).logits.float()
        losses_B = functional.cross_entropy(
            logits_BC, batch["labels"], reduction="none", label_smoothing=self.label_smoothing
        )
        if self.focal_gamma > 0.0:
            log_p_B = functional.log_softmax(logits_BC, dim=-1).gather(1, batch["labels"][:, None])[:, 0]
            losses_B = losses_B * (1.0 - log_p_B.exp()).clamp(min=0.0) ** self.focal_gamma
        return (losses_B * self._weights(batch)).sum()

    def count(self, batch: Mapping[str, torch.Tensor]) -> torch.Tensor:
        return self._weights(batch).double().sum()


@dataclass(frozen=True)
class MultiLabelClassification(Task):
    """Any number of labels for a text: a sigmoid a class."""

    text: str = "text"
    """The column with the text."""
    _: KW_ONLY
    text_pair: str | None = None
    """The column with the second text, where pairs are classified."""
    labels: str | tuple[str, ...] = "labels"
    """The column of labels; or a column of 0s and 1s for each, whose names are the labels."""
    names: tuple[str, ...] | None = None
    """Label names in the order of their ids; None: read from the data."""
    separator: str = ","
    """Between the labels of a row, where the column holds text."""
    form: Literal["names", "vector"] | None = None
    """What a row is: a list of labels (names or ids), or a vector of a 0 or 1 for each of ``names``; None: as it looks."""
    threshold: float = 0.5
    """Probability from which a label is given."""
    tune_threshold: bool = True
    """Choose the threshold on the validation split at each evaluation; it travels in the package."""

    decoder: ClassVar[str] = "multi_label"

    def __post_init__(self) -> None:
        if not 0.0 < self.threshold < 1.0:
            raise RecipeError(
                f"task.threshold: expected a number between 0 and 1, found {self.threshold}.",
                fix="Set task.threshold to 0.5, or leave it and keep tune_threshold=True.",
            )
        parts = self.target().parts
        if isinstance(self.labels, tuple) and (
            not parts or len(set(parts)) < len(parts) or len(self.names or parts) != len(parts)
        ):
            raise RecipeError(
                f"task.labels: expected a column for each label, each once, found {self.labels} and task.names "
                f"{self.names}.",
                fix="Name the columns once, and leave task.names out, or give a name for each column.",
            )
        if self.form not in ("names", "vector", None):
            raise RecipeError(
                f"task.form: expected 'names', 'vector' or None, found {self.form!r}.",
                fix="Leave it out, or say whether a row lists labels or has a 0 or 1 for each.",
            )

    def inputs(self) -> tuple[Column, ...]:
        return text_columns(self.text, self.text_pair)

    def target(self) -> Column:
        if isinstance(self.labels, str):
            return Column(self.labels, "classes")
        return Column(", ".join(self.labels), "classes", self.labels)

    def metrics(self) -> tuple[str, ...]:
        return ("f1_macro", "f1_micro", "subset_accuracy")

    def label_names(self) -> tuple[str, ...] | None:
        return self.names or self.target().parts or None

    def model_class(self) -> type[Any]:
        from transformers import AutoModelForSequenceClassification

        return AutoModelForSequenceClassification  # type: ignore[no-any-return]

    def model_options(self, labels: Labels) -> dict[str, Any]:
        return {**label_maps(labels), "problem_type": "multi_label_classification"}

    def loss_sum(self, model: torch.nn.Module, batch: Mapping[str, torch.Tensor]) -> torch.Tensor:
        """Binary cross-entropy: the mean over classes, summed over examples."""
        from torch.nn import functional

        logits_BC = model(**model_inputs(batch)).logits.float()
        losses_BC = functional.binary_cross_entropy_with_logits(
            logits_BC, batch["labels"].to(logits_BC.dtype), reduction="none"
        )
        return (losses_BC.mean(dim=1) * batch["weights"]).sum()

    def count(self, batch: Mapping[str, torch.Tensor]) -> torch.Tensor:
        return batch["weights"].double().sum()

    def decoder_options(self, labels: Labels) -> dict[str, Any]:
        return {"threshold": self.threshold}
