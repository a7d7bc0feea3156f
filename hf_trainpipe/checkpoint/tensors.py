"""Named tensors as a safetensors file, written as a stream and hashed on the way.

The format is an 8-byte little-endian length, a JSON header and the raw data without holes; see
https://github.com/huggingface/safetensors#format. It is written here, not by the library, so that errors
of the disk keep their number, the hash costs no second pass, and shared tensors need no copy: names that
share one memory are stored once, and the header's metadata says which (``aliases``).
"""

from __future__ import annotations

import hashlib
import json
import os
import struct
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

from hf_trainpipe.utils.atomic import Written

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    import torch

_DTYPES = {
    "bool": "BOOL",
    "uint8": "U8",
    "int8": "I8",
    "uint16": "U16",
    "int16": "I16",
    "uint32": "U32",
    "int32": "I32",
    "uint64": "U64",
    "int64": "I64",
    "float16": "F16",
    "bfloat16": "BF16",
    "float32": "F32",
    "float64": "F64",
    "complex64": "C64",
    "float8_e4m3fn": "F8_E4M3",
    "float8_e5m2": "F8_E5M2",
}
_ITEM_BYTES = {"BOOL": 1, "U8": 1, "I8": 1, "F8_E4M3": 1, "F8_E5M2": 1}
_ITEM_BYTES |= {"U16": 2, "I16": 2, "F16": 2, "BF16": 2, "U32": 4, "I32": 4, "F32": 4}
_ITEM_BYTES |= {"U64": 8, "I64": 8, "F64": 8, "C64": 8}


class Blob(NamedTuple):
    """A tensor without torch: a safetensors dtype (``"F32"``), a shape and its bytes, row by row."""

    dtype: str
    shape: tuple[int, ...]
    data: bytes


Value: TypeAlias = "torch.Tensor | Blob"


@dataclass(frozen=True)
class Shared:
    """Tensors by name, each memory once, and the further names of those that have several."""

    unique: Mapping[str, Value]
    aliases: Mapping[str, str]
    """Further name -> the name in ``unique`` that holds the same memory."""

    @classmethod
    def of(cls, tensors: Mapping[str, Value]) -> Shared:
        """Find names that are the very same memory with the same shape (tied weights).

        Raises:
            TypeError: a dtype or layout that the format cannot hold.
        """
        unique: dict[str, Value] = {}
        aliases: dict[str, str] = {}
        first_name: dict[Any, str] = {}
        for name in sorted(tensors):
            value = tensors[name]
            _describe(name, value)  # refuse here what cannot be written
            if not isinstance(value, Blob) and value.numel():
                bits = (value.dtype, value.is_conj(), value.is_neg())
                memory = (value.device, value.data_ptr(), tuple(value.shape), value.stride(), bits)
                if memory in first_name:
                    aliases[name] = first_name[memory]
                    continue
                first_name[memory] = name
            unique[name] = value
        return cls(unique, aliases)


def _describe(name: str, value: Value) -> tuple[str, tuple[int, ...], int]:
    if isinstance(value, Blob):
        return value.dtype, value.shape, len(value.data)
    torch_name = str(value.dtype).removeprefix("torch.")
    if torch_name not in _DTYPES or str(value.layout) != "torch.strided":
        raise TypeError(f"{name}: safetensors cannot hold a tensor of {value.dtype} and {value.layout}.")
    dtype = _DTYPES[torch_name]
    return dtype, tuple(value.shape), value.numel() * _ITEM_BYTES[dtype]


def _raw(value: Value) -> memoryview | bytes:
    if isinstance(value, Blob):
        return value.data
    import torch

    flat = value.detach().resolve_conj().resolve_neg().cpu().contiguous().reshape(-1).view(torch.uint8)
    return flat.numpy().data


