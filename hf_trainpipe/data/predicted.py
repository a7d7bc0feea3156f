"""Predictions of a split with what its rows are: hashes of the inputs, lengths and slices, as :mod:`hf_trainpipe.metrics.saved`
keeps them."""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from hf_trainpipe.data.columns import is_text
from hf_trainpipe.data.place import FILE, LINE
from hf_trainpipe.metrics.saved import Predicted

if TYPE_CHECKING:
    import pyarrow as pa

    from hf_trainpipe.data.prepare import Prepared
    from hf_trainpipe.metrics import Predictions
    from hf_trainpipe.runtime.tasks.base import Task

MOST_VALUES = 12
"""Of a column that cuts a split into slices."""
MOST_SLICES = 8
"""Columns that do."""


def predicted(split: Prepared, predictions: Predictions, task: Task) -> Predicted:
    """Predictions of a split with hashes, lengths and slices of their rows; of blocks of several rows with hashes of their tokens."""
    chosen = np.arange(len(predictions)) if predictions.examples is None else predictions.examples
    dataset = split.rows.dataset.with_format("arrow")
    if len(split) != len(dataset):
        return Predicted(
            predictions=predictions, rows=_hashes_of_tokens(split)[chosen], lengths=split.example_lengths[chosen]
        )
    whole = dataset[:]
    kept = {name: np.asarray(getattr(predictions.judged, name)) for name in task.kept}
    hashes = row_hashes(whole, task)
    return Predicted(
        predictions=predictions,
        rows=hashes[chosen],
        lengths=split.example_lengths[chosen],
        slices={name: tuple(values[at] for at in chosen.tolist()) for name, values in _slices(whole, task).items()},
        kept=kept,
    )


def row_hash(values: tuple[Any, ...]) -> int:
    """By what a row is known among kept predictions: a hash of its inputs."""
    return _number(json.dumps(values, ensure_ascii=False, default=str).encode("utf-8", "surrogatepass"))


def row_hashes(whole: pa.Table, task: Task) -> NDArray[np.uint64]:
    """[N]: the hash of each row."""
    inputs = zip(*(whole[column.name].to_pylist() for column in task.inputs.values()), strict=True)
    return np.fromiter(map(row_hash, inputs), dtype=np.uint64, count=len(whole))


def _number(content: bytes) -> int:
    return int.from_bytes(hashlib.blake2b(content, digest_size=8).digest(), "little")


def _hashes_of_tokens(split: Prepared) -> np.ndarray:
    """uint64[N]"""
    hashes = np.zeros(len(split), dtype=np.uint64)
    for stream in split.features.streams.values():
        if stream.ids is None:
            continue
        ids, starts = np.asarray(stream[stream.ids], dtype=np.int32), np.asarray(stream.starts)
        for feature, example in enumerate(split.features.example):
            tokens = ids[starts[feature] : starts[feature + 1]].tobytes()
            hashes[example] = _number(hashes[example].tobytes() + tokens)
    return hashes


def _slices(whole: pa.Table, task: Task) -> dict[str, list[str]]:
    """Columns that the task does not read and that have few values; the file, where the rows come from several."""
    import pyarrow as pa
    import pyarrow.compute as pc

    read = {LINE, *(name for column in task.columns().values() for name in (column.name, *column.columns))}
    found: dict[str, list[str]] = {}
    for name in whole.column_names:
        column, kind = whole[name], whole[name].type
        is_plain = is_text(kind) or pa.types.is_integer(kind) or pa.types.is_boolean(kind)
        if name in read or not is_plain or len(found) == MOST_SLICES:
            continue
        if 2 <= pc.count_distinct(column).as_py() <= MOST_VALUES:
            found["file" if name == FILE else name] = [str(value) for value in column.to_pylist()]
    return found
