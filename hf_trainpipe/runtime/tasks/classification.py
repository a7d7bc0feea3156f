"""One label for a text, or for a pair of texts.

Shapes: N examples, B features of a micro-batch, C classes.
"""

from __future__ import annotations

from dataclasses import KW_ONLY, dataclass, field, replace
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np
import numpy.typing as npt

from ..brief import listed
from ..errors import RecipeError
from ..kinds import UNSAID
from .base import Metric, Requests
from .calibration import NONE, Calibration, best_first, probabilities
from .columns import CLASS, Column, Labels
from .departures import furthest
from .schema import TaskSchema
from .texts import TOP_K, TextTask, label_maps, labelled

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import torch

    from ..model.outputs import Outputs
    from ..tokens.features import Features
    from .calibration import Wide


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
    pooling: Literal["cls", "mean", "max"] | None = field(default=None, metadata=UNSAID)
    """What the outputs are computed from, by one linear layer: the vector of the first token, or the mean or the largest numbers of
    those of all tokens. None: the model's own head (docs/heads.md)."""
    pairs: Literal["apart"] | None = field(default=None, metadata=UNSAID)
    """``apart``: each side of a pair is read by itself, with a vector of its own, and the outputs are computed from both vectors, their
    difference and their product (a siamese network). None: both sides are one text."""

    calibration: Calibration | None = field(default=None, metadata=UNSAID)
    """Probabilities that hold, abstention for a promised precision, costs of mistakes; None: the network's scores as they are."""

    learned: ClassVar[tuple[str, ...]] = ("names", "calibration")
    judged_as: ClassVar[str] = "single_label"
    teachable: ClassVar[bool] = True
    departs_in: ClassVar[str] = "of probabilities"

    def __post_init__(self) -> None:
        self.check_reading()
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
        object.__setattr__(self, "calibration", Calibration.read(self.calibration))
        if self.names:
            self._check_weights(self.names)
            if self.calibration is not None:
                self.calibration.check(self.names)

    def _check_weights(self, names: tuple[str, ...]) -> None:
        if isinstance(self.class_weights, tuple) and len(self.class_weights) != len(names):
            raise RecipeError(
                f"task.class_weights: expected {len(names)} numbers, one a label ({listed(names)}), "
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
        if self.calibration is not None:
            self.calibration.check(labels)
        weights = self.class_weights
        if isinstance(weights, tuple) and not labels.is_ordered:
            pairs = listed([f"{name} {weight}" for name, weight in zip(labels, weights, strict=False)], 8)
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

    def distilled_sum(
        self, outputs: Mapping[str, torch.Tensor], batch: Mapping[str, torch.Tensor], *, temperature: float
    ) -> torch.Tensor:
        """The Kullback-Leibler divergence of the softened probabilities from the teacher's (Hinton et al. 2015)."""
        from torch.nn import functional

        log_p_BC = functional.log_softmax(outputs["logits"].float() / temperature, dim=-1)
        log_taught_BC = functional.log_softmax(batch["teacher"] / temperature, dim=-1)
        losses_B = functional.kl_div(log_p_BC, log_taught_BC, reduction="none", log_target=True).sum(dim=-1)
        return temperature**2 * (losses_B * self.weigh(batch)).sum()

    def taught(self, logits: npt.NDArray[Any]) -> npt.NDArray[Any]:
        return np.asarray(logits.argmax(axis=1), dtype=np.int64)

    def count(self, batch: Mapping[str, torch.Tensor]) -> torch.Tensor:
        return self.weigh(batch).double().sum()

    def judge(self, predictions: Outputs, features: Features) -> dict[str, Any]:
        judged = super().judge(predictions, features)
        if self.calibration is None:
            return judged
        order_NC, costs_NC = self._best_first(predictions["logits"])[1:]
        chosen = {} if costs_NC is None else {"chosen": order_NC[:, 0]}
        return {**judged, "outputs": self.calibration.scaled(predictions["logits"]), **chosen}

    def metrics(self) -> tuple[str | Metric, ...]:
        """With a promise also how often it answers, and how often it is right then; with costs what a text costs."""
        usual = ("accuracy", "f1_macro", "mcc")
        found = self.calibration
        promised = (
            Metric("answered", lambda judged: self._given(judged).astype(np.float64)),
            Metric("right_if_answered", lambda judged: np.where(self._given(judged), self._right(judged), np.nan)),
        )
        return (
            *usual,
            *(promised if found is not None and found.least is not None else ()),
            *((Metric("cost", self._costs, greater_is_better=False),) if found is not None and found.costs is not None else ()),
        )  # fmt: skip

    def _best_first(self, logits: npt.NDArray[Any]) -> tuple[Wide, npt.NDArray[np.int64], Wide | None]:
        """Probabilities [N, C], labels in the order in which they are answered, and what each costs."""
        probabilities_NC = probabilities(logits, self.calibration)
        return (probabilities_NC, *best_first(probabilities_NC, self.calibration, self.label_names))

    def _given(self, judged: Any) -> npt.NDArray[np.bool_]:
        assert self.calibration is not None
        assert self.calibration.least is not None
        scores_N = probabilities(judged.outputs, None)[np.arange(len(judged)), judged.decisions()]
        return np.asarray(scores_N >= self.calibration.least)

    def _right(self, judged: Any) -> npt.NDArray[np.float64]:
        return np.asarray(judged.decisions() == judged.references, dtype=np.float64)

    def _costs(self, judged: Any) -> npt.NDArray[np.float64]:
        assert self.calibration is not None
        costs_CC = self.calibration.expected_costs(np.eye(len(self.label_names)), self.label_names)
        return np.asarray(costs_CC[judged.references, judged.decisions()])

    def departure(self, found: Sequence[Any], recorded: Sequence[Any]) -> float:
        return furthest(found, recorded, lambda row: probabilities(np.asarray(row)[None], self.calibration))

    def answers(self, predictions: Outputs, asked: Requests, **parameters: Any) -> list[Any]:
        """Labels with scores, the best first; before them an entry without a label, where it abstains."""
        names, found = self.label_names, self.calibration or NONE
        probabilities_NC, order_NC, costs_NC = self._best_first(predictions["logits"])
        answers = []
        for number, best in enumerate(order_NC.tolist()):
            row = probabilities_NC[number]
            entries: list[dict[str, Any]] = [{"label": names[i], "score": float(row[i])} for i in best]
            if costs_NC is not None:
                entries = [{**one, "cost": float(costs_NC[number, i])} for one, i in zip(entries, best, strict=True)]
            held = (
                [{"label": None, "score": entries[0]["score"], "abstains": True}]
                if found.abstains(row[best[0]])
                else []
            )
            answers.append([*held, *entries[: parameters.get("top_k")]])
        return answers

    def unsure(self, answer: Any) -> float:
        """1 less the margin between the two likeliest labels."""
        scores = sorted((one["score"] for one in answer), reverse=True)[:2]
        return 1.0 - (scores[0] - scores[1]) if len(scores) > 1 else 0.0

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
            **labelled(names, self.calibration),
            parameters={"top_k": TOP_K},
            options={} if self.calibration is None else self.calibration.options,
            best=lambda answer: (answer[0]["label"] or "", answer[0]["score"]),
            does=f"gives each text one of {len(names)} labels",
        )
