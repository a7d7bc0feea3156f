"""A running command: its output, signals to it, and killing all its processes."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import psutil

MARK = "FAULT_INJECTION_PROCESS"
"""Environment variable to find processes that outlived their parents."""
PATIENCE = 240.0


class Unexpected(AssertionError):
    """The result is not the expected one."""


def expect(condition: object, message: str) -> None:
    """Fail the row unless the condition holds."""
    if not condition:
        raise Unexpected(message)


def until(condition: Callable[[], object], *, seconds: float = PATIENCE, every: float = 0.02) -> None:
    """Wait for a condition; fail after ``seconds``."""
    end = time.monotonic() + seconds
    while not condition():
        expect(time.monotonic() < end, f"timed out after {seconds:.0f} s")
        time.sleep(every)


@dataclass(frozen=True)
class Ended:
    """A finished command."""

    code: int
    stderr: str
    seconds: float

    @property
    def last(self) -> str:
        """Its error line, or else its last line."""
        lines = [line for line in self.stderr.splitlines() if line.strip(" =-")]
        telling = [line for line in lines if re.search(r"error:|^\w*(Error|Exception): |terminate called", line)]
        return (telling or lines or [""])[-1]


class Process:
    """A command in its own session; its stderr goes to a file."""

    def __init__(self, command: Sequence[str], *, folder: Path, environment: Mapping[str, str]) -> None:
        self.mark = uuid.uuid4().hex
        self.log = folder / f".stderr-{self.mark}"
        self.started = time.monotonic()
        with self.log.open("wb") as stderr:
            self.popen = subprocess.Popen(
                command,
                cwd=folder,
                env={**environment, MARK: self.mark},
                stdout=subprocess.DEVNULL,
                stderr=stderr,
                start_new_session=True,
            )

    @property
    def stderr(self) -> str:
        """The stderr so far."""
        return self.log.read_text(errors="replace")

    @property
    def running(self) -> bool:
        """Whether the command itself has not ended."""
        return self.popen.poll() is None

    def wait_for_output(self, pattern: str) -> None:
        """Wait for a line on stderr; fail if the command ends without it."""

        def found_or_ended() -> bool:
            return bool(re.search(pattern, self.stderr)) or not self.running

        until(found_or_ended)
        expect(
            re.search(pattern, self.stderr), f"ended with {self.popen.poll()} before {pattern!r}: {self.stderr[-300:]}"
        )

    def end(self, *, timeout: float = PATIENCE) -> Ended:
        """Wait for its end; after a timeout kill it and fail the row."""
        try:
            code = self.popen.wait(timeout)
        except subprocess.TimeoutExpired:
            self.kill_all()
            raise Unexpected(f"still running after {timeout:.0f} s: {self.stderr[-300:]}") from None
        seconds = time.monotonic() - self.started
        self.kill_leftovers()
        return Ended(code, self.stderr, seconds)

    def send(self, number: signal.Signals) -> None:
        """A signal to the command's own process."""
        self.popen.send_signal(number)

    def process_tree(self) -> list[int]:
        """The command's process and its descendants."""
        found = [self.popen.pid]
        with contextlib.suppress(psutil.Error):
            found += [child.pid for child in psutil.Process(self.popen.pid).children(recursive=True)]
        return found

    def kill_all(self, processes: Sequence[int] = ()) -> Ended:
        """SIGKILL to all its processes, as simultaneously as possible.

        Args:
            processes: From :meth:`process_tree`, if looked up in advance.
        """
        for pid in processes if self.running and processes else self.process_tree():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        code = self.popen.wait()
        self.kill_leftovers()
        return Ended(code, self.stderr, time.monotonic() - self.started)

    def leftovers(self) -> list[psutil.Process]:
        """Processes of this command that still exist."""
        found = []
        for process in psutil.process_iter():
            with contextlib.suppress(psutil.Error):
                if process.environ().get(MARK) == self.mark and process.status() != psutil.STATUS_ZOMBIE:
                    found.append(process)
        return found

    def kill_leftovers(self) -> None:
        """Kill processes that were started during the kill, or outlived their parents."""
        while left := self.leftovers():
            for process in left:
                with contextlib.suppress(psutil.Error):
                    process.kill()
            time.sleep(0.01)
