"""One output of a notebook's cell that redraws in place: the last lines that were said, and those of the live view."""

from __future__ import annotations

import threading
import time
from collections import deque
from html import escape
from typing import Any

from hf_trainpipe.tracking.views.base import Progress, View, Work
from hf_trainpipe.tracking.views.wording import block, evaluation_parts, step_line

REDRAW_SECONDS = 0.5
KEPT = 200
"""Lines that stay; before them the oldest are left out."""
WIDTH = 100


class Notebook(View):
    """Needs nothing beyond IPython's display."""

    patience, every = 0.5, REDRAW_SECONDS
    shows_intervals = True

    def __init__(self) -> None:
        self._said: deque[str] = deque(maxlen=KEPT)
        self._live: list[str] = []
        self._handle: Any = None
        self._drawn = 0.0
        self._lock = threading.RLock()

    def tick(self, now: Progress) -> None:
        if time.monotonic() - self._drawn >= REDRAW_SECONDS:
            self._draw(now)

    def step(self, now: Progress) -> None:
        self.tick(now)

    def evaluation(self, now: Progress) -> None:
        self._said.append("  ".join(evaluation_parts(now, with_intervals=True)))
        self._draw(now)

    def going(self, work: Work, now: Progress) -> None:
        self._draw(now)

    def ended(self, work: Work, now: Progress) -> None:
        if self._live:
            self._draw(now)

    def say(self, text: str) -> None:
        self._said.append(text)
        self._show()

    def close(self, now: Progress) -> None:
        if now.step and self._live:
            self._said.append(step_line(now))
        self._live = []
        self._show()

    def _draw(self, now: Progress) -> None:
        self._live = block(now, width=WIDTH)
        self._show()

    def _show(self) -> None:
        from IPython.display import HTML, display

        text = "\n".join([*self._said, *self._live])
        with self._lock:
            if not text and self._handle is None:
                return
            self._drawn = time.monotonic()
            shown = HTML(f'<pre style="white-space: pre-wrap; margin: 0">{escape(text)}</pre>')
            if self._handle is None:
                self._handle = display(shown, display_id=True)
            else:
                self._handle.update(shown)
