"""What a file of rows becomes before anything is tried: a recipe, and rows dealt into splits."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from hf_trainpipe.errors import DataError
from hf_trainpipe.model.limits import model_limits, plainly_takes
from hf_trainpipe.model.names import pin_model
from hf_trainpipe.model.tokenizer import load_tokenizer
from hf_trainpipe.recipe import Budget, Evaluation, Pretrained, Recipe, Tokens
from hf_trainpipe.studies.folds import deal

if TYPE_CHECKING:
    from hf_trainpipe.audit.guess import Guess
    from hf_trainpipe.data.chosen_rows import Choice
    from hf_trainpipe.data.sources import Files
    from hf_trainpipe.studies.pool import Ints, Pool

MODEL = "sentence-transformers/all-MiniLM-L6-v2"
EPOCHS, BATCH = 6, 32
"""Of the longest run."""
HELD_OUT, MOST_HELD_OUT = 0.15, 2_000
"""Share of the rows, and their number at most, that validation and test get each where files do not bring them."""


def recipe_of(guess: Guess, model: str | None) -> Recipe:
    """The recipe of a file; ``model`` is a Hub id or folder, None: :data:`MODEL`."""
    task = guess.task
    read_by = tuple(dict.fromkeys(name for column in task.columns().values() for name in column.columns))
    return Recipe(
        name="auto",
        model=Pretrained(model or MODEL),
        data=replace(guess.source, drop_missing=read_by, **_absolute(guess.source)),
        task=task,
        tokens=Tokens(max_length=128),
        budget=Budget(epochs=EPOCHS, examples_per_step=BATCH),
        evaluation=Evaluation(select="spearman" if "spearman" in task.metric_names else None),
    )


def fitting(recipe: Recipe) -> Recipe:
    """With texts no longer than the model takes."""
    model = pin_model(recipe.model)
    assert recipe.tokens.max_length is not None
    if plainly_takes(model, recipe.tokens.max_length):
        return recipe
    limit = model_limits(model, recipe.task, load_tokenizer(model)).limit
    if limit is None or limit >= recipe.tokens.max_length:
        return recipe
    return replace(recipe, tokens=replace(recipe.tokens, max_length=limit))


def _absolute(source: Files) -> dict[str, Any]:
    """The files of each split by their whole paths, so that the recipe runs from any folder."""
    given = {name: getattr(source, name) for name in ("train", "validation", "test")}
    return {
        name: tuple(str(Path(path).absolute()) for path in paths)
        for name, paths in given.items()
        if isinstance(paths, tuple)
    }


def without_repeats(pool: Pool, learns: Sequence[str]) -> tuple[Ints, list[str]]:
    """The rows of the splits that are learnt from, ascending, but for those that repeat a row of another split; and what was left out."""
    split = np.repeat(np.arange(len(pool.names)), np.diff(pool.starts))
    mine = np.isin(split, [pool.names.index(name) for name in learns])
    repeated = np.isin(pool.duplicates, pool.duplicates[~mine]) & mine
    count = int(repeated.sum())
    told = [f"{count:,} rows of train repeat rows of other splits and are left out"] if count else []
    return np.flatnonzero(mine & ~repeated), told


def dealt(pool: Pool, *, seed: int) -> tuple[Choice, list[str]]:
    """Which rows are train, validation and test, so that no cluster of duplicates is in two of them.

    Splits that the files bring stay whole: rows of train that repeat them are left out.

    Returns:
        The choice, and what was decided.

    Raises:
        DataError: too few rows.
    """
    kept, told = without_repeats(pool, ["train"])
    missing = [name for name in ("validation", "test") if name not in pool.names]
    share = min(HELD_OUT, MOST_HELD_OUT / max(1, len(kept)))
    shares = [1.0 - share * len(missing), *[share] * len(missing)]
    part = deal(pool.strata.taken(kept), pool.duplicates[kept], shares, seed=seed)
    sizes = np.bincount(part, minlength=len(shares))
    if not sizes.all():
        raise DataError(
            f"{len(kept):,} rows in {len(np.unique(pool.duplicates[kept])):,} clusters of duplicates are too few to keep some "
            "apart for validation and test.",
            fix="Add rows.",
        )
    if missing:
        cut = " and ".join(f"{int(size):,} rows to {name}" for name, size in zip(missing, sizes[1:], strict=True))
        told.append(f"no file is {' or '.join(missing)}: {cut} were cut from train, clusters of duplicates whole")
    rows: dict[str, Any] = {"train": pool.choice(kept[part == 0])}
    for place, name in enumerate(missing, 1):
        rows[name] = pool.choice(kept[part == place])
    for name in pool.names:
        if name != "train":
            rows |= pool.whole(name)
    return rows, told
