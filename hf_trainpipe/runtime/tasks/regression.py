"""A number for a text or for a pair of texts.

Shapes: N examples, B features of a micro-batch.
"""

from __future__ import annotations

from dataclasses import KW_ONLY, dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np
import numpy.typing as npt

from ..errors import RecipeError
from ..kinds import UNSAID
from .base import Requests
from .columns import NUMBER, Column
from .schema import TaskSchema
from .texts import TextTask, record

if TYPE_CHECKING:
    from collections.abc import Mapping

    import torch

    from ..model.outputs import Outputs


@dataclass(frozen=True)
class Regression(TextTask):
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
    pooling: Literal["cls", "mean", "max"] | None = field(default=None, metadata=UNSAID)
    """What the outputs are computed from, by one linear layer: the vector of the first token, or the mean or the largest numbers of
    those of all tokens. None: the model's own head (docs/heads.md)."""
    pairs: Literal["apart"] | None = field(default=None, metadata=UNSAID)
    """``apart``: each side of a pair is read by itself, with a vector of its own, and the outputs are computed from both vectors, their
    difference and their product (a siamese network). None: both sides are one text."""

    judged_as: ClassVar[str] = "regression"
    teachable: ClassVar[bool] = True

    def __post_init__(self) -> None:
        self.check_reading()
        if self.low is not None and self.high is not None and self.low >= self.high:
            raise RecipeError(
                f"task.low, task.high: expected low < high, found {self.low} and {self.high}.",
                fix="Swap them, or leave both out.",
            )

    def columns(self) -> dict[str, Column]:
        target = Column(self.score, NUMBER, is_target=True, usual=("score", "label"))
        return {**self.text_columns(), "score": target}

    def targets(self, rows: Any) -> npt.NDArray[Any]:
        return np.asarray(rows.numbers(self.target, low=self.low, high=self.high))

    def model_options(self) -> dict[str, Any]:
        return {"num_labels": 1, "problem_type": "regression"}

    def loss_sum(self, outputs: Mapping[str, torch.Tensor], batch: Mapping[str, torch.Tensor]) -> torch.Tensor:
        errors_B = outputs["logits"].float()[:, 0] - batch["labels"]
        total: torch.Tensor = (errors_B.square() * batch["weights"]).sum()
        return total

    def distilled_sum(
        self, outputs: Mapping[str, torch.Tensor], batch: Mapping[str, torch.Tensor], *, temperature: float
    ) -> torch.Tensor:
        """The squared distance from the teacher's number."""
        return self.loss_sum(outputs, {**batch, "labels": batch["teacher"][:, 0]})

    def taught(self, logits: npt.NDArray[Any]) -> npt.NDArray[Any]:
        return np.asarray(logits[:, 0], dtype=np.float32)

    def metrics(self) -> tuple[str, ...]:
        return ("pearson", "spearman", "mse")

    def answers(self, predictions: Outputs, asked: Requests, **parameters: Any) -> list[Any]:
        """``{"score": 3.2}``."""
        numbers = predictions["logits"]
        bounded = numbers if self.low is None and self.high is None else np.clip(numbers, self.low, self.high)
        return [{"score": float(row[0])} for row in bounded]

    def answer_columns(self, parameters: Mapping[str, Any]) -> tuple[str, ...]:
        return ("score",)

    def answer_cells(self, answer: Any, parameters: Mapping[str, Any]) -> tuple[Any, ...]:
        return (answer["score"],)

    def schema(self) -> TaskSchema:
        return TaskSchema(
            **self.text_schema(),
            answers="regression",
            answer=record({"score": {"type": "number"}}),
            answer_example={"score": 3.5},
            options={"low": self.low, "high": self.high},
            does="gives each text a number",
        )
