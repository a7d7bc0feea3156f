"""A run's directory: who owns it, which run it is, and its attempts. Only rank 0 writes."""

from __future__ import annotations

import json
import os
import platform
import socket
import subprocess
import time
import uuid
from collections.abc import Mapping
from importlib import metadata
from pathlib import Path
from typing import Any, Literal

from hf_trainpipe.checkpoint import RunLock, check_resume, compare_versions
from hf_trainpipe.checkpoint.atomic import write_json
from hf_trainpipe.errors import CheckpointError
from hf_trainpipe.tracking.ledger import read as read_ledger

__all__ = ["Resume", "RunFolder", "earlier_seconds", "environment"]

Resume = Literal["auto", "never", "must"]

RECORDED = ("torch", "transformers", "accelerate", "datasets", "tokenizers", "safetensors", "spacy", "numpy")


def _read_json(path: Path) -> dict[str, Any]:
    document: dict[str, Any] = json.loads(path.read_text())
    return document


def _git(*args: str, folder: Path) -> str | None:
    try:
        done = subprocess.run(["git", *args], cwd=folder, capture_output=True, text=True, timeout=10, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() if done.returncode == 0 else None


def environment(folder: Path) -> dict[str, Any]:
    """Versions, and the commit of the checkout that ``folder`` lies in. No paths, no variables."""
    from hf_trainpipe import __version__

    versions = {"python": platform.python_version(), "hf_trainpipe": __version__}
    for name in RECORDED:
        try:
            versions[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    status = _git("status", "--porcelain", folder=folder)
    return {
        "versions": versions,
        "git_commit": _git("rev-parse", "HEAD", folder=folder),
        "git_dirty": None if status is None else bool(status),
    }


def earlier_seconds(path: Path, *, attempt: int) -> float:
    """What the attempts before ``attempt`` took; one that was killed ends with its last point in the ledger."""
    last: dict[int, float] = {}
    for point in read_ledger(path / "ledger.jsonl"):
        last[point.attempt] = max(point.time, last.get(point.attempt, 0.0))
    total = 0.0
    for file in (path / "attempts").glob("[0-9]*.json"):
        facts, number = _read_json(file), int(file.stem)
        begun = facts.get("started")
        if number < attempt and begun is not None:
            total += max(0.0, (facts.get("ended") or last.get(number, begun)) - begun)
    return total


class RunFolder:
    """Holds the lock of a run's directory on rank 0; the other ranks only know the path."""

    def __init__(self, path: Path, *, is_main: bool) -> None:
        self.path = path
        self.is_main = is_main
        self.uid = ""
        self.attempt = 0
        self._lock: RunLock | None = None
        self._started = time.time()
        if is_main:
            path.mkdir(parents=True, exist_ok=True)
            self._lock = RunLock(path / "run.lock")
            self._lock.acquire(timeout=2.0)  # an owner that was just killed may still be ending

    @property
    def existing(self) -> dict[str, Any] | None:
        """run.json of the run that is here, if there is one."""
        file = self.path / "run.json"
        return _read_json(file) if file.exists() else None

    @property
    def result(self) -> dict[str, Any] | None:
        """result.json of a run that is complete, if it is."""
        file = self.path / "result.json"
        return _read_json(file) if file.exists() else None

    def begin(
        self,
        document: Mapping[str, Any],
        *,
        resume: Resume,
        allow_change: frozenset[str],
        world_size: int,
    ) -> list[str]:
        """Start a run here, or continue the one that is here; record the attempt.

        Args:
            document: What run.json holds besides the run's uid: recipe, fingerprints, labels, source.

        Returns:
            Warnings: libraries or a commit that changed since the last attempt.

        Raises:
            ResumeMismatch: the recipe, data, tokenizer or labels changed without leave.
            CheckpointError: there is nothing to continue, and ``resume`` is ``must``.
        """
        assert self.is_main
        existing = self.existing
        if existing is not None and resume == "never":
            self._set_aside()
            existing = None
        if existing is None and resume == "must":
            raise CheckpointError(
                f"{self.path}: expected a run to continue (--resume must), found none.",
                fix="Check --run-dir, or leave --resume at auto to start one.",
            )
        warnings: list[str] = []
        now = environment(Path.cwd())
        if existing is None:
            self.uid = uuid.uuid4().hex
            write_json(self.path / "run.json", {"schema": 1, "uid": self.uid, **document})
        else:
            check_resume(existing, {**existing, **document}, allow=set(allow_change))
            self.uid = existing["uid"]
            write_json(self.path / "run.json", {**existing, **document})
        attempts = sorted((self.path / "attempts").glob("[0-9]*.json"))
        if attempts:
            warnings.extend(compare_versions(_read_json(attempts[-1]), now))
        self.attempt = len(attempts) + 1
        self._record({"host": socket.gethostname(), "pid": os.getpid(), "world_size": world_size, **now, "exit": None})
        return warnings

    def _attempt_file(self) -> Path:
        return self.path / "attempts" / f"{self.attempt:04d}.json"

    def _record(self, facts: Mapping[str, Any]) -> None:
        self._attempt_file().parent.mkdir(exist_ok=True)
        write_json(self._attempt_file(), {"attempt": self.attempt, "started": self._started, **facts})

    def _set_aside(self) -> None:
        """Move what an earlier run left into ``old-N``; nothing is deleted."""
        number = 1
        while (self.path / f"old-{number}").exists():
            number += 1
        old = self.path / f"old-{number}"
        entries = [
            entry for entry in self.path.iterdir() if entry.name != "run.lock" and not entry.name.startswith("old-")
        ]
        old.mkdir()
        for entry in entries:
            entry.rename(old / entry.name)

    def end(self, reason: str) -> None:
        """Record how the attempt ended and give the directory back."""
        if self._lock is None:
            return
        if self.attempt and self._attempt_file().exists():
            facts = _read_json(self._attempt_file())
            write_json(self._attempt_file(), {**facts, "exit": reason, "ended": time.time()})
        self._lock.release()
        self._lock = None
