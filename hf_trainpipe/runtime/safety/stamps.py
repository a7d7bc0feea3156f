"""Hashes that this machine computed before, kept in its cache folder for files that did not change since.

A load compares the sha256 of all that it reads. Of a large file that costs as much as reading it again, so that it is kept
with the file's device, inode, size, mtime and ctime. A stamp is only made after a full check, and only of a file that had
been left alone for a minute: two changes within one tick of the file system's clock look like one, and pages that are
mapped for writing change the times late. Nobody but root sets a ctime.

The stamps lie outside of any package, in a folder that only its user can write; otherwise none are kept, nor believed.
"""

from __future__ import annotations

import hashlib
import json
import os
import stat
import time
from pathlib import Path
from typing import Any

_LARGE = 1 << 20
"""Bytes; smaller files are hashed each time."""
_SETTLED_S = 60.0
_LIMIT = 1 << 20


def identity(facts: os.stat_result) -> tuple[int, ...]:
    """What changes when a file is written or replaced: device, inode, size, mtime and ctime in nanoseconds."""
    return (facts.st_dev, facts.st_ino, facts.st_size, facts.st_mtime_ns, facts.st_ctime_ns)


class Stamps:
    """The stamps of one package; use it, then :meth:`save`.

    Args:
        package: Its folder, resolved.
        root: The machine's cache folder; None: ``HF_TRAINPIPE_CACHE``, else ``~/.cache/hf_trainpipe``.
    """

    def __init__(self, package: Path, *, root: Path | None = None) -> None:
        try:
            root = root or Path(os.environ.get("HF_TRAINPIPE_CACHE") or Path.home() / ".cache" / "hf_trainpipe")
            self._folder = root.resolve() / "stamps"
        except (OSError, RuntimeError):  # a user without a home
            self._folder = package / "stamps"
        self._path = self._folder / f"{hashlib.sha256(os.fsencode(package)).hexdigest()[:32]}.json"
        self._usable = os.name == "posix" and package not in self._path.parents
        self._held: dict[str, list[Any]] = self._read() if self._usable else {}
        self._changed = False
        self.seen: dict[str, tuple[int, ...]] = {}
        """:func:`identity` of each file whose content was compared."""

    def known(self, name: str, facts: os.stat_result) -> str | None:
        """The sha256 of a file that did not change since it was computed; None: compute it."""
        entry = self._held.get(name)
        if entry is None or entry[0] != list(identity(facts)):
            return None
        self.seen[name] = identity(facts)
        return str(entry[1])

    def learn(self, name: str, facts: os.stat_result, sha256: str) -> None:
        """Remember what was just computed; ``facts`` are from before it was read."""
        self.seen[name] = identity(facts)
        if facts.st_size < _LARGE or time.time_ns() - max(facts.st_mtime_ns, facts.st_ctime_ns) < _SETTLED_S * 1e9:
            return
        self._held[name] = [list(identity(facts)), sha256]
        self._changed = True

    def save(self) -> None:
        """Keep what was learnt; where that is impossible the next load computes it again."""
        if not (self._usable and self._changed):
            return
        temporary = self._path.with_name(f".{self._path.name}.{os.getpid()}")
        try:
            self._folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            if not _is_private(os.lstat(self._folder)):
                return
            temporary.unlink(missing_ok=True)
            with os.fdopen(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as stream:
                json.dump(self._held, stream)
            os.replace(temporary, self._path)
        except OSError:
            temporary.unlink(missing_ok=True) if os.access(self._folder, os.W_OK) else None

    def _read(self) -> dict[str, list[Any]]:
        try:
            if not _is_private(os.lstat(self._folder)):
                return {}
            with os.fdopen(os.open(self._path, os.O_RDONLY | os.O_NOFOLLOW), "rb") as stream:
                facts = os.fstat(stream.fileno())
                if not (stat.S_ISREG(facts.st_mode) and _is_private(facts) and facts.st_size <= _LIMIT):
                    return {}
                held = json.loads(stream.read(_LIMIT))
        except (OSError, ValueError, RecursionError):
            return {}
        if not isinstance(held, dict):
            return {}
        return {
            name: entry
            for name, entry in held.items()
            if isinstance(entry, list) and len(entry) == 2 and isinstance(entry[0], list) and isinstance(entry[1], str)
        }


def _is_private(facts: os.stat_result) -> bool:
    return facts.st_uid == os.geteuid() and not facts.st_mode & 0o022
