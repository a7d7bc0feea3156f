"""Progress of long work that shows none by itself: scoring, packaging, verifying.

scoring validation: 12,000 of 40,000 rows, 8 s
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Self

EVERY_SECONDS = 4.0


class Working:
    """Shows a line every few seconds, from a thread, until the block ends. Short work shows nothing.

    Args:
        what: The work, such as ``verifying the package``.
        show: Takes a line; None: nothing is shown, as on all ranks but the first.
        total: How many rows there are, where they are counted.
        every: Seconds between two lines.
        clear: Called at the end, if anything was shown.
    """

    def __init__(
        self,
        what: str,
        show: Callable[[str], None] | None,
        *,
        total: int | None = None,
        every: float = EVERY_SECONDS,
        clear: Callable[[], None] | None = None,
    ) -> None:
        self.what, self.total = what, total
        self._show, self._every, self._clear = show, every, clear
        self._shown = False
        self._done: int | None = None
        self._over = threading.Event()
        self._thread: threading.Thread | None = None
        self._started = 0.0

    def at(self, done: int) -> None:
        """Record how many rows are done."""
        self._done = done

    def line(self) -> str:
        """The line to show now."""
        count = ""
        if self._done is not None:
            of = f" of {self.total:,}" if self.total else ""
            count = f": {self._done:,}{of} rows"
        return f"{self.what}{count}, {time.monotonic() - self._started:,.0f} s"

    def __enter__(self) -> Self:
        self._started = time.monotonic()
        if self._show is not None:
            self._thread = threading.Thread(target=self._tell, name="working", daemon=True)
            self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        if self._thread is not None:
            self._thread.join()
        if self._shown and self._clear is not None:
            self._clear()

    def _tell(self) -> None:
        assert self._show is not None
        while not self._over.wait(self._every):
            self._shown = True
            self._show(self.line())
