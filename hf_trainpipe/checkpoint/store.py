"""The checkpoints of a run: save them, also in the background, find the newest valid one, rotate old ones.

    <run directory>/checkpoints/            see :mod:`hf_trainpipe.checkpoint.folder`
    <run directory>/latest.json best.json   for people and scripts; never read here

Checkpoints are ordered by step, never by time. One process writes
(see :class:`~hf_trainpipe.checkpoint.lock.RunLock`).
"""

from __future__ import annotations

import json
import logging
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

from hf_trainpipe.checkpoint import tensors
from hf_trainpipe.checkpoint.folder import QUARANTINE, Folder
from hf_trainpipe.checkpoint.manifest import Broken, folder_name
from hf_trainpipe.checkpoint.snapshot import Checkpoint, Prepared, Snapshot
from hf_trainpipe.errors import CheckpointError
from hf_trainpipe.utils import atomic

logger = logging.getLogger(__name__)

_LATEST, _BEST = "latest.json", "best.json"
MOST_FAILURES = 3
"""Failed saves in a row at which a run gives up."""


class SaveFailed(CheckpointError):
    """A save failed; earlier checkpoints are unchanged.

    The run continues with a warning unless ``give_up`` is true: then :data:`MOST_FAILURES` in a row failed.
    """

    give_up: bool


