"""The queue of pushes, on disk: a push outlives its process and continues where it was, days later if need be.

    <run>/outbox/0001.json      one push: where to, which files with which hashes, its progress
    <run>/outbox/0001/          the files as they will be uploaded; weights are hard links where that is possible
    <run>/outbox/lock           one process pushes at a time
    <package>.outbox/           the same, for a package outside of a run

An entry's JSON is replaced atomically and fsynced after each step of the push. It holds no secret.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
import time
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any, Literal

from hf_trainpipe.errors import PushError
from hf_trainpipe.utils.atomic import fsync_tree, write_json

OUTBOX = "outbox"
BACKGROUND = "background-push.json"
"""In the queue's folder: what the process is to do that pushes while the run trains. It holds no secret."""
State = Literal["queued", "published", "done", "superseded"]
"""queued: nothing is visible; published: the branch holds it, verified; done: tagged; superseded: a newer push took
its place. Earlier versions also wrote "staged" (uploaded to a branch of its own), which is read as queued."""
_FINAL = ("done", "superseded")
_COPIED_BYTES = 1 << 20
_KEPT_ENTRIES = 20


@dataclass(frozen=True)
class File:
    """A file as it must arrive: its size in bytes, its sha256, and the object id that git gives it."""

    size: int
    sha256: str
    blob: str


@dataclass(frozen=True, kw_only=True)
class Entry:
    """One push. ``id`` numbers them; the rest is the order, its progress, and its last error."""

    id: str = ""
    kind: Literal["package", "checkpoint"]
    repo: str
    branch: str = "main"
    private: bool = True
    tag: str | None = None
    """A name, or "auto": the next free ``vN``, chosen when it is published."""
    pull_request: bool = False
    message: str = ""
    step: int | None = None
    """The step of an interim package or of a checkpoint; None: the finished model."""
    files: Mapping[str, File] = field(default_factory=dict)
    state: State = "queued"
    staging: str | None = None
    """The branch that an earlier version uploaded to first; it is removed when the push is done."""
    commit: str | None = None
    url: str | None = None
    removed: tuple[str, ...] = ()
    tries: int = 0
    error: str | None = None
    created: float = 0.0
    updated: float = 0.0
    """Seconds since the Unix epoch."""

    @property
    def open(self) -> bool:
        """Whether something is left to do."""
        return self.state not in _FINAL

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Entry:
        """The reverse of :func:`dataclasses.asdict`."""
        known = {item.name for item in fields(cls)}
        files = {name: File(**facts) for name, facts in value["files"].items()}
        kept = {name: item for name, item in value.items() if name in known}
        state = "queued" if value["state"] == "staged" else value["state"]
        return cls(**{**kept, "state": state, "files": files, "removed": tuple(value.get("removed", ()))})


def describe_file(path: Path) -> File:
    """Size and hashes of a file.

    The object id of git is sha1 over ``blob SIZE\\0`` and the content (git-scm.com, "Git Objects").
    """
    size = path.stat().st_size
    sha256, blob = hashlib.sha256(), hashlib.sha1(b"blob %d\0" % size, usedforsecurity=False)
    with path.open("rb") as stream:
        while chunk := stream.read(1 << 20):
            sha256.update(chunk)
            blob.update(chunk)
    return File(size, sha256.hexdigest(), blob.hexdigest())