def write_file(path: Path, shared: Shared) -> Written:
    """Write a new safetensors file and fsync it. The same tensors give the same bytes.

    Returns:
        Size and sha256 of what was meant to be written, not of what the disk holds.

    Raises:
        OSError: disk full, input or output error. The unfinished file stays.
    """
    described = {name: _describe(name, value) for name, value in shared.unique.items()}
    # Wide items first keep every tensor aligned, as the library's own writer does.
    order = sorted(described, key=lambda name: (-_ITEM_BYTES[described[name][0]], name))
    metadata = {"format": "pt"}
    if shared.aliases:
        metadata["aliases"] = json.dumps(dict(shared.aliases), sort_keys=True)
    header: dict[str, Any] = {"__metadata__": metadata}
    offset = 0
    for name in order:
        dtype, shape, length = described[name]
        header[name] = {"dtype": dtype, "shape": list(shape), "data_offsets": [offset, offset + length]}
        offset += length
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)

    digest = hashlib.sha256()
    with open(path, "xb", buffering=1 << 20) as file:
        for piece in (struct.pack("<Q", len(text)), text):
            digest.update(piece)
            file.write(piece)
        for name in order:
            data = _raw(shared.unique[name])
            digest.update(data)
            file.write(data)
        file.flush()
        os.fsync(file.fileno())
    return Written(8 + len(text) + offset, digest.hexdigest())


@contextmanager
def _opened(path: Path) -> Iterator[tuple[Any, dict[str, str]]]:
    """A file of :func:`write_file`, and its names: each to the one that its tensor is stored under."""
    from safetensors import safe_open

    with safe_open(path, framework="pt", device="cpu") as file:
        yield file, {name: name for name in file.keys()} | json.loads((file.metadata() or {}).get("aliases", "{}"))  # noqa: SIM118


def read_file(path: Path) -> dict[str, torch.Tensor]:
    """Every name of a file of :func:`write_file`, on the CPU; aliases are one tensor with several names."""
    with _opened(path) as (file, names):
        # A copy of its own: the file may be rotated away or its disk may go while the tensors live.
        tensors = {held: file.get_tensor(held).clone() for held in {*names.values()}}
    return {name: tensors[held] for name, held in names.items()}


def read_files(paths: Sequence[Path]) -> dict[str, torch.Tensor]:
    """The tensors of files that each hold some rows, in the order of the ranks that wrote them, put together."""
    import torch

    parts = [read_file(path) for path in paths]
    rows = {name: [part[name] for part in parts if name in part] for name in parts[0]}
    return {name: torch.cat(pieces) if len(pieces) > 1 else pieces[0] for name, pieces in rows.items()}


def shapes_of(paths: Sequence[Path]) -> dict[str, list[int]]:
    """What :func:`read_files` would give, as shapes; reads the headers alone."""
    shapes: dict[str, list[int]] = {}
    for path in paths:
        with _opened(path) as (file, names):
            own = {name: list(file.get_slice(held).get_shape()) for name, held in names.items()}
        for name, shape in own.items():
            if name in shapes and shape:
                shapes[name][0] += shape[0]
            else:
                shapes[name] = shape
    return shapes


class Buffers:
    """CPU memory for copies of snapshots, reused from one to the next."""

    def __init__(self) -> None:
        self._kept: dict[tuple[str, str], torch.Tensor] = {}

    def copy(self, group: str, tensors: Mapping[str, Value]) -> Shared:
        """Copy the tensors; the copy is complete on return and valid until the next call for ``group``."""
        shared = Shared.of(tensors)
        copies: dict[str, Value] = {}
        devices: set[torch.device] = set()
        for name, value in shared.unique.items():
            if isinstance(value, Blob):
                copies[name] = Blob(value.dtype, value.shape, bytes(value.data))
                continue
            import torch

            buffer = self._kept.get((group, name))
            if buffer is None or buffer.shape != value.shape or buffer.dtype != value.dtype:
                buffer = torch.empty(value.shape, dtype=value.dtype, pin_memory=value.is_cuda)
                self._kept[group, name] = buffer
            buffer.copy_(value.detach(), non_blocking=value.is_cuda)
            if value.is_cuda:
                devices.add(value.device)
            copies[name] = buffer
        for device in devices:
            import torch

            torch.cuda.current_stream(device).synchronize()
        for key in [key for key in self._kept if key[0] == group and key[1] not in copies]:
            del self._kept[key]
        return Shared(copies, shared.aliases)
