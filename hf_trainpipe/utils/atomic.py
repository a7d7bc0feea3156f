"""Atomic file writes: a file is complete or absent, also after a crash or on a full disk.

A file is written under a temporary name in the same folder, fsynced, renamed, and the folder is fsynced: rename(2)
replaces atomically, and only the fsync of the folder makes the new name survive a power cut. Files that can be made
again (caches, heartbeats) skip the fsyncs: ``durable=False``.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import shutil
import sys
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from hf_trainpipe.errors import CheckpointError, TrainpipeError

TEMPORARY = ".tmp-"
"""Prefix of temporary files and folders."""
_HERE, _EXCHANGE = -100, 2
"""AT_FDCWD and RENAME_EXCHANGE of renameat2(2)."""


def _fsync(path: Path, flags: int) -> None:
    descriptor = os.open(path, flags)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def fsync_dir(directory: Path) -> None:
    """Make the names inside ``directory`` durable."""
    _fsync(directory, os.O_RDONLY | os.O_DIRECTORY)


def fsync_tree(root: Path) -> None:
    """Make every regular file and folder below ``root`` durable, ``root`` itself last."""
    for folder, _, names in os.walk(root, topdown=False):
        for name in names:
            path = Path(folder, name)
            if not path.is_symlink():
                _fsync(path, os.O_RDONLY)
        fsync_dir(Path(folder))


class Written(NamedTuple):
    """Size in bytes and sha256 of what was written to a file."""

    size: int
    sha256: str


def write_new(path: Path, data: bytes, *, durable: bool = True) -> Written:
    """Write a new file and fsync it, inside a folder that is renamed when complete."""
    with open(path, "xb") as file:
        file.write(data)
        if durable:
            file.flush()
            os.fsync(file.fileno())
    return Written(len(data), hashlib.sha256(data).hexdigest())


def write_bytes(path: Path, data: bytes, *, durable: bool = True) -> None:
    """Replace ``path`` by ``data`` atomically; the old content stays if anything fails.

    Raises:
        OSError: disk full, read-only, or an I/O error. No temporary file is left behind.
    """
    temporary = path.parent / f"{TEMPORARY}{path.name}-{uuid.uuid4().hex}"
    try:
        write_new(temporary, data, durable=durable)
        os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    if durable:
        fsync_dir(path.parent)


def finite(value: Any) -> Any:
    """``value`` with NaN and infinities as None, which JSON lacks."""
    if isinstance(value, Mapping):
        return {name: finite(child) for name, child in value.items()}
    return None if isinstance(value, float) and not math.isfinite(value) else value


def write_json(path: Path, value: Any, *, indent: int = 1, sort_keys: bool = True, durable: bool = True) -> None:
    """Replace ``path`` by ``value`` as strict JSON (no NaN), as :func:`write_bytes` does."""
    text = json.dumps(value, indent=indent, sort_keys=sort_keys, allow_nan=False, ensure_ascii=False)
    write_bytes(path, text.encode() + b"\n", durable=durable)


def exchange(one: Path, other: Path) -> bool:
    """Let two paths of one file system change places at once; False, and nothing is done, where that is not to be had: another
    system than Linux, a file system without it, or no such path."""
    import ctypes

    renameat2 = getattr(ctypes.CDLL(None), "renameat2", None) if sys.platform == "linux" else None
    return renameat2 is not None and renameat2(_HERE, os.fsencode(one), _HERE, os.fsencode(other), _EXCHANGE) == 0


@contextmanager
def new_folder(folder: Path) -> Iterator[Path]:
    """A folder beside ``folder`` to write into, which takes its place when the block has ended; after an error the old one stays.

    For what can be made again: nothing is fsynced. Callers hold a lock.
    """
    building = folder.with_name(f".{folder.name}.{os.getpid()}")
    shutil.rmtree(building, ignore_errors=True)
    building.mkdir()
    try:
        yield building
        if not exchange(building, folder):
            shutil.rmtree(folder, ignore_errors=True)
            building.rename(folder)
    finally:
        shutil.rmtree(building, ignore_errors=True)


def read_json_object(path: Path, *, needs: Mapping[str, type | tuple[type, ...]], fix: str) -> dict[str, Any]:
    """Read a JSON object that this project wrote, and check the keys that it must have.

    Args:
        path: An existing file.
        needs: Required keys, and the type of each value.
        fix: What to do if the file is damaged.

    Raises:
        CheckpointError: the file is unreadable, empty, truncated or not an object, or a key is missing or of another type.
    """

    def refused(found: str) -> CheckpointError:
        return CheckpointError(f"{path}: expected {_form(needs)}, found {found}.", fix=fix, file=str(path))

    try:
        content = path.read_bytes()
    except OSError as error:
        raise refused(f"an unreadable file ({error.strerror or error})") from None
    if not content.strip():
        raise refused(f"an empty file ({len(content)} bytes)")
    try:
        value = json.loads(content)
    except (ValueError, RecursionError) as error:
        raise refused(f"no JSON ({error})") from None
    if not isinstance(value, dict):
        raise refused(f"a JSON {type(value).__name__}")
    for name, kind in needs.items():
        if name not in value:
            raise refused(f"no key {name!r}")
        if not isinstance(value[name], kind) or (isinstance(value[name], bool) and kind is not bool):
            raise refused(f"{name} = {str(value[name])[:60]!r}")
    return value


def _form(needs: Mapping[str, type | tuple[type, ...]]) -> str:
    return f"a JSON object with {', '.join(needs)}" if needs else "a JSON object"


def sha256_file(path: Path) -> str:
    """The sha256 of a file's content, as 64 lower-case hexadecimal digits."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def free_bytes(directory: Path) -> int:
    """Free space where ``directory`` is, or will be."""
    existing = directory.absolute()
    while not existing.exists():
        existing = existing.parent
    return shutil.disk_usage(existing).free


def require_space(directory: Path, num_bytes: int) -> None:
    """Refuse to start if fewer than ``num_bytes`` are free. ``directory`` need not exist yet.

    Raises:
        TrainpipeError: with the bytes needed and free.
    """
    free = free_bytes(directory)
    if free < num_bytes:
        raise TrainpipeError(
            f"{directory} needs {num_bytes / 1e9:.2f} GB for checkpoints, but {free / 1e9:.2f} GB are free.",
            fix="Free some space, choose another disk with --run-dir, or lower budget.keep_checkpoints.",
        )


def require_writable(directory: Path) -> None:
    """Create ``directory`` if it is missing, and try to write a file in it.

    Raises:
        TrainpipeError: with the reason.
    """
    try:
        if not directory.is_dir():
            directory.mkdir(parents=True, exist_ok=True)
            fsync_dir(directory.parent)
        probe = directory / f"{TEMPORARY}probe-{uuid.uuid4().hex}"
        with open(probe, "xb") as file:
            file.write(b"x")
        probe.unlink()
    except OSError as error:
        raise TrainpipeError(
            f"{directory} cannot be written: {error.strerror or error}.",
            fix="Choose a folder that you can write, with --run-dir.",
            errno=error.errno,
        ) from error
