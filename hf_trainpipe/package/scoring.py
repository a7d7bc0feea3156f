"""Score a package on a split of its recipe's data: everything but the data comes from the package."""

from __future__ import annotations

import logging
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import numpy as np

from hf_trainpipe import metrics
from hf_trainpipe.errors import DataError, PackageError, closest
from hf_trainpipe.package.layout import find_package

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from datasets import Dataset

    from hf_trainpipe.recipe import Evaluation, Recipe
    from hf_trainpipe.runtime.handler.predictor import Predictor
    from hf_trainpipe.runtime.tasks.base import Task

__all__ = ["evaluate", "score", "score_rows", "task_for"]

log = logging.getLogger(__name__)

_CHUNK = 10_000
"""Inputs encoded at a time."""
_USERS_MISTAKE = 2


def evaluate(
    package_dir: Path | str,
    *,
    recipe: Recipe,
    split: str = "validation",
    device: str | None = None,
    allow_code: bool = False,
    backend: str | None = None,
    progress: Callable[[int], None] = lambda _: None,
) -> dict[str, Any]:
    """Score the package ``package_dir`` (or the package of a run) on ``split`` of ``recipe.data``.

    The metrics are those of the recipe, with bootstrap intervals over the examples.

    Returns:
        ``{"split", "n", "scores": {metric: {"value", "low", "high", "confidence", "n", "resamples"}}}``;
        undefined numbers are None.

    Raises:
        DataError: if the data cannot be read, or has no such split.
        PackageError: if there is no package, or its labels do not fit the task.
    """
    from hf_trainpipe.runtime.handler.predictor import Predictor

    path = find_package(package_dir)
    predictor = Predictor.load(path, device=device, allow_code=allow_code, backend=backend)
    return score(predictor, recipe=recipe, split=split, name=str(path), progress=progress)


def score(
    predictor: Predictor,
    *,
    recipe: Recipe,
    split: str,
    name: str = "The package",
    progress: Callable[[int], None] = lambda _: None,
) -> dict[str, Any]:
    """Score a loaded package; see :func:`evaluate`. ``name`` is for error messages."""
    task = task_for(predictor, recipe.task, name=name)
    splits = recipe.data.splits()
    if split not in splits:
        raise DataError(
            f"No split {split!r} in the data, but {', '.join(map(repr, splits))}.{closest(split, splits)}",
            fix="Choose one of them with --split.",
        )
    return score_rows(
        predictor,
        splits[split],
        task=task,
        evaluation=recipe.evaluation,
        seed=recipe.seed,
        split=split,
        progress=progress,
    )


def task_for(predictor: Predictor, task: Task, *, name: str) -> Task:
    """A recipe's task with what the package's learned from data.

    Raises:
        PackageError: the package is of another task.
    """
    held = predictor.task
    if type(held).__name__ not in {cls.__name__ for cls in type(task).__mro__}:
        raise PackageError(
            f"{name} answers as {type(held).__name__}, the recipe's task is {type(task).__name__}.",
            fix="Use the recipe that the package was trained with.",
            exit_code=_USERS_MISTAKE,
        )
    return task.fitted_as(held)


def score_rows(
    predictor: Predictor,
    dataset: Dataset,
    *,
    task: Task,
    evaluation: Evaluation,
    seed: int,
    split: str,
    progress: Callable[[int], None] = lambda _: None,
) -> dict[str, Any]:
    """Score a loaded package on rows that have the task's columns; the result is that of :func:`evaluate`.

    Args:
        task: Fitted, over the names that the rows have.
        split: What errors call the rows.
        progress: Called with the number of rows that are done.
    """
    from hf_trainpipe.data.rows import Rows
    from hf_trainpipe.engine.evaluation import judge
    from hf_trainpipe.runtime.model.outputs import concatenate
    from hf_trainpipe.runtime.tokens import features as tokens

    rows = Rows(dataset, split, encoder=predictor.encoder)
    columns = rows.inputs(task)
    task.check(rows)
    inputs = [task.as_input(dict(zip(columns, values, strict=True))) for values in zip(*columns.values(), strict=True)]
    encoded = [predictor.features(inputs[start : start + _CHUNK]) for start in range(0, len(inputs), _CHUNK)]
    features = task.supervise(rows, tokens.concatenate(encoded))
    positions = rows.report.get("positions")
    for line in (*rows.warnings(), *((positions,) if positions else ())):
        log.warning("%s", line)
    there, found = np.flatnonzero(features.windows), []
    for start in range(0, len(there), _CHUNK):
        found.append(predictor.predictions(features, examples=there[start : start + _CHUNK]))
        progress(min(start + _CHUNK, len(inputs)))
    if not found:
        raise DataError(
            f"split {split!r}: every example exceeds the package's maximum length.",
            fix="Name a split with shorter texts.",
        )
    predictions = judge(concatenate(found), features, task)
    chosen = evaluation.select
    names = [*((chosen,) if chosen else ()), *task.metric_names, *evaluation.metrics]
    scores: dict[str, dict[str, Any]] = {
        name: asdict(interval)
        for name, interval in metrics.intervals(
            predictions,
            names,
            confidence=evaluation.confidence,
            resamples=evaluation.resamples,
            seed=seed,
        ).items()
    }
    external = [name for name in dict.fromkeys(names) if metrics.is_external(name)]
    for name, value in metrics.score(predictions, external).items():
        scores[name] = {"value": value, "low": None, "high": None, "n": len(predictions)}
    return {"split": split, "n": len(predictions), "scores": _finite(scores)}


def _finite(scores: dict[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
    return {
        metric: {name: None if isinstance(value, float) and value != value else value for name, value in row.items()}
        for metric, row in scores.items()
    }
