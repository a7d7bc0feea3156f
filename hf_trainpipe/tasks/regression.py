"""Regression: a number for a text or for a pair of texts.

Shapes: B features of a micro-batch.
"""

from __future__ import annotations

from dataclasses import KW_ONLY, dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from hf_trainpipe.errors import RecipeError
from hf_trainpipe.tasks.base import Column, Labels, Task, model_inputs
from hf_trainpipe.tasks.classification import text_columns

if TYPE_CHECKING:
    from collections.abc import Mapping

    import torch

__all__ = ["Regression"]


@dataclass(frozen=True)
class Regression(Task):
    """A number for a text or a pair, learnt by squared error.

    ``low`` and ``high`` bound what the package answers; training sees the targets as they are.
    """

    text: str = "text"
    """The column with the text."""
    _: KW_ONLY
    text_pair: str | None = None
    """The column with the second text, where pairs are scored."""
    score: str = "score"
    """The column that holds the number."""
    low: float | None = None
    """The smallest number that the package answers; None: no bound."""
    high: float | None = None
    """The largest number that the package answers; None: no bound."""

    decoder: ClassVar[str] = "regression"

    def __post_init__(self) -> None:
        if self.low is not None and self.high is not None and self.low >= self.high:
            raise RecipeError(
                f"task.low, task.high: expected low < high, found {self.low} and {self.high}.",
                fix="Swap them, or leave both out.",
            )

    def inputs(self) -> tuple[Column, ...]:
        return text_columns(self.text, self.text_pair)

    def target(self) -> Column:
        return Column(self.score, "number")

    def metrics(self) -> tuple[str, ...]:
        return ("pearson", "spearman", "mse")

    def model_class(self) -> type[Any]:
        from transformers import AutoModelForSequenceClassification

        return AutoModelForSequenceClassification  # type: ignore[no-any-return]

    def model_options(self, labels: Labels) -> dict[str, Any]:
        return {"num_labels": 1, "problem_type": "regression"}

    def loss_sum(self, model: torch.nn.Module, batch: Mapping[str, torch.Tensor]) -> torch.Tensor:
        errors_B = model(**model_inputs(batch)).logits.float()[:, 0] - batch["labels"]
        total: torch.Tensor = (errors_B.square() * batch["weights"]).sum()
        return total

    def count(self, batch: Mapping[str, torch.Tensor]) -> torch.Tensor:
        return batch["weights"].double().sum()

    def decoder_options(self, labels: Labels) -> dict[str, Any]:
        return {"low": self.low, "high": self.high}
