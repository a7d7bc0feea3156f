"""Arrow tables from Python values, pandas frames and Arrow files, with types that ``datasets`` supports."""

from __future__ import annotations

import logging
import re
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from hf_trainpipe.data.place import FILE, LINE, Place, error_at
from hf_trainpipe.data.span_forms import FORMS, as_one_form
from hf_trainpipe.errors import DataError

if TYPE_CHECKING:
    from collections.abc import Callable

    import pandas as pd

log = logging.getLogger(__name__)


def to_table(columns: dict[str, list[Any]], place_of: Callable[[int], Place]) -> pa.Table:
    """Columns of Python values to an Arrow table.

    Raises:
        DataError: values of several types in a column, with the place of the first that differs.
    """
    arrays = {}
    for name, values in columns.items():
        if name in (FILE, LINE):  # of a data set that was saved with these columns
            continue
        if _half_character(name):
            first = next((row for row, value in enumerate(values) if value is not None), 0)
            raise _half(f"the name of column {name!r}", place_of(first))
        try:
            arrays[name] = pa.array(values)
        except (UnicodeEncodeError, OverflowError, pa.ArrowException):
            row = next((row for row, value in enumerate(values) if _half_character(value)), None)
            if row is not None:
                raise _half(f"column {name!r}: {_half_character(values[row])}", place_of(row)) from None
            spans = as_one_form(values)  # [0, 4, "PER"] has no type of its own
            if spans is None:
                raise _mixed(name, values, place_of) from None
            arrays[name] = pa.array(spans)
    return pa.table(arrays)


def _half_character(value: object) -> str:
    """Description of a lone surrogate in a value; ``""`` if there is none."""
    if isinstance(value, str):
        found = re.search("[\ud800-\udfff]", value)
        return (
            f"{value[max(0, found.start() - 20) : found.start() + 1]!r}, character {found.start() + 1}" if found else ""
        )
    if isinstance(value, dict):
        return next(filter(None, map(_half_character, (*value, *value.values()))), "")
    if isinstance(value, list | tuple):
        return next(filter(None, map(_half_character, value)), "")
    return ""


def _half(what: str, where: Place) -> DataError:
    return error_at(
        where,
        f"{what} contains half of an emoji or the like (a lone surrogate), which is not valid text.",
        fix="A program truncated the text in the middle of a character. Write it again, or remove that half.",
    )


def frame_to_table(frame: pd.DataFrame, split: str) -> pa.Table:
    """A pandas frame to an Arrow table, without its index; NaN and None become null.

    Raises:
        DataError: no rows, or values of several types in a column, with the row.
    """
    if len(frame) == 0:
        raise DataError(f"split {split!r}: expected rows, found an empty frame.", fix="Check how the frame was made.")
    if getattr(frame.columns, "nlevels", 1) > 1:
        raise DataError(
            f"split {split!r}: expected columns with one name each, found names of {frame.columns.nlevels} levels, "
            f"such as {frame.columns[0]!r}.",
            fix="Flatten them: frame.columns = ['_'.join(map(str, name)) for name in frame.columns].",
        )
    names = [str(name) for name in frame.columns]
    if repeated := sorted({name for name in names if names.count(name) > 1}):
        raise DataError(
            f"split {split!r}: the frame has {', '.join(map(repr, repeated))} twice.",
            fix="Rename the columns, or keep one: frame.loc[:, ~frame.columns.duplicated()].",
        )
    columns = {}
    for position, name in enumerate(names):
        series = frame.iloc[:, position]
        try:
            if _half_character(name):
                raise TypeError
            columns[name] = pa.Array.from_pandas(series)
            if isinstance(columns[name].type, pa.ExtensionType):  # pandas' periods and intervals
                columns[name] = pa.Array.from_pandas(series.astype(str).mask(series.isna()))
        except (pa.ArrowException, UnicodeError, TypeError, ValueError, OverflowError):
            missing = series.isna().tolist()
            values = [None if gone else value for gone, value in zip(missing, series.tolist(), strict=True)]
            columns[name] = to_table({name: values}, lambda row: Place(f"row {row} of split {split!r}"))[0]
    return plain(pa.table(columns), f"split {split!r}")


def plain(table: pa.Table, shown: str) -> pa.Table:
    """A table with types that ``datasets`` supports; other columns are dropped with a warning."""
    import pyarrow.compute as pc

    for field in list(table.schema):
        position = table.schema.get_field_index(field.name)
        wanted = _readable(field.type)
        if wanted is None:
            log.warning("%s: column %r is dropped: its type %s is not supported", shown, field.name, field.type)
            table = table.remove_column(position)
        elif wanted != field.type:
            column = table.column(position)
            if pa.types.is_run_end_encoded(field.type):
                column = pc.run_end_decode(column)
            # pyarrow 26 loses values when it casts list views from a file, so they are converted one by one.
            is_view = pa.types.is_list_view(field.type)
            column = pa.array(column.to_pylist(), wanted) if is_view else column.cast(wanted)
            table = table.set_column(position, field.name, column)
    return table


def _readable(kind: pa.DataType) -> pa.DataType | None:
    """The type that ``datasets`` supports for the same values, or None."""

    is_type = pa.types
    if is_type.is_string_view(kind):
        return pa.large_string()
    if is_type.is_run_end_encoded(kind):
        return _readable(kind.value_type)
    if is_type.is_list(kind) or is_type.is_large_list(kind) or is_type.is_list_view(kind):
        inner = _readable(kind.value_type)
        if inner is None or inner == kind.value_type:
            return None if inner is None else pa.list_(inner) if is_type.is_list_view(kind) else kind
        return pa.large_list(inner) if is_type.is_large_list(kind) else pa.list_(inner)
    if isinstance(kind, pa.BaseExtensionType):
        return kind if kind.extension_name.startswith("datasets") else None
    unknown = is_type.is_map(kind) or is_type.is_interval(kind) or is_type.is_large_list_view(kind)
    return None if unknown else kind


def _mixed(name: str, values: list[Any], place_of: Callable[[int], Place]) -> DataError:
    first = next(row for row, value in enumerate(values) if value is not None)
    low, high = first, len(values)
    while high - low > 1:  # values[:low] convert, values[:high] do not
        middle = (low + high) // 2
        try:
            pa.array(values[:middle])
            low = middle
        except (OverflowError, pa.ArrowException):
            high = middle
    found, before = values[high - 1], values[first]
    fix = f"Write the values of {name!r} as text."
    if high - 1 == first and isinstance(found, list | tuple | dict):
        said = f"mixes types inside one cell: {_short(found)}."
        fix = (
            f"Write what a cell of {name!r} holds as one type. If these are spans, write a list of them a row in a "
            f"form that is read: {FORMS}."
        )
    elif isinstance(found, int) and not -(2**63) <= found < 2**63:
        said = f"holds a whole number of {found.bit_length()} bits; they have 63 at most."
    elif high - 1 == first:
        said = f"holds {type(found).__name__} {_short(found)}, which is not text, a number, a list or a mapping."
        fix = f"Write the values of {name!r} as text or numbers, or leave the column out."
    else:
        said = (
            f"mixes types: expected {type(before).__name__} as {_short(before)} in {place_of(first)}, found "
            f"{type(found).__name__} {_short(found)}."
        )
        fix = f"Write all values of {name!r} as one type."
    return error_at(place_of(high - 1), f"column {name!r} {said}", fix=fix)


def _short(value: object) -> str:
    return f"{value!r:.60}"
