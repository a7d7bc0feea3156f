"""The weights of a package, looked at before torch reads them: safetensors alone, whose headers fit their bytes.

A file is ``<u64 size of the header> <header, JSON> <tensors>``; https://github.com/huggingface/safetensors#format.
"""

from __future__ import annotations

import json
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
    """The names of a file's tensors, once safetensors knows its header to describe exactly its bytes. Reads no tensor.

    Raises:
        SchemaError: with what was found.
    """
    from safetensors import SafetensorError, safe_open

    with open_plain(path) as stream:
        length = int.from_bytes(stream.read(8), "little")
    try:
        if length > _HEADER_LIMIT:
            raise ValueError(f"expected a header of at most {_HEADER_LIMIT:,} bytes, found {length:,}")
        with safe_open(path, framework="np") as held:
            return set(held.keys())
    except (ValueError, SafetensorError) as error:
        raise SchemaError(f"{path} is no sound safetensors file: {error}.", fix=_FIX) from error


def _index(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(read_limited(path))
    except (OSError, ValueError, RecursionError) as error:
        raise SchemaError(f"{path} cannot be read: {error}.", fix=_FIX) from error
    found = content.get("weight_map") if isinstance(content, dict) else None
    if not isinstance(found, dict) or not found:
        raise SchemaError(f"{path}: expected an object with a weight_map.", fix=_FIX)
    return found
