"""The built-in metrics by name and kind, checks of metric names, and whether greater is better."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, get_args

from hf_trainpipe.errors import RecipeError, closest
from hf_trainpipe.metrics import classification, regression, tagging
from hf_trainpipe.metrics.base import Kind, Metric

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

__all__ = ["EXTERNAL", "LOSS", "better", "check", "get", "greater_is_better", "is_external", "known"]

LOSS = "loss"
"""Computed by the evaluation from the task's loss; a recipe may name it, but it is not scored here."""
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
    """Names of the metrics for a decoder kind, sorted, without ``loss``.

    Raises:
        ValueError: for an unknown kind.
    """
    if kind not in get_args(Kind):
        raise ValueError(f"kind: expected one of {get_args(Kind)}, found {kind!r}.")
    return tuple(sorted(name for of, name in _ALL if of == kind))


def check(names: Iterable[str], kind: str, *, labels: Sequence[str] | None = None) -> None:
    """Refuse metric names that do not exist or do not suit the decoder kind.

    ``loss`` and ``evaluate:NAME`` pass. With ``labels`` (names of the tags), entity metrics are refused
    where no entities can be read from the tags.

    Raises:
        RecipeError: with the nearest name; carries ``metric``.
    """
    choices = known(kind)
    for name in names:
        if name == LOSS or is_external(name):
            continue
        if name not in choices:
            others = sorted({of for of, other in _ALL if other == name})
            found = f"metric {name!r} is for {' and '.join(others)}" if others else f"unknown metric {name!r}"
            hint = closest(name, (*choices, LOSS))
            raise RecipeError(
                f"{found}; expected a metric of {kind}.{hint}",
                fix=f"Choose from: {', '.join((*choices, LOSS))}; or evaluate:NAME for one from the Hub.",
            )
        if labels is not None and name.startswith("entity_"):
            tagging.check_tags(labels)


def get(name: str, kind: str) -> Metric:
    """The metric of that name.

    Raises:
        RecipeError: as :func:`check`, and for ``loss`` and ``evaluate:NAME``, which are computed elsewhere.
    """
    check([name], kind)
    if (kind, name) not in _ALL:
        raise RecipeError(f"{name!r} is not computed from sums.", fix="Ask for a metric of known(kind).")
    return _ALL[kind, name]


def greater_is_better(name: str) -> bool:
    """Whether more is better; for ``evaluate:NAME`` judged by the name (``wer``, ``mse``, ... are losses)."""
    if name == LOSS:
        return False
    if is_external(name):
        words = name.removeprefix(EXTERNAL).lower().replace("/", "_").replace("#", "_").replace("-", "_").split("_")
        return not any(word in _LESS_IS_BETTER for word in words)
    return all(metric.greater_is_better for (_, other), metric in _ALL.items() if other == name)


def better(name: str, new: float, old: float | None) -> bool:
    """Whether ``new`` beats ``old``. NaN beats nothing, and anything else beats None and NaN.

    >>> better("accuracy", 0.8, 0.7), better("loss", 0.8, 0.7), better("f1", float("nan"), None)
    (True, False, False)
    """
    if math.isnan(new):
        return False
    if old is None or math.isnan(old):
        return True
    return new > old if greater_is_better(name) else new < old
