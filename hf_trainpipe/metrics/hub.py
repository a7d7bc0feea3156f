"""The same metrics as :class:`evaluate.Metric`, without the network.

    from hf_trainpipe.metrics import hub
    metric = evaluate.combine([hub.load("accuracy"), hub.load("f1_macro")])
    metric.add_batch(predictions=[1, 0], references=[1, 1])
    metric.compute()                                # {"accuracy": 0.5, "f1_macro": 0.333...}

Importing this module imports evaluate, which takes seconds; nothing else in the package does.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, get_args

import evaluate
import numpy as np
from datasets import Features, Value
from datasets import List as ListOf

from hf_trainpipe.errors import RecipeError, closest
from hf_trainpipe.metrics.base import Kind, Predictions, WeightMetric
from hf_trainpipe.metrics.registry import get, known
from hf_trainpipe.metrics.scoring import score

_ID, _NUMBER = Value("int64"), Value("float64")
_TAKEN: dict[str, Any] = {
    "single_label": _ID,
    "multi_label": ListOf(_ID),
    "regression": _NUMBER,
    "tags": ListOf(Value("string")),
}
"""Kind to the feature of references, and of predictions unless a metric needs logits."""


class OfflineMetric(evaluate.Metric):  # type: ignore[misc]
    """A metric of this package by its name; :func:`load` makes one.

    Predictions are class ids, lists of 0/1 per label, numbers, or lists of tags; of ``roc_auc`` and
    ``average_precision`` lists of logits per class or label.
    """

    def __init__(self, name: str, **options: Any) -> None:
        self._name = name
        kinds = [kind for kind in get_args(Kind) if name in known(kind)]
        self._kinds = ["tags"] if "tags" in kinds else kinds  # exact_match of sets of labels is subset_accuracy
        super().__init__(**options)

    def _info(self) -> Any:
        taken = []
        for kind in self._kinds:
            ranks = kind != "regression" and isinstance(get(self._name, kind), WeightMetric)
            taken.append(
                Features({"predictions": ListOf(_NUMBER) if ranks else _TAKEN[kind], "references": _TAKEN[kind]})
            )
        return evaluate.MetricInfo(
            description=self._name, citation="", inputs_description="", features=taken if taken[1:] else taken[0]
        )

    def _compute(self, predictions: Any, references: Any) -> dict[str, float]:
        kind = self._kinds[-1 if isinstance(references[0], list) else 0]
        return score(_as_predictions(kind, predictions, references), [self._name])


def _as_predictions(kind: Any, predictions: Sequence[Any], references: Sequence[Any]) -> Predictions:
    labels: list[str] = []
    if kind == "tags":
        if [len(row) for row in predictions] != [len(row) for row in references]:
            raise ValueError("predictions and references: expected as many tags in each example.")
        labels = sorted({"O"}.union(*predictions, *references))
        outputs, gold = (
            np.array([labels.index(tag) for row in rows for tag in row], np.int64) for rows in (predictions, references)
        )
        starts = np.cumsum([0, *map(len, references)])
        return Predictions(kind, outputs=outputs, references=gold, labels=labels, word_starts=starts)
    outputs, gold = np.asarray(predictions), np.asarray(references)
    if kind == "single_label" and outputs.ndim == 1:  # ids may be any numbers, and two classes are 0 and 1
        found = np.union1d(outputs, gold)
        found = np.arange(2) if np.isin(found, (0, 1)).all() else found
        labels = [str(one) for one in found]
        outputs, gold = np.searchsorted(found, outputs), np.searchsorted(found, gold)
    return Predictions(kind, outputs=outputs, references=gold, labels=labels)


def load(name: str, **options: Any) -> OfflineMetric:
    """The :class:`evaluate.Metric` that computes a metric of this package, under its name in the result.

    Args:
        name: ``accuracy``, ``f1_macro``, ``entity_f1``, ...
        options: of :class:`evaluate.Metric`, such as ``cache_dir``.

    Raises:
        RecipeError: for an unknown name.
    """
    names = sorted({name for kind in get_args(Kind) for name in known(kind)})
    if name not in names:
        fix = f"Choose from: {', '.join(names)}."
        raise RecipeError(f"unknown metric {name!r}.{closest(name, names)}", fix=fix)
    return OfflineMetric(name, **options)
