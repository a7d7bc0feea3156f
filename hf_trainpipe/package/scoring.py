"""Score a package on a split of its recipe's data: everything but the data comes from the package."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from hf_trainpipe.engine.scores import score_predictions
from hf_trainpipe.errors import DataError, PackageError, closest

if TYPE_CHECKING:
    from collections.abc import Callable

    from datasets import Dataset

    from hf_trainpipe.data.rows import Rows
    from hf_trainpipe.metrics import Predictions
    from hf_trainpipe.recipe import Evaluation, Recipe
    from hf_trainpipe.runtime.handler.predictor import Predictor
    from hf_trainpipe.runtime.tasks.base import Task
    from hf_trainpipe.runtime.tokens.features import Features

log = logging.getLogger(__name__)

_CHUNK = 10_000
"""Inputs encoded at a time."""


def score(
    predictor: Predictor,
    *,
    recipe: Recipe,
    split: str,
    name: str = "The package",
    progress: Callable[[int], None] = lambda _: None,
) -> dict[str, Any]:
    """Score a loaded package on ``split`` of ``recipe.data``.

    The metrics are those of the recipe, with bootstrap intervals over the examples.

    Args:
        name: What errors call the package.
        progress: Called with the number of rows that are done.

    Returns:
        ``{"split", "n", "longer", "scores"}``: examples scored, those left out as too long, and the scores as :func:`score_predictions` gives them.

    Raises:
        DataError: if the data cannot be read, or has no such split.
        PackageError: if its labels do not fit the task.
    """
    dataset, task = rows_of_split(predictor, recipe=recipe, split=split, name=name)
    return score_rows(
        predictor,
        dataset,
        task=task,
        evaluation=recipe.evaluation,
        seed=recipe.seed,
        split=split,
        model=recipe.model,
        progress=progress,
    )


def rows_of_split(
    predictor: Predictor, *, recipe: Recipe, split: str, name: str = "The package"
) -> tuple[Dataset, Task]:
    """The rows of a split of ``recipe.data``, and the fitted task that reads them; errors as of :func:`score`."""
    task = task_for(predictor, recipe.task, name=name)
    splits = recipe.data.splits()
    if split not in splits:
        raise DataError(
            f"No split {split!r} in the data, but {', '.join(map(repr, splits))}.{closest(split, splits)}",
            fix="Choose one of them with --split.",
        )
    return splits[split], task


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
            exit_code=2,
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
    model: Any = None,
    progress: Callable[[int], None] = lambda _: None,
) -> dict[str, Any]:
    """Score a loaded package on rows that have the task's columns; the result is that of :func:`score`.

    Args:
        task: Fitted, over the names that the rows have.
        split: What errors call the rows.
        model: The recipe's, for scores that compare with it.
        progress: Called with the number of rows that are done.
    """
    found = judged_rows(predictor, dataset, task=task, split=split, model=model, progress=progress)
    chosen = evaluation.select
    names = [*((chosen,) if chosen else ()), *task.metric_names, *evaluation.metrics]
    scores = score_predictions(found.predictions, names, evaluation=evaluation, seed=seed)
    return {"split": split, "n": len(found.predictions), "longer": found.longer, "scores": scores}


@dataclass(frozen=True, eq=False)
class JudgedRows:
    """What a package predicts of rows, and what is right."""

    predictions: Predictions
    lengths: NDArray[np.int64]
    """Tokens of each row, those of rows that are not predicted too."""
    longer: int
    """Rows that are not predicted, since they are longer than the package takes."""
    rows: Rows
    features: Features
    """What was made of the rows."""


def judged_rows(
    predictor: Predictor,
    dataset: Dataset,
    *,
    task: Task,
    split: str,
    model: Any = None,
    progress: Callable[[int], None] = lambda _: None,
) -> JudgedRows:
    """Predict rows that have the task's columns; arguments as of :func:`score_rows`."""
    from hf_trainpipe.data.rows import Rows
    from hf_trainpipe.engine.evaluation import judge
    from hf_trainpipe.package.reference import referred
    from hf_trainpipe.runtime.model.outputs import concatenate
    from hf_trainpipe.runtime.tokens import features as tokens

    rows = Rows(dataset, split, encoder=predictor.encoder)
    columns = rows.inputs(task)
    task.check(rows)
    inputs = [task.as_input(dict(zip(columns, values, strict=True))) for values in zip(*columns.values(), strict=True)]
    encoded = [predictor.features(inputs[start : start + _CHUNK]) for start in range(0, len(inputs), _CHUNK)]
    features = task.supervise(rows, tokens.concatenate(encoded))
    longer = len(inputs) - len(np.unique(features.example)) if features.num_examples == len(inputs) else 0
    if task.refers:
        features = referred(predictor, features, task, model=model, split=split)
    positions = rows.report.get("positions")
    for line in (*rows.warnings(), *((positions,) if positions else ())):
        log.warning("%s", line)
    there, found = np.flatnonzero(features.windows), []
    for start in range(0, len(there), _CHUNK):
        some = there[start : start + _CHUNK]
        found.append(predictor.predictions(features, examples=some, scores_targets=task.scored is not None))
        progress(min(start + _CHUNK, len(inputs)))
    if not found:
        raise DataError(
            f"split {split!r}: every example exceeds the package's maximum length.",
            fix="Name a split with shorter texts.",
        )
    lengths = np.bincount(features.example, weights=features.lengths, minlength=features.num_examples)
    return JudgedRows(judge(concatenate(found), features, task), lengths.astype(np.int64), longer, rows, features)
