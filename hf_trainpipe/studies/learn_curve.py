"""How a score grows with training rows: nested subsets, each with several seeds an ordinary run, and the law they follow.

study.json              recipe, options, sha256 of what was dealt
rows/SEED-FRACTION.json the rows of a run, as ``train --rows`` reads them
runs/SEED-FRACTION/     an ordinary run
learn_curve.json, .html points, law, forecasts, the decision
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from statistics import mean
from typing import TYPE_CHECKING, Any

from hf_trainpipe.codec import to_json
from hf_trainpipe.data import chosen_rows
from hf_trainpipe.errors import DataError
from hf_trainpipe.out_of_fold import run_of_fold
from hf_trainpipe.report.facts import read
from hf_trainpipe.studies import runs
from hf_trainpipe.studies.conclusion import Point, Scale, concluded
from hf_trainpipe.studies.identity import begun
from hf_trainpipe.studies.subsets import Curve, Subsets, fold_subsets, subsets
from hf_trainpipe.training.run_files import earlier_seconds
from hf_trainpipe.utils.resources import search_folders

if TYPE_CHECKING:
    from hf_trainpipe.out_of_fold import OutOfFold
    from hf_trainpipe.recipe import Recipe
    from hf_trainpipe.recipe.source import RecipeSource


def learn_curve(
    recipe: Recipe,
    source: RecipeSource,
    folder: Path,
    *,
    curve: Curve,
    crossval: OutOfFold | None = None,
    launch: runs.Launch | None = None,
    say: Callable[[str], None] = lambda _: None,
) -> dict[str, Any]:
    """Train what is not trained yet, and write learn_curve.json; a call that was killed is continued by the next.

    Args:
        crossval: Of the recipe: its folds are the runs on all rows, and smaller parts are those of a fold, scored on what it holds out.

    Raises:
        TrainpipeError: the data cannot be dealt so; a run ended otherwise than complete, with its own error and exit code.
    """
    with search_folders(source.path.parent):
        if crossval is not None:
            crossval.check_recipe(to_json(recipe), whose="this recipe", may_differ=("name",))
        dealt = subsets(recipe, curve) if crossval is None else fold_subsets(recipe, curve, crossval)
        scale = Scale.of(recipe.selected_metric, dealt.pool.task)
    with begun(folder, "learn-curve", recipe, {**asdict(curve), "on": dealt.on, "dealt": dealt.digest}):
        points = [
            _of_fold(crossval, seed, recipe, rows=len(dealt.rows[seed][at]))
            if crossval is not None and curve.fractions[at] == 1
            else _trained(recipe, source, folder, dealt, curve, seed, at, launch=launch, say=say)
            for at in range(len(curve.fractions))
            for seed in range(curve.seeds)
        ]
        on, total = dealt.on, len(dealt.pool)
        if crossval is not None:
            points = [replace(one, rows=round(mean(other.rows for other in points[at // curve.seeds * curve.seeds :][: curve.seeds])))
                      for at, one in enumerate(points)]  # fmt: skip
            on = f"what folds of {crossval.folder} held out"
        return concluded(recipe, folder, points, scale=scale, curve=curve, on=on, total=total)


def _trained(
    recipe: Recipe,
    source: RecipeSource,
    folder: Path,
    dealt: Subsets,
    curve: Curve,
    seed: int,
    at: int,
    *,
    launch: runs.Launch | None,
    say: Callable[[str], None],
) -> Point:
    name = f"{seed + 1}-{curve.fractions[at]:g}"
    place, file = folder / "runs" / name, folder / "rows" / f"{name}.json"
    chosen_rows.write(file, dealt.choice(seed, at))
    fields = ["--name", f"{recipe.name}-{name}"]
    if not dealt.folds:  # folds have the recipe's own
        fields += ["--seed", str(recipe.seed + seed)]
    if recipe.hub is not None:
        fields += ["--hub", "none"]  # a point is no model to publish
    size = len(dealt.rows[seed][at])
    if runs.read_end(place) is None:
        say(f"seed {seed + 1} of {curve.seeds}, {size:,} rows ({curve.fractions[at]:g} of all)")
    ending = runs.run(source, place, fields=fields, options=["--rows", str(file)], launch=launch)
    if ending.outcome != "complete":
        raise ending.error()
    return _point(place, dealt.on, recipe, rows=size, seed=seed)


def _of_fold(kept: OutOfFold, seed: int, recipe: Recipe, *, rows: int) -> Point:
    """What a fold of a cross-validation, trained on so many rows, came to.

    Raises:
        DataError: its run is not there any more.
    """
    place = run_of_fold(kept.folder, seed)
    if runs.read_end(place) is None:
        raise DataError(
            f"{place}: expected the run of a fold, found none.",
            fix="Bring it back, or give the study's command again: it trains what is not there.",
        )
    return _point(place, "test", recipe, rows=rows, seed=seed)


def _point(place: Path, on: str, recipe: Recipe, *, rows: int, seed: int) -> Point:
    """What a run came to on a split."""
    facts = read(place)
    score = (facts.result["scores"][on].get(recipe.selected_metric) or {}).get("value")
    if score is None:
        raise DataError(
            f"{place}: {recipe.selected_metric} of {on} is undefined.",
            fix="Score by another metric: --evaluation.select NAME.",
        )
    return Point(
        rows=rows,
        seed=seed,
        score=float(score),
        seconds=earlier_seconds(place),
        predicted=facts.predicted.get(on),
    )
