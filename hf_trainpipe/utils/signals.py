"""Signals that are handled for a while."""

from __future__ import annotations

import contextlib
import signal
from collections.abc import Callable, Iterable, Iterator
from types import FrameType

SAVE_AND_STOP = (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1)
"""What a run takes as the request to save and stop, and launchers hand on to its ranks."""


@contextlib.contextmanager
def handled(signals: Iterable[signal.Signals], handler: Callable[[int, FrameType | None], object]) -> Iterator[None]:
    """While open, ``handler`` gets these signals; afterwards whoever had them before does. Main thread only."""
    before = {number: signal.signal(number, handler) for number in signals}
    try:
        yield
    finally:
        for number, earlier in before.items():
            signal.signal(number, earlier)
