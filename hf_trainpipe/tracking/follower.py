"""Trackers, seen from the trainer: start a process that follows the ledger, and detach from it at the end.

No method waits for a tracker. :meth:`Follower.finish` waits for at most its timeout.
"""

from __future__ import annotations

import contextlib
import json
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hf_trainpipe.errors import TrainpipeError
from hf_trainpipe.sidecar.parent import Sidecar
from hf_trainpipe.tracking.base import artifacts_file, specs_for, tracking_folder, write_spec
from hf_trainpipe.tracking.feeder import Feeder
from hf_trainpipe.utils.backoff import backoff

if TYPE_CHECKING:
    from collections.abc import Sequence

    from hf_trainpipe.recipe import RunInfo, Tracker


class Follower(Sidecar):
    """A process that sends a run's ledger to its trackers. Without trackers, nothing is started."""

    def __init__(
        self, run: RunInfo, trackers: Sequence[Tracker], *, poll_s: float = 1.0, linger_s: float = 30.0
    ) -> None:
        """Start to follow ``run.directory/ledger.jsonl``; main process only.

        A process that cannot be started is a message, not an error.

        Args:
            run: The run; its directory exists.
            trackers: The recipe's trackers.
            poll_s: Seconds between two reads of the ledger.
            linger_s: Seconds that the process may go on after the run's end.

        Raises:
            RecipeError: where a tracker cannot be described in a file.
        """
        super().__init__()
        self.run = run
        if not trackers:
            return
        write_spec(run, trackers)
        arguments = [str(run.directory.resolve()), "--poll", str(poll_s), "--linger", str(linger_s)]
        try:
            self.start("hf_trainpipe.tracking.process", arguments, log=tracking_folder(run.directory) / "follower.log")
        except OSError as error:
            self._messages.append(f"trackers: not started ({error}). `track sync` sends the run later.")

    def artifact(self, path: str | Path) -> None:
        """Ask for a file's upload. It is read when its turn comes; a missing one is skipped."""
        file, directory = Path(path).resolve(), self.run.directory.resolve()
        stored = file.relative_to(directory).as_posix() if file.is_relative_to(directory) else str(file)
        row = {"path": stored, "time": time.time()}
        with contextlib.suppress(OSError):
            tracking_folder(self.run.directory)
            with artifacts_file(self.run.directory).open("ab") as stream:
                stream.write(json.dumps(row).encode() + b"\n")

    def finish(self, timeout: float = 5.0) -> bool:
        """Ask for the end, and wait for at most ``timeout`` seconds.

        Returns:
            Whether everything was sent. If not, the process runs on for its ``linger_s``
            seconds, and ``track sync`` sends what is left after that.
        """
        code = self.end("finish", timeout=timeout)
        if code != 0:
            state = "still being sent" if code is None else "not all sent"
            self._messages.append(
                f"trackers: {state}; `hf-trainpipe track sync {self.run.directory}` sends what is left."
            )
        return code == 0


def sync(directory: str | Path, *, to: str | None = None, tries: int = 3, wait_s: float = 35.0) -> dict[str, Any]:
    """Send what a run's trackers have not got yet, in the foreground. Runs trackers' code.

    A tracker that was offline and now finds a server gets the whole run; a server that holds part of
    it gets the rest.

    Args:
        directory: The run's directory.
        to: One tracker by name (``mlflow``), which the recipe need not have; None: all of the recipe.
        tries: How often to try to reach a tracker.
        wait_s: Seconds to wait for another process that is sending this run.

    Returns:
        ``complete`` (every tracker holds the whole ledger); ``trackers``, of each kind, destination, address, num_sent,
        num_left and error; ``messages``, lines for the user.

    Raises:
        RecipeError: where the directory holds no run with trackers, or no tracker is named ``to``.
        TrainpipeError: another process is still sending after ``wait_s`` seconds.
    """
    from filelock import Timeout

    from hf_trainpipe.tracking.process import lock_of

    directory = Path(directory).resolve()
    run, specs = specs_for(directory, to)
    messages: list[str] = []
    reports: list[dict[str, Any]] = []
    try:
        with lock_of(directory).acquire(timeout=wait_s), contextlib.chdir(directory):
            for position, spec in specs.items():
                feeder = Feeder(run, spec, position=position, say=messages.append, log=lambda _: None)
                _send_all(feeder, tries)
                told = {name: getattr(feeder, name) for name in ("kind", "destination", "address", "num_sent", "error")}
                reports.append({**told, "num_left": feeder.num_left()})
    except Timeout as error:
        raise TrainpipeError(
            f"{directory}: another process is still sending this run to its trackers.",
            fix="Wait until the run has ended, then run the command again.",
        ) from error
    complete = all(report["error"] is None and report["num_left"] == 0 for report in reports)
    return {"complete": complete, "trackers": reports, "messages": messages}


def _send_all(feeder: Feeder, tries: int) -> None:
    """Send everything, from a thread: a tracker that does not answer in time is left behind."""

    def work() -> None:
        for attempt in range(tries):
            if attempt:
                time.sleep(backoff(attempt, first_s=2.0, longest_s=10.0))
            if feeder.send_new():
                break
        feeder.close()

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    while thread.is_alive() and feeder.late() is None:
        thread.join(0.2)
    feeder.tell_late()
