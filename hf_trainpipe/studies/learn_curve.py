"""How a score grows with training rows: nested subsets, each with several seeds an ordinary run, and the law they follow.

study.json              recipe, options, sha256 of what was dealt
rows/SEED-FRACTION.json the rows of a run, as ``train --rows`` reads them
runs/SEED-FRACTION/     an ordinary run
learn_curve.json, .html points, law, forecasts, the decision
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hf_trainpipe.data import chosen_rows
from hf_trainpipe.errors import DataError
from hf_trainpipe.report.facts import read
from hf_trainpipe.studies import runs
from hf_trainpipe.studies.conclusion import Point, Scale, concluded
from hf_trainpipe.studies.identity import begun
from hf_trainpipe.studies.subsets import Curve, Subsets, subsets
from hf_trainpipe.training.run_files import earlier_seconds
from hf_trainpipe.utils.resources import search_folders

if TYPE_CHECKING:
    from hf_trainpipe.recipe import Recipe
    from hf_trainpipe.recipe.source import RecipeSource


def learn_curve(
    recipe: Recipe,
    source: RecipeSource,
    folder: Path,
    *,
    curve: Curve,
    launch: runs.Launch | None = None,
    say: Callable[[str], None] = lambda _: None,
) -> dict[str, Any]:
    """Train what is not trained yet, and write learn_curve.json; a call that was killed is continued by the next.

    Raises:
        TrainpipeError: the data cannot be dealt so; a run ended otherwise than complete, with its own error and exit code.
    """
    with search_folders(source.path.parent):
        dealt = subsets(recipe, curve)
        scale = Scale.of(recipe.selected_metric, dealt.pool.task)
    with begun(folder, "learn-curve", recipe, {**asdict(curve), "on": dealt.on, "dealt": dealt.digest}):
        points = [
            _trained(recipe, source, folder, dealt, curve, seed, at, launch=launch, say=say)
            for at in range(len(curve.fractions))
            for seed in range(curve.seeds)
        ]
        return concluded(recipe, folder, points, scale=scale, curve=curve, on=dealt.on, total=len(dealt.pool))


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
    fields = ["--name", f"{recipe.name}-{name}", "--seed", str(recipe.seed + seed)]
    if recipe.hub is not None:
        fields += ["--hub", "none"]  # a point is no model to publish
    size = len(dealt.rows[seed][at])
    if runs.read_end(place) is None:
        say(f"seed {seed + 1} of {curve.seeds}, {size:,} rows ({curve.fractions[at]:g} of all)")
    ending = runs.run(source, place, fields=fields, options=["--rows", str(file)], launch=launch)
    if ending.outcome != "complete":
        raise ending.error()
    facts = read(place)
    score = facts.result["scores"][dealt.on][recipe.selected_metric]["value"]
    if score is None:
        raise DataError(
            f"{place}: {recipe.selected_metric} of {dealt.on} is undefined.",
            fix="Score by another metric: --evaluation.select NAME.",
        )
    return Point(
        rows=size,
        seed=seed,
        score=float(score),
        seconds=earlier_seconds(place),
        predicted=facts.predicted.get(dealt.on),
    )