class Store:
    """The checkpoints of one run directory.

    Args:
        directory: The run's directory; created if it is missing.
        keep: Newest checkpoints kept, 2 or more, besides the best.
        run_uid: The run that checkpoints must belong to; None: not checked.
        mode: "write" removes what a killed process left unfinished, so hold the run's lock. "read" changes
            nothing on disk: damaged checkpoints are skipped and stay.
        on_quarantine: Called with the place of a damaged checkpoint and the reason; default: a log warning.
        on_saved: Called with the step of a checkpoint that is on the disk, from the thread that wrote it.

    Raises:
        TrainpipeError: mode is "write" and the directory cannot be written.
    """

    def __init__(
        self,
        directory: Path,
        *,
        keep: int = 2,
        run_uid: str | None = None,
        mode: Literal["write", "read"] = "write",
        on_quarantine: Callable[[Path, str], None] | None = None,
        on_saved: Callable[[int], None] = lambda _: None,
    ) -> None:
        if keep < 2:
            raise ValueError(f"keep: expected 2 or more, so that a damaged checkpoint has one before it; found {keep}.")
        self.directory = Path(directory).absolute()
        self.keep = keep
        self.mode = mode
        self.failures_in_a_row = 0
        self._folder = Folder(
            path=self.directory / "checkpoints",
            run_uid=run_uid,
            mode=mode,
            on_quarantine=on_quarantine or _log_quarantine,
        )
        self._on_saved = on_saved
        self._buffers = tensors.Buffers()
        self._thread: threading.Thread | None = None
        self._outcome: Path | BaseException | None = None
        if mode == "write":
            self._folder.prepare()
            unfinished = tuple(f"{atomic.TEMPORARY}{name}-" for name in (_LATEST, _BEST))
            for path in self.directory.iterdir():
                if path.name.startswith(unfinished):
                    path.unlink(missing_ok=True)

    # Saving

    def save(self, snapshot: Snapshot) -> Path:
        """Write a checkpoint in this thread, after any that :meth:`save_async` is still writing.

        A valid checkpoint of that step is kept as it is. Older ones are deleted only after the new one was
        read back: the newest ``keep`` and the best stay.

        Returns:
            The folder of the checkpoint.

        Raises:
            SaveFailed: disk full, read-only, input or output error; the run may continue.
            TypeError: the state holds what JSON or safetensors cannot.
        """
        self._settle()
        assert self.mode == "write", "this store was opened for reading"
        return self._commit(Prepared.of(snapshot, buffers=self._buffers))

    def save_async(self, snapshot: Snapshot) -> None:
        """Copy the tensors and write them in the background; returns after the copy. One save is in flight at most.

        Raises:
            SaveFailed: an earlier save failed; this one was started.
            TypeError: the state holds what JSON or safetensors cannot.
        """
        earlier = self._finish()
        if isinstance(earlier, BaseException) and not isinstance(earlier, SaveFailed):
            raise earlier
        assert self.mode == "write", "this store was opened for reading"
        prepared = Prepared.of(snapshot, buffers=self._buffers)

        def write() -> None:
            try:
                self._outcome = self._commit(prepared)
            except BaseException as error:
                self._outcome = error

        self._thread = threading.Thread(target=write, name=f"checkpoint-{snapshot.step}")
        self._thread.start()
        if isinstance(earlier, SaveFailed):
            raise earlier

    def wait(self) -> Path | None:
        """Wait for the save in flight.

        Returns:
            The folder it wrote; None if there was none since the last call.

        Raises:
            SaveFailed: it failed.
        """
        outcome = self._finish()
        if isinstance(outcome, BaseException):
            raise outcome
        return outcome

    # Loading

    def steps(self) -> list[int]:
        """Steps of the checkpoints that are there, ascending. They are not verified."""
        return self._folder.steps()

    def latest(self, misfit: Callable[[Checkpoint], str | None] | None = None) -> Checkpoint | None:
        """The newest valid checkpoint; damaged ones on the way to it go into quarantine.

        Args:
            misfit: Gives the reason why an intact checkpoint cannot be used by this run; None if it can. Such a
                checkpoint goes into quarantine if an older one can be used. If none can, all stay: then it is more
                likely the run that is another one.

        Returns:
            None if this run never saved.

        Raises:
            CheckpointError: none is valid; or one is of a newer schema, or of another run.
        """
        self._settle()
        unfit: dict[int, str] = {}
        for step in reversed(self.steps()):
            checkpoint = self._folder.open(step)
            if checkpoint is None:
                continue
            reason = misfit(checkpoint) if misfit is not None else None
            if reason is None:
                for other, why in unfit.items():
                    self._folder.quarantine(other, why)
                return checkpoint
            unfit[step] = reason
        if unfit:
            step, reason = next(iter(unfit.items()))
            raise CheckpointError(
                f"{self.directory}: no checkpoint can be continued. {folder_name(step)}: {reason}.",
                fix="Use the model and recipe that this run began with; or begin anew and keep what is here in old-1: "
                "--resume never",
            )
        if self._saved_before():
            raise CheckpointError(
                f"{self.directory} had checkpoints, but none is valid now. "
                f"The reasons are in checkpoints/{QUARANTINE}.",
                fix="Bring one back from a copy; or start from the beginning with --resume never.",
            )
        return None

    def at(self, step: int) -> Checkpoint | None:
        """The checkpoint of ``step`` if it is valid, such as the one that rank 0 chose."""
        self._settle()
        return self._folder.open(step)

    def keep_only(self, step: int, *others: int) -> None:
        """Verify the checkpoint of ``step``, and delete all but it and ``others``.

        Raises:
            OSError: what remains of a deletion is removed when the store is opened again.
        """
        if self.at(step) is not None:
            self._folder.delete(keep={step, *others})
            if not others:
                (self.directory / _BEST).unlink(missing_ok=True)

    # Inside

    def _finish(self) -> Path | BaseException | None:
        """Wait for the save in flight and take its outcome."""
        self._settle()
        self._thread = None
        outcome, self._outcome = self._outcome, None
        return outcome

    def _settle(self) -> None:
        """Wait for the save in flight, leaving its outcome to :meth:`wait`."""
        if self._thread is not None:
            self._thread.join()

    def _commit(self, prepared: Prepared) -> Path:
        known = self._folder.open(prepared.step)
        try:
            path = known.path if known else self._folder.write(prepared)
        except (OSError, Broken, CheckpointError) as error:
            raise self._failed(prepared.step, error) from error
        self.failures_in_a_row = 0
        try:
            self._point(prepared)
            newest = self.steps()[-self.keep :]
            self._folder.delete(keep={*newest, prepared.step, prepared.best_step})
        except OSError as error:
            logger.warning("step %d is saved, but tidying up after it failed: %s", prepared.step, error)
        self._on_saved(prepared.step)
        return path

    def _failed(self, step: int, error: Exception) -> SaveFailed:
        if isinstance(error, Broken):
            self._folder.quarantine(step, f"read back after saving: {error}")
        self.failures_in_a_row += 1
        why = (error.strerror if isinstance(error, OSError) else None) or str(error)
        return SaveFailed(
            f"The checkpoint of step {step} could not be saved: {why}. Earlier ones are kept "
            f"(failed saves in a row: {self.failures_in_a_row} of at most {MOST_FAILURES}).",
            fix=f"Free some space on the disk of {self.directory}, and see that it is healthy.",
            give_up=self.failures_in_a_row >= MOST_FAILURES,
        )

    def _saved_before(self) -> bool:
        quarantine = self._folder.path / QUARANTINE
        quarantined = quarantine.is_dir() and any(quarantine.iterdir())
        return bool(self.steps()) or quarantined or (self.directory / _LATEST).exists()

    def _point(self, prepared: Prepared) -> None:
        for name, step in ((_LATEST, prepared.step), (_BEST, prepared.best_step)):
            if step is not None and self._folder.has(step):
                pointer = {"step": step, "path": f"{self._folder.path.name}/{folder_name(step)}"}
                if _read_json(self.directory / name) != pointer:
                    atomic.write_json(self.directory / name, pointer)


def _read_json(path: Path) -> Any:
    try:
        return json.loads(path.read_bytes())
    except (OSError, ValueError):
        return None


def _log_quarantine(place: Path, reason: str) -> None:
    logger.warning("a damaged checkpoint was passed over: %s (%s)", place, reason)
