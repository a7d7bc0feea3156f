"""Columns of a data set as Arrow arrays, and what type of cell they hold."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pyarrow as pa

if TYPE_CHECKING:
    from datasets import Dataset


def column_of(dataset: Dataset, name: str) -> pa.Array:
    """A column as one Arrow array, in the order of the rows."""
    array = dataset.select_columns([name]).with_format("arrow")[:].column(name).combine_chunks()
    # A column over 2 GB stays in chunks where its offsets have 32 bits.
    if isinstance(array, pa.ChunkedArray):
        array = array.chunk(0) if array.num_chunks == 1 else pa.concat_arrays(array.chunks)
    return array.dictionary_decode() if pa.types.is_dictionary(array.type) else array


def is_text(kind: pa.DataType) -> bool:
    """Whether cells are text."""
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind))


def is_list(kind: pa.DataType) -> bool:
    """Whether cells are lists."""
    return bool(pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind))


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
