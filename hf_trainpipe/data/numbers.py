"""A column of numbers, of whatever type it is written in.

Shapes: N rows.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from hf_trainpipe.data.cells import Cells

_NUMBER = re.compile(
    r"[+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]+)?|[+-]?(?:inf|infinity)|nan", re.ASCII | re.IGNORECASE
)


def read_numbers(cells: Cells) -> np.ndarray:
    """float32[N]: the number of each row.

    Raises:
        DataError: with the place of a cell that is missing, or no finite number.
    """
    import pyarrow as pa

    cells.refuse_missing("a number")
    held = cells.array
    if pa.types.is_nested(held.type) or pa.types.is_boolean(held.type):
        raise cells.error(0, f"expected a number, found {held[0].as_py()!r:.60}.", fix="Name a column of numbers.")
    if pa.types.is_floating(held.type) or pa.types.is_integer(held.type):
        values = held.to_numpy(zero_copy_only=False).astype(np.float64)
    else:
        values = _parse(cells)
    with np.errstate(over="ignore"):
        numbers: np.ndarray = values.astype(np.float32)
    cells.refuse_first(
        ~np.isfinite(numbers),
        lambda at: f"expected a finite number, found {held[at].as_py()}.",
        fix="Correct the number, or remove the row.",
    )
    return numbers


def _parse(cells: Cells) -> np.ndarray:
    values = np.empty(len(cells.array), dtype=np.float64)
    for at, value in enumerate(cells.array.to_pylist()):
        text = str(value).strip()
        if _NUMBER.fullmatch(text) is None:
            found = repr(text)[:60] if text else "an empty cell"
            raise cells.error(at, f"expected a number, found {found}.", fix=_fix_of_number(text, cells.name))
        values[at] = float(text)
    return values


def _fix_of_number(text: str, name: str) -> str:
    if not text or text.lower() in ("na", "n/a", "#n/a", "none", "null", "-", "<na>"):
        return f"Remove the row; or leave such cells empty, and drop their rows: data.drop_missing=({name!r},)."
    if text.endswith("%"):
        return "Write all numbers without the sign: 0.5, or 50."
    return "Write numbers as 1234.5: a point before the decimals, and nothing between thousands."
