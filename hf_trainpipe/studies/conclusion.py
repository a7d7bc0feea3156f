"""What follows from the points of a learning curve: the law, forecasts, the price of the next point, the decision."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from hf_trainpipe.errors import RecipeError
from hf_trainpipe.metrics.paired import differences
from hf_trainpipe.metrics.parts import constant_scores
from hf_trainpipe.metrics.power import smallest_by_error
from hf_trainpipe.metrics.power_law import Forecast, Law, fit
from hf_trainpipe.metrics.registry import OF_HUNDRED, greater_is_better, is_external
from hf_trainpipe.package.layout import finite
from hf_trainpipe.studies.subsets import Curve
from hf_trainpipe.utils.atomic import write_json

if TYPE_CHECKING:
    from hf_trainpipe.metrics.saved import Predicted
    from hf_trainpipe.recipe import Recipe
    from hf_trainpipe.runtime.tasks.base import Task

RESULT = "learn_curve.json"
ENDLESS = ("margin", "reward_chosen")
"""Scores of which more is better, without an end."""
REACH = 100
"""Times the rows beyond which a law is not followed."""


@dataclass(frozen=True, kw_only=True)
class Point:
    """One run, or one simple model that stands for one."""

    rows: int
    seed: int
    score: float
    seconds: float
    predicted: Predicted | None = None


@dataclass(frozen=True, kw_only=True)
class Scale:
    """How a metric's scores become errors, which are 0 at best."""

    metric: str
    is_error: bool
    """Whether less is better, and 0 is best."""
    best: float = 1.0
    """The highest score, where more is better."""

    @classmethod
    def of(cls, metric: str, task: Task) -> Scale:
        """The scale of a metric.

        Raises:
            RecipeError: it is not known which value stands for no error.
        """
        if is_external(metric) or metric in ENDLESS:
            raise RecipeError(
                f"{metric}: it is not known which value stands for no error, and a curve is one of errors.",
                fix="Score by a metric whose best value is known: --evaluation.select accuracy.",
            )
        is_error = not greater_is_better(metric, task)
        return cls(metric=metric, is_error=is_error, best=100.0 if metric in OF_HUNDRED else 1.0)

    def error(self, score: float) -> float:
        """A score as an error, or back."""
        return score if self.is_error else self.best - score

    @property
    def points(self) -> float:
        """What a difference is multiplied by when it is told: scores up to 1 are told in hundredths."""
        return 1.0 if self.is_error or self.best > 1 else 100.0


def concluded(
    recipe: Recipe,
    folder: Path,
    points: Sequence[Point],
    *,
    scale: Scale,
    curve: Curve,
    on: str,
    total: int,
    model: str = "recipe",
) -> dict[str, Any]:
    """The law that points follow, what it forecasts and what to do; written as learn_curve.json."""
    metric = scale.metric
    sizes = sorted({point.rows for point in points})
    by_size = {size: [point for point in points if point.rows == size] for size in sizes}
    largest = by_size[sizes[-1]]
    scored = len(largest[0].predicted) if largest[0].predicted is not None else 0
    one_row = 0.0 if scale.is_error or not scored else scale.best / scored
    errors = [[scale.error(point.score) for point in by_size[size]] for size in sizes]
    law = fit(
        sizes, errors, one_row=one_row, chance=chance_of(scale, largest[0].predicted), confidence=curve.confidence
    )
    step = 0.01 * (float(np.mean(errors[-1])) if scale.is_error else scale.best)
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
        "points_of_one": scale.points,
        "forecasts": [_told(scale, law.at(sizes[-1] * times)) for times in (1, 2, 4)],
        "gain": asdict(law.gain(2 * sizes[-1])),
        "smallest_difference": smallest,
        "step": step,
        "price": _price(law, by_size[sizes[-1]], step, smallest),
    })  # fmt: skip
    document["decision"] = decision(document)
    folder.mkdir(parents=True, exist_ok=True)
    write_json(folder / RESULT, document)
    return dict(document)


def chance_of(scale: Scale, predicted: Predicted | None) -> float:
    """The error of always giving the same answer; of a score that is 0 then, or undefined, the whole; infinite where there is no
    such answer."""
    found = None if predicted is None else constant_scores(predicted.predictions, [scale.metric])
    if found is None or scale.metric not in found[1]:
        return scale.best if scale.metric.startswith(("f1", "entity_f1")) else math.inf
    score = found[1][scale.metric]
    return scale.error(0.0 if math.isnan(score) else score)


def _told(scale: Scale, found: Forecast) -> dict[str, float]:
    """A forecast error, and the scores that it stands for."""
    ends = {"score": found.value, "best": found.low, "worst": found.high}
    return {**asdict(found), **{name: scale.error(error) for name, error in ends.items()}}


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
    return smallest_by_error(float(np.mean(widths))) if widths else None


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
    points = document["points_of_one"]
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