class PushQueue:
    """The pushes of a run, or of a package outside of one.

    Args:
        path: The folder; created by the first :meth:`add`.
        owner: The run or package, as the user names it: for the command that tries again.
    """

    def __init__(self, path: Path, *, owner: Path | str) -> None:
        self.path = path
        self.owner = owner

    @classmethod
    def of(cls, path: Path | str) -> PushQueue:
        """The queue of a run, of a run's package, or of a package elsewhere."""
        place = Path(path)
        for run in (place, place.resolve().parent):
            if (run / "run.json").is_file():
                return cls(run / OUTBOX, owner=path)
        if (place / OUTBOX).is_dir():
            return cls(place / OUTBOX, owner=path)
        package = (place / "package" if (place / "package").is_dir() else place).resolve()
        return cls(package.with_name(f"{package.name}.{OUTBOX}"), owner=path)

    def entries(self) -> list[Entry]:
        """All entries, the oldest first. A damaged one is skipped: it was never acknowledged."""
        found = []
        for path in sorted(self.path.glob("[0-9]*.json")):
            with contextlib.suppress(ValueError, KeyError, TypeError, OSError):
                found.append(Entry.from_json(json.loads(path.read_bytes())))
        return found

    def open_entries(self) -> list[Entry]:
        """Those with something left to do, the oldest first."""
        return [entry for entry in self.entries() if entry.open]

    @contextlib.contextmanager
    def lock(self, *, timeout: float = 10.0) -> Iterator[None]:
        """Be the only process that pushes from here.

        Raises:
            PushError: another process pushes and did not end within ``timeout`` seconds.
        """
        from filelock import FileLock, Timeout

        self._make()
        try:
            held = FileLock(self.path / "lock").acquire(timeout=timeout)
        except Timeout:
            raise PushError(
                f"Another process is pushing from {self.path}.", fix=f"Wait until it ends, then:\n{self.retry_command}"
            ) from None
        with held:
            yield

    @property
    def retry_command(self) -> str:
        """The command that continues what is left."""
        import shlex

        return shlex.join(["hf-trainpipe", "push", str(self.owner), "--retry"])

    def add(self, entry: Entry, sources: Mapping[str, Path]) -> Entry:
        """Queue a push, durably; an open one of the same kind to the same branch is superseded.

        Args:
            entry: The push; ``id``, ``files`` and times are set here.
            sources: Path in the repository to the local file. They are copied or linked, so the originals may
                change afterwards.

        Raises:
            PushError: it cannot be written.
        """
        self._make()
        number = max((int(path.stem) for path in self.path.glob("[0-9]*.json")), default=0) + 1
        entry = replace(entry, id=f"{number:04d}", created=time.time())
        folder = self.folder(entry)
        try:
            shutil.rmtree(folder, ignore_errors=True)
            for name, source in sources.items():
                target = folder / name
                target.parent.mkdir(parents=True, exist_ok=True)
                link_or_copy(source, target)
            fsync_tree(folder)
            described = {name: describe_file(folder / name) for name in sources}
            entry = self.update(entry, files=described)
        except OSError as error:
            shutil.rmtree(folder, ignore_errors=True)
            raise PushError(
                f"{self.path} cannot be written: {error.strerror or error}.", fix="Free some space, and push again."
            ) from error
        for other in self.open_entries():
            same = (other.kind, other.repo, other.branch) == (entry.kind, entry.repo, entry.branch)
            if same and other.id != entry.id:
                self.close(other, "superseded")
        return entry

    def update(self, entry: Entry, **changes: Any) -> Entry:
        """Write an entry with changes to disk."""
        entry = replace(entry, **changes, updated=time.time())
        write_json(self.path / f"{entry.id}.json", asdict(entry))
        return entry

    def close(self, entry: Entry, state: State) -> Entry:
        """Write the end of an entry and remove its files; the JSON of the last ones is kept."""
        entry = self.update(entry, state=state, error=None if state == "done" else entry.error)
        shutil.rmtree(self.folder(entry), ignore_errors=True)
        self.card(entry).unlink(missing_ok=True)
        for old in [other for other in self.entries() if not other.open][:-_KEPT_ENTRIES]:
            (self.path / f"{old.id}.json").unlink(missing_ok=True)
        return entry

    def folder(self, entry: Entry) -> Path:
        """Where the files of an entry are kept."""
        return self.path / entry.id

    def card(self, entry: Entry) -> Path:
        """The model card as it was before anything from the Hub was taken into it."""
        return self.path / f"{entry.id}.card.md"

    def _make(self) -> None:
        try:
            self.path.mkdir(exist_ok=True)
        except OSError as error:
            raise PushError(
                f"{self.path} cannot be made: {error.strerror or error}. A push is written down before it begins.",
                fix="Copy the package to a folder that you can write to, and push it from there.",
            ) from error


def link_or_copy(source: Path | str, target: Path | str) -> None:
    """Link a large file and copy a small one: a README may be edited in place, weights are not."""
    if os.stat(source).st_size > _COPIED_BYTES:
        with contextlib.suppress(OSError):
            os.link(source, target)
            return
    shutil.copyfile(source, target)
