"""Inputs of metrics (:class:`Predictions`) and kinds of metrics (:class:`SumMetric`, :class:`WeightMetric`).

Shapes: N examples, C labels, W words of all examples, K statistics an example, R resamples.

A bootstrap resample is a row of whole-number weights over the examples, so every metric is a function
of weights: a sum metric computes statistics [N, K] once and its scores from their weighted sums; other
metrics (ranks, correlations) take the weights.
"""

from __future__ import annotations

from dataclasses import KW_ONLY, dataclass, field, replace
from typing import TYPE_CHECKING, Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

Kind = Literal["single_label", "multi_label", "regression", "tags", "own"]
"""What predictions are; ``own``: numbers of a task's own metrics alone."""
Floats = NDArray[np.float64]
SCHEMES = ("BIO", "IOB1", "BIOES", "BILOU")


@dataclass(frozen=True, eq=False)
class Predictions:
    """Outputs of a model on a split, with the references.

    Outputs of a whole-number or boolean dtype are decisions already taken (class ids, 0/1 per label)
    instead of logits; metrics that rank (``roc_auc``, ``average_precision``) refuse them.

    ============  ==========================================  ===============================
    kind          outputs                                     references
    ============  ==========================================  ===============================
    single_label  logits [N, C], or class ids [N]             class ids [N]
    multi_label   logits [N, C], or 0/1 [N, C]                0/1 [N, C]
    regression    numbers [N] or [N, 1]                       numbers [N]
    tags          tag ids [W]; below 0: no answer, which is   tag ids [W]; below 0 (-100):
                  wrong, and outside of any entity            not scored
    ============  ==========================================  ===============================

    Raises:
        ValueError: where shapes or ranges do not fit together.
    """

    kind: Kind
    _: KW_ONLY
    outputs: NDArray[Any]
    references: NDArray[Any]
    labels: Sequence[str] = ()
    """Names in the order of the model's outputs; entity metrics need them."""
    threshold: float | Sequence[float] | Floats = 0.5
    """multi_label: a label is predicted where its probability (sigmoid) is at least this; one or one a label."""
    word_starts: NDArray[np.int64] | None = None
    """tags: int64 [N + 1], where the words of each example begin, and the end."""
    scheme: str = "BIO"
    """How the tags are written. Entities are read the same way from all four (see ``tagging``)."""
    has_entities: bool = True
    """tags: whether they mark entities; else each stands alone."""
    chosen: NDArray[np.int64] | None = None
    """single_label: class ids [N] that are answered instead of those with the largest outputs, by what mistakes cost."""
    examples: NDArray[np.int64] | None = None
    """int64 [N]: which examples of the split these are; None: all, in their order."""
    own: Mapping[str, Floats] = field(default_factory=dict)
    """Numbers [N] of each metric of the task's own, NaN where an example has none; or statistics [N, K] of those that
    ``finishes`` has."""
    finishes: Mapping[str, Callable[[Floats], Floats]] = field(default_factory=dict)
    """Of metrics of the task's own that are no means: sums of their statistics [..., K] to scores [...]."""
    signatures: Mapping[str, str] = field(default_factory=dict)
    """How a metric of the task's own was computed, where it says so."""
    judged: Any = None
    """own: what those metrics were computed from."""

    def __post_init__(self) -> None:
        if self.kind not in get_args(Kind):
            raise ValueError(f"kind: expected one of {get_args(Kind)}, found {self.kind!r}.")
        outputs, references = np.asarray(self.outputs), np.asarray(self.references)
        if self.kind == "regression" and outputs.ndim == 2 and outputs.shape[1] == 1:
            outputs = outputs[:, 0]
        object.__setattr__(self, "outputs", outputs)
        object.__setattr__(self, "references", references)
        dimensions = {"single_label": (1, 2), "multi_label": (2,), "regression": (1,), "tags": (1,), "own": (1,)}[
            self.kind
        ]
        if outputs.ndim not in dimensions or (outputs.ndim == 1 and self.kind == "single_label" and not self.decided):
            expected = " or ".join({1: "[N]", 2: "[N, C]"}[d] for d in dimensions)
            raise ValueError(f"outputs of {self.kind}: expected {expected}, found {_shape(outputs)}.")
        matching = references.shape == (outputs.shape if self.kind == "multi_label" else outputs.shape[:1])
        if not matching:
            raise ValueError(f"references: {_shape(references)} do not fit outputs of {_shape(outputs)}.")
        if self.kind == "tags":
            self._check_words()
        if self.kind in ("single_label", "tags"):
            self._check_ids("references", references)
            if outputs.ndim == 1:
                self._check_ids("outputs", outputs)

    def _check_ids(self, name: str, ids: NDArray[Any]) -> None:
        if ids.dtype.kind not in "iu":
            raise ValueError(f"{name} of {self.kind}: expected whole numbers, found {_shape(ids)}.")
        if ids.size == 0:
            return
        low, high = int(ids.min()), int(ids.max())
        if (self.kind == "single_label" and low < 0) or (self.num_labels and high >= self.num_labels):
            raise ValueError(f"{name}: expected ids from 0 to {self.num_labels - 1}, found {low} to {high}.")

    def _check_words(self) -> None:
        starts = self.word_starts
        if self.scheme not in SCHEMES:
            raise ValueError(f"scheme: expected one of {SCHEMES}, found {self.scheme!r}.")
        if starts is None:
            raise ValueError("tags need word_starts, int64 [N + 1]: where the words of each example begin.")
        object.__setattr__(self, "word_starts", np.asarray(starts, np.int64))
        if len(starts) < 1 or starts[0] != 0 or starts[-1] != len(self.outputs) or (np.diff(starts) < 0).any():
            raise ValueError(f"word_starts: expected a rise from 0 to the {len(self.outputs)} words of outputs.")

    @classmethod
    def of_own(
        cls, own: Mapping[str, Floats], *, examples: NDArray[np.int64], judged: Any = None, **told: Any
    ) -> Predictions:
        """Predictions that only metrics of the task's own score; ``told``: ``finishes`` and ``signatures``."""
        nothing = np.zeros(len(examples))
        return cls("own", outputs=nothing, references=nothing, examples=examples, own=own, judged=judged, **told)

    def with_own(self, own: Mapping[str, NDArray[Any]], **told: Any) -> Predictions:
        """The same with numbers of the task's own metrics; ``told``: ``finishes`` and ``signatures``."""
        return replace(self, own={name: np.asarray(column, np.float64) for name, column in own.items()}, **told)

    def best_threshold(self) -> float:
        """multi_label: the decision threshold with the highest micro F1."""
        from hf_trainpipe.metrics.thresholds import best_thresholds

        return float(best_thresholds(self.outputs, self.references, metric="f1_micro"))

    def example(self, position: int) -> int:
        """Which example of the split stands at a position."""
        return position if self.examples is None else int(self.examples[position])

    def __len__(self) -> int:
        """N, the number of examples."""
        return len(self.outputs) if self.word_starts is None else len(self.word_starts) - 1

    @property
    def decided(self) -> bool:
        """Whether the outputs are decisions and not logits."""
        return self.outputs.dtype.kind in "iub"

    @property
    def num_labels(self) -> int:
        """C: columns of the logits, else the labels, else as many as occur; tags without labels: 0."""
        if self.outputs.ndim == 2:
            return int(self.outputs.shape[1])
        if self.labels or self.kind != "single_label" or not self.outputs.size:
            return len(self.labels)
        return int(max(self.outputs.max(), self.references.max())) + 1

    @property
    def has_logits(self) -> bool:
        """Whether there is a logit for each label of each example, of which one holds or several."""
        return self.kind in ("single_label", "multi_label") and not self.decided

    def decisions(self) -> NDArray[Any]:
        """Class ids [N], 0/1 per label [N, C], numbers [N] or tag ids [W]."""
        if self.chosen is not None:
            return self.chosen
        if self.kind == "single_label" and not self.decided:
            classes: NDArray[Any] = self.outputs.argmax(axis=1)
            return classes
        if self.kind == "multi_label" and not self.decided:
            chosen = sigmoid(self.outputs) >= np.asarray(self.threshold, np.float64)
            return chosen.astype(np.int8)
        return self.outputs

    def part(self, start: int, stop: int) -> Predictions:
        """The examples from ``start`` to before ``stop``, without a copy of the arrays."""
        rows, starts = slice(start, stop), self.word_starts
        if starts is not None:
            rows, starts = (
                slice(int(starts[start]), int(starts[stop])),
                starts[start : stop + 1] - starts[start],
            )
        return replace(
            self,
            outputs=self.outputs[rows],
            references=self.references[rows],
            labels=self.labels or tuple(str(label) for label in range(self.num_labels)),
            word_starts=starts,
            examples=None,
            chosen=None if self.chosen is None else self.chosen[start:stop],
            own={name: column[start:stop] for name, column in self.own.items()},
        )

    def answered(self) -> bool:
        """False if an output or a reference is NaN: such predictions have no score."""
        arrays = (self.outputs, self.references)
        return not any(array.dtype.kind == "f" and np.isnan(array).any() for array in arrays)


