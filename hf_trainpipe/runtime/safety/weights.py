"""The weights of a package, looked at before anything parses them: safetensors alone, by the standard library.

A file is ``<u64 size of the header> <header, JSON> <tensors>``; https://github.com/huggingface/safetensors#format.
"""

from __future__ import annotations

import json
import math
import os
import re
from collections.abc import Collection
from pathlib import Path
from typing import Any

from ..errors import SchemaError
from .files import open_plain, read_limited

WEIGHTS = "model.safetensors"
INDEX = "model.safetensors.index.json"
_SHARD = re.compile(r"model-\d{5}-of-\d{5}\.safetensors", re.ASCII)
_HEADER_LIMIT = 16 << 20
"""Bytes; BERT's has 25 thousand."""
_MOST_DIMENSIONS = 8
_BYTES = {"BOOL": 1, "U8": 1, "I8": 1, "F8_E4M3": 1, "F8_E5M2": 1, "U16": 2, "I16": 2, "F16": 2, "BF16": 2}
_BYTES |= {"U32": 4, "I32": 4, "F32": 4, "U64": 8, "I64": 8, "F64": 8}
_FIX = "Do not use it: fetch the package again, or write it again (`hf-trainpipe package RUN`)."


def check_weights(folder: Path, listed: Collection[str]) -> None:
    """Look at the headers of all weights, and at the index that says which file holds which tensor.

    Raises:
        SchemaError: an index that names another file than the package's own shards, a header that is too large or does not
            describe exactly the bytes behind it, or weights that are in two places.
    """
    if INDEX not in listed:
        if shards := sorted(filter(_SHARD.fullmatch, listed)):
            raise SchemaError(f"{folder}: {shards[0]} is there, but no {INDEX} that names its tensors.", fix=_FIX)
        tensors_of(folder / WEIGHTS)
        return
    if WEIGHTS in listed:
        raise SchemaError(f"{folder}: expected {WEIGHTS} or {INDEX}, found both.", fix=_FIX)
    index = _index(folder / INDEX)
    places: dict[str, set[str]] = {}
    for tensor, name in index.items():
        if not isinstance(name, str) or not _SHARD.fullmatch(name) or name not in listed:
            raise SchemaError(
                f"{folder / INDEX}: {tensor}: expected a file such as model-00001-of-00002.safetensors that the package "
                f"lists, found {str(name)[:100]!r}.",
                fix=_FIX,
            )
        places.setdefault(name, set()).add(tensor)
    for name, tensors in places.items():
        if different := tensors ^ tensors_of(folder / name):
            raise SchemaError(
                f"{folder / INDEX}: it and {name} do not name the same tensors: {min(different)}.", fix=_FIX
            )


def tensors_of(path: Path) -> set[str]:
    """The names of a file's tensors, once its header is known to describe exactly its bytes.

    Raises:
        SchemaError: with what was expected and found.
    """
    with open_plain(path) as stream:
        size = os.fstat(stream.fileno()).st_size
        length = int.from_bytes(stream.read(8), "little")
        if size < 10 or not 2 <= length <= min(_HEADER_LIMIT, size - 8):
            raise _wrong(path, f"a header of 2 to {min(_HEADER_LIMIT, max(2, size - 8)):,} bytes", f"{length:,}")
        text = stream.read(length)
    try:
        header = json.loads(text, object_pairs_hook=_unique)
    except (ValueError, RecursionError) as error:
        raise _wrong(path, "a header in JSON", str(error)[:100]) from error
    if not isinstance(header, dict):
        raise _wrong(path, "an object in its header", type(header).__name__)
    header.pop("__metadata__", None)
    end = 0
    for begin, stop, name in sorted(_place(path, name, entry) for name, entry in header.items()):
        if begin != end:
            what = "overlap those before" if begin < end else "leave a gap"
            raise _wrong(path, f"{name} to begin at byte {end:,} of the tensors", f"{begin:,}: its bytes {what}")
        end = stop
    if end != size - 8 - length:
        raise _wrong(path, f"{end:,} bytes of tensors, as its header says", f"{size - 8 - length:,}")
    return set(header)


def _place(path: Path, name: str, entry: Any) -> tuple[int, int, str]:
    """``begin, end, name`` of a tensor whose shape has that many bytes."""
    expected = "dtype, shape and data_offsets that agree"
    if not isinstance(entry, dict) or set(entry) != {"dtype", "shape", "data_offsets"}:
        raise _wrong(path, f"{name[:80]} with {expected}", str(entry)[:80])
    kind, shape, offsets = entry["dtype"], entry["shape"], entry["data_offsets"]
    if not (_are_counts(shape) and len(shape) <= _MOST_DIMENSIONS and _are_counts(offsets) and len(offsets) == 2):
        raise _wrong(path, f"{name[:80]} with {expected}", str(entry)[:80])
    if kind not in _BYTES or offsets[1] - offsets[0] != math.prod(shape) * _BYTES[kind]:
        raise _wrong(path, f"{name[:80]} with {expected}", str(entry)[:80])
    return offsets[0], offsets[1], name


def _are_counts(value: Any) -> bool:
    return isinstance(value, list) and all(type(number) is int and 0 <= number < 1 << 48 for number in value)


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    if len(found := dict(pairs)) != len(pairs):
        raise ValueError("a name is there twice")
    return found


def _index(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(read_limited(path))
    except (OSError, ValueError, RecursionError) as error:
        raise SchemaError(f"{path} cannot be read: {error}.", fix=_FIX) from error
    found = content.get("weight_map") if isinstance(content, dict) else None
    if not isinstance(found, dict) or not found:
        raise SchemaError(f"{path}: expected an object with a weight_map.", fix=_FIX)
    return found


def _wrong(path: Path, expected: str, found: str) -> SchemaError:
    return SchemaError(f"{path} is no sound safetensors file: expected {expected}, found {found}.", fix=_FIX)
