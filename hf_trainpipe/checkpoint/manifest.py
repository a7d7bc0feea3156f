"""The manifest of a checkpoint: what it is, and the size and sha256 of each of its files.

It is written last and carries a sha256 of itself, so that damage is not mistaken for a newer format: an
intact manifest of a newer schema is refused, a damaged one is put into quarantine. Every later schema keeps
``schema`` and ``sha256`` as they are. No time and no absolute path is in it: the same state gives the same
bytes, and a run directory can be moved.
"""

from __future__ import annotations

import errno
import hashlib
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from hf_trainpipe.checkpoint import plainjson
from hf_trainpipe.errors import CheckpointError
from hf_trainpipe.utils.atomic import sha256_file

SCHEMA = 1
MANIFEST = "MANIFEST.json"
MODEL = "model.safetensors"
OPTIMIZER = "optimizer.safetensors"
STATE = "state.json"
RESERVED = frozenset({"schema", "sha256", "step", "best_step", "run_uid", "files"})
"""Fields that the store writes; the others are the caller's."""

_PLAIN = re.compile(r"[A-Za-z0-9][\w.-]*", re.ASCII)
"""A name in the folder; a checkpoint that was fetched may say anything, and `..` would be hashed."""
_OURS_TO_FIX = {errno.EACCES, errno.EPERM, errno.EMFILE, errno.ENFILE, errno.ENOMEM}
"""Errors of this machine, which say nothing about the checkpoint."""


def folder_name(step: int) -> str:
    """The name of the checkpoint after ``step`` optimizer steps."""
    return f"step-{step:08d}"


def shard_name(name: str, rank: int, ranks: int) -> str:
    """The file with one rank's rows of ``name``.

    >>> shard_name("model.safetensors", 0, 2), shard_name("model.safetensors", 0, 1)
    ('model-00001-of-00002.safetensors', 'model.safetensors')
    """
    stem, _, suffix = name.rpartition(".")
    return name if ranks == 1 else f"{stem}-{rank + 1:05d}-of-{ranks:05d}.{suffix}"


def shards_of(name: str, files: Iterable[str]) -> list[str]:
    """The files that hold ``name``, in the order of the ranks: itself, or the ranks' rows; empty if some are missing."""
    listed = set(files)
    if name in listed:
        return [name]
    stem, _, suffix = name.rpartition(".")
    found = sorted(file for file in listed if file.startswith(f"{stem}-") and file.endswith(f".{suffix}"))
    return found if found == [shard_name(name, rank, len(found)) for rank in range(len(found))] else []


class Broken(Exception):
    """A checkpoint cannot be trusted; the text says why."""


def render(body: Mapping[str, Any]) -> bytes:
    """``body`` with the sha256 of itself, as the bytes of a manifest. A ``sha256`` in it is replaced."""
    plain = {key: value for key, value in body.items() if key != "sha256"}
    digest = hashlib.sha256(plainjson.dumps(plain, where="manifest")).hexdigest()
    return plainjson.dumps(plain | {"sha256": digest}, where="manifest")


def read(folder: Path, *, run_uid: str | None) -> dict[str, Any]:
    """Read the manifest of a checkpoint, without looking at its other files.

    Args:
        folder: A folder named ``step-%08d``.
        run_uid: The run that it must belong to; None: any.

    Raises:
        Broken: missing, damaged, or not the manifest of this folder.
        CheckpointError: intact, but of a newer schema or of another run.
    """
    try:
        data = (folder / MANIFEST).read_bytes()
    except OSError as error:
        raise _unreadable(folder / MANIFEST, error) from error
    try:
        manifest = plainjson.loads(data)
        intact = isinstance(manifest, dict) and render(manifest) == data
    except (ValueError, TypeError, RecursionError) as error:
        raise Broken(f"{MANIFEST} is no JSON that this program wrote: {error}") from error
    if not intact:
        raise Broken(f"{MANIFEST} does not match its own sha256")
    assert isinstance(manifest, dict)
    schema = manifest.get("schema")
    if isinstance(schema, int) and schema > SCHEMA:
        raise CheckpointError(
            f"{folder.name} has checkpoint schema {schema}; this version reads up to {SCHEMA}.",
            fix="Update hf_trainpipe to the version that wrote it, or start another run with --run-dir.",
        )
    if schema != SCHEMA:
        raise Broken(f"{MANIFEST} has the unknown schema {schema!r}")
    if run_uid is not None and manifest.get("run_uid") != run_uid:
        raise CheckpointError(
            f"{folder.name} belongs to the run {manifest.get('run_uid')}, but this directory is the run {run_uid}.",
            fix="Move the foreign checkpoint away, or name its own directory with --run-dir.",
        )
    step = manifest.get("step")
    if not isinstance(step, int) or folder.name != folder_name(step):
        raise Broken(f"{MANIFEST} says step {step}")
    files = manifest.get("files")
    if not isinstance(files, dict) or not all(shards_of(name, files) for name in (MODEL, OPTIMIZER, STATE)):
        raise Broken(f"{MANIFEST} does not list all files")
    for name, facts in files.items():
        if not _PLAIN.fullmatch(name):
            raise Broken(f"{MANIFEST} lists {name[:80]!r}, which is no file of the checkpoint")
        if (
            not isinstance(facts, dict)
            or type(facts.get("size")) is not int
            or not isinstance(facts.get("sha256"), str)
        ):
            raise Broken(f"{MANIFEST} does not say size and sha256 of {name}")
    return manifest


def verify(folder: Path, *, run_uid: str | None) -> dict[str, Any]:
    """Check a whole checkpoint: manifest, then size and sha256 of each file. Returns the manifest.

    Raises:
        Broken: a file is missing or differs.
        CheckpointError: of a newer schema, of another run, or unreadable for lack of a permission.
    """
    manifest = read(folder, run_uid=run_uid)
    for name, expected in manifest["files"].items():
        path = folder / name
        try:
            size = path.stat().st_size
            if size != expected["size"]:
                raise Broken(f"{name} has {size} bytes instead of {expected['size']}")
            if sha256_file(path) != expected["sha256"]:
                raise Broken(f"{name} does not match its sha256")
        except OSError as error:
            raise _unreadable(path, error) from error
    return manifest


def _unreadable(path: Path, error: OSError) -> Exception:
    if error.errno in _OURS_TO_FIX:
        return CheckpointError(f"{path} cannot be read: {error.strerror}.", fix="Make it readable and try again.")
    if error.errno == errno.ENOENT:
        return Broken(f"{path.name} is missing")
    return Broken(f"{path.name} cannot be read: {error.strerror or error}")
