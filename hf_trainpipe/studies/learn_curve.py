"""How a score grows with training rows: nested subsets, each with several seeds an ordinary run, and the law they follow.

study.json              recipe, options, sha256 of what was dealt
rows/SEED-FRACTION.json the rows of a run, as ``train --rows`` reads them
runs/SEED-FRACTION/     an ordinary run
learn_curve.json, .html points, law, forecasts, the decision
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from hf_trainpipe.data import chosen_rows
from hf_trainpipe.errors import DataError, RecipeError
from hf_trainpipe.metrics.paired import differences
from hf_trainpipe.metrics.power_law import Law, fit
from hf_trainpipe.metrics.registry import greater_is_better
from hf_trainpipe.package.layout import finite
from hf_trainpipe.report.facts import read
from hf_trainpipe.studies import runs
from hf_trainpipe.studies.attempts import seconds_of
from hf_trainpipe.studies.folds import nested
from hf_trainpipe.studies.identity import begun
from hf_trainpipe.studies.pool import Pool
from hf_trainpipe.utils.atomic import write_json
from hf_trainpipe.utils.resources import search_folders

if TYPE_CHECKING:
    from hf_trainpipe.metrics.saved import Predicted
    from hf_trainpipe.recipe import Recipe
    from hf_trainpipe.recipe.source import RecipeSource

RESULT = "learn_curve.json"
OF_HUNDRED = ("bleu", "chrf", "rouge1", "rouge2", "rougeL", "rougeLsum")
"""Scores that are written out of 100."""
FEWEST_ROWS = 2
REACH = 100
"""Times the rows beyond which a law is not followed."""
SHOWN = 1.959964 + 0.841621
"""Standard errors of the smallest difference that a two-sided test at 5 % shows in four cases of five."""


@dataclass(frozen=True, kw_only=True)
class Curve:
    """What is measured."""

    fractions: tuple[float, ...] = (0.125, 0.25, 0.5, 1.0)
    """Of the training rows, ascending."""
    seeds: int = 3
    on: str | None = None
    """The split that scores; None: test, or validation without one."""
    confidence: float = 0.9

    def __post_init__(self) -> None:
        wrong = [one for one in self.fractions if not 0 < one <= 1]
        if wrong or len(self.fractions) < 2 or list(self.fractions) != sorted(set(self.fractions)):
            told = " ".join(f"{one:g}" for one in self.fractions)
            raise RecipeError(
                f"--fractions: expected two or more, ascending, above 0 and up to 1, found {told}.",
                fix="Write --fractions 0.125 0.25 0.5 1.",
            )
        if self.seeds < 1:
            raise RecipeError(f"--seeds: expected 1 or more, found {self.seeds}.", fix="Write --seeds 3.")
        if not 0.5 <= self.confidence < 1:
            raise RecipeError(
                f"--confidence: expected a number in [0.5, 1), found {self.confidence:g}.",
                fix="Write --confidence 0.9.",
            )


@dataclass(frozen=True, eq=False)
class Subsets:
    """What is trained on."""

    pool: Pool
    rows: list[list[NDArray[np.int64]]]
    """[seed][fraction] ascending rows of train, each part of the next."""
    on: str

    def choice(self, seed: int, at: int) -> chosen_rows.Choice:
        """The rows of a run; the other splits are whole."""
        others = {name: [(name, range(len(self.pool.splits[name])))] for name in self.pool.splits if name != "train"}
        return {"train": self.pool.choice(self.rows[seed][at]), **others}

    @property
    def digest(self) -> str:
        """sha256 of what was dealt."""
        told = [[rows.tolist() for rows in of_seed] for of_seed in self.rows]
        return hashlib.sha256(json.dumps([told, self.on]).encode()).hexdigest()


def subsets(recipe: Recipe, curve: Curve) -> Subsets:
    """Deal the training rows of a recipe into nested subsets, by its seed: labels in proportion, duplicates together.

    Raises:
        TrainpipeError: the data cannot be read, has no split to score on, or too few rows.
    """
    pool = Pool.of(recipe, ("train",))
    scored = [name for name in ("test", "validation") if name in pool.splits]
    if not scored or (curve.on is not None and curve.on not in scored):
        raise DataError(
            f"A curve needs a split to score on: expected {curve.on or 'test or validation'}, found {', '.join(pool.splits)}.",
            fix="Name one in the data, or cut one off: validation=0.2.",
        )
    dealt = [
        nested(pool.strata, pool.duplicates, curve.fractions, seed=recipe.seed + 1000 * seed)
        for seed in range(curve.seeds)
    ]
    sizes = [len(rows) for rows in dealt[0]]
    if sizes[0] < FEWEST_ROWS or len(set(sizes)) < len(sizes):
        raise DataError(
            f"{len(pool):,} training rows give subsets of {', '.join(f'{size:,}' for size in sizes)} rows: too few for a curve.",
            fix="Add rows, or take fewer and larger fractions: --fractions 0.25 0.5 1.",
        )
    return Subsets(pool, dealt, curve.on or scored[0])


@dataclass(frozen=True, kw_only=True)
class Point:
    """One run, or one simple model that stands for one."""

    rows: int
    seed: int
    score: float
    seconds: float
    predicted: Predicted | None = None


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
    check_error(recipe.selected_metric)
    with begun(folder, "learn-curve", recipe, {**asdict(curve), "on": dealt.on, "dealt": dealt.digest}):
        points = [
            _trained(recipe, source, folder, dealt, curve, seed, at, launch=launch, say=say)
            for at in range(len(curve.fractions))
            for seed in range(curve.seeds)
        ]
        return concluded(recipe, folder, points, curve=curve, on=dealt.on, total=len(dealt.pool))


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
        rows=size, seed=seed, score=float(score), seconds=seconds_of(place), predicted=facts.predicted.get(dealt.on)
    )


def check_error(metric: str) -> None:
    """Refuse a metric of which it is not known what no error is.

    Raises:
        RecipeError: as said.
    """
    if metric.startswith("evaluate:"):
        raise RecipeError(
            f"{metric}: it is not known which value stands for no error.",
            fix="Score by a metric of hf_trainpipe: --evaluation.select NAME.",
        )


def as_error(metric: str, score: float) -> float:
    """A score as an error, which is 0 at best."""
    if not greater_is_better(metric):
        return score
    return (100.0 if metric in OF_HUNDRED else 1.0) - score


def _as_score(metric: str, error: float) -> float:
    """The score of an error: the other way round of :func:`as_error`."""
    return as_error(metric, error) if greater_is_better(metric) else error


def concluded(
    recipe: Recipe, folder: Path, points: Sequence[Point], *, curve: Curve, on: str, total: int, model: str = "recipe"
) -> dict[str, Any]:
    """The law that points follow, what it forecasts and what to do; written as learn_curve.json."""
    metric = recipe.selected_metric
    sizes = sorted({point.rows for point in points})
    by_size = {size: [point for point in points if point.rows == size] for size in sizes}
    largest = by_size[sizes[-1]]
    scored = len(largest[0].predicted) if largest[0].predicted is not None else 0
    scale = 100.0 if metric in OF_HUNDRED else 1.0
    finest = 0.5 * scale / scored if scored and greater_is_better(metric) else 0.0
    errors = [[as_error(metric, point.score) for point in by_size[size]] for size in sizes]
    law = fit(sizes, errors, finest=finest, confidence=curve.confidence)
    step = 0.01 * scale if greater_is_better(metric) else 0.01 * float(np.mean(errors[-1]))
    smallest = smallest_difference(metric, [point.predicted for point in largest if point.predicted is not None])
    document = finite({
        "schema": 1,
        "name": recipe.name,
        "model": model,
        "metric": metric,
        "on": on,
        "scored": scored,
        "rows": total,
        "confidence": curve.confidence,
        "points": [{"rows": one.rows, "seed": one.seed, "score": one.score, "seconds": one.seconds} for one in points],
        "forecasts": [
            {
                **asdict(found),
                **{name: _as_score(metric, error) for name, error in (
                    ("score", found.value), ("best", found.low), ("worst", found.high),
                )},
            }
            for found in (law.at(sizes[-1] * times) for times in (1, 2, 4))
        ],
        "gain": asdict(law.gain(2 * sizes[-1])),
        "smallest_difference": smallest,
        "step": step,
        "price": _price(law, by_size[sizes[-1]], step, smallest),
    })  # fmt: skip
    document["decision"] = decision(document)
    folder.mkdir(parents=True, exist_ok=True)
    write_json(folder / RESULT, document)
    return dict(document)


def smallest_difference(metric: str, predicted: Sequence[Predicted]) -> float | None:
    """The smallest difference between two models that this split shows in four cases of five, by a paired test at 5 %: from how
    two seeds of the same size differ, row by row. None with one seed, or where predictions were not kept."""
    if len(predicted) < 2:
        return None
    widths = []
    for one, two in pairwise(predicted):
        if not np.array_equal(one.rows, two.rows):
            return None
        found = differences(one.predictions, two.predictions, [metric], resamples=1000).get(metric)
        if found is not None and not np.isnan(found.high - found.low):
            widths.append((found.high - found.low) / (2 * 1.959964))
    return SHOWN * float(np.mean(widths)) if widths else None


def _price(law: Law, largest: Sequence[Point], step: float, smallest: float | None) -> dict[str, Any]:
    """What the next point costs: in labels, in hours of training; in model size only where another model was measured."""
    price: dict[str, Any] = {"step": step}
    for name, gain in (("labels", step), ("labels_to_see", smallest)):
        needed, chance = law.rows_for(gain, most=REACH * law.largest) if gain is not None else (None, 0.0)
        price[name] = None if needed is None else int(round_up(needed - law.largest))
        price[f"{name}_chance"] = chance
    seconds = float(np.mean([point.seconds for point in largest]))
    more = price["labels"]
    price["hours"] = None if more is None else seconds / 3600 * (1 + more / law.largest)
    price["hours_now"] = seconds / 3600
    price["model_size"] = None
    price["model_size_reason"] = "one model was measured; a study of a larger one tells (--model.name)"
    return price


def round_up(rows: float) -> float:
    """Rows to two digits, upwards: a forecast knows no more.

    >>> round_up(1834.2), round_up(7)
    (1900.0, 7.0)
    """
    if rows < 10:
        return float(np.ceil(rows))
    unit = 10.0 ** (np.floor(np.log10(rows)) - 1)
    return float(np.ceil(rows / unit) * unit)


def decision(document: Mapping[str, Any]) -> str:
    """What to do, in one line."""
    points = 100.0 if document["metric"] not in OF_HUNDRED and greater_is_better(document["metric"]) else 1.0
    gain, smallest, price = document["gain"], document["smallest_difference"], document["price"]
    told = f"{points * gain['value']:.1f} better with twice the rows"
    told += f" ({points * gain['low']:.1f} to {points * gain['high']:.1f})"
    if smallest is not None:
        told += f"; this test can see {points * smallest:.1f}"
    more, largest = price["labels"], max(point["rows"] for point in document["points"])
    within = more is not None and more <= 10 * largest  # ten times as many can be thought of
    if smallest is not None and gain["value"] < smallest:
        to_see = price["labels_to_see"]
        if to_see is not None and to_see <= 10 * largest:
            return f"{told}; label {to_see:,} more rows, or stop"
        return f"{told}: stop, or score on a larger test; ten times the rows would not show"
    return f"{told}; " + (
        f"label {more:,} more rows for the next point, or stop" if within else "stop: the curve is flat"
    )
