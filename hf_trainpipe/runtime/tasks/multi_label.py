"""Any number of labels for a text, or for a pair of texts: a sigmoid a class.

Shapes: N examples, B features of a micro-batch, C classes.
"""

from __future__ import annotations

from dataclasses import KW_ONLY, dataclass, field, replace
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np
import numpy.typing as npt

from ..errors import RecipeError
from ..kinds import UNSAID
from .base import Requests, Task
from .calibration import NONE, Calibration, probabilities
from .columns import CLASSES, Column, Labels
from .departures import furthest
from .merging import by_example, largest_rows
from .schema import Parameter, TaskSchema
from .texts import TOP_K, TextTask, is_probability, label_maps, labelled

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import torch

    from ..model.outputs import Outputs
    from ..tokens.features import Features

_THRESHOLD = Parameter(
    "a number in [0, 1], or null",
    lambda value: value is None or is_probability(value),
    {
        "type": ["number", "null"],
        "minimum": 0,
        "maximum": 1,
        "description": "Least probability of a label, instead of the package's own.",
    },
    0.5,
)


@dataclass(frozen=True)
class MultiLabelClassification(TextTask):
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
    threshold: float | tuple[float, ...] = 0.5
    """Probability from which a label is given; one, or one a label."""
    tune_threshold: bool = True
    """Choose the threshold on the validation split at each evaluation; it travels in the package."""
    pooling: Literal["cls", "mean", "max"] | None = field(default=None, metadata=UNSAID)
    """What the outputs are computed from, by one linear layer: the vector of the first token, or the mean or the largest numbers of
    those of all tokens. None: the model's own head (docs/heads.md)."""
    pairs: Literal["apart"] | None = field(default=None, metadata=UNSAID)
    """``apart``: each side of a pair is read by itself, with a vector of its own, and the outputs are computed from both vectors, their
    difference and their product (a siamese network). None: both sides are one text."""

    calibration: Calibration | None = field(default=None, metadata=UNSAID)
    """Probabilities that hold: a temperature; None: the network's scores as they are."""

    learned: ClassVar[tuple[str, ...]] = ("names", "threshold", "calibration")
    judged_as: ClassVar[str] = "multi_label"
    teachable: ClassVar[bool] = True
    departs_in: ClassVar[str] = "of probabilities"

    def __post_init__(self) -> None:
        self.check_reading()
        object.__setattr__(self, "calibration", Calibration.read(self.calibration))
        for name in ("promise", "costs"):
            if self.calibration is not None and getattr(self.calibration, name) is not None:
                raise RecipeError(
                    f"task.calibration.{name}: expected None with several labels a text, found a value.",
                    fix="Leave it out; task.threshold is the probability from which a label is given.",
                )
        several = isinstance(self.threshold, tuple)
        limits = self.threshold if isinstance(self.threshold, tuple) else (self.threshold,)
        if not all(is_probability(limit) for limit in limits) or (several and len(limits) != len(self.names or ())):
            raise RecipeError(
                f"task.threshold: expected a number in [0, 1], or one for each of task.names, found {self.threshold}.",
                fix="Set task.threshold to 0.5, or leave it and keep tune_threshold=True.",
            )
        parts = self._target.parts
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

    @property
    def _target(self) -> Column:
        if isinstance(self.labels, str):
            column = Column(self.labels, CLASSES, is_target=True, usual=("labels",))
            return replace(column, separator=self.separator, form=self.form)
        return Column(", ".join(self.labels), CLASSES, is_target=True, parts=self.labels)

    def columns(self) -> dict[str, Column]:
        return {**self.text_columns(), "labels": self._target}

    def fitted_as(self, other: Task) -> MultiLabelClassification:
        fitted = super().fitted_as(other)
        said = self.names or self._target.parts or None  # columns of 0s and 1s name their labels
        return replace(fitted, names=Labels(fitted.names or (), said=said))

    def renamed_target(self, name: str) -> MultiLabelClassification:
        return replace(self, labels=name)

    def fit(self, rows: Any) -> MultiLabelClassification:
        said = self.names or self._target.parts or None
        return replace(self, names=rows.labels(self._target, said=said))

    def targets(self, rows: Any) -> npt.NDArray[Any]:
        return np.asarray(rows.label_sets(self._target, self.label_names))

    def model_options(self) -> dict[str, Any]:
        return {**label_maps(self.label_names), "problem_type": "multi_label_classification"}

    def loss_sum(self, outputs: Mapping[str, torch.Tensor], batch: Mapping[str, torch.Tensor]) -> torch.Tensor:
        """Binary cross-entropy: the mean over classes, summed over examples."""
        from torch.nn import functional

        logits_BC = outputs["logits"].float()
        losses_BC = functional.binary_cross_entropy_with_logits(
            logits_BC, batch["labels"].to(logits_BC.dtype), reduction="none"
        )
        return (losses_BC.mean(dim=1) * batch["weights"]).sum()

    def distilled_sum(
        self, outputs: Mapping[str, torch.Tensor], batch: Mapping[str, torch.Tensor], *, temperature: float
    ) -> torch.Tensor:
        """The Kullback-Leibler divergence of each label's softened yes or no from the teacher's: the mean over labels."""
        import torch
        from torch.nn import functional

        logits_BC, taught_BC = outputs["logits"].float() / temperature, batch["teacher"] / temperature
        sides_2BC = torch.stack([logits_BC, -logits_BC]), torch.stack([taught_BC, -taught_BC])
        log_p, log_taught = (functional.logsigmoid(side) for side in sides_2BC)
        losses_BC = functional.kl_div(log_p, log_taught, reduction="none", log_target=True).sum(dim=0)
        return temperature**2 * (losses_BC.mean(dim=1) * batch["weights"]).sum()

    def taught(self, logits: npt.NDArray[Any]) -> npt.NDArray[Any]:
        return np.asarray(logits > 0.0, dtype=np.uint8)

    def merge(self, outputs: Outputs, features: Features) -> Outputs:
        """The largest logit counts: what one window shows holds for the text."""
        return by_example(outputs, features, largest_rows)

    def judge(self, predictions: Outputs, features: Features) -> dict[str, Any]:
        return {
            **super().judge(predictions, features),
            "outputs": (self.calibration or NONE).scaled(predictions["logits"]),
            "threshold": self.threshold if isinstance(self.threshold, float) else np.asarray(self.threshold),
        }

    def metrics(self) -> tuple[str, ...]:
        return ("f1_macro", "f1_micro", "subset_accuracy")

    def tune(self, judged: Any) -> MultiLabelClassification:
        """The threshold that makes micro F1 largest."""
        return replace(self, threshold=judged.best_threshold()) if self.tune_threshold else self

    def departure(self, found: Sequence[Any], recorded: Sequence[Any]) -> float:
        return furthest(
            found, recorded, lambda row: probabilities(np.asarray(row)[None], self.calibration, several=True)
        )

    def answers(self, predictions: Outputs, asked: Requests, **parameters: Any) -> list[Any]:
        """The labels at or above the threshold, best first."""
        names, top_k, asked_limit = self.label_names, parameters.get("top_k"), parameters.get("threshold")
        probabilities_NC = probabilities(predictions["logits"], self.calibration, several=True)
        chosen = self.threshold if asked_limit is None else asked_limit
        limits_C = np.broadcast_to(np.asarray(chosen, dtype=np.float64), (len(names),))
        order = np.argsort(-probabilities_NC, axis=1, kind="stable")
        return [
            [{"label": names[i], "score": float(row[i])} for i in best if row[i] >= limits_C[i]][:top_k]
            for row, best in zip(probabilities_NC, order.tolist(), strict=True)
        ]

    tells_all: ClassVar[Mapping[str, Any]] = {"threshold": 0.0}

    def unsure(self, answer: Any) -> float:
        """Of the label that is nearest to a probability of one half."""
        return max((1.0 - abs(2.0 * one["score"] - 1.0) for one in answer), default=0.0)

    def answer_columns(self, parameters: Mapping[str, Any]) -> tuple[str, ...]:
        return ("labels", "scores")

    def answer_cells(self, answer: Any, parameters: Mapping[str, Any]) -> tuple[Any, ...]:
        return [item["label"] for item in answer], [item["score"] for item in answer]

    def schema(self) -> TaskSchema:
        names = self.label_names
        return TaskSchema(
            **self.text_schema(),
            answers="multi_label",
            **labelled(names),
            parameters={"top_k": TOP_K, "threshold": _THRESHOLD},
            options={"threshold": self.threshold, **(self.calibration or NONE).options},
            does=f"gives each text any number of {len(names)} labels",
        )