@dataclass(frozen=True, kw_only=True)
class Metric:
    """A named score of one kind of predictions. Undefined scores are NaN."""

    name: str
    kind: Kind
    greater_is_better: bool = True
    bounds: tuple[float, float] = (0.0, 1.0)
    """The least and the most that it can be; of a task's own metric not known."""


@dataclass(frozen=True, kw_only=True)
class SumMetric(Metric):
    """A metric that follows from sums over the examples.

    Metrics that share a ``statistics`` function share its sums. Splits too large for memory can be
    scored in parts: add up ``statistics(part).sum(axis=0)``, on every rank too, and ``finish`` once.
    """

    statistics: Callable[[Predictions], Floats]
    """Numbers of each example, [N, K]."""
    finish: Callable[[Floats], Floats]
    """Sums [..., K] to scores [...]."""


@dataclass(frozen=True, kw_only=True)
class WeightMetric(Metric):
    """A metric that needs all examples at once."""

    weighted: Callable[[Predictions, Floats], Floats]
    """Predictions and whole-number weights [R, N] to scores [R], each as if every example were repeated
    as often as it weighs."""


@dataclass(frozen=True, kw_only=True)
class Interval:
    """A score with its bootstrap interval. NaN where undefined."""

    value: float
    low: float
    high: float
    confidence: float
    n: int
    """Examples scored."""
    resamples: int
    """Resamples in which the score was defined."""


