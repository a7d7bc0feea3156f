"""Cross-validation: every fold an ordinary run, and one store of what each row got from a model that never saw it.

study.json            recipe, options, sha256 of what was dealt
rows/N.json           the rows of fold N, as ``train --rows`` reads them
folds/N/              an ordinary run; its test split is what the fold holds out
out_of_fold.npz       predictions of all rows, in the form of metrics/saved.py, with ``fold``, ``split``, ``row``, ``group``
crossval.json, .html  scores and what stands behind them
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from hf_trainpipe.data import chosen_rows
from hf_trainpipe.errors import DataError, RecipeError
from hf_trainpipe.metrics.base import Predictions
from hf_trainpipe.metrics.folds import Fold, score_folds
from hf_trainpipe.metrics.joined import in_one_order, joined
from hf_trainpipe.metrics.registry import check
from hf_trainpipe.metrics.saved import Predicted, save
from hf_trainpipe.package.layout import finite
from hf_trainpipe.report.facts import read
from hf_trainpipe.studies import runs
from hf_trainpipe.studies.attempts import seconds_of
from hf_trainpipe.studies.folds import Split, folds, forward
from hf_trainpipe.studies.identity import begun
from hf_trainpipe.studies.pool import Pool, numbered
from hf_trainpipe.utils.atomic import write_json
from hf_trainpipe.utils.resources import search_folders

if TYPE_CHECKING:
    from hf_trainpipe.recipe import Recipe
    from hf_trainpipe.recipe.source import RecipeSource

By = Literal["stratified", "grouped", "time"]
STORE, RESULT = "out_of_fold.npz", "crossval.json"


@dataclass(frozen=True, kw_only=True)
class Folding:
    """How rows are dealt."""

    folds: int = 5
    by: By = "grouped"
    group: str | None = None
    """Of ``grouped``: a column; None: clusters of duplicates."""
    time: str | None = None
    """Of ``time``: the column."""
    repeats: int = 1
    splits: tuple[str, ...] = ()
    """The splits that are pooled and dealt; empty: train and validation."""

    def __post_init__(self) -> None:
        if self.folds < 2:
            raise RecipeError(f"--folds: expected 2 or more, found {self.folds}.", fix="Write --folds 5.")
        if self.repeats < 1:
            raise RecipeError(f"--repeats: expected 1 or more, found {self.repeats}.", fix="Write --repeats 1.")
        if (self.by == "time") != (self.time is not None):
            said = "--by time needs a column" if self.by == "time" else f"--time belongs to --by time, found {self.by}"
            raise RecipeError(f"{said}.", fix="Write --by time --time COLUMN.")
        if self.group is not None and self.by != "grouped":
            raise RecipeError(
                f"--group belongs to --by grouped, found {self.by}.", fix="Write --by grouped, or leave it out."
            )
        if self.repeats > 1 and self.by == "time":
            raise RecipeError("--repeats: folds by time can be dealt in one way only.", fix="Leave --repeats out.")


@dataclass(frozen=True, eq=False)
class Dealt:
    """What was dealt."""

    pool: Pool
    splits: list[Split]
    """Of each fold, one repeat after the other."""
    groups: NDArray[np.int64]
    """[N] of each row of the pool: what stays together."""
    folding: Folding

    def choice(self, number: int) -> chosen_rows.Choice:
        """The rows of a fold, from 0, by split."""
        held = self.splits[number]
        named = {"train": held.train, "validation": held.validation, "test": held.test}
        return {name: self.pool.choice(rows) for name, rows in named.items() if len(rows)}

    @property
    def digest(self) -> str:
        """sha256 of all choices: other rows, labels or groups deal otherwise."""
        told = [self.choice(number) for number in range(len(self.splits))]
        return hashlib.sha256(json.dumps(told).encode()).hexdigest()


def deal(recipe: Recipe, folding: Folding) -> Dealt:
    """Read a recipe's data and deal its rows into folds, by its seed.

    Raises:
        TrainpipeError: the data cannot be read, or not be dealt so.
    """
    pool = Pool.of(recipe, folding.splits or None)
    share = _validation_share(pool)
    if folding.by == "time":
        assert folding.time is not None
        splits = forward(pool.times(folding.time), count=folding.folds, validation=share)
        return Dealt(pool, splits, np.arange(len(pool)), folding)
    groups = pool.groups(folding.group) if folding.by == "grouped" else np.arange(len(pool))
    splits = [
        split
        for repeat in range(folding.repeats)
        for split in folds(pool.strata, groups, count=folding.folds, validation=share, seed=recipe.seed + 1000 * repeat)
    ]
    return Dealt(pool, splits, groups, folding)


def _validation_share(pool: Pool) -> float:
    """What part of the rows that are not held out is selected on: as in the recipe's own data, at most a half."""
    if "validation" not in pool.splits:
        return 0.0
    sizes = [len(pool.splits[name]) for name in ("train", "validation")]
    return min(0.5, sizes[1] / sum(sizes))


