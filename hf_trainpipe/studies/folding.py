"""How a cross-validation deals a recipe's rows into folds."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np
from numpy.typing import NDArray

from hf_trainpipe.errors import RecipeError
from hf_trainpipe.studies.folds import Split, folds, forward
from hf_trainpipe.studies.pool import Pool
from hf_trainpipe.utils.brief import listed

if TYPE_CHECKING:
    from hf_trainpipe.data.chosen_rows import Choice
    from hf_trainpipe.recipe import Recipe

By = Literal["stratified", "grouped", "time"]


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

    def choice(self, number: int) -> Choice:
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


def warnings_of(dealt: Dealt) -> list[str]:
    """What the folds cannot do, a sentence each."""
    strata, found = dealt.pool.strata, []
    counts = np.bincount(strata.ids, minlength=len(strata.names))
    rare = [strata.names[at] for at in np.flatnonzero((counts > 0) & (counts < dealt.folding.folds)).tolist()]
    if rare:
        found.append(f"fewer rows than folds have {listed(rare, 5, quoted=True)}: some folds hold out none of them")
    where = [set(strata.ids[np.isin(strata.rows, split.train)].tolist()) for split in dealt.splits]
    unseen = {
        strata.names[at]
        for split, known in zip(dealt.splits, where, strict=True)
        for at in set(strata.ids[np.isin(strata.rows, split.test)].tolist()) - known
    }
    if unseen and dealt.pool.task.label_names:
        found.append(f"a fold is trained without a row of {listed(sorted(unseen), 5, quoted=True)}, and holds some out")
    largest = int(np.bincount(dealt.groups).max())
    if largest > len(dealt.pool) / dealt.folding.folds:
        found.append(f"one group has {largest:,} of {len(dealt.pool):,} rows: the folds cannot be equally large")
    return found
