"""A few lines that redraw at the foot of a terminal, by rich; what is said and what others print stays above them.

rich does what a terminal asks for: the size, wide characters, NO_COLOR, lines above a region that redraws. It is imported
when something is first shown. The cursor stays visible, on an empty line under the region: a process that is killed leaves
nothing behind that the next prompt would be glued to.
"""

from __future__ import annotations

import contextlib
import re
import sys
import threading
import time
from functools import partial
from typing import TYPE_CHECKING, Any, TextIO

from hf_trainpipe.tracking.views.base import Progress, View, Work
from hf_trainpipe.tracking.views.captured import Captured
from hf_trainpipe.tracking.views.wording import block, evaluation_parts, joined, step_line
from hf_trainpipe.utils.tables import cut, width_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from rich.live import Live

REDRAW_SECONDS = 0.25
_COMMAND = re.compile(r"\s*(next +)?(hf-trainpipe|accelerate|pip|python) ")
_LABELLED = re.compile(r"\S+ {2,}(?=\S)")
"""``steps       as CUDA graphs``: further lines begin where the text does."""


class Terminal(View):
    """The live view. It is there while there is something to show, and is gone when the training or the work is over."""

    patience, every = 0.5, REDRAW_SECONDS
    shows_intervals = True

    def __init__(self, stream: TextIO) -> None:
        self._stream: TextIO = getattr(stream, "beneath", stream)
        self._console: Any = None
        self._live: Live | None = None
        self._captured: dict[str, Captured] = {}
        """What stands for a stream of ``sys`` while the region may be there."""
        self._trains = False
        self._drawn = 0.0
        self._is_gone = False
        self._lock = threading.RLock()

    def tick(self, now: Progress) -> None:
        if time.monotonic() - self._drawn >= REDRAW_SECONDS:
            self._draw(now)

    def step(self, now: Progress) -> None:
        self._trains = True
        self._capture()
        self._draw(now)

    def began(self, work: Work, now: Progress) -> None:
        self._capture()

    def checkpoint(self, now: Progress) -> None:
        self.tick(now)

    def going(self, work: Work, now: Progress) -> None:
        self._draw(now)

    def ended(self, work: Work, now: Progress) -> None:
        if self._live is not None:
            self._draw(now)  # without it
        if not now.works and not self._trains:
            self._release()

    def evaluation(self, now: Progress) -> None:
        def show() -> None:
            first, *further = joined(evaluation_parts(now, with_intervals=True), self._width - 2)
            self._print(first, *(f"  {line}" for line in further), style="green" if now.is_best else "")

        self._guarded(show)

    def say(self, text: str) -> None:
        style = "yellow" if text.startswith("warning:") else ""
        self._guarded(lambda: self._print(*wrapped(text, self._width), style=style))

    def close(self, now: Progress) -> None:
        def end() -> None:
            was_live, self._trains = self._live is not None, False
            self._stop()
            self._release()
            if was_live and now.step:
                first, *further = joined(step_line(now).split("  "), self._width - 2)
                self._print(first, *(f"  {line}" for line in further))

        self._guarded(end)

    # -- drawing ---------------------------------------------------------------------------

    def _draw(self, now: Progress) -> None:
        self._drawn = time.monotonic()

        def draw() -> None:
            from rich.live import Live
            from rich.text import Text

            marks = "━─" if "utf" in (self._rich.encoding or "").lower() else "#-"
            bars = [cut(line, self._width) for one in self._captured.values() if (line := one.open_line.strip())]
            lines = [*bars, *block(now, width=self._width, marks=marks)]
            if not lines:
                self._stop()
                return
            # The empty line is where the cursor stands.
            shown = Text("\n".join([*lines, ""]), no_wrap=True, overflow="crop")
            shown.highlight_regex(f"{marks[0]}+", "cyan")
            if self._live is None:
                self._live = Live(
                    shown,
                    console=self._rich,
                    auto_refresh=False,
                    transient=True,
                    redirect_stdout=False,  # its own turns every redrawing of a bar into a line
                    redirect_stderr=False,
                )
                self._live.start(refresh=True)
            else:
                self._live.update(shown, refresh=True)

        self._guarded(draw)

    def _stop(self) -> None:
        if self._live is not None:
            self._live.stop()
            self._live = None

    def _print(self, *lines: str, style: str = "") -> None:
        from rich.text import Text

        self._rich.print(Text("\n".join(lines), style=style), soft_wrap=True)

    @property
    def _width(self) -> int:
        return max(int(self._rich.width) - 1, 20)

    @property
    def _rich(self) -> Any:
        if self._console is None:
            from rich.console import Console

            class Visible(Console):
                """A console whose cursor is never hidden: who is killed cannot bring it back."""

                def show_cursor(self, show: bool = True) -> bool:
                    return False

            self._console = Visible(
                file=self._stream, force_terminal=True, force_jupyter=False, markup=False, highlight=False, emoji=False
            )
        return self._console

    def _guarded(self, action: Callable[[], None]) -> None:
        """A closed terminal does not end a run."""
        with self._lock:
            if self._is_gone:
                return
            try:
                action()
            except (OSError, ValueError):
                self._is_gone = True
                self._release()

    def _capture(self) -> None:
        """Take what others write to this terminal: it belongs above the region."""
        with self._lock:
            for name in ("stderr", "stdout"):
                stream = getattr(sys, name)
                if name not in self._captured and not isinstance(stream, Captured) and self._is_here(stream):
                    self._captured[name] = Captured(stream, self._above, is_terminal=True)
                    setattr(sys, name, self._captured[name])

    def _release(self) -> None:
        with self._lock:
            while self._captured:
                name, ours = self._captured.popitem()
                if getattr(sys, name) is ours:
                    setattr(sys, name, ours.beneath)
                with contextlib.suppress(OSError, ValueError):
                    ours.beneath.write(ours.let_go(partial(getattr, sys, name)))

    def _above(self, line: str) -> None:
        from rich.text import Text

        self._guarded(lambda: self._rich.print(Text.from_ansi(line), soft_wrap=True))

    def _is_here(self, stream: Any) -> bool:
        """Whether a stream writes to this terminal."""
        try:
            return stream is self._stream or (bool(stream.isatty()) and bool(self._stream.isatty()))
        except (AttributeError, ValueError):
            return False


def wrapped(text: str, width: int) -> list[str]:
    """Lines of at most ``width`` columns, broken between words and indented as they begin; commands stay whole."""
    lines: list[str] = []
    for line in text.split("\n"):
        if width_of(line) <= width or _COMMAND.match(line):
            lines.append(line)
            continue
        from rich.console import Console
        from rich.text import Text

        console = Console(width=width)
        label, start = _LABELLED.match(line), len(line) - len(line.lstrip())
        indent = len(label[0]) if label is not None and len(label[0]) < width // 2 else start or 2
        first = Text(line).wrap(console, width)[0].plain
        further = Text(line[len(first) :].lstrip()).wrap(console, max(width - indent, 10))
        lines += [first.rstrip(), *(" " * indent + part.plain.rstrip() for part in further)]
    return lines
