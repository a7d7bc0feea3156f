"""A column of numbers, of whatever type it is written in.

Shapes: N rows.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import numpy as np

from hf_trainpipe.data.cell_checks import refuse_first, refuse_missing
from hf_trainpipe.data.columns import column_of
from hf_trainpipe.data.place import error_at, place

if TYPE_CHECKING:
    import pyarrow as pa
    from datasets import Dataset

__all__ = ["read_numbers"]

_NUMBER = re.compile(
    r"[+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]+)?|[+-]?(?:inf|infinity)|nan", re.ASCII | re.IGNORECASE
)


def read_numbers(dataset: Dataset, split: str, name: str) -> np.ndarray:
    """float32[N]: the number of each row.

    Raises:
        DataError: with the place of a cell that is missing, or no finite number.
    """
    import pyarrow as pa

    cells = column_of(dataset, name)
    refuse_missing(cells, dataset, split, name, "number")
    if pa.types.is_nested(cells.type) or pa.types.is_boolean(cells.type):
        raise error_at(
            place(dataset, split, 0),
            f"column {name!r}: expected a number, found {cells[0].as_py()!r:.60}.",
            fix="Name a column of numbers.",
        )
    if pa.types.is_floating(cells.type) or pa.types.is_integer(cells.type):
        values = cells.to_numpy(zero_copy_only=False).astype(np.float64)
    else:
        values = _parse(cells, dataset, split, name)
    with np.errstate(over="ignore"):
        numbers: np.ndarray = values.astype(np.float32)
    refuse_first(
        ~np.isfinite(numbers),
        dataset,
        split,
        lambda row: f"column {name!r}: expected a finite number, found {cells[row].as_py()}.",
        "Correct the number, or remove the row.",
    )
    return numbers


def _parse(cells: pa.Array, dataset: Dataset, split: str, name: str) -> np.ndarray:
    values = np.empty(len(cells), dtype=np.float64)
    for row, value in enumerate(cells.to_pylist()):
        text = str(value).strip()
        if _NUMBER.fullmatch(text) is None:
            found = f"found {text!r:.60}" if text else "found an empty cell"
            fix = _fix_of_number(text, name)
            raise error_at(place(dataset, split, row), f"column {name!r}: expected a number, {found}.", fix=fix)
        values[row] = float(text)
    return values


def _fix_of_number(text: str, name: str) -> str:
    if not text or text.lower() in ("na", "n/a", "#n/a", "none", "null", "-", "<na>"):
        return f"Remove the row; or leave such cells empty, and drop their rows: data.drop_missing=({name!r},)."
    if text.endswith("%"):
        return "Write all numbers without the sign: 0.5, or 50."
    return "Write numbers as 1234.5: a point before the decimals, and nothing between thousands."
