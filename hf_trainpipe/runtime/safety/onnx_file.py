"""An ONNX model, looked at before ONNX Runtime reads it: no data outside of the package, no operators of others.

A walk over the protocol buffers of https://github.com/onnx/onnx/blob/main/onnx/onnx.proto, by the standard library. Only
the fields that lead to a tensor's external data or to a node's domain are entered.
"""

from __future__ import annotations

import mmap
from collections.abc import Collection, Iterator
from pathlib import Path

from ..errors import SchemaError

_DOMAINS = (b"", b"ai.onnx", b"ai.onnx.ml", b"com.microsoft", b"com.microsoft.nchwc")
_DEEPEST = 20
_INSIDE: dict[str, dict[int, str]] = {
    "model": {7: "graph", 25: "function"},
    "graph": {1: "node", 5: "tensor", 15: "sparse"},
    "function": {7: "node", 11: "attribute"},
    "node": {5: "attribute", 7: "domain"},
    "attribute": {5: "tensor", 6: "graph", 10: "tensor", 11: "graph", 22: "sparse", 23: "sparse"},
    "sparse": {1: "tensor", 2: "tensor"},
    "tensor": {13: "external"},
    "external": {1: "key", 2: "value"},
}
_FIX = "Do not use it: fetch the package again, or write it again (`hf-trainpipe package PACKAGE --onnx`)."


def check_onnx(folder: Path, name: str, listed: Collection[str]) -> None:
    """Refuse an ONNX file that reads another file than its own ``.data``, or needs operators of another's library.

    Raises:
        SchemaError: with what was found.
    """
    path = folder / name
    if name not in listed:
        raise SchemaError(f"{folder}: {name} is not listed in its trainpipe.json.")
    own = f"{name}.data"
    try:
        with path.open("rb") as stream, mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ) as view:
            for kind, value in _leaves(view, 0, len(view), "model", 0):
                if kind == "domain" and value not in _DOMAINS:
                    raise SchemaError(f"{path}: it needs operators of {_shown(value)}.", fix=_FIX)
                if kind == "location" and (
                    value.decode(errors="replace") != own.rpartition("/")[2] or own not in listed
                ):
                    raise SchemaError(f"{path}: its weights lie in another file, {_shown(value)}.", fix=_FIX)
    except (IndexError, ValueError) as error:
        if isinstance(error, SchemaError):
            raise
        raise SchemaError(f"{path} is no ONNX model: {error}.", fix=_FIX) from error


def _leaves(view: mmap.mmap, start: int, end: int, kind: str, depth: int) -> Iterator[tuple[str, bytes]]:
    """The domain of each node, and the location of each tensor that lies outside of the file."""
    if depth > _DEEPEST:
        raise ValueError("its graphs are nested too deep")
    key = value = b""
    for field, at, stop in _fields(view, start, end):
        inside = _INSIDE[kind].get(field)
        if inside is None:
            continue
        if inside == "key":
            key = view[at:stop]
        elif inside == "value":
            value = view[at:stop]
        elif inside == "domain":
            yield "domain", view[at:stop]
        else:
            yield from _leaves(view, at, stop, inside, depth + 1)
    if kind == "external" and key == b"location":
        yield "location", value


def _fields(view: mmap.mmap, at: int, end: int) -> Iterator[tuple[int, int, int]]:
    """``number, start, end`` of each field that has a length; the others are passed over."""
    while at < end:
        tag, at = _varint(view, at)
        number, wire = tag >> 3, tag & 7
        if wire == 2:
            length, at = _varint(view, at)
            if length > end - at:
                raise ValueError(f"a field of {length:,} bytes where {end - at:,} are left")
            yield number, at, at + length
            at += length
        elif wire == 0:
            _, at = _varint(view, at)
        elif wire in (1, 5):
            at += 8 if wire == 1 else 4
        else:
            raise ValueError(f"a field of the unknown kind {wire}")


def _varint(view: mmap.mmap, at: int) -> tuple[int, int]:
    value = 0
    for shift in range(0, 70, 7):
        byte = view[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
    raise ValueError("a number of more than ten bytes")


def _shown(value: bytes) -> str:
    return repr(value[:100].decode(errors="replace"))
