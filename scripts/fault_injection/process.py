"""A command that is running: what it says, signals to it, and its whole family killed at once."""

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

MARK = "FAULTLAB_PROCESS"
"""Environment variable by which processes are found that outlived their parents."""
PATIENCE = 240.0


class Unexpected(AssertionError):
    """What was seen is not what must be."""


def expect(condition: object, message: str) -> None:
    """Fail the row unless it holds."""
    if not condition:
        raise Unexpected(message)


def until(condition: Callable[[], object], *, seconds: float = PATIENCE, every: float = 0.02) -> None:
    """Wait for something; fails only when it never comes."""
    end = time.monotonic() + seconds
    while not condition():
        expect(time.monotonic() < end, f"waited {seconds:.0f} s in vain")
        time.sleep(every)


@dataclass(frozen=True)
class Ended:
    """A finished command."""

    code: int
    said: str
    seconds: float

    @property
    def last(self) -> str:
        """Its error line, or else its last line."""
        lines = [line for line in self.said.splitlines() if line.strip(" =-")]
        telling = [line for line in lines if re.search(r"error:|^\w*(Error|Exception): |terminate called", line)]
        return (telling or lines or [""])[-1]


class Process:
    """A command in a session of its own; its standard error goes to a file."""

    def __init__(self, command: Sequence[str], *, folder: Path, environment: Mapping[str, str]) -> None:
        self.mark = uuid.uuid4().hex
        self.log = folder / f".said-{self.mark}"
        self.started = time.monotonic()
        with self.log.open("wb") as said:
            self.popen = subprocess.Popen(
                command,
                cwd=folder,
                env={**environment, MARK: self.mark},
                stdout=subprocess.DEVNULL,
                stderr=said,
                start_new_session=True,
            )

    @property
    def said(self) -> str:
        """Standard error so far."""
        return self.log.read_text(errors="replace")

    @property
    def running(self) -> bool:
        """Whether the command itself has not ended."""
        return self.popen.poll() is None

    def until_said(self, pattern: str) -> None:
        """Wait for a line; fails where the command ends without it."""

        def said_or_ended() -> bool:
            return bool(re.search(pattern, self.said)) or not self.running

        until(said_or_ended)
        expect(re.search(pattern, self.said), f"ended with {self.popen.poll()} before {pattern!r}: {self.said[-300:]}")

    def end(self, *, timeout: float = PATIENCE) -> Ended:
        """Wait for its end; what does not end is killed, and fails the row."""
        try:
            code = self.popen.wait(timeout)
        except subprocess.TimeoutExpired:
            self.kill_all()
            raise Unexpected(f"still running after {timeout:.0f} s: {self.said[-300:]}") from None
        seconds = time.monotonic() - self.started
        self.sweep()
        return Ended(code, self.said, seconds)

    def send(self, number: signal.Signals) -> None:
        """A signal to the command's own process."""
        self.popen.send_signal(number)

    def family(self) -> list[int]:
        """The command's process and all below it."""
        found = [self.popen.pid]
        with contextlib.suppress(psutil.Error):
            found += [child.pid for child in psutil.Process(self.popen.pid).children(recursive=True)]
        return found

    def kill_all(self, family: Sequence[int] = ()) -> Ended:
        """SIGKILL to the whole family, as close to one instant as can be had.

        Args:
            family: What :meth:`family` gave a moment ago, where there is no time to look.
        """
        for pid in family if self.running and family else self.family():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        code = self.popen.wait()
        self.sweep()
        return Ended(code, self.said, time.monotonic() - self.started)

    def left(self) -> list[psutil.Process]:
        """Processes of this command that are still there."""
        found = []
        for process in psutil.process_iter():
            with contextlib.suppress(psutil.Error):
                if process.environ().get(MARK) == self.mark and process.status() != psutil.STATUS_ZOMBIE:
                    found.append(process)
        return found

    def sweep(self) -> None:
        """Kill what was born between the look and the kill, or outlived its parents."""
        while left := self.left():
            for process in left:
                with contextlib.suppress(psutil.Error):
                    process.kill()
            time.sleep(0.01)
