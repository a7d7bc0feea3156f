"""A run's directory: who owns it, which run it is, and its attempts. Only rank 0 writes."""

from __future__ import annotations

import os
import socket
import time
import uuid
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from hf_trainpipe.checkpoint.contract import (
    check_extension,
    check_finished,
    check_resume,
    compare,
    compare_versions,
    remember,
)
from hf_trainpipe.checkpoint.folder import free_name
from hf_trainpipe.checkpoint.lock import RunLock
from hf_trainpipe.checkpoint.snapshot import Checkpoint
from hf_trainpipe.checkpoint.store import Store
from hf_trainpipe.codec import with_defaults
from hf_trainpipe.errors import CheckpointError, Interrupted, RecipeError
from hf_trainpipe.training.options import RunOptions
from hf_trainpipe.training.run_files import (
    BEGIN_ANEW,
    environment,
    newest_attempt,
    read_attempts,
    read_identity,
    read_result,
)
from hf_trainpipe.utils.atomic import write_json


class RunFolder:
    """Holds the lock of a run's directory on rank 0; the other ranks only know the path.

    As a context manager it records how the attempt ended, and gives the directory back.
    """

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
        try:
            return read_result(self.path)
        except CheckpointError as error:
            os.replace(self.path / "result.json", free_name(self.path, "result.damaged", ".json"))
            self.notes.append(f"{error.message} It was set aside, and the run is ended once more.")
            return None

    def finished(self, document: Mapping[str, Any], options: RunOptions) -> dict[str, Any] | None:
        """result.json of a run that is complete and stays as it is; None if there is something to do.

        Raises:
            ResumeMismatch: the run is complete and other settings made its weights; or an extension changes more
                than how long it trains.
        """
        if options.resume == "never" or options.package_only:
            return None
        if (result := self.result) is None or (existing := self.existing) is None:
            return None
        asked = {**existing, **document}
        if not options.extend:
            check_finished(existing, asked)
        elif check_extension(existing, asked):
            return None
        self.uid = existing["uid"]
        return result

    def begin(
        self,
        document: Mapping[str, Any],
        options: RunOptions,
        *,
        total_steps: int,
        command: str,
        machine: Mapping[str, Any],
    ) -> list[str]:
        """Start a run here, or continue the one that is here; record the attempt.

        Args:
            document: What run.json holds besides the run's uid: recipe, fingerprints, labels, source.
            total_steps: The run's last step, by the recipe's budget.
            command: What a person typed, for the history of the run.
            machine: What the attempt records of where it runs.

        Returns:
            Warnings: libraries or a commit that changed since the last attempt.

        Raises:
            ResumeMismatch: the recipe, data, tokenizer or labels changed, and no option allows it.
            CheckpointError: there is nothing to continue, and the options ask for that.
            RecipeError: the longer run is not longer.
        """
        assert self.is_main
        if options.resume == "never":
            self._set_aside()
        existing = self.existing
        if existing is None:
            self._check_empty(options)
            self.uid = uuid.uuid4().hex
            write_json(self.path / "run.json", {"schema": 1, "uid": self.uid, "command": command, **document})
        else:
            self.uid = existing["uid"]
            self._continue(existing, document, options, total_steps=total_steps, command=command)
        now, newest = environment(Path.cwd()), newest_attempt(self.path)
        self.attempt = max(read_attempts(self.path), default=0) + 1
        self._record({"host": socket.gethostname(), "pid": os.getpid(), **machine, **now, "exit": None})
        return [*self.notes, *(compare_versions(newest, now) if newest else ())]

    def _check_empty(self, options: RunOptions) -> None:
        """Refuse to start a run where one was asked to continue, or where part of another one is."""
        if options.resume == "must" or options.extend:
            asked = "--extend" if options.extend else "--resume must"
            raise CheckpointError(
                f"{self.path}: expected a run to continue ({asked}), found none.",
                fix="Check --run-dir, or leave the option out to start one.",
            )
        checkpoints = self.path / "checkpoints"
        # It may be an empty disk, mounted there.
        is_empty = checkpoints.is_dir() and {entry.name for entry in checkpoints.iterdir()} <= {"lost+found"}
        left = ["checkpoints"] if checkpoints.exists() and not is_empty else []
        left += ["result.json"] if (self.path / "result.json").exists() else []
        if left:
            raise CheckpointError(
                f"{self.path}: expected a run.json that says which run this is, found {' and '.join(left)} without it.",
                fix=BEGIN_ANEW,
            )

    def _continue(
        self,
        existing: Mapping[str, Any],
        document: Mapping[str, Any],
        options: RunOptions,
        *,
        total_steps: int,
        command: str,
    ) -> None:
        """Write run.json again, with what changed and from which step on."""
        asked = {**existing, **document}
        if options.extend:
            check_extension(existing, asked)
        else:
            check_resume(existing, asked, allow=options.allow_change)
        history = existing.get("history", [])
        if differences := compare(existing, asked):
            newest = Store(self.path, run_uid=self.uid, mode="read", on_quarantine=lambda *_: None).latest()
            if options.extend:
                _check_longer(newest, total_steps, recipe=document["recipe"])
                self.extended_from = newest
                if (self.path / "result.json").exists():
                    os.replace(self.path / "result.json", free_name(self.path, "result.earlier", ".json"))
            history = remember(
                history,
                differences,
                from_step=newest.step if newest else 0,
                attempt=max(read_attempts(self.path), default=0) + 1,
                extended=options.extend,
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

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None:
            self._end("complete")
        else:
            self._end("interrupted" if issubclass(kind, Interrupted) else "failed")

    def _end(self, reason: str) -> None:
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
        )
    stale = newest.state["run"]["stale"] if newest is not None else 0
    if budget["patience"] is not None and stale >= budget["patience"]:
        raise RecipeError(
            f"--extend: the run ended early: its score has not improved for {stale} evaluations, as many as "
            "budget.patience allows.",
            fix="Raise budget.patience, or set it to none, beside the budget.",
        )
