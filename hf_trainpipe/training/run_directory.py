"""A run's directory: who owns it, which run it is, and its attempts. Only rank 0 writes."""

from __future__ import annotations

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

from hf_trainpipe.checkpoint import (
    Checkpoint,
    RunLock,
    Store,
    check_extension,
    check_finished,
    check_resume,
    compare,
    compare_versions,
    remember,
)
from hf_trainpipe.checkpoint.atomic import read_object, write_json
from hf_trainpipe.checkpoint.folder import free_name
from hf_trainpipe.codec import with_defaults
from hf_trainpipe.errors import CheckpointError, RecipeError
from hf_trainpipe.tracking.ledger import read as read_ledger

__all__ = ["Resume", "RunFolder", "earlier_seconds", "environment", "read_identity"]

Resume = Literal["auto", "never", "must"]

RECORDED = ("torch", "transformers", "accelerate", "datasets", "tokenizers", "safetensors", "spacy", "numpy")


IDENTITY: dict[str, type | tuple[type, ...]] = {"uid": str, "recipe": dict, "fingerprints": dict}
RESULT: dict[str, type | tuple[type, ...]] = {
    "select": str,
    "scores": dict,
    "steps": int,
    "best_step": int,
    "seconds": (int, float),
}
BEGIN_ANEW = "Bring it back from a copy; or begin anew and keep what is here in old-1: --resume never"


def read_identity(run: Path) -> dict[str, Any]:
    """run.json of a run's directory.

    Raises:
        CheckpointError: it is damaged.
    """
    found = read_object(run / "run.json", needs=IDENTITY, fix=BEGIN_ANEW)
    compute = found.get("compute")
    if compute is not None and not (isinstance(compute, dict) and {"precision", "threads", "ranks"} <= compute.keys()):
        raise CheckpointError(
            f"{run / 'run.json'}: compute: expected precision, threads and ranks, found {compute!r:.60}.",
            fix=BEGIN_ANEW,
        )
    history = found.get("history", [])
    if not isinstance(history, list) or not all(isinstance(entry, dict) and "changes" in entry for entry in history):
        raise CheckpointError(f"{run / 'run.json'}: history: expected a list of changes.", fix=BEGIN_ANEW)
    return found


def read_attempts(run: Path) -> dict[int, dict[str, Any]]:
    """Number -> what is recorded of that attempt; nothing where its file is damaged, since no number depends on it."""
    found: dict[int, dict[str, Any]] = {}
    for file in sorted((run / "attempts").glob("[0-9]*.json")):
        if file.stem.isdigit():
            try:
                found[int(file.stem)] = read_object(file, needs={}, fix="")
            except CheckpointError:
                found[int(file.stem)] = {}
    return found


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
    for number, facts in read_attempts(path).items():
        begun, ended = facts.get("started"), facts.get("ended")
        if number < attempt and isinstance(begun, float):
            total += max(0.0, (ended if isinstance(ended, float) else last.get(number, begun)) - begun)
    return total


