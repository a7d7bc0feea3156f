"""A process beside the trainer, seen from inside: its start, its messages, its end.

The trainer (:mod:`hf_trainpipe.sidecar.parent`) starts it with a pipe to its standard input, a pipe from its standard
output, and a file as its standard error. Lines for the user go to the pipe, everything else to the file; secrets are
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
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn, TextIO

from filelock import FileLock, Timeout

from hf_trainpipe.utils.secrets import scrub

NICENESS = 10
LOCK_POLL_S = 0.1


class Child:
    """This process: its messages, and when it is to end.

    It has to end when the trainer asks, when the trainer has ended, and on SIGTERM or SIGHUP. It ignores Ctrl-C.

    Args:
        parent: Process id of the trainer.
    """

    def __init__(self, parent: int) -> None:
        self.ending = threading.Event()
        self.request = b""
        """The word that the trainer wrote; empty if it closed the pipe, or wrote nothing yet."""
        self._parent = parent
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
        """A message for the user: one line to the pipe, and the text to the log."""
        print(text, file=sys.stderr, flush=True)
        with contextlib.suppress(OSError):  # the trainer has ended, or does not read
            os.write(self._channel, scrub(" ".join(text.split())).encode() + b"\n")

    def wait(self, seconds: float) -> bool:
        """Wait at most so many seconds for the end; whether it has come."""
        if not self.ending.is_set():
            ready, _, _ = select.select([0], [], [], seconds)
            if ready:
                self.request = os.read(0, 4096)  # a request, or the closed pipe: both mean the end
                self.ending.set()
            if os.getppid() != self._parent:
                self.ending.set()
        if self.ending.is_set() and self._ended_at is None:
            self._ended_at = time.monotonic()
        return self._ended_at is not None

    def seconds_left(self, linger_s: float) -> float:
        """What is left of the ``linger_s`` seconds that this process may run after the end."""
        return linger_s if self._ended_at is None else max(self._ended_at + linger_s - time.monotonic(), 0.0)

    def acquire(self, lock: FileLock, *, linger_s: float = 0.0) -> bool:
        """Acquire a lock that the process of the attempt before may still hold.

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
    parser.add_argument("--poll", type=float, default=1.0, help="seconds between two checks of the run")
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
