"""What files and folders hold, as hashes. Those of large files are kept for the machine while the files do not change."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable
from pathlib import Path

from hf_trainpipe.errors import DataError
from hf_trainpipe.runtime.safety.stamps import Stamps
from hf_trainpipe.utils.atomic import sha256_file
from hf_trainpipe.utils.resources import is_pattern


def content_hashes(paths: Iterable[str], folder: Path, *, whose: str) -> dict[str, str]:
    """The sha256 of each file, folder or pattern.

    That of a folder, or of what a pattern matches, is of the names and hashes of all files in it, so that it changes with them.

    Args:
        paths: Relative to ``folder``, or absolute.
        whose: For the error: ``"train reads"``.

    Raises:
        DataError: there is no such file, or none that a pattern matches.
    """
    stamps = Stamps(folder.resolve())
    found = {path: _hash(path, folder, stamps, whose=whose) for path in dict.fromkeys(paths)}
    stamps.save()
    return found


def of_json(value: object) -> str:
    """The sha256 of a value as JSON."""
    return hashlib.sha256(
        json.dumps(value, sort_keys=True, ensure_ascii=False).encode("utf-8", "surrogatepass")
    ).hexdigest()


def _hash(path: str, folder: Path, stamps: Stamps, *, whose: str) -> str:
    place = folder / path
    if place.is_file():
        return _of_file(place, stamps)
    if place.is_dir():
        return of_json({name: _of_file(file, stamps) for name, file in _files_below(place)})
    if is_pattern(path):
        anchor = Path(place.anchor)
        files = sorted(file for file in anchor.glob(str(place.relative_to(anchor))) if file.is_file())
        if files:
            return of_json({os.path.relpath(file, folder): _of_file(file, stamps) for file in files})
    what = "a file that this pattern matches" if is_pattern(path) else "a file or a folder"
    raise DataError(
        f"{whose} {path}: expected {what} in {folder.resolve()}, found none.",
        fix="Correct the path, or name the stage that writes it in `after`.",
        file=path,
    )


def _files_below(folder: Path) -> list[tuple[str, Path]]:
    """Every file of a folder by its relative name, sorted; not what is hidden, nor byte code."""
    found = []
    for place, folders, names in os.walk(folder):
        folders[:] = sorted(name for name in folders if not name.startswith(".") and name != "__pycache__")
        found += [Path(place, name) for name in names if not name.startswith(".")]
    return sorted((str(file.relative_to(folder)), file) for file in found)


def _of_file(file: Path, stamps: Stamps) -> str:
    name = str(file.resolve())
    facts = file.stat()
    known = stamps.known(name, facts)
    if known is None:
        known = sha256_file(file)
        stamps.learn(name, facts, known)
    return known