@dataclass(frozen=True, eq=False)
class Found:
    """A finished cross-validation."""

    document: dict[str, Any]
    """crossval.json"""
    held_out: Predicted | None
    """What :data:`STORE` holds; None where rows have no prediction of their own, as those of a language model's blocks."""


def cross_validate(
    recipe: Recipe,
    source: RecipeSource,
    folder: Path,
    *,
    folding: Folding,
    launch: runs.Launch | None = None,
    say: Callable[[str], None] = lambda _: None,
) -> Found:
    """Train every fold that is not trained yet, and score them together.

    A call that was killed is continued by the next, inside the fold it was in.

    Raises:
        TrainpipeError: the data cannot be dealt so; a fold ended otherwise than complete, with its own error and exit code.
    """
    with search_folders(source.path.parent):
        dealt = deal(recipe, folding)
    settings = {**asdict(folding), "splits": list(dealt.pool.names), "dealt": dealt.digest}
    with begun(folder, "crossval", recipe, settings):
        for warning in warnings_of(dealt):
            say(f"warning: {warning}")
        for number in range(len(dealt.splits)):
            _train(recipe, source, folder, dealt, number, launch=launch, say=say)
        return collect(recipe, folder, dealt)


def run_dir(folder: Path, number: int) -> Path:
    """The run of a fold, from 0."""
    return folder / "folds" / str(number + 1)


def _train(
    recipe: Recipe,
    source: RecipeSource,
    folder: Path,
    dealt: Dealt,
    number: int,
    *,
    launch: runs.Launch | None,
    say: Callable[[str], None],
) -> None:
    place, count = run_dir(folder, number), len(dealt.splits)
    rows = folder / "rows" / f"{number + 1}.json"
    chosen_rows.write(rows, dealt.choice(number))
    fields = ["--name", f"{recipe.name}-fold-{number + 1}"]
    if repeat := number // dealt.folding.folds:
        fields += ["--seed", str(recipe.seed + repeat)]
    if recipe.hub is not None:
        fields += ["--hub", "none"]  # a fold is no model to publish
    told = f"fold {number + 1} of {count}"
    if runs.read_end(place) is None:
        sizes = ", ".join(f"{len(getattr(dealt.splits[number], name)):,} {what}" for name, what in (
            ("train", "trained on"), ("validation", "selected on"), ("test", "held out"),
        ) if len(getattr(dealt.splits[number], name)))  # fmt: skip
        say(f"{told}: {sizes}")
    ending = runs.run(source, place, fields=fields, options=["--rows", str(rows)], launch=launch)
    if ending.outcome != "complete":
        raise ending.error()


def warnings_of(dealt: Dealt) -> list[str]:
    """What the folds cannot do, a sentence each."""
    strata, found = dealt.pool.strata, []
    counts = np.bincount(strata.ids, minlength=len(strata.names))
    rare = [strata.names[at] for at in np.flatnonzero((counts > 0) & (counts < dealt.folding.folds)).tolist()]
    if rare:
        listed = ", ".join(map(repr, rare[:5])) + (f" and {len(rare) - 5} more" if len(rare) > 5 else "")
        found.append(f"fewer rows than folds have {listed}: some folds hold out none of them")
    where = [set(strata.ids[np.isin(strata.rows, split.train)].tolist()) for split in dealt.splits]
    unseen = {
        strata.names[at]
        for split, known in zip(dealt.splits, where, strict=True)
        for at in set(strata.ids[np.isin(strata.rows, split.test)].tolist()) - known
    }
    if unseen and dealt.pool.task.label_names:
        listed = ", ".join(map(repr, sorted(unseen)[:5])) + (f" and {len(unseen) - 5} more" if len(unseen) > 5 else "")
        found.append(f"a fold is trained without a row of {listed}, and holds some out")
    largest = int(np.bincount(dealt.groups).max())
    if largest > len(dealt.pool) / dealt.folding.folds:
        found.append(f"one group has {largest:,} of {len(dealt.pool):,} rows: the folds cannot be equally large")
    return found


def collect(recipe: Recipe, folder: Path, dealt: Dealt) -> Found:
    """Score the folds together, and write what they leave: the store and crossval.json."""
    facts = [read(run_dir(folder, number)) for number in range(len(dealt.splits))]
    kept = [one.predicted.get("test") for one in facts]
    there = [one for one in kept if one is not None]
    if len(there) < len(kept):
        at = run_dir(folder, kept.index(None))
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
                "run": str(run_dir(Path(), number)),
                "rows": {name: len(getattr(split, name)) for name in ("train", "validation", "test")},
                "steps": one.result.get("steps"),
                "seconds": seconds_of(run_dir(folder, number)),
                "scores": {name: score.get("value") for name, score in one.result["scores"]["test"].items()},
            }
            for number, (one, split) in enumerate(zip(facts, dealt.splits, strict=True))
        ],
        "out_of_fold": STORE if of_rows else None,
        "warnings": warnings_of(dealt),
    }  # fmt: skip
    write_json(folder / RESULT, document)
    return Found(document, held_out)


def _scored(facts: Sequence[Any]) -> set[str]:
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
    dense = numbered(np.concatenate(groups).tolist())
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
