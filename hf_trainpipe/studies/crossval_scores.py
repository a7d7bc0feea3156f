"""The folds of a cross-validation scored together, and the store of what each row got from a model that never saw it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from hf_trainpipe.data.splits import as_codes
from hf_trainpipe.errors import DataError, RecipeError
from hf_trainpipe.metrics.base import Predictions
from hf_trainpipe.metrics.folds import Fold, score_folds
from hf_trainpipe.metrics.joined import in_one_order, joined
from hf_trainpipe.metrics.registry import check
from hf_trainpipe.metrics.saved import Predicted, save
from hf_trainpipe.out_of_fold import RESULT, STORE, run_of_fold
from hf_trainpipe.package.layout import finite
from hf_trainpipe.report.facts import Facts, read
from hf_trainpipe.studies.folding import Dealt, warnings_of
from hf_trainpipe.training.run_files import earlier_seconds
from hf_trainpipe.utils.atomic import write_json

if TYPE_CHECKING:
    from hf_trainpipe.recipe import Recipe


@dataclass(frozen=True, eq=False)
class Found:
    """A finished cross-validation."""

    document: dict[str, Any]
    """crossval.json"""
    held_out: Predicted | None
    """What :data:`STORE` holds; None where rows have no prediction of their own, as those of a language model's blocks."""


def collect(recipe: Recipe, folder: Path, dealt: Dealt) -> Found:
    """Score the folds together, and write what they leave: the store and crossval.json."""
    facts = [read(run_of_fold(folder, number)) for number in range(len(dealt.splits))]
    kept = [one.predicted.get("test") for one in facts]
    there = [one for one in kept if one is not None]
    if len(there) < len(kept):
        at = run_of_fold(folder, kept.index(None))
        raise DataError(
            f"{at}: its predictions of the rows it held out were not kept.",
            fix=f"`hf-trainpipe package {at}` scores it once more and writes them; then give the command again.",
        )
    parts = in_one_order([one.predictions for one in there])
    rows = [_rows_of(part, split.test) for part, split in zip(parts, dealt.splits, strict=True)]
    of_rows = all(one is not None for one in rows)
    groups = [dealt.groups[found] if found is not None else _fresh(parts, number) for number, found in enumerate(rows)]
    groups = _renumbered(groups)
    repeats = [number // dealt.folding.folds for number in range(len(parts))]
    given = [Fold(predictions=part, groups=mine, repeat=repeat)
             for part, mine, repeat in zip(parts, groups, repeats, strict=True)]  # fmt: skip
    evaluation = recipe.evaluation
    scored = _scored(facts)
    names = [name for name in recipe.scored_metrics if name in scored and _is_known(name, parts[0])]
    scores = score_folds(
        given, names, confidence=evaluation.confidence, resamples=evaluation.resamples, seed=recipe.seed
    )
    held_out = None
    if of_rows:
        numbers = [_numbers(dealt, number, found) for number, found in enumerate(rows) if found is not None]
        held_out = joined([replace(one, predictions=part, numbers=of)
                           for one, part, of in zip(there, parts, numbers, strict=True)])  # fmt: skip
        save(held_out, folder / STORE)
    document = {
        "schema": 1,
        "name": recipe.name,
        "select": recipe.selected_metric,
        "rows": len(dealt.pool),
        "splits": list(dealt.pool.names),
        "groups": len(np.unique(dealt.groups)),
        **{name: value for name, value in asdict(dealt.folding).items() if name != "splits"},
        "scores": {
            name: finite({**asdict(found.interval), "folds": list(found.folds), "rows_error": found.rows_error,
                          "models_error": found.models_error})
            for name, found in scores.items()
        },
        "runs": [
            {
                "run": str(run_of_fold(Path(), number)),
                "rows": {name: len(getattr(split, name)) for name in ("train", "validation", "test")},
                "steps": one.result.get("steps"),
                "seconds": earlier_seconds(run_of_fold(folder, number)),
                "scores": {name: score.get("value") for name, score in one.result["scores"]["test"].items()},
            }
            for number, (one, split) in enumerate(zip(facts, dealt.splits, strict=True))
        ],
        "out_of_fold": STORE if of_rows else None,
        **_temperatures(facts),
        "warnings": warnings_of(dealt),
    }  # fmt: skip
    write_json(folder / RESULT, document)
    return Found(document, held_out)


def _temperatures(facts: Sequence[Facts]) -> dict[str, list[float]]:
    """What each fold divided its logits by, where any did: what the store has are its probabilities' logits."""
    found = []
    for one in facts:
        calibration = one.task.fields().get("calibration") if one.task is not None else None
        value = getattr(calibration, "temperature", None)
        found.append(float(value) if isinstance(value, (int, float)) else 1.0)
    return {"temperatures": found} if set(found) != {1.0} else {}


def _scored(facts: Sequence[Facts]) -> set[str]:
    """Metrics that every fold scored on the rows it held out."""
    found = [set(one.result["scores"]["test"]) for one in facts]
    return set.intersection(*found)


def _is_known(name: str, part: Predictions) -> bool:
    """Whether a metric can be computed here: one of a task in the recipe's file may need code that its predictions lack."""
    try:
        check([name], part.kind, own=part.own)
    except RecipeError:
        return False
    return True


def _rows_of(part: Any, test: NDArray[np.int64]) -> NDArray[np.int64] | None:
    """Rows of the pool that predictions belong to; None where they are no rows' own."""
    if part.examples is not None:
        found: NDArray[np.int64] = test[part.examples]
        return found
    return test if len(part) == len(test) else None


def _fresh(parts: Sequence[Any], number: int) -> NDArray[np.int64]:
    """Groups of predictions that are no rows' own: each alone."""
    before = sum(len(part) for part in parts[:number])
    return np.arange(before, before + len(parts[number]))


def _renumbered(groups: Sequence[NDArray[np.int64]]) -> list[NDArray[np.int64]]:
    """Groups from 0 without gaps."""
    dense = as_codes(np.concatenate(groups).tolist())
    return np.split(dense, np.cumsum([len(one) for one in groups])[:-1])


def _numbers(dealt: Dealt, number: int, rows: NDArray[np.int64]) -> dict[str, NDArray[np.int64]]:
    """Where the predictions of a fold come from: fold and repeat from 1, split of the data by its place in study order, row there."""
    starts = dealt.pool.starts
    split = np.searchsorted(starts, rows, side="right") - 1
    return {
        "fold": np.full(len(rows), number % dealt.folding.folds + 1, dtype=np.int64),
        "repeat": np.full(len(rows), number // dealt.folding.folds + 1, dtype=np.int64),
        "split": split.astype(np.int64),
        "row": (rows - starts[split]).astype(np.int64),
        "group": dealt.groups[rows],
    }
