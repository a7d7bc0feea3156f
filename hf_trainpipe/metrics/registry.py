"""The built-in metrics by name and kind, checks of metric names, and whether greater is better."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from functools import partial
from typing import Any, Protocol, get_args

import numpy as np

from hf_trainpipe.errors import RecipeError, closest
from hf_trainpipe.metrics import classification, regression, tagging
from hf_trainpipe.metrics.base import Floats, Kind, Metric, Predictions, SumMetric, ratio

LOSS = "loss"
"""Computed by the evaluation from the task's loss; a recipe may name it, but it is not scored here."""
OF_HUNDRED = ("bleu", "chrf")
"""Scores that go from 0 to 100."""
EXTERNAL = "evaluate:"
"""Prefix of metrics loaded by :func:`evaluate.load`."""

_ALL: dict[tuple[str, str], Metric] = {
    (metric.kind, metric.name): metric for metric in (*classification.METRICS, *regression.METRICS, *tagging.METRICS)
}
# Parts of names of Hub metrics where less is better.
_LESS_IS_BETTER = ("loss", "mse", "mae", "mape", "mase", "smape", "perplexity", "wer", "cer", "ter", "brier")


def is_external(name: str) -> bool:
    """Whether ``name`` is ``evaluate:NAME``."""
    return name.startswith(EXTERNAL) and len(name) > len(EXTERNAL)


def known(kind: str) -> tuple[str, ...]:
    """Names of the metrics for a kind of predictions, sorted, without ``loss``.

    Raises:
        ValueError: for an unknown kind.
    """
    if kind not in get_args(Kind):
        raise ValueError(f"kind: expected one of {get_args(Kind)}, found {kind!r}.")
    return tuple(sorted(name for of, name in _ALL if of == kind))


def check(names: Iterable[str], kind: str, *, labels: Sequence[str] | None = None, own: Collection[str] = ()) -> None:
    """Refuse metric names that do not exist or do not suit the kind of predictions.

    ``loss`` and ``evaluate:NAME`` pass. With ``labels`` (names of the tags), entity metrics are refused
    where no entities can be read from the tags.

    Raises:
        RecipeError: with the nearest name; carries ``metric``.
    """
    choices = (*own, *known(kind))
    for name in names:
        if name == LOSS or name in own or (is_external(name) and kind != "own"):
            continue
        if name not in choices:
            others = sorted({of for of, other in _ALL if other == name})
            found = f"metric {name!r} is for {' and '.join(others)}" if others else f"unknown metric {name!r}"
            hint = closest(name, (*choices, LOSS))
            raise RecipeError(
                f"{found}; expected a metric of {kind if kind != 'own' else 'this task'}.{hint}",
                fix=f"Choose from: {', '.join((*choices, LOSS))}; or evaluate:NAME for one from the Hub.",
            )
        if labels is not None and name.startswith("entity_"):
            tagging.check_tags(labels)


class Scored(Protocol):
    """What of a task decides about its metrics."""

    @property
    def judged_as(self) -> str | None: ...

    @property
    def label_names(self) -> tuple[str, ...]: ...

    def metrics(self) -> tuple[Any, ...]: ...


def check_for(task: Scored, names: Iterable[str], *, is_fitted: bool = False) -> None:
    """:func:`check` names for a task, by its labels too once it is fitted."""
    own = [metric.name for metric in task.metrics() if not isinstance(metric, str)]
    check(names, task.judged_as or "own", labels=task.label_names if is_fitted else None, own=own)


def _own_statistics(name: str, predictions: Predictions) -> Floats:
    return predictions.own[name]


def _own_column(name: str, predictions: Predictions) -> Floats:
    """[N, 2]: the number of each example, and whether it has one."""
    column = predictions.own[name]
    defined = ~np.isnan(column)
    return np.stack([np.where(defined, column, 0.0), defined], axis=1)


def get(
    name: str, kind: str, *, own: Collection[str] = (), finishes: Mapping[str, Callable[[Floats], Floats]] | None = None
) -> Metric:
    """The metric of that name.

    Args:
        own: Names of the task's own.
        finishes: Of those of them that are no means; see :class:`~.base.Predictions`.

    Raises:
        RecipeError: as :func:`check`, and for ``loss`` and ``evaluate:NAME``, which are computed elsewhere.
    """
    if name in own:
        if finishes and name in finishes:
            statistics, finish = partial(_own_statistics, name), finishes[name]
        else:
            statistics, finish = partial(_own_column, name), ratio(0, 1)
        return SumMetric(name=name, kind="own", statistics=statistics, finish=finish, bounds=(-math.inf, math.inf))
    check([name], kind)
    if (kind, name) not in _ALL:
        raise RecipeError(f"{name!r} is not computed from sums.", fix="Ask for a metric of known(kind).")
    return _ALL[kind, name]


def greater_is_better(name: str, task: Scored | None = None) -> bool:
    """Whether more is better, for a metric of the task's own as it says; for ``evaluate:NAME`` judged by the name (``wer``, ``mse``, ... are losses)."""
    for metric in task.metrics() if task is not None else ():
        if not isinstance(metric, str) and metric.name == name:
            return bool(metric.greater_is_better)
    if name == LOSS:
        return False
    if is_external(name):
        words = name.removeprefix(EXTERNAL).lower().replace("/", "_").replace("#", "_").replace("-", "_").split("_")
        return not any(word in _LESS_IS_BETTER for word in words)
    return all(metric.greater_is_better for (_, other), metric in _ALL.items() if other == name)


def better(name: str, new: float, old: float | None, *, task: Scored | None = None) -> bool:
    """Whether ``new`` beats ``old``. NaN beats nothing, and anything else beats None and NaN.

    >>> better("accuracy", 0.8, 0.7), better("loss", 0.8, 0.7), better("f1", float("nan"), None)
    (True, False, False)
    """
    if math.isnan(new):
        return False
    if old is None or math.isnan(old):
        return True
    return new > old if greater_is_better(name, task) else new < old
