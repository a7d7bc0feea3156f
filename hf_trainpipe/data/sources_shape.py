"""Transform the columns of the data: rename, join, replace values, drop rows, select columns."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

import numpy as np

from hf_trainpipe.data.place import FILE, LINE, error_at, place
from hf_trainpipe.data.spelling import key
from hf_trainpipe.errors import DataError, closest

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    import pyarrow as pa
    from datasets import Dataset

log = logging.getLogger(__name__)


def shape(splits: Mapping[str, Dataset], source: Any) -> dict[str, Dataset]:
    """Apply ``rename``, ``join``, ``lists``, ``values``, ``drop_missing`` and ``columns`` of a Source to its splits, in this order.

    An option may name a column that only some splits have; one that no split has is refused.

    Raises:
        DataError: an unknown column, or a value that ``values`` does not translate (with its place).
    """
    result = dict(splits)
    _require("rename", source.rename, result)
    for split, dataset in result.items():
        renames = {old: new for old, new in source.rename.items() if old in dataset.column_names}
        _check_new("rename", renames, dataset, split)
        result[split] = dataset.rename_columns(renames) if renames else dataset
    for option, make in (("join", as_text), ("lists", as_list)):
        said: Mapping[str, tuple[str, ...]] = getattr(source, option) or {}
        _require(option, (part for parts in said.values() for part in parts), result)
        for split, dataset in result.items():
            joins = {name: parts for name, parts in said.items() if set(parts) <= set(dataset.column_names)}
            _check_new(option, {part: name for name, parts in joins.items() for part in parts}, dataset, split)
            result[split] = _join(dataset, joins, make)
    for option in ("values", "drop_missing", "columns"):
        _require(option, getattr(source, option), result)
    for split, dataset in result.items():
        for name, table in source.values.items():
            if name in dataset.column_names:
                dataset = _translate(dataset, split, name, table)
        dataset = _drop_missing(dataset, split, [name for name in source.drop_missing if name in dataset.column_names])
        if source.columns:
            kept = [name for name in dataset.column_names if name in {*source.columns, FILE, LINE}]
            dataset = dataset.select_columns(kept)
        result[split] = dataset
    return result


def _require(option: str, names: Iterable[str], splits: Mapping[str, Dataset]) -> None:
    known = list(dict.fromkeys(name for dataset in splits.values() for name in dataset.column_names))
    for name in names:
        if name not in known:
            shown = ", ".join(column for column in known if column not in (FILE, LINE))
            raise DataError(
                f"data.{option}: no split has the column {name!r}. There are: {shown}.",
                fix=f"Correct data.{option}.{closest(name, known)}",
            )


def _check_new(option: str, names: Mapping[str, str], dataset: Dataset, split: str) -> None:
    """Refuse new names (old name to new one) that are repeated or already a column."""
    kept = set(dataset.column_names) - set(names)
    new: dict[str, str] = {}
    for old, name in names.items():
        other = new.setdefault(name, old) if option == "rename" else old
        if name in (FILE, LINE) or not name:
            raise DataError(f"data.{option}: {name!r} cannot be the name of a column.", fix="Choose another name.")
        if name in kept or other != old:
            there = f"{other!r} becomes that too" if other != old else "that column exists"
            listed = ", ".join(column for column in dataset.column_names if column not in (FILE, LINE))
            aside = f", or rename the other: data.rename={{{name!r}: 'old_{name}'}}" if other == old else ""
            raise DataError(
                f"data.{option}: {old!r} would become {name!r}, and {there} (split {split!r} has {listed}).",
                fix=f"Choose another name and tell the task{aside}.",
            )


def as_text(cells: Iterable[Any]) -> str:
    """Cells joined by a space."""
    return " ".join(str(cell) for cell in cells if cell)


def as_list(cells: Iterable[Any]) -> list[str]:
    """Cells as a list of texts, without those that are missing or empty."""
    return [str(cell) for cell in cells if cell is not None and cell == cell and str(cell).strip()]


def _join(dataset: Dataset, joins: Mapping[str, tuple[str, ...]], make: Callable[[Iterable[Any]], Any]) -> Dataset:
    """Add the joined columns and remove their parts."""
    made = {}
    for name, parts in joins.items():
        plain = dataset.select_columns(list(dict.fromkeys(parts))).with_format(None)[:]
        rows = zip(*(plain[part] for part in parts), strict=True)
        made[name] = [make(cells) for cells in rows]
    if not made:
        return dataset
    # Added before the old ones are removed: a table without columns has no rows.
    names = {f"__joined_{position}__": name for position, name in enumerate(made)}
    for temporary, name in names.items():
        dataset = dataset.add_column(temporary, made[name])
    used = dict.fromkeys(part for parts in joins.values() for part in parts)
    return dataset.remove_columns(list(used)).rename_columns(names)


def _translate(dataset: Dataset, split: str, name: str, table: Mapping[str, str]) -> Dataset:
    cells = dataset.select_columns([name]).with_format(None)[:][name]
    translated = _translated(cells, table)
    for row, (cell, new) in enumerate(zip(cells, translated, strict=True)):
        if new is None and cell is not None and cell == cell:
            raise error_at(
                place(dataset, split, row),
                f"data.values has no entry for {cell!r} in column {name!r}.",
                fix=f"Add it to data.values[{name!r}], which has {', '.join(table)}.{closest(str(cell), table)}",
            )
    return dataset.remove_columns([name]).add_column(name, translated)


def _translated(cells: Sequence[Any], table: Mapping[str, str]) -> list[str | None]:
    """The new value of each cell, matched as text, else as the same label (1.0 as 1, true as True); None: no entry."""
    by_key = {key(old): new for old, new in table.items()}
    return [
        None if cell is None or cell != cell else table.get(str(cell), by_key.get(key(str(cell)))) for cell in cells
    ]


def translate(cells: pa.ChunkedArray, table: Mapping[str, str]) -> pa.ChunkedArray | pa.Array:
    """A column with its values replaced; values without an entry in the table stay."""
    if not table:
        return cells
    import pyarrow as pa

    values = cells.to_pylist()
    new = _translated(values, table)
    is_there = [value is not None and value == value for value in values]
    replaced = [str(old) if to is None and there else to for old, to, there in zip(values, new, is_there, strict=True)]
    return pa.array(replaced, pa.string())


def missing_in(dataset: Dataset, name: str, *, blank: bool = True) -> np.ndarray:
    """bool[N]: which cells of a column are null or NaN; with ``blank`` also blank texts and empty lists."""
    from hf_trainpipe.data.columns import column_of

    def is_missing(cell: Any) -> bool:
        if blank and isinstance(cell, str | list):
            return not (cell.strip() if isinstance(cell, str) else cell)
        return cell is None or bool(cell != cell)

    cells = column_of(dataset, name).to_pylist()
    return np.fromiter(map(is_missing, cells), dtype=bool, count=len(cells))


def _drop_missing(dataset: Dataset, split: str, names: list[str]) -> Dataset:
    missing = np.zeros(len(dataset), dtype=bool)
    for name in names:
        missing |= missing_in(dataset, name)
    if missing.any():
        log.warning("%s: dropped %d rows with a missing %s", split, missing.sum(), " or ".join(names))
        dataset = dataset.select(np.flatnonzero(~missing))
    return dataset
