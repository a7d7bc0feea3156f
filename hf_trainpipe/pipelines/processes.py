"""Processes of a pipeline: begun so that they end with who began them, followed, asked to end."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING

from hf_trainpipe.errors import INTERRUPTED
from hf_trainpipe.utils.processes import BEGUN_BY, GRACE_SECONDS, children, kill, reap
from hf_trainpipe.utils.ranks import without_rank
from hf_trainpipe.utils.signals import handled

if TYPE_CHECKING:
    import psutil

POLL_SECONDS = 0.1
_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)


class Stopping:
    """Whether the end was asked for, by a signal."""

    def __init__(self) -> None:
        self.asked = False

    @contextlib.contextmanager
    def by_signals(self) -> Iterator[Stopping]:
        """Take SIGTERM, SIGINT and SIGHUP as the request, but those that are ignored (nohup); main thread only."""
        heeded = [number for number in _SIGNALS if signal.getsignal(number) is not signal.SIG_IGN]
        with handled(heeded, self._ask):
            yield self

    def _ask(self, number: int, frame: FrameType | None) -> None:
        self.asked = True


def environment(*, launched: bool = False) -> dict[str, str]:
    """This process's, for a child that ends with it; of a run that is launched on several ranks, with what they need."""
    if launched:
        from hf_trainpipe.studies.runs import Launch

        return Launch(ranks=2).environment()
    return {**without_rank(), BEGUN_BY: str(os.getpid())}


def follow(process: subprocess.Popen[bytes], output: Path, offset: int, *, stopping: Stopping) -> int:
    """Wait for a verb, show what it adds to ``output``, and pass the request to end on to it.

    Returns:
        Its exit code, as :func:`table_code` has it.
    """
    asked_at: float | None = None
    family: list[psutil.Process] = []
    with output.open("rb") as said:
        said.seek(offset)
        while (code := process.poll()) is None:
            _relay(said.read())
            if stopping.asked and asked_at is None:
                asked_at = time.monotonic()
                family = _below(process.pid)
                with contextlib.suppress(ProcessLookupError):
                    process.send_signal(signal.SIGTERM)
            if asked_at is not None and time.monotonic() - asked_at > GRACE_SECONDS:
                kill(_below(process.pid))
                process.kill()
            time.sleep(POLL_SECONDS)
        _relay(said.read())
    reap(family)
    return table_code(code)


def table_code(code: int) -> int:
    """The exit code of a process as the one table has it: :data:`INTERRUPTED` where a signal ended it, or what it began.

    >>> table_code(-9), table_code(137), table_code(10)
    (75, 75, 10)
    """
    return INTERRUPTED if code < 0 or 128 < code <= 128 + signal.SIGRTMAX else code


def _below(pid: int) -> list[psutil.Process]:
    import psutil

    with contextlib.suppress(psutil.Error):
        return children(psutil.Process(pid), recursive=True)
    return []


def _relay(text: bytes) -> None:
    """To standard error; whoever read it may be gone."""
    if text:
        with contextlib.suppress(OSError, ValueError):
            sys.stderr.buffer.write(text)
            sys.stderr.buffer.flush()
