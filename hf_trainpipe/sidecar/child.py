"""A process beside the trainer, seen from inside: how it begins, what it says, and when it ends.

The trainer (:mod:`hf_trainpipe.sidecar.parent`) starts it with a pipe to its standard input, a pipe from its standard
output, and a file as its standard error. Lines for the person go to the pipe, everything else to the file; secrets are
masked in both.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import select
import signal
import sys
import threading
import time
import traceback
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn, TextIO

from filelock import FileLock, Timeout

from hf_trainpipe.utils.secrets import scrub

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["Child", "make_parser", "run_process"]

NICENESS = 10
LOCK_POLL_S = 0.1


class Child:
    """This process: its messages, and when it is to end.

    It is to end when the trainer asks, when the trainer is gone, and on SIGTERM or SIGHUP. Ctrl-C is the trainer's.

    Args:
        parent: Process id of the trainer.
    """

    def __init__(self, parent: int) -> None:
        self.ending = threading.Event()
        self.told = b""
        """What the trainer asked; empty where its pipe was closed, or nothing was asked."""
        self._parent = parent
        self._listens = True
        self._ended_at: float | None = None
        with contextlib.suppress(OSError):
            os.nice(NICENESS)
        self._channel = os.dup(1)
        os.set_blocking(self._channel, False)
        os.dup2(2, 1)
        sys.stdout = sys.stderr = _Masked(sys.stderr)
        for number in (signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, lambda *_: self.ending.set())
        signal.signal(signal.SIGINT, signal.SIG_IGN)

    def say(self, text: str) -> None:
        """A message for the person: one line of the pipe, and the text to the log."""
        print(text, file=sys.stderr, flush=True)
        with contextlib.suppress(OSError):  # nobody reads: the trainer is gone, or never looked
            os.write(self._channel, scrub(" ".join(text.split())).encode() + b"\n")

    def wait(self, seconds: float) -> bool:
        """Wait for the end, at most so long; whether it has come."""
        if not self.ending.is_set():
            if self._listens:
                ready, _, _ = select.select([0], [], [], seconds)
                if ready:
                    self.told = os.read(0, 4096)  # a request, or the closed pipe: both mean the end
                    self._listens = False
                    self.ending.set()
            else:
                self.ending.wait(seconds)
            if os.getppid() != self._parent:
                self.ending.set()
        if self.ending.is_set() and self._ended_at is None:
            self._ended_at = time.monotonic()
        return self._ended_at is not None

    def seconds_left(self, linger_s: float) -> float:
        """Of the time that this process may go on after the end; all of it before."""
        return linger_s if self._ended_at is None else max(self._ended_at + linger_s - time.monotonic(), 0.0)

    def acquire(self, lock: FileLock, *, linger_s: float = 0.0) -> bool:
        """Hold the lock that the process of the attempt before may still have.

        Returns:
            False where the end came first, ``linger_s`` seconds ago.
        """
        while True:
            try:
                lock.acquire(timeout=0)
                return True
            except Timeout:
                if self.wait(LOCK_POLL_S):
                    if self.seconds_left(linger_s) == 0:
                        return False
                    time.sleep(LOCK_POLL_S)


class _Masked:
    """A text stream that masks secrets."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        """Write without the secrets."""
        self._stream.write(scrub(text))
        return len(text)

    def __getattr__(self, name: str) -> object:
        return getattr(self._stream, name)


def make_parser(module: str, description: str | None) -> argparse.ArgumentParser:
    """Options that the trainer gives to every process beside it."""
    parser = argparse.ArgumentParser(prog=f"python -m {module}", description=description)
    parser.add_argument("run", type=Path, help="the run's directory")
    parser.add_argument("--parent", type=int, required=True, help="process id of the trainer")
    parser.add_argument("--poll", type=float, default=1.0, help="seconds between two looks at the run")
    return parser


def run_process(main: Callable[[], int], *, failed: int) -> NoReturn:
    """End this process with ``main``'s exit code, or with ``failed`` where it raises.

    What still runs in a thread or hangs in an exit hook does not keep it alive.
    """
    code = failed
    try:
        code = main()
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stderr.flush()
        os._exit(code)
