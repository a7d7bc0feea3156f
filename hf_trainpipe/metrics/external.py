"""Metrics from the Hub or a folder: ``evaluate:NAME`` and ``evaluate:NAME#KEY``.

They are computed with the decisions as ``predictions`` (class ids, numbers, 0/1 per label, lists of tags)
and have no bootstrap interval.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from hf_trainpipe.errors import MissingExtra, RecipeError
from hf_trainpipe.utils.brief import first_line
from hf_trainpipe.utils.resources import is_local, resolve

if TYPE_CHECKING:
    from collections.abc import Mapping

    from hf_trainpipe.metrics.base import Predictions


def load_external(name: str) -> Any:
    """``evaluate.load`` of the name behind ``evaluate:`` (without ``#KEY``).

    Raises:
        RecipeError: where it cannot be loaded: no network, no such metric, or a package that it needs.
    """
    try:
        import evaluate
    except ImportError as error:
        raise MissingExtra("evaluate is not installed.", fix="pip install evaluate") from error
    short = name.removeprefix("evaluate:").partition("#")[0]
    try:
        return evaluate.load(str(resolve(short)) if is_local(short) else short)
    except Exception as error:  # evaluate raises whatever the network, the Hub or the metric's script raise
        raise RecipeError(
            f"evaluate could not load metric {name!r}: {first_line(error)}",
            fix="It is fetched from the Hub: check the name and the network, or use a built-in metric, "
            "which needs none.",
        ) from error


def compute(name: str, predictions: Predictions) -> float:
    """Load and compute one ``evaluate:NAME``.

    Raises:
        RecipeError: where it cannot be loaded or computed, or its result holds no number to choose.
    """
    metric = load_external(name)
    predicted, gold = as_lists(predictions)
    try:
        result = metric.compute(predictions=predicted, references=gold)
    except Exception as error:
        raise RecipeError(
            f"metric {name!r} could not be computed for {predictions.kind}: {error}",
            fix="Use a built-in metric, or one that takes these predictions.",
        ) from error
    return _number(name, result)


def _number(name: str, result: Mapping[str, Any]) -> float:
    short, _, key = name.removeprefix("evaluate:").partition("#")
    numbers = {
        each: float(value)
        for each, value in (result or {}).items()
        if isinstance(value, int | float | np.number) or (isinstance(value, np.ndarray) and value.size == 1)
    }
    key = key or short.rstrip("/").rsplit("/", 1)[-1].removesuffix(".py")
    if key in numbers:
        return numbers[key]
    if len(numbers) == 1 and "#" not in name:
        return next(iter(numbers.values()))
    raise RecipeError(
        f"metric {name!r} gave {sorted(numbers) or 'no number'}, and not {key!r}.",
        fix=f"Name the one to use: evaluate:{short}#KEY.",
    )


def as_lists(predictions: Predictions) -> tuple[list[Any], list[Any]]:
    """Decisions and references as lists: ids, numbers, lists of 0/1, or lists of tag names.

    Words that are not scored are removed; a word without a prediction is tagged ``O``.
    """
    predicted, gold = predictions.decisions(), predictions.references
    if predictions.kind != "tags":
        return predicted.tolist(), gold.astype(
            np.int64
        ).tolist() if predictions.kind == "multi_label" else gold.tolist()
    assert predictions.word_starts is not None
    labels = predictions.labels or [str(tag) for tag in range(int(max(predicted.max(), gold.max(), -1)) + 1)]
    names = [*labels, "O"]
    rows: tuple[list[Any], list[Any]] = ([], [])
    for start, stop in zip(predictions.word_starts[:-1], predictions.word_starts[1:], strict=True):
        kept = gold[start:stop] >= 0
        for row, ids in zip(rows, (np.maximum(predicted[start:stop], -1), gold[start:stop]), strict=True):
            row.append([names[tag] for tag in ids[kept]])
    return rows
