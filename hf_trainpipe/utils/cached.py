"""What is computed once and kept in the machine's cache, by a hash of what it follows from.

An entry is a folder of files and an ``entry.json`` that is written last and has their sha256. A damaged entry counts as none. What
takes long keeps pieces beside it (:mod:`.pieces`), which go when it is written.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable, Mapping
from contextlib import suppress
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from hf_trainpipe.utils.atomic import new_folder, sha256_file
from hf_trainpipe.utils.pieces import Pieces

if TYPE_CHECKING:
    from filelock import FileLock

T = TypeVar("T")
_ENTRY = "entry.json"


class Entry:
    """An entry, there or not.

    Args:
        group: The folder of such entries.
        settings: What it follows from, as JSON.
    """

    def __init__(self, group: Path, settings: Mapping[str, Any]) -> None:
        self._settings = settings
        self._folder = group / hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()[:32]
        self.pieces = Pieces(self._folder.with_suffix(".pieces"))

    @cached_property
    def lock(self) -> FileLock:
        """Held by whoever computes it; the others wait."""
        from filelock import FileLock

        self._folder.parent.mkdir(parents=True, exist_ok=True)
        return FileLock(self._folder.with_suffix(".lock"))

    def read(self, read: Callable[[Path], T]) -> T | None:
        """What ``read`` makes of the folder; None if there is none or it is damaged."""
        with suppress(EOFError, KeyError, OSError, TypeError, ValueError):
            hashes = json.loads((self._folder / _ENTRY).read_text())["files"]
            if all(sha256_file(self._folder / name) == found for name, found in hashes.items()):
                return read(self._folder)
        return None

    def write(self, write: Callable[[Path], None], *, most: int | None = None) -> None:
        """Keep what ``write`` puts into a folder.

        Args:
            most: Entries of the group that stay, the newest; None: all.
        """
        with new_folder(self._folder) as building:
            write(building)
            hashes = {file.name: sha256_file(file) for file in building.iterdir()}
            (building / _ENTRY).write_text(json.dumps({**self._settings, "files": hashes}))
        self.pieces.remove()
        if most is not None:
            _remove_older(self._folder.parent, most)

    def get(
        self,
        compute: Callable[[], T],
        *,
        read: Callable[[Path], T],
        write: Callable[[T, Path], None],
        most: int | None = None,
    ) -> T:
        """What was computed from the same settings before, or is computed now. Arguments: see :meth:`read` and :meth:`write`."""
        with self.lock:
            found = self.read(read)
            if found is None:
                found = compute()
                self.write(partial(write, found), most=most)
            return found


def _remove_older(group: Path, most: int) -> None:
    """Remove all entries but the newest; who reads one at the time computes it again."""
    made: list[tuple[float, Path]] = []
    for entry in group.glob(f"*/{_ENTRY}"):
        with suppress(FileNotFoundError):  # another process removes too
            made.append((entry.stat().st_mtime, entry.parent))
    for _, folder in sorted(made)[:-most]:
        shutil.rmtree(folder, ignore_errors=True)
