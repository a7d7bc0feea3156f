"""Which labels there are, in which order, and which of them a cell means."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from hf_trainpipe.data.place import error_at, place
from hf_trainpipe.errors import DataError, closest
from hf_trainpipe.tasks.base import Labels, Task

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    import pyarrow as pa
    from datasets import Dataset

__all__ = [
    "IGNORED",
    "UNKNOWN",
    "column_of",
    "explain_unknown",
    "label_cells",
    "label_ids",
    "names_in_feature",
    "resolve_labels",
]

IGNORED = -100
"""The id of a word that is not scored."""
UNKNOWN = -(2**31)
"""The id of a cell that means no label."""
PREFIXES = {"BIO": "BI", "IOB1": "BI", "BIOES": "BIES"}


def column_of(dataset: Dataset, name: str) -> pa.Array:
    """A column as one Arrow array, in the order of the rows."""
    import pyarrow as pa

    column = dataset.select_columns([name]).with_format("arrow")[:].column(name)
    array = column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column
    # A column over 2 GB stays in chunks where its offsets have 32 bits.
    if isinstance(array, pa.ChunkedArray):
        array = array.chunk(0) if array.num_chunks == 1 else pa.concat_arrays(array.chunks)
    return array.dictionary_decode() if pa.types.is_dictionary(array.type) else array


def names_in_feature(dataset: Dataset, column: str, *, inner: str | None = None) -> tuple[str, ...] | None:
    """The names of a ``ClassLabel``, also inside lists and, at the key ``inner``, inside dictionaries."""
    feature: Any = dataset.features.get(column)
    while feature is not None:
        if getattr(feature, "names", None):
            return tuple(feature.names)
        if isinstance(feature, dict):
            feature = feature.get(inner)
        elif isinstance(feature, list):
            feature = feature[0]
        else:
            feature = getattr(feature, "feature", None)
    return None


def label_cells(cells: pa.Array, *, separator: str = ",") -> tuple[pa.Array, np.ndarray]:
    """Flatten a column of lists, or of strings of separated labels.

    Args:
        cells: N cells without nulls.

    Returns:
        All labels one after the other, without space around names; int64[N]: how many each cell has.
    """
    import pyarrow as pa
    import pyarrow.compute as pc

    if _is_text(cells.type):
        lists = [[part.strip() for part in cell.split(separator) if part.strip()] for cell in cells.to_pylist()]
        return pa.array([part for parts in lists for part in parts], pa.string()), np.array(
            [len(parts) for parts in lists], dtype=np.int64
        )
    flat = cells.flatten()
    return flat, pc.list_value_length(cells).to_numpy(zero_copy_only=False).astype(np.int64)


def _is_text(kind: pa.DataType) -> bool:
    import pyarrow as pa

    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind))


def _is_integer(text: str) -> bool:
    digits = text.removeprefix("-")
    return digits.isascii() and digits.isdigit()


def label_ids(
    cells: pa.Array, labels: Labels, *, feature_names: tuple[str, ...] | None = None, scored: bool = True
) -> np.ndarray:
    """int64: the label of each cell, :data:`UNKNOWN` where it means none.

    Text is a name, or an integer id where the names are not integers themselves. Integers are ids;
    ids of a ``ClassLabel`` go by its names where these are the labels in another order.

    Args:
        cells: Without nulls.
        feature_names: The names of the column's ``ClassLabel``.
        scored: False: -100 is :data:`IGNORED`.
    """
    encoded = cells.dictionary_encode()
    by_name = all(map(_is_integer, labels.names))
    reordered = feature_names is not None and set(feature_names) == set(labels.names)

    def of_integer(value: int) -> int:
        if value == IGNORED and not scored:
            return IGNORED
        if reordered and feature_names is not None:
            return labels.ids[feature_names[value]] if 0 <= value < len(feature_names) else UNKNOWN
        if by_name:
            return labels.ids.get(str(value), UNKNOWN)
        return value if 0 <= value < len(labels) else UNKNOWN

    def of(value: Any) -> int:
        if isinstance(value, str):
            name = value if value in labels.ids else value.strip()
            if name in labels.ids:
                return labels.ids[name]
            return of_integer(int(name)) if _is_integer(name) and not by_name else UNKNOWN
        if isinstance(value, float):
            return of_integer(int(value)) if value.is_integer() else UNKNOWN
        return of_integer(int(value)) if isinstance(value, int) else UNKNOWN

    table = np.array([of(value) for value in encoded.dictionary.to_pylist()], dtype=np.int64)
    indices = encoded.indices.to_numpy(zero_copy_only=False)
    return table[indices] if len(table) else np.zeros(0, dtype=np.int64)


def explain_unknown(value: Any, labels: Labels) -> tuple[str, str]:
    """Message and fix for a cell that means no label."""
    names = ", ".join(labels.names[:12]) + (f" and {len(labels) - 12} more" if len(labels) > 12 else "")
    if isinstance(value, int | float) or _is_integer(str(value).strip()):
        if all(map(_is_integer, labels.names)):
            return (
                f"unknown label {value}; expected one of {names}.",
                "Correct the label, or add it to task.names.",
            )
        fix = "Correct the label, or give task.names a name for each id, counted from 0."
        if str(value).strip() == "-1":
            fix = "-1 marks rows without a label: leave this split out of the recipe. " + fix
        return f"label {value} is out of range: expected an id from 0 to {len(labels) - 1} ({names}).", fix
    return (
        f"unknown label {value!r}; expected one of {names}.",
        f"Correct the label, or add it to task.names.{closest(str(value), labels.names)}",
    )


def resolve_labels(task: Task, splits: Mapping[str, Dataset]) -> Labels:
    """The labels of a task: the recipe's names, else the data's ``ClassLabel``, else the values in train.

    Values are sorted (integers by number; of tags ``O`` first); tags with a scheme are completed, so
    that each type of entity has all its prefixes.

    Raises:
        DataError: names that repeat, tags that do not fit the scheme, fewer than two labels, or a
            label in another split that train does not have (with its place).
    """
    column = task.target()
    if column.kind == "number":
        return Labels()
    scheme: str | None = getattr(task, "scheme", "BIO") if column.kind in ("tags", "spans") else None
    inner = "label" if column.kind == "spans" else None
    said = task.label_names() or names_in_feature(splits["train"], column.name, inner=inner)
    names = said or _names_in_data(task, splits["train"], column.name, column.kind)
    if len(set(names)) < len(names):
        repeated = sorted({name for name in names if names.count(name) > 1})
        raise DataError(f"task.names repeats {', '.join(repeated)}.", fix="Give each label a name of its own.")
    if column.kind == "spans" and "O" not in names:
        names = _complete(names, scheme or "BIO")
    elif column.kind == "tags":
        names = _check_tags(names, scheme, is_said=said is not None)
    if len(names) < 2 and column.kind != "classes":
        found = f"only {names[0]!r}" if names else "none"
        raise DataError(
            f"Column {column.name!r}: expected at least two labels in the training data, found {found}.",
            fix="Name another column, or check how the data was cut.",
        )
    labels = Labels(names)
    if said is None and column.kind != "spans":
        for split, dataset in splits.items():
            if split != "train":
                _check_known(task, labels, dataset, split)
    return labels


def _names_in_data(task: Task, dataset: Dataset, column: str, kind: str) -> tuple[str, ...]:
    import pyarrow.compute as pc

    if kind == "spans":
        from hf_trainpipe.data.spans import read_column

        return tuple(sorted({span.label for spans in read_column(dataset, "train", column) for span in spans}))
    cells = column_of(dataset, column).drop_null()
    if kind != "class":
        cells, _ = label_cells(cells, separator=getattr(task, "separator", ","))
    values = [value for value in pc.unique(cells).to_pylist() if value is not None and value == value]
    if all(isinstance(value, float) and value.is_integer() for value in values):
        values = [int(value) for value in values]
    if kind == "tags":
        values = [value for value in values if value != IGNORED]
    spelt = {value.strip() if isinstance(value, str) else str(value) for value in values} - {""}
    return tuple(sorted(spelt, key=int if all(map(_is_integer, spelt)) else _tag_order))


def _tag_order(name: str) -> tuple[bool, str, str]:
    """``O`` first, then by type, then by prefix."""
    prefix, dash, kind = name.partition("-")
    return (name != "O", kind, prefix) if dash and prefix in "BIESLU" else (name != "O", name, "")


def _complete(types: Iterable[str], scheme: str) -> tuple[str, ...]:
    return ("O", *(f"{prefix}-{name}" for name in types for prefix in PREFIXES[scheme]))


def _check_tags(names: tuple[str, ...], scheme: str | None, *, is_said: bool) -> tuple[str, ...]:
    if scheme is None:
        return names
    for name in names:
        prefix, dash, kind = name.partition("-")
        if name != "O" and not (dash and kind and prefix in PREFIXES[scheme]):
            other = "'BIOES'" if dash and prefix in ("E", "S") else "None, for tags that stand alone"
            if _is_integer(name):
                raise DataError(
                    f"Tags are ids such as {name}, and nothing names them.",
                    fix="Set task.names to the tags in the order of their ids: ('O', 'B-PER', ...).",
                )
            raise DataError(
                f"Tag {name!r} is not written in the scheme {scheme} "
                f"(O, {', '.join(f'{letter}-TYPE' for letter in PREFIXES[scheme])}).",
                fix=f"Correct the tag, or set task.scheme to {other}.",
            )
    if is_said:
        return names
    types = sorted({name.partition("-")[2] for name in names if name != "O"})
    return _complete(types, scheme)


def _check_known(task: Task, labels: Labels, dataset: Dataset, split: str) -> None:
    """Refuse a label that train does not have. Nulls are left to :func:`build_targets`."""
    column = task.target()
    cells = column_of(dataset, column.name)
    rows = np.flatnonzero(~cells.is_null(nan_is_null=True).to_numpy(zero_copy_only=False))
    cells = cells.take(rows)
    if column.kind != "class":
        cells, counts = label_cells(cells, separator=getattr(task, "separator", ","))
        rows = np.repeat(rows, counts)
        held = np.flatnonzero(~cells.is_null().to_numpy(zero_copy_only=False))
        cells, rows = cells.take(held), rows[held]
    ids = label_ids(cells, labels, scored=column.kind != "tags")
    unknown = np.flatnonzero(ids == UNKNOWN)
    if len(unknown):
        value = cells[int(unknown[0])].as_py()
        if value == "":
            return
        raise error_at(
            place(dataset, split, int(rows[unknown[0]])),
            f"the label {value!r} is not in the training data, which has "
            f"{', '.join(labels.names[:12])}{' ...' if len(labels) > 12 else ''}.",
            fix="Correct the label, add rows of it to the training data, or name all labels in task.names."
            f"{closest(str(value), labels.names)}",
        )
