"""Nested parts of a recipe's training rows, for a learning curve."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from hf_trainpipe.data import chosen_rows
from hf_trainpipe.errors import DataError, RecipeError
from hf_trainpipe.out_of_fold import rows_of_fold
from hf_trainpipe.studies.folds import Split, nested
from hf_trainpipe.studies.pool import Pool

if TYPE_CHECKING:
    from pathlib import Path

    from hf_trainpipe.data.chosen_rows import Choice
    from hf_trainpipe.out_of_fold import OutOfFold
    from hf_trainpipe.recipe import Recipe

FEWEST_ROWS = 2


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
    folds: tuple[Split, ...] = ()
    """Of each seed the fold of a cross-validation that its rows are of: what it holds out is scored on."""

    def choice(self, seed: int, at: int) -> Choice:
        """The rows of a run; the other splits are whole, or the fold's."""
        if self.folds:
            fold = self.folds[seed]
            parts = {"train": self.rows[seed][at], "validation": fold.validation, "test": fold.test}
            return {name: self.pool.choice(rows) for name, rows in parts.items() if len(rows)}
        found: dict[str, Any] = {"train": self.pool.choice(self.rows[seed][at])}
        for name in self.pool.splits:
            if name != "train":
                found |= self.pool.whole(name)
        return found

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
    return _enough(Subsets(pool, dealt, curve.on or scored[0]))


def fold_subsets(recipe: Recipe, curve: Curve, kept: OutOfFold) -> Subsets:
    """Deal what the folds of a cross-validation train on into nested subsets, those of a seed of one fold.

    Raises:
        TrainpipeError: the data have other rows, or too few; fewer folds than seeds; another split than what is held out.
    """
    if curve.on not in (None, "test"):
        raise RecipeError(
            f"--on: with --crossval a run is scored on what its fold holds out, found {curve.on}.",
            fix="Leave --on out.",
        )
    if curve.fractions[-1] != 1:
        raise RecipeError(
            f"--fractions: with --crossval the last is 1, which the folds are, found {curve.fractions[-1]:g}.",
            fix="Write --fractions 0.125 0.25 0.5 1.",
        )
    pool = Pool.of(recipe, kept.splits)
    kept.rows(pool.splits, pool.task)
    folds = [_fold(pool, rows_of_fold(kept.folder, seed)) for seed in range(curve.seeds)]
    dealt = []
    for seed, fold in enumerate(folds):
        parts = nested(
            pool.strata.taken(fold.train), pool.duplicates[fold.train], curve.fractions, seed=recipe.seed + 1000 * seed
        )
        dealt.append([fold.train[rows] for rows in parts])
    return _enough(Subsets(pool, dealt, "test", tuple(folds)))


def _fold(pool: Pool, file: Path) -> Split:
    """The rows of a fold, by the file that it was trained with.

    Raises:
        DataError: there is no such fold.
    """
    if not file.is_file():
        raise DataError(
            f"{file}: there is no such fold; a curve takes one for each seed.",
            fix="Take fewer: --seeds 2, or --seeds 1.",
        )
    starts = dict(zip(pool.names, pool.starts.tolist(), strict=False))
    parts = {
        split: np.concatenate([starts[name] + rows for name, rows in of])
        for split, of in chosen_rows.read(file).items()
    }
    none = np.zeros(0, dtype=np.int64)
    return Split(train=parts["train"], validation=parts.get("validation", none), test=parts["test"])


def _enough(found: Subsets) -> Subsets:
    """Refuse subsets of which no curve comes.

    Raises:
        DataError: as said.
    """
    dealt = found.rows
    sizes = [len(rows) for rows in dealt[0]]
    if sizes[0] < FEWEST_ROWS or len(set(sizes)) < len(sizes):
        raise DataError(
            f"{len(dealt[0][-1]):,} training rows give subsets of {', '.join(f'{size:,}' for size in sizes)} rows: too few for a curve.",
            fix="Add rows, or take fewer and larger fractions: --fractions 0.25 0.5 1.",
        )
    return found
