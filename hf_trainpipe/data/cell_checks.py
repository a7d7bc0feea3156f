"""Checks of cells that name the place of the first wrong one."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from hf_trainpipe.data.columns import column_of, is_list
from hf_trainpipe.data.place import error_at, place

if TYPE_CHECKING:
    from collections.abc import Callable

    import pyarrow as pa
    from datasets import Dataset

    from hf_trainpipe.runtime.tasks.columns import Column


def first_true(mask: Any) -> int | None:
    """The position of the first true value of a numpy or Arrow mask."""
    array = mask if isinstance(mask, np.ndarray) else mask.to_numpy(zero_copy_only=False)
    position = int(np.argmax(array)) if len(array) else 0
    return position if len(array) and array[position] else None


def refuse_first(mask: Any, dataset: Dataset, split: str, message: Callable[[int], str], fix: str) -> None:
    """Refuse the row of the first true value of a mask over the rows."""
    row = first_true(mask)
    if row is not None:
        raise error_at(place(dataset, split, row), message(row), fix=fix)


def refuse_missing(cells: pa.Array, dataset: Dataset, split: str, column: str, what: str) -> None:
    refuse_first(
        cells.is_null(nan_is_null=True),
        dataset,
        split,
        lambda row: f"column {column!r} holds no {what} (null or NaN).",
        f"Fill it in, remove the row, or drop such rows: data.drop_missing=({column!r},).",
    )


def check_text(dataset: Dataset, split: str, column: Column) -> None:
    import pyarrow as pa
    import pyarrow.compute as pc

    cells = column_of(dataset, column.name)
    refuse_missing(cells, dataset, split, column.name, "text")
    kind = cells.type
    if not (pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind)):
        raise error_at(
            place(dataset, split, 0),
            f"column {column.name!r}: expected text, found {kind} ({cells[0].as_py()!r:.60}).",
            fix="Name a column of text, or write the values as text.",
        )
    refuse_first(
        pc.equal(pc.utf8_length(pc.utf8_trim_whitespace(cells)), 0),
        dataset,
        split,
        lambda row: f"column {column.name!r} holds an empty text.",
        f"Fill it in, remove the row, or drop such rows: data.drop_missing=({column.name!r},).",
    )


def check_words(dataset: Dataset, split: str, column: Column) -> np.ndarray:
    """int64[N]: how many words each example has."""
    import pyarrow as pa

    cells = column_of(dataset, column.name)
    refuse_missing(cells, dataset, split, column.name, "words")
    if not is_list(cells.type) or not (
        pa.types.is_string(cells.type.value_type) or pa.types.is_large_string(cells.type.value_type)
    ):
        raise error_at(
            place(dataset, split, 0),
            f"column {column.name!r}: expected word lists, found {cells.type} ({cells[0].as_py()!r:.60}).",
            fix="Name a column of lists of text; for plain text use a task over text.",
        )
    flat, counts = cells.flatten(), list_lengths(cells)
    refuse_first(
        counts == 0,
        dataset,
        split,
        lambda row: f"column {column.name!r} holds no words.",
        f"Remove the row, or drop such rows: data.drop_missing=({column.name!r},).",
    )
    refuse_flat(flat.is_null(), counts, dataset, split, lambda at: f"column {column.name!r} holds a null word.")
    return counts


def refuse_flat(
    mask: Any, counts: np.ndarray, dataset: Dataset, split: str, message: Callable[[int], str], fix: str = ""
) -> None:
    """Refuse the row of the first true value of a mask over the flattened cells."""
    at = first_true(mask)
    if at is not None:
        row = int(np.searchsorted(np.cumsum(counts), at, side="right"))
        raise error_at(place(dataset, split, row), message(at), fix=fix or "Correct the row.")


def list_lengths(cells: pa.Array) -> np.ndarray:
    """int64[N]: how many items each cell of a column of lists has."""
    import pyarrow.compute as pc

    lengths: np.ndarray = pc.list_value_length(cells).to_numpy(zero_copy_only=False).astype(np.int64)
    return lengths
