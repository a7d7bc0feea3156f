"""A model held against the baselines of its data, on the same rows by a paired test; what a run's ``baselines.json`` has.

The best baseline is chosen on validation, where there is one, and not on the split that is told of.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from hf_trainpipe import metrics
from hf_trainpipe.metrics.paired import differences, mcnemar, right
from hf_trainpipe.utils.atomic import finite

if TYPE_CHECKING:
    from hf_trainpipe.baselines.kept import Measured
    from hf_trainpipe.metrics.saved import Predicted
    from hf_trainpipe.runtime.tasks.base import Task

FILE = "baselines.json"
"""In the folder of a run."""
EVALUATED = ("validation", "test")
_BY_ROW = ("accuracy", "subset_accuracy")
"""Scores that count whole answers: their p-value is McNemar's exact one."""


def chosen(measured: Sequence[Measured], select: str) -> str:
    """The metric that baselines are held against each other by: the recipe's, or the first that they have."""
    scores = [found for one in measured for found in one.scores.values()]
    return select if not scores or select in scores[0] else next(iter(scores[0]), select)


def best(measured: Sequence[Measured], select: str, task: Task) -> Measured | None:
    """The best on validation, or without one on test; None where no score is defined."""
    found: Measured | None = None
    highest: float | None = None
    for one in measured:
        split = next(name for name in EVALUATED if name in one.scores)
        value = (one.scores[split].get(select) or {}).get("value")
        if value is not None and metrics.better(select, value, highest, task=task):
            found, highest = one, value
    return found


def beside(
    measured: Sequence[Measured],
    predicted: Mapping[str, Predicted],
    *,
    select: str,
    task: Task,
    confidence: float,
    unfit: Mapping[str, str] | None = None,
) -> dict[str, Any]:
    """What is told of a model beside its baselines, as JSON.

    Args:
        predicted: What the model answered, by split.
        unfit: Baselines that could not be learnt, and why.

    Returns:
        ``select``, ``confidence``, ``best`` (a name, or None), ``baselines`` with their scores, ``unfit``, and ``held``: for
        each split ``model`` and ``baseline`` (scores), ``difference`` of the model minus the baseline with ``low``, ``high`` and
        ``p``, the ``test``, and ``beats``: True, False where the baseline is better, None where no difference is shown.
    """
    select = chosen(measured, select)
    first = best(measured, select, task)
    held = {}
    for split, found in predicted.items():
        other = None if first is None else first.predicted.get(split)
        if other is not None and np.array_equal(other.rows, found.rows):
            held[split] = _held(other, found, select, task=task, confidence=confidence)
    return {
        "select": select,
        "confidence": confidence,
        "best": None if first is None else first.name,
        "baselines": [one.to_json() for one in measured],
        "unfit": dict(unfit or {}),
        "held": {split: one for split, one in held.items() if one is not None},
    }


def _held(first: Predicted, second: Predicted, select: str, *, task: Task, confidence: float) -> dict[str, Any] | None:
    one, two = first.predictions, second.predictions
    gap = differences(one, two, [select], confidence=confidence).get(select)
    if gap is None:
        return None
    sides, p, test = (right(one), right(two)), gap.p, "paired bootstrap"
    if select in _BY_ROW and sides[0] is not None and sides[1] is not None and one.kind != "tags":
        p, test = mcnemar(sides[0], sides[1]).p, "McNemar"
    is_more = (gap.value > 0) == metrics.greater_is_better(select, task)
    is_known = gap.value != 0 and p < 1 - confidence
    told: dict[str, Any] = finite(
        {
            "metric": select,
            "model": gap.second,
            "baseline": gap.first,
            "difference": gap.value,
            "low": gap.low,
            "high": gap.high,
            "p": p,
            "test": test,
            "beats": is_more if is_known else None,
        }
    )
    return told
