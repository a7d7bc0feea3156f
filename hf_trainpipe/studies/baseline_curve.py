"""The learning curve of a simple model instead of the recipe's own: seconds instead of hours, and often the same answer."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from hf_trainpipe.baselines.listed import Baseline, Means, Split, baselines_of
from hf_trainpipe.baselines.measure import learn, read
from hf_trainpipe.baselines.vectors import Unfit
from hf_trainpipe.errors import DataError, RecipeError, closest
from hf_trainpipe.metrics import score
from hf_trainpipe.studies.conclusion import Point, Scale, concluded
from hf_trainpipe.studies.subsets import Curve, Subsets, subsets
from hf_trainpipe.utils.cache import cache_root
from hf_trainpipe.utils.resources import search_folders

if TYPE_CHECKING:
    from hf_trainpipe.recipe import Recipe
    from hf_trainpipe.recipe.source import RecipeSource
    from hf_trainpipe.runtime.tasks.base import Task
    from hf_trainpipe.tracking.console import Console

ANY = "baseline"
"""The first that learns from what it reads."""


def baseline_curve(
    recipe: Recipe, source: RecipeSource, folder: Path, *, curve: Curve, model: str, console: Console
) -> dict[str, Any]:
    """Learn a baseline from every subset, and write learn_curve.json.

    Args:
        model: Its name (``hf-trainpipe baseline --json`` has them), or :data:`ANY`.

    Raises:
        TrainpipeError: as :func:`.learn_curve.learn_curve`; a name that is none.
    """
    with search_folders(source.path.parent):
        dealt = subsets(recipe, curve)
        recipe, data = read(recipe, console=console)
        scale = Scale.of(recipe.selected_metric, data.task)
        chosen = named(model, data.task, recipe)
        train, scored = Split(data.train, data.task), Split(data.splits[dealt.on], data.task)
        means = Means(model=recipe.model, root=cache_root(), working=console.working, say=console.say)
        points = measured(chosen, train, scored, means, dealt, curve, metric=recipe.selected_metric)
    return concluded(
        recipe,
        folder,
        points,
        scale=scale,
        curve=curve,
        on=dealt.on,
        total=len(dealt.pool),
        model=f"{chosen.name}: {chosen.title}",
    )


def named(model: str, task: Task, recipe: Recipe) -> Baseline:
    """The baseline of a name.

    Raises:
        RecipeError: there is none.
    """
    known = {one.name: one for one in baselines_of(task, recipe.model) if one.name != "majority"}
    if model == ANY:
        return next(iter(known.values()))
    if model not in known:
        raise RecipeError(
            f"--model: expected recipe, {ANY} or the name of a baseline, found {model!r}.{closest(model, known)}",
            fix=f"This recipe has: {', '.join(known)}",
        )
    return known[model]


def measured(
    baseline: Baseline, train: Split, scored: Split, means: Means, dealt: Subsets, curve: Curve, *, metric: str
) -> list[Point]:
    """A point for each subset; of all rows one for each seed, which are alike.

    Raises:
        DataError: a subset from which nothing can be learnt.
    """
    found: list[Point] = []
    for at, fraction in enumerate(curve.fractions):
        for seed in range(curve.seeds):
            rows = positions(train, dealt.rows[seed][at])
            try:
                one = learn(baseline, train, {dealt.on: scored}, means, rows=rows)
            except Unfit as reason:
                raise DataError(
                    f"{len(rows):,} rows ({fraction:g} of all): {reason}.",
                    fix="Take larger fractions: --fractions 0.25 0.5 1.",
                ) from None
            held = one.predicted[dealt.on]
            value = score(held.predictions, [metric])[metric]
            found.append(Point(rows=len(rows), seed=seed, score=value, seconds=one.seconds, predicted=held))
            if len(dealt.rows[seed][at]) == len(dealt.pool):
                break  # the same rows for every seed, and nothing else is drawn
    return found


def positions(train: Split, rows: NDArray[np.int64]) -> NDArray[np.int64]:
    """Where rows of the data stand in what a baseline reads: rows without a feature are left out there."""
    if train.task.judged_as == "tags":
        return rows
    return np.flatnonzero(np.isin(train.rows, rows))
