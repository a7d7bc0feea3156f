"""A run's directory: who owns it, which run it is, and its attempts. Only rank 0 writes."""

from __future__ import annotations

import os
import socket
import time
import uuid
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Self

from hf_trainpipe.checkpoint.contract import (
    Difference,
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
from hf_trainpipe.training.run_files import BEGIN_ANEW, environment, is_packaged, read_identity, read_result
from hf_trainpipe.utils.atomic import write_json
from hf_trainpipe.utils.attempts import read_attempts
from hf_trainpipe.utils.wording import command_line


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
        """What was found damaged and set aside; libraries or a commit that changed since the last attempt."""
        self.extended_from: Checkpoint | None = None
        """Where this attempt began to train a run longer than it was planned."""
        self._lock: RunLock | None = None
        self._facts: dict[str, Any] = {"started": time.time()}
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
    def is_complete(self) -> bool:
        """Whether a run has ended here, as far as its files say without being read."""
        return (self.path / "result.json").exists()

    @property
    def result(self) -> dict[str, Any] | None:
        """result.json of a run that is complete, if it is. A damaged one is set aside: the run then ends once more."""
        try:
            return read_result(self.path)
        except CheckpointError as error:
            os.replace(self.path / "result.json", free_name(self.path, "result.damaged", ".json"))
            self.notes.append(f"{error.message} It was set aside, and the run is ended once more.")
            return None

    def begin(
        self, document: Mapping[str, Any], options: RunOptions, *, total_steps: int, facts: Mapping[str, Any]
    ) -> dict[str, Any] | None:
        """Start a run here, or continue the one that is here; record the attempt. What to tell of it is in ``notes``.

        Args:
            document: What run.json holds besides the run's uid: recipe, fingerprints, labels, source.
            total_steps: The run's last step, by the recipe's budget.
            facts: What the attempt records of where it runs.

        Returns:
            result.json of a run that is complete and stays as it is; None if there is something to do.

        Raises:
            ResumeMismatch: the recipe, data, tokenizer or labels changed, and no option allows it; or an extension
                changes more than how long it trains.
            CheckpointError: there is nothing to continue, and the options ask for that.
            RecipeError: the longer run is not longer.
        """
        if options.resume == "never":
            self._set_aside()
        result = None if options.package_only else self.result
        if result is not None and not (options.validation_only or is_packaged(result)):
            result = None  # it ends once more, with a package
        existing = self.existing
        attempts = read_attempts(self.path)
        self.attempt = max(attempts, default=0) + 1
        if existing is None:
            self._check_empty(options)
            self.uid = uuid.uuid4().hex
            document = {"schema": 1, "uid": self.uid, "command": command_line(), **document}
        else:
            self.uid = existing["uid"]
            document = {**existing, **document}
            if options.extend:
                check_extension(existing, document)
            elif result is not None:
                check_finished(existing, document)
            else:
                check_resume(existing, document, allow=options.allow_change)
            differences = compare(existing, document)
            if result is not None and not differences:
                return result
            if differences:
                history = self._remembered(differences, document, total_steps=total_steps, is_extended=options.extend)
                document = {**document, "history": history}
        write_json(self.path / "run.json", document)
        now, newest = environment(Path.cwd()), attempts.get(self.attempt - 1)
        (self.path / "attempts").mkdir(exist_ok=True)
        self._record(attempt=self.attempt, host=socket.gethostname(), pid=os.getpid(), **facts, **now, exit=None)
        self.notes += compare_versions(newest, now) if newest else ()
        return None

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
        left += ["result.json"] if self.is_complete else []
        if left:
            raise CheckpointError(
                f"{self.path}: expected a run.json that says which run this is, found {' and '.join(left)} without it.",
                fix=BEGIN_ANEW,
            )

    def _remembered(
        self, differences: Sequence[Difference], document: Mapping[str, Any], *, total_steps: int, is_extended: bool
    ) -> list[dict[str, Any]]:
        """The run's history with what changes now, and from which step on; an extension begins there."""
        newest = Store(self.path, run_uid=self.uid, mode="read", on_quarantine=lambda *_: None).latest()
        if is_extended:
            _check_longer(newest, total_steps, recipe=document["recipe"])
            self.extended_from = newest
            if self.is_complete:
                os.replace(self.path / "result.json", free_name(self.path, "result.earlier", ".json"))
        return remember(
            document.get("history", []),
            differences,
            from_step=newest.step if newest else 0,
            attempt=self.attempt,
            extended=is_extended,
            command=command_line(),
        )

    @property
    def _attempt_file(self) -> Path:
        return self.path / "attempts" / f"{self.attempt:04d}.json"

    def _record(self, **facts: Any) -> None:
        self._facts |= facts
        write_json(self._attempt_file, self._facts)

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

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if self._lock is None:
            return
        if self._attempt_file.exists():
            how = "complete" if kind is None else "interrupted" if issubclass(kind, Interrupted) else "failed"
            self._record(exit=how, ended=time.time())
        self._lock.release()


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
    state = newest.state["run"] if newest is not None else {}
    if budget.get("stop_on_overfitting") and (state.get("gaps") or {}).get("shown_from") is not None:
        raise RecipeError(
            "--extend: the run ended early: overfitting was shown.",
            fix="Set budget.stop_on_overfitting to false beside the budget.",
        )
    stale = state.get("stale", 0)
    if budget["patience"] is not None and stale >= budget["patience"]:
        raise RecipeError(
            f"--extend: the run ended early: its score has not improved for {stale} evaluations, as many as "
            "budget.patience allows.",
            fix="Raise budget.patience, or set it to none, beside the budget.",
        )
