"""The same metrics as :class:`evaluate.Metric`, without the network.

    from hf_trainpipe.metrics import hub
    metric = evaluate.combine([hub.Accuracy(), hub.F1(average="macro")])
    metric.add_batch(predictions=[1, 0], references=[1, 1])
    metric.compute()                                # {"accuracy": 0.5, "f1_macro": 0.333...}

They take what the metrics of the same name on the Hub take; the functions of this package compute them.
Importing this module imports evaluate, which takes seconds; nothing else in the package does.
"""

from __future__ import annotations

import string
from typing import TYPE_CHECKING, Any, ClassVar

import evaluate
import numpy as np
from datasets import Features, Value
from datasets import List as ListOf

from hf_trainpipe.errors import RecipeError, closest
from hf_trainpipe.metrics.base import Predictions
from hf_trainpipe.metrics.counts import RATES
from hf_trainpipe.metrics.external import as_lists
from hf_trainpipe.metrics.registry import check
from hf_trainpipe.metrics.scoring import score

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from numpy.typing import NDArray

__all__ = [
    "F1",
    "R2",
    "Accuracy",
    "AveragePrecision",
    "EntityF1",
    "ExactMatch",
    "HammingLoss",
    "MatthewsCorrelation",
    "MeanAbsoluteError",
    "MeanSquaredError",
    "Pearson",
    "Precision",
    "Recall",
    "RocAuc",
    "RootMeanSquaredError",
    "Spearman",
    "compute_with_evaluate",
    "load",
]

_ID, _NUMBER, _TEXT = Value("int64"), Value("float64"), Value("string")


def _pair(given: Any, due: Any, name: str = "predictions") -> Features:
    return Features({name: given, "references": due})


class _Metric(evaluate.Metric):  # type: ignore[misc]
    """An offline metric; the options of :class:`evaluate.Metric` (``cache_dir``, ...) pass through."""

    features_taken: ClassVar[list[Features]]
    key: str
    """The name of the score in the result."""

    def _info(self) -> Any:
        about = (type(self).__doc__ or "").strip()
        return evaluate.MetricInfo(
            description=about,
            citation="",
            inputs_description="\n\nReturns:\n    A dict with the score.\n",
            features=self.features_taken[0] if len(self.features_taken) == 1 else self.features_taken,
        )


class _Classes(_Metric):
    """Class ids, or lists of 0/1 per label (multi-label)."""

    features_taken: ClassVar[list[Features]] = [_pair(_ID, _ID), _pair(ListOf(_ID), ListOf(_ID))]

    @staticmethod
    def _predictions(given: Sequence[Any], due: Sequence[Any]) -> Predictions:
        outputs, references = np.asarray(given, np.int64), np.asarray(due, np.int64)
        if outputs.ndim == 2:
            return Predictions("multi_label", outputs=outputs, references=references)
        found = np.union1d(outputs, references)
        names = np.arange(2) if np.isin(found, (0, 1)).all() else found
        return Predictions(
            "single_label",
            outputs=np.searchsorted(names, outputs),
            references=np.searchsorted(names, references),
            labels=[str(name) for name in names],
        )


class Accuracy(_Classes):
    """Share of examples that are right; of label sets that are wholly right (multi-label)."""

    key = "accuracy"

    def __init__(self, *, key: str = "accuracy", **options: Any) -> None:
        self.key = key
        super().__init__(**options)

    def _compute(self, predictions: Any, references: Any) -> dict[str, float]:
        data = self._predictions(predictions, references)
        name = "accuracy" if data.kind == "single_label" else "subset_accuracy"
        return {self.key: score(data, [name])[name]}


class _Rate(_Classes):
    def __init__(self, *, average: str | None = None, **options: Any) -> None:
        self.average = average
        super().__init__(**options)

    def _compute(self, predictions: Any, references: Any, average: str | None = None) -> dict[str, float]:
        data, chosen = self._predictions(predictions, references), average or self.average
        if chosen == "binary" and (data.kind != "single_label" or data.num_labels != 2):
            raise ValueError(
                f"{self.key}: average='binary' needs two classes, found {data.kind} with {data.num_labels}."
                " Choose micro, macro or weighted."
            )
        name = self.key if chosen in (None, "binary") else f"{self.key}_{chosen}"
        reported = f"{self.key}_{self.average}" if self.average else self.key
        return {reported: score(data, [name])[name]}


