"""How a head begins, computed once and kept beside the token cache (``heads/``), by a hash of what it follows from.

An entry is a folder of files and an ``entry.json`` that is written last and has their sha256. Whoever comes first computes it; the
others wait. A damaged entry is made again.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, TypeVar

from hf_trainpipe.utils.atomic import new_folder, sha256_file
from hf_trainpipe.utils.cache import cache_root

T = TypeVar("T")
_ENTRY = "entry.json"


def kept(
    settings: Mapping[str, Any],
    compute: Callable[[], T],
    *,
    read: Callable[[Path], T],
    write: Callable[[T, Path], None],
    group: str = "heads",
    most: int | None = None,
) -> T:
    """What was computed from the same settings before, or is computed now.

    Args:
        settings: What it follows from, as JSON.
        read: Gives it back from a folder that ``write`` has filled.
        group: Folder of such entries in the cache.
        most: Entries of the group that stay, the newest; None: all.
    """
    from filelock import FileLock

    key = hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()[:32]
    folder = cache_root() / group / key
    folder.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(folder.with_suffix(".lock")):
        with suppress(EOFError, KeyError, OSError, TypeError, ValueError):
            hashes = json.loads((folder / _ENTRY).read_text())["files"]
            if all(sha256_file(folder / name) == found for name, found in hashes.items()):
                return read(folder)
        found = compute()
        with new_folder(folder) as building:
            write(found, building)
            hashes = {file.name: sha256_file(file) for file in building.iterdir()}
            (building / _ENTRY).write_text(json.dumps({**settings, "files": hashes}))
        if most is not None:
            _remove_older(folder.parent, most)
        return found


def _remove_older(group: Path, most: int) -> None:
    """Remove all entries but the newest; who reads one at the time computes it again."""
    made: list[tuple[float, Path]] = []
    for entry in group.glob(f"*/{_ENTRY}"):
        with suppress(FileNotFoundError):  # another process removes too
            made.append((entry.stat().st_mtime, entry.parent))
    for _, folder in sorted(made)[:-most]:
        shutil.rmtree(folder, ignore_errors=True)
