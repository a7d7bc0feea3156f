"""The trainer's side of the trackers: start a process that follows the ledger, and let it go.

No method waits for a tracker. :meth:`Follower.finish` waits for at most its timeout.
"""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Self

from hf_trainpipe.errors import TrainpipeError
from hf_trainpipe.tracking.base import artifacts_file, read_spec, tracking_folder, write_spec
from hf_trainpipe.tracking.feeder import Feeder, stored_path

if TYPE_CHECKING:
    from collections.abc import Sequence
    from types import TracebackType

    from hf_trainpipe.recipe import RunInfo, Tracker

__all__ = ["Follower", "SyncReport", "TrackerReport", "sync"]

_still_sending: list[subprocess.Popen[bytes]] = []


class Follower:
    """A process that sends a run's ledger to its trackers. Without trackers, nothing is started."""

    def __init__(self, run: RunInfo, process: subprocess.Popen[bytes] | None, messages: list[str]) -> None:
        """Use :meth:`start`."""
        self.run = run
        self._process = process
        self._messages = messages
        self._unread = b""

    @classmethod
    def start(cls, run: RunInfo, trackers: Sequence[Tracker], *, poll_s: float = 1.0, linger_s: float = 30.0) -> Self:
        """Start to follow ``run.directory/ledger.jsonl``; main process only.

        A process that cannot be started is a message, not an error.

        Args:
            run: The run; its directory exists.
            trackers: The recipe's trackers.
            poll_s: Seconds between two looks at the ledger.
            linger_s: Seconds that the process may go on after the run's end.

        Raises:
            RecipeError: where a tracker cannot be described in a file.
        """
        if not trackers:
            return cls(run, None, [])
        write_spec(run, trackers)
        package_parent = str(Path(__file__).resolve().parents[2])
        paths = [package_parent, *filter(None, os.environ.get("PYTHONPATH", "").split(os.pathsep))]
        command = [sys.executable, "-P", "-m", "hf_trainpipe.tracking.process", str(run.directory.resolve())]
        command += ["--parent", str(os.getpid()), "--poll", str(poll_s), "--linger", str(linger_s)]
        try:
            with open(tracking_folder(run.directory) / "follower.log", "ab") as log:
                process = subprocess.Popen(
                    command,
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    stderr=log,
                    env={**os.environ, "PYTHONPATH": os.pathsep.join(paths)},
                    start_new_session=True,  # Ctrl-C in the trainer's terminal is not for this process
                )
        except OSError as error:
            return cls(run, None, [f"trackers: not started ({error}). `track sync` sends the run later."])
        assert process.stdout is not None
        os.set_blocking(process.stdout.fileno(), False)
        return cls(run, process, [])

    @property
    def pid(self) -> int | None:
        """Process id; None where nothing was started."""
        return self._process.pid if self._process is not None else None

    def messages(self) -> list[str]:
        """Lines for the person that came since the last call. Never waits."""
        process = self._process
        if process is not None and process.stdout is not None and not process.stdout.closed:
            try:
                while part := os.read(process.stdout.fileno(), 65536):
                    self._unread += part
            except OSError:  # nothing there yet
                pass
            *lines, self._unread = self._unread.split(b"\n")
            self._messages += [line.decode(errors="replace") for line in lines]
        found, self._messages = self._messages, []
        return found

    def artifact(self, path: str | Path) -> None:
        """Ask for a file's upload. It is read when its turn comes; a missing one is skipped."""
        row = {"path": stored_path(Path(path), self.run.directory), "time": time.time()}
        with contextlib.suppress(OSError):
            tracking_folder(self.run.directory)
            descriptor = os.open(artifacts_file(self.run.directory), os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
            try:
                os.write(descriptor, json.dumps(row).encode() + b"\n")
            finally:
                os.close(descriptor)

    def finish(self, timeout: float = 5.0) -> bool:
        """Ask for the end, and wait for at most ``timeout`` seconds.

        Returns:
            Whether everything was sent. If not, the process goes on by itself for its ``linger_s``
            seconds, and ``track sync`` sends what is left after that.
        """
        process, self._process = self._process, None
        if process is None:
            return True
        assert process.stdin is not None
        assert process.stdout is not None
        with contextlib.suppress(OSError):
            process.stdin.write(b"finish\n")
            process.stdin.flush()  # said aloud: a worker of the trainer may hold the pipe open
        with contextlib.suppress(OSError):
            process.stdin.close()
        code: int | None = None
        with contextlib.suppress(subprocess.TimeoutExpired):
            code = process.wait(timeout)
        self._process = process
        self._messages = self.messages()
        self._process = None
        process.stdout.close()
        if code is None:
            _still_sending.append(process)
        if code != 0:
            state = "still being sent" if code is None else "not all sent"
            self._messages.append(
                f"trackers: {state}; `hf-trainpipe track sync {self.run.directory}` sends what is left."
            )
        return code == 0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.finish()


@dataclass(frozen=True, kw_only=True)
class TrackerReport:
    """What :func:`sync` did for one tracker."""

    kind: str
    destination: str | None
    address: str | None
    num_sent: int
    num_left: int
    error: str | None


@dataclass(frozen=True)
class SyncReport:
    """What :func:`sync` did."""

    trackers: tuple[TrackerReport, ...]
    messages: tuple[str, ...]

    @property
    def complete(self) -> bool:
        """Whether every tracker holds the whole ledger."""
        return all(tracker.error is None and tracker.num_left == 0 for tracker in self.trackers)


def sync(directory: str | Path, *, tries: int = 3, wait_s: float = 35.0) -> SyncReport:
    """Send what a run's trackers have not got yet, in the foreground. Runs trackers' code.

    A tracker that was offline and now finds a server gets the whole run; a server that holds part of
    it gets the rest.

    Args:
        directory: The run's directory.
        tries: How often to try to reach a tracker.
        wait_s: Seconds to wait for a process that still sends this run.

    Raises:
        RecipeError: where the directory holds no run with trackers.
        TrainpipeError: where another process still sends after ``wait_s`` seconds.
    """
    from filelock import Timeout

    from hf_trainpipe.tracking.process import lock_of

    directory = Path(directory).resolve()
    run, specs = read_spec(directory)
    messages: list[str] = []
    details: list[str] = []
    reports: list[TrackerReport] = []
    try:
        with lock_of(directory).acquire(timeout=wait_s), contextlib.chdir(directory):
            for position, spec in enumerate(specs):
                feeder = Feeder(run, spec, position=position, say=messages.append, log=details.append)
                for attempt in range(tries):
                    if attempt:
                        time.sleep(min(2.0**attempt, 10.0))
                    if feeder.pump():
                        break
                feeder.close()
                reports.append(
                    TrackerReport(
                        kind=feeder.kind,
                        destination=feeder.destination,
                        address=feeder.address,
                        num_sent=feeder.num_sent,
                        num_left=feeder.num_left(),
                        error=feeder.error,
                    )
                )
    except Timeout as error:
        raise TrainpipeError(
            f"{directory}: another process is still sending this run to its trackers.",
            fix="Wait until the run has ended, then run the command again.",
        ) from error
    return SyncReport(tuple(reports), tuple(messages))