class Precision(_Rate):
    """Hits over what was given. ``average``: binary, micro, macro, weighted, samples; without one, that of
    class 1 for two classes and macro for more."""

    key = "precision"


class Recall(_Rate):
    """Hits over what was due. ``average`` as for :class:`Precision`."""

    key = "recall"


class F1(_Rate):
    """Harmonic mean of precision and recall. ``average`` as for :class:`Precision`."""

    key = "f1"


class MatthewsCorrelation(_Classes):
    """Matthews' correlation of class ids."""

    key = "mcc"

    def _compute(self, predictions: Any, references: Any) -> dict[str, float]:
        return score(self._predictions(predictions, references), ["mcc"])


class HammingLoss(_Classes):
    """Share of wrong decisions over all labels (multi-label). Less is better."""

    key = "hamming_loss"
    features_taken: ClassVar[list[Features]] = [_pair(ListOf(_ID), ListOf(_ID))]

    def _compute(self, predictions: Any, references: Any) -> dict[str, float]:
        return score(self._predictions(predictions, references), ["hamming_loss"])


class _Numbers(_Metric):
    features_taken: ClassVar[list[Features]] = [_pair(_NUMBER, _NUMBER)]

    def _compute(self, predictions: Any, references: Any) -> dict[str, float]:
        given, due = np.asarray(predictions, np.float64), np.asarray(references, np.float64)
        return score(Predictions("regression", outputs=given, references=due), [self.key])


class Pearson(_Numbers):
    """Pearson's r; NaN for constant numbers."""

    key = "pearson"


class Spearman(_Numbers):
    """Spearman's rank correlation; NaN for constant numbers."""

    key = "spearman"


class MeanSquaredError(_Numbers):
    """Mean squared error. Less is better."""

    key = "mse"


class RootMeanSquaredError(_Numbers):
    """Root of the mean squared error. Less is better."""

    key = "rmse"


class MeanAbsoluteError(_Numbers):
    """Mean absolute error. Less is better."""

    key = "mae"


class R2(_Numbers):
    """Coefficient of determination; NaN for constant references."""

    key = "r2"


class RocAuc(_Metric):
    """Area under the ROC curve. ``prediction_scores``: numbers for class 1, or lists of logits or of
    probabilities per class or label; averaged over classes, each against the rest."""

    key = "roc_auc"
    features_taken: ClassVar[list[Features]] = [
        _pair(_NUMBER, _ID, "prediction_scores"),
        _pair(ListOf(_NUMBER), _ID, "prediction_scores"),
        _pair(ListOf(_NUMBER), ListOf(_ID), "prediction_scores"),
    ]

    def _compute(self, prediction_scores: Any, references: Any) -> dict[str, float]:
        outputs, due = np.asarray(prediction_scores, np.float64), np.asarray(references, np.int64)
        if due.ndim == 2:
            return score(Predictions("multi_label", outputs=outputs, references=due), [self.key])
        if outputs.ndim == 1:
            outputs = np.stack([np.zeros_like(outputs), outputs], axis=1)
        return score(Predictions("single_label", outputs=_as_logits(outputs), references=due), [self.key])


class AveragePrecision(RocAuc):
    """Average precision. Takes what :class:`RocAuc` takes."""

    key = "average_precision"


class EntityF1(_Metric):
    """Precision, recall and F1 of entities by seqeval's default definition, and the accuracy of words.

    Lists of tags such as O, B-PER, I-PER. ``average``: micro (default), macro or weighted over types."""

    key = "entity_f1"
    features_taken: ClassVar[list[Features]] = [_pair(ListOf(_TEXT), ListOf(_TEXT))]

    def __init__(self, *, average: str = "micro", **options: Any) -> None:
        self.average = average
        super().__init__(**options)

    def _compute(self, predictions: Any, references: Any) -> dict[str, float]:
        if [len(row) for row in predictions] != [len(row) for row in references]:
            raise ValueError("predictions and references: expected as many tags in each example.")
        labels = sorted({"O"}.union(*predictions, *references))
        ids = {label: index for index, label in enumerate(labels)}
        data = Predictions(
            "tags",
            outputs=_flat(predictions, ids),
            references=_flat(references, ids),
            labels=labels,
            word_starts=np.cumsum([0, *map(len, references)]),
        )
        suffix = "" if self.average == "micro" else f"_{self.average}"
        return score(data, [*(f"entity_{rate}{suffix}" for rate in RATES), "tag_accuracy"])