class RunFolder:
    """Holds the lock of a run's directory on rank 0; the other ranks only know the path."""

    def __init__(self, path: Path, *, is_main: bool) -> None:
        self.path = path
        self.is_main = is_main
        self.uid = ""
        self.attempt = 0
        self.notes: list[str] = []
        """What was found damaged and set aside."""
        self.extended_from: Checkpoint | None = None
        """Where this attempt began to train a run longer than it was planned."""
        self._lock: RunLock | None = None
        self._started = time.time()
        if is_main:
            path.mkdir(parents=True, exist_ok=True)
            self._lock = RunLock(path / "run.lock")
            self._lock.acquire(timeout=2.0)  # an owner that was just killed may still be ending

    @property
    def existing(self) -> dict[str, Any] | None:
        """run.json of the run that is here, if there is one; its recipe with the fields that came later."""
        if not (self.path / "run.json").exists():
            return None
        found = read_identity(self.path)
        return {**found, "recipe": with_defaults(found["recipe"])}

    @property
    def result(self) -> dict[str, Any] | None:
        """result.json of a run that is complete, if it is. A damaged one is set aside: the run then ends once more."""
        file = self.path / "result.json"
        if not file.exists():
            return None
        try:
            return read_object(file, needs=RESULT, fix="")
        except CheckpointError as error:
            os.replace(file, free_name(self.path, "result.damaged", ".json"))
            self.notes.append(f"{error.message} It was set aside, and the run is ended once more.")
            return None

    def complete(self, document: Mapping[str, Any], *, resume: Resume, extend: bool) -> dict[str, Any] | None:
        """result.json where the run is complete and stays as it is; None where there are steps to take.

        Raises:
            ResumeMismatch: the run is complete and other settings made its weights; or an extension changes more
                than how long it trains.
        """
        if resume == "never" or (result := self.result) is None or (existing := self.existing) is None:
            return None
        asked = {**existing, **document}
        if not extend:
            check_finished(existing, asked)
        elif check_extension(existing, asked):
            return None
        self.uid = existing["uid"]
        return result

    def begin(
        self,
        document: Mapping[str, Any],
        *,
        resume: Resume,
        allow_change: frozenset[str],
        world_size: int,
        command: str,
        extend_to: int | None = None,
    ) -> list[str]:
        """Start a run here, or continue the one that is here; record the attempt.

        Args:
            document: What run.json holds besides the run's uid: recipe, fingerprints, labels, source.
            command: What a person typed, for the history of the run.
            extend_to: The last step of the longer run that the one here is to become; None: it is not extended.

        Returns:
            Warnings: libraries or a commit that changed since the last attempt.

        Raises:
            ResumeMismatch: the recipe, data, tokenizer or labels changed without leave.
            CheckpointError: there is nothing to continue, and ``resume`` is ``must`` or the run is to be extended.
            RecipeError: the longer run is not longer.
        """
        assert self.is_main
        if resume == "never":
            self._set_aside()
        existing = self.existing
        if existing is None:
            self._refuse_nameless(resume=resume, extend=extend_to is not None)
            self.uid = uuid.uuid4().hex
            write_json(self.path / "run.json", {"schema": 1, "uid": self.uid, "command": command, **document})
        else:
            self.uid = existing["uid"]
            self._continue(existing, document, allow=allow_change, extend_to=extend_to, command=command)
        warnings, now = self.notes, environment(Path.cwd())
        attempts = read_attempts(self.path)
        if attempts:
            newest = attempts[max(attempts)]
            warnings = [*warnings, *compare_versions(newest, now)] if newest else warnings
        self.attempt = max(attempts, default=0) + 1
        self._record({"host": socket.gethostname(), "pid": os.getpid(), "world_size": world_size, **now, "exit": None})
        return warnings

    def _refuse_nameless(self, *, resume: Resume, extend: bool) -> None:
        if resume == "must" or extend:
            asked = "--extend" if extend else "--resume must"
            raise CheckpointError(
                f"{self.path}: expected a run to continue ({asked}), found none.",
                fix="Check --run-dir, or leave the option out to start one.",
            )
        left = [name for name in ("checkpoints", "result.json") if (self.path / name).exists()]
        if left:
            raise CheckpointError(
                f"{self.path}: expected a run.json that says which run this is, found {' and '.join(left)} without it.",
                fix=BEGIN_ANEW,
            )

    def _continue(
        self,
        existing: Mapping[str, Any],
        document: Mapping[str, Any],
        *,
        allow: frozenset[str],
        extend_to: int | None,
        command: str,
    ) -> None:
        """Write run.json anew, with what changed since it was written and from which step on."""
        asked = {**existing, **document}
        if extend_to is None:
            check_resume(existing, asked, allow=set(allow))
        else:
            check_extension(existing, asked)
        history = existing.get("history", [])
        if differences := compare(existing, asked):
            newest = Store(self.path, run_uid=self.uid, mode="read", on_quarantine=lambda *_: None).latest()
            if extend_to is not None:
                _check_longer(newest, extend_to, recipe=document["recipe"])
                self.extended_from = newest
                if (self.path / "result.json").exists():
                    os.replace(self.path / "result.json", free_name(self.path, "result.earlier", ".json"))
            history = remember(
                history,
                differences,
                from_step=newest.step if newest else 0,
                attempt=max(read_attempts(self.path), default=0) + 1,
                extended=extend_to is not None,
                command=command,
            )
        write_json(self.path / "run.json", {**asked, "history": history} if history else asked)

    def _attempt_file(self) -> Path:
        return self.path / "attempts" / f"{self.attempt:04d}.json"

    def _record(self, facts: Mapping[str, Any]) -> None:
        self._attempt_file().parent.mkdir(exist_ok=True)
        write_json(self._attempt_file(), {"attempt": self.attempt, "started": self._started, **facts})

    def _set_aside(self) -> None:
        """Move what an earlier run left into ``old-N``; nothing is deleted."""
        entries = [
            entry for entry in self.path.iterdir() if entry.name != "run.lock" and not entry.name.startswith("old-")
        ]
        if not {"run.json", "checkpoints", "result.json"} & {entry.name for entry in entries}:
            return
        old = free_name(self.path, "old")
        old.mkdir()
        for entry in entries:
            entry.rename(old / entry.name)

    def end(self, reason: str) -> None:
        """Record how the attempt ended and give the directory back."""
        if self._lock is None:
            return
        if self.attempt and self._attempt_file().exists():
            facts = read_attempts(self.path)[self.attempt]
            write_json(self._attempt_file(), {**facts, "exit": reason, "ended": time.time()})
        self._lock.release()
        self._lock = None


def _check_longer(newest: Checkpoint | None, total_steps: int, *, recipe: Mapping[str, Any]) -> None:
    """Refuse an extension that would take no step."""
    done = newest.step if newest is not None else 0
    budget = recipe["budget"]
    if total_steps <= done:
        raise RecipeError(
            f"--extend: the run has taken {done:,} steps, and the budget ends after {total_steps:,} "
            f"(budget.epochs {budget['epochs']:g}, budget.max_steps {budget['max_steps']}).",
            fix="Raise budget.epochs, or budget.max_steps where it is set: --extend --budget.epochs MORE",
            field="budget.epochs",
        )
    stale = newest.state["run"]["stale"] if newest is not None else 0
    if budget["patience"] is not None and stale >= budget["patience"]:
        raise RecipeError(
            f"--extend: the run ended early: its score has not improved for {stale} evaluations, as many as "
            "budget.patience allows.",
            fix="Raise budget.patience, or set it to none, beside the budget.",
            field="budget.patience",
        )
