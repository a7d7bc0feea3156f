"""A stream that stands for standard error or output meanwhile: what others write arrives line by line."""

from __future__ import annotations

import io
import threading
from collections.abc import Callable
from typing import Any, TextIO


class Captured(io.TextIOBase):
    """Passes on whole lines; what has no end yet, such as a bar that redraws itself, is kept apart.

    Who took it as its stream meanwhile (a handler of a logger) keeps it: let go, it passes on to what ``sys`` has then.

    Args:
        beneath: The stream that it stands for.
        line: Called with each whole line, as it was when it ended.
        is_terminal: What the writers are told.
    """

    def __init__(self, beneath: TextIO, line: Callable[[str], None], *, is_terminal: bool = False) -> None:
        self.beneath = beneath
        self._line = line
        self._is_terminal = is_terminal
        self._rest = ""
        self._now: Callable[[], Any] | None = None
        self._lock = threading.RLock()

    def write(self, text: str) -> int:
        if self._now is not None:
            stream = self._now()
            return int((self.beneath if stream is self else stream).write(text))
        with self._lock:
            *lines, rest = (self._rest + text).split("\n")
            self._rest = rest if len(rest) < 1000 else _shown(rest)
        for line in lines:  # not under the lock: who is called has one of its own
            self._line(_shown(line))
        return len(text)

    @property
    def open_line(self) -> str:
        """What was written since the last end of a line, as a terminal would show it."""
        return _shown(self._rest)

    def let_go(self, now: Callable[[], Any]) -> str:
        """Pass on to the stream of ``now`` from here on; returns the line without an end."""
        with self._lock:
            line, self._rest, self._now = self.open_line, "", now
        return line

    def flush(self) -> None:
        """Nothing waits: lines are passed on at once."""
        if self._now is not None:
            self.beneath.flush()

    @property
    def buffer(self) -> Any:
        return self.beneath.buffer

    def fileno(self) -> int:
        return self.beneath.fileno()

    def isatty(self) -> bool:
        return self._is_terminal

    def writable(self) -> bool:
        return True

    @property
    def encoding(self) -> str:  # type: ignore[override]
        return self.beneath.encoding


def _shown(line: str) -> str:
    """A line after its carriage returns."""
    parts = [part for part in line.split("\r") if part]
    return parts[-1] if parts else ""