class ExactMatch(_Metric):
    """Share of texts, or of lists of tags, that equal their reference. Empty lists of tags are left out."""

    key = "exact_match"
    features_taken: ClassVar[list[Features]] = [_pair(_TEXT, _TEXT), _pair(ListOf(_TEXT), ListOf(_TEXT))]

    def _compute(
        self, predictions: Any, references: Any, ignore_case: bool = False, ignore_punctuation: bool = False
    ) -> dict[str, float]:
        removed = str.maketrans("", "", string.punctuation) if ignore_punctuation else {}

        def plain(value: Any) -> Any:
            if not isinstance(value, str):
                return value
            return (value.lower() if ignore_case else value).translate(removed)

        rows = [(plain(a), plain(b)) for a, b in zip(predictions, references, strict=True) if isinstance(b, str) or b]
        return {self.key: float(np.mean([a == b for a, b in rows])) if rows else float("nan")}


def _flat(rows: Iterable[Iterable[str]], ids: Mapping[str, int]) -> NDArray[np.int64]:
    return np.array([ids[tag] for row in rows for tag in row], np.int64)


def _as_logits(rows: NDArray[np.float64]) -> NDArray[np.float64]:
    """Logits as they are; rows of probabilities as their logarithms."""
    if rows.size and (rows >= 0).all() and np.allclose(rows.sum(axis=1), 1.0, atol=1e-6):
        with np.errstate(divide="ignore"):
            return np.log(rows)
    return rows


_NAMED: dict[str, Callable[..., _Metric]] = {
    **{each.key: each for each in (Accuracy, MatthewsCorrelation, HammingLoss, ExactMatch, RocAuc, AveragePrecision)},
    **{each.key: each for each in (Pearson, Spearman, R2)},
    **{each.key: each for each in (MeanSquaredError, RootMeanSquaredError, MeanAbsoluteError)},
    **{each.key: each for each in (Precision, Recall, F1)},
    "subset_accuracy": lambda **options: Accuracy(key="subset_accuracy", **options),
    "tag_accuracy": EntityF1,
}


def load(name: str, **options: Any) -> Any:
    """The :class:`evaluate.Metric` that computes a metric of this package, under its name in the result.

    Entity metrics and ``tag_accuracy`` are one metric that gives them all.

    Args:
        name: ``accuracy``, ``f1_macro``, ``entity_f1``, ...
        options: of :class:`evaluate.Metric`, such as ``cache_dir``.

    Raises:
        RecipeError: for an unknown name.
    """
    if name in _NAMED:
        return _NAMED[name](**options)
    base, _, average = name.rpartition("_")
    if base in RATES and average in ("micro", "macro", "weighted", "samples"):
        return _NAMED[base](average=average, **options)
    entity, _, rest = name.partition("_")
    rate, _, average = rest.partition("_")
    if entity == "entity" and rate in RATES and average in ("", "macro", "weighted"):
        return EntityF1(average=average or "micro", **options)
    raise RecipeError(
        f"unknown metric {name!r}.{closest(name, _NAMED)}",
        fix=f"Choose from: {', '.join(sorted(_NAMED))}.",
        metric=name,
    )


def compute_with_evaluate(predictions: Predictions, names: Iterable[str], **options: Any) -> dict[str, float]:
    """What :func:`~hf_trainpipe.metrics.score` gives, through :class:`evaluate.Metric`. Built-in names only.

    Raises:
        RecipeError: for a name that is unknown or does not suit the predictions.
    """
    names = list(dict.fromkeys(names))
    check(names, predictions.kind)
    given, due = as_lists(predictions)
    found = {}
    for name in names:
        metric = load(name, **options)
        if isinstance(metric, RocAuc):
            result = metric.compute(prediction_scores=predictions.outputs.tolist(), references=due)
        elif predictions.kind == "multi_label" and isinstance(metric, ExactMatch):
            result = {name: Accuracy(**options).compute(predictions=given, references=due)["accuracy"]}
        else:
            result = metric.compute(predictions=given, references=due)
        found[name] = float(result[name])
    return found
