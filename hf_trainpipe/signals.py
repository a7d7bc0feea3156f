"""What asks a run to save and stop: signals, and the death of the process that launched it."""

from __future__ import annotations

import os
import signal
from types import FrameType, TracebackType
from typing import Any

__all__ = ["StopSignals"]

LAUNCHED = ("ACCELERATE_MIXED_PRECISION", "TORCHELASTIC_RUN_ID")
"""Environment variables that ``accelerate launch`` and torch's agent give to their workers."""


class StopSignals:
    """While open, SIGTERM, SIGINT and SIGUSR1 set ``requested``; a second SIGINT stops at once.

    ``accelerate launch`` with one process forwards no signal: it dies and leaves its worker an orphan. So a
    worker that was launched takes the loss of its parent for a request to stop, too.

    >>> import os
    >>> with StopSignals() as stop:
    ...     os.kill(os.getpid(), signal.SIGUSR1)
    ...     stop.requested, stop.name
    (True, 'SIGUSR1')
    """

    HANDLED = (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1)

    def __init__(self) -> None:
        self.name: str | None = None
        launched = any(name in os.environ for name in LAUNCHED)
        self._launcher = os.getppid() if launched else None
        self._before: dict[signal.Signals, Any] = {}

    @property
    def requested(self) -> bool:
        """Whether the run should save and stop."""
        if self.name is None and self._launcher is not None and os.getppid() != self._launcher:
            self.name = "the death of its launcher"
        return self.name is not None

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if number == signal.SIGINT and self.name is not None:
            raise KeyboardInterrupt
        self.name = signal.Signals(number).name

    def __enter__(self) -> StopSignals:
        for number in self.HANDLED:
            self._before[number] = signal.signal(number, self._handle)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
