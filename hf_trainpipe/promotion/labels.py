"""Labelled rows of files with the columns that a recipe's task reads, whether they have the recipe's names or those before
``data.rename``."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hf_trainpipe.data.place import FILE, LINE
from hf_trainpipe.data.readers_base import ReadOptions
from hf_trainpipe.data.sources_shape import shape
from hf_trainpipe.errors import DataError, closest
from hf_trainpipe.package.inputs import read_whole

if TYPE_CHECKING:
    from datasets import Dataset

    from hf_trainpipe.recipe import Recipe


def read_labels(recipe: Recipe, files: Sequence[Path], reading: ReadOptions, *, shaped: bool = False) -> Dataset:
    """The rows of some files, one file after the other.

    Args:
        shaped: Whether columns and values are as the recipe's data makes them: of files that this project wrote. Done twice,
            ``data.values`` could make another label of one.

    Raises:
        DataError: a file cannot be read, or lacks a column; with its name.
    """
    from datasets import Dataset, concatenate_datasets

    return concatenate_datasets(
        [_of_file(Dataset(read_whole(file, reading)), recipe, file, shaped=shaped) for file in files]
    )


def _of_file(rows: Dataset, recipe: Recipe, file: Path, *, shaped: bool) -> Dataset:
    origin: Any = recipe.data.origin()
    if not shaped and hasattr(origin, "shaped"):
        rows = shape({file.name: rows}, _fitting(origin, set(rows.column_names)))[file.name]
    wanted = list(dict.fromkeys(name for column in recipe.task.columns().values() for name in column.columns))
    there = [name for name in rows.column_names if name not in (FILE, LINE)]
    for name in wanted:
        if name not in there:
            raise DataError(
                f"{file}: expected the columns {', '.join(wanted)} of the recipe, found {', '.join(there) or 'none'}."
                f"{closest(name, there)}",
                fix="Rename the columns of the file.",
                file=str(file),
            )
    return rows.select_columns([*wanted, *(name for name in rows.column_names if name not in wanted)])


def _fitting(origin: Any, there: set[str]) -> Any:
    """What a source does to columns, as far as a file has them: one that was written by this project has them done already."""
    rename = {old: new for old, new in origin.rename.items() if old in there and new not in there}
    now = {rename.get(name, name) for name in there}
    joins = {new: parts for new, parts in origin.join.items() if set(parts) <= now}
    lists = {new: parts for new, parts in (origin.lists or {}).items() if set(parts) <= now}
    now |= {*joins, *lists}
    values = {
        column: {**{new: new for new in table.values()}, **table}  # a name that is the new one already stays
        for column, table in origin.values.items()
        if column in now
    }
    return _Shaping(rename=rename, join=joins, lists=lists, values=values)


class _Shaping:
    """The options that :func:`shape` reads."""

    drop_missing: tuple[str, ...] = ()
    columns: tuple[str, ...] = ()

    def __init__(self, **options: Any) -> None:
        vars(self).update(options)