def sum_metrics(
    kind: Kind,
    statistics: Callable[[Predictions], Floats],
    finishes: Mapping[str, Callable[[Floats], Floats]],
    **alike: Any,
) -> list[SumMetric]:
    """Metrics that share their statistics, by name; ``alike``: further fields of each."""
    return [
        SumMetric(name=name, kind=kind, statistics=statistics, finish=finish, **alike)
        for name, finish in finishes.items()
    ]


def finishes_of(listed: Iterable[Any]) -> dict[str, Callable[[Floats], Floats]]:
    """How sums of a task's own metrics become scores, by name.

    Args:
        listed: What ``Task.metrics`` gives; names of known metrics, and its own without sums, are passed over.
    """
    return {one.name: one.finish for one in listed if not isinstance(one, str) and one.finish is not None}


def ratio(over: int, under: int) -> Callable[[Floats], Floats]:
    """The finish of a metric: one column of its sums by another; NaN where that is 0."""
    return lambda sums: divide(sums[..., over], sums[..., under], otherwise=np.nan)


def divide(numerator: Floats, denominator: Floats, *, otherwise: float) -> Floats:
    """``numerator / denominator``, and ``otherwise`` where the denominator is 0."""
    with np.errstate(all="ignore"):
        quotient: Floats = np.where(denominator == 0, otherwise, numerator / denominator)
    return quotient


def sigmoid(logits: NDArray[Any]) -> Floats:
    """Probabilities in float64, without overflow."""
    values = np.asarray(logits, np.float64)
    small = np.exp(-np.abs(values))
    result: Floats = np.where(values >= 0, 1.0, small) / (1.0 + small)
    return result


def _shape(array: NDArray[Any]) -> str:
    return f"{array.dtype} {list(array.shape)}"
