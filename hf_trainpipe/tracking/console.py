"""Progress on the console: one live line on a terminal, plain lines elsewhere.

step 120/651  epoch 0.55  loss 0.4312  lr 4.2e-05  1,530 tok/s  left 3:12
eval 120/651  accuracy 0.8612  loss 0.3911  best
scoring validation: 12,000 of 40,000 rows, 8 s
"""

from __future__ import annotations

import contextlib
import math
import shutil
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from typing import TextIO

from hf_trainpipe.utils.wording import adapt_message

RATES = {"tokens_per_second": "tok/s", "examples_per_second": "ex/s", "steps_per_second": "steps/s"}
HIDDEN = frozenset({"grad_norm"})
REDRAW_SECONDS, EVERY_SECONDS = 0.1, 4.0


class Console:
    """Shows the progress of a run. Every method returns at once, and does nothing outside the main process.

    Args:
        total_steps: Optimizer steps of the whole run.
        is_main: Whether this process shows anything.
        stream: Where to; None: standard error.
        live: Redraw one line (True) or write plain lines (False); None: what the stream is.
        clock: Seconds, for the time left.
    """

    def __init__(
        self,
        total_steps: int,
        is_main: bool = True,
        *,
        stream: TextIO | None = None,
        live: bool | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.total_steps = total_steps
        self._stream: TextIO | None = (stream if stream is not None else sys.stderr) if is_main else None
        self._live = live if live is not None else _is_terminal(self._stream)
        self._clock = clock
        self._first_step = 0
        self._started: float | None = None
        self._paused_at: float | None = None
        self._drawn_at = -math.inf
        self._line = ""
        self._values: Mapping[str, float] = {}
        self._lock = threading.RLock()  # progress of long work comes from a thread

    def start(self, step: int = 0) -> None:
        """Begin to count; ``step`` is above 0 where a run continues."""
        self._first_step = step
        self._started = self._clock()

    def tick(self, *, step: int, epoch: float) -> None:
        """An optimizer step is done. Redraws the live line, ten times a second at most."""
        self._resume()
        if self._live and self._stream is not None and self._clock() - self._drawn_at >= REDRAW_SECONDS:
            self._draw(self._format("step", self._values, step=step, epoch=epoch))

    def step(self, values: Mapping[str, float], *, step: int, epoch: float) -> None:
        """Show the numbers of a logging interval; names may carry their ``train/`` prefix."""
        self._resume()
        self._values = dict(values)
        self._show(self._format("step", values, step=step, epoch=epoch))

    def evaluation(self, values: Mapping[str, float], *, step: int, best: bool = False) -> None:
        """Show the scores of an evaluation on a line that stays."""
        line = self._format("eval", values, step=step, epoch=None)
        self.say(f"{line}  best" if best else line)

    def pause(self) -> None:
        """Do not count the time until the next step (an evaluation, a save) when the time left is estimated."""
        if self._paused_at is None:
            self._paused_at = self._clock()

    @contextlib.contextmanager
    def working(self, what: str, *, total: int | None = None) -> Iterator[Callable[[int], None]]:
        """Show progress of long work that shows none by itself, from a thread, every few seconds while the block lasts.

        Yields:
            What to call with the number of rows that are done, of ``total`` where they are counted.
        """
        started, over, shown, rows = self._clock(), threading.Event(), threading.Event(), deque[int](maxlen=1)
        of = f" of {total:,}" if total else ""

        def tell() -> None:
            while not over.wait(EVERY_SECONDS):
                count = f": {rows[0]:,}{of} rows" if rows else ""
                self._show(f"{what}{count}, {self._clock() - started:,.0f} s")
                shown.set()

        thread = threading.Thread(target=tell, name="working", daemon=True)
        if self._stream is not None:
            thread.start()
        try:
            yield rows.append
        finally:
            over.set()
            if thread.is_alive():
                thread.join()
            if self._live and shown.is_set():
                with self._lock:
                    self._line = ""
                    self._write("\r\x1b[2K")

    def _show(self, text: str) -> None:
        with self._lock:
            if self._live:
                self._draw(text)
            else:
                self._write(text + "\n")

    def say(self, text: str) -> None:
        """Write a line that stays, above the live one; commands in it are spelled for where it is shown."""
        text = adapt_message(text)
        with self._lock:
            self._write(f"\r\x1b[2K{text}\n{self._line}" if self._live and self._line else text + "\n")

    def close(self) -> None:
        """End the live line. Closing twice is fine."""
        if self._live and self._line:
            self._write("\n")
        self._line = ""

    def seconds_left(self, step: int) -> float | None:
        """Estimate from the steps done since :meth:`start`; None before the first."""
        done = step - self._first_step
        if self._started is None or done <= 0:
            return None
        spent = self._clock() - self._started
        return max(spent, 0.0) / done * max(self.total_steps - step, 0)

    def _resume(self) -> None:
        if self._paused_at is not None and self._started is not None:
            self._started += self._clock() - self._paused_at  # as if it had begun so much later
        self._paused_at = None

    def _format(self, kind: str, values: Mapping[str, float], *, step: int, epoch: float | None) -> str:
        width = len(str(self.total_steps))
        parts = [f"{kind} {step:>{width}}/{self.total_steps}"]
        if epoch is not None:
            parts.append(f"epoch {epoch:.2f}")
        rates: list[str] = []
        for name, value in values.items():
            short = name.rsplit("/", 1)[-1]
            if short in RATES:
                rates.append(f"{_rate(value)} {RATES[short]}")
            elif short not in HIDDEN:
                parts.append(f"{short} {_number(short, value)}")
        parts += rates
        left = self.seconds_left(step) if kind == "step" else None
        if left is not None:
            parts.append(f"left {_duration(left)}")
        return "  ".join(parts)

    def _draw(self, line: str) -> None:
        columns = shutil.get_terminal_size((100, 24)).columns
        self._line = line[: max(columns - 1, 20)]
        self._drawn_at = self._clock()
        self._write(f"\r\x1b[2K{self._line}")

    def _write(self, text: str) -> None:
        if self._stream is None:
            return
        try:
            self._stream.write(text)
            self._stream.flush()
        except (OSError, ValueError):  # a closed terminal or pipe does not end a run
            self._stream = None


def _is_terminal(stream: TextIO | None) -> bool:
    try:
        return stream is not None and stream.isatty()
    except ValueError:
        return False


def _number(name: str, value: float) -> str:
    if not math.isfinite(value):
        return str(value)
    if name in ("lr", "learning_rate") or (value != 0 and not 1e-3 <= abs(value) < 1e5):
        return f"{value:.1e}" if value else "0"
    return f"{value:.4f}"


def _rate(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.1f}"


def _duration(seconds: float) -> str:
    """Hours, minutes and seconds: ``3:12``, ``1:03:12``, ``2d 4:00:00``."""
    minutes, second = divmod(round(seconds), 60)
    hours, minute = divmod(minutes, 60)
    days, hour = divmod(hours, 24)
    if days:
        return f"{days}d {hour}:{minute:02d}:{second:02d}"
    return f"{hour}:{minute:02d}:{second:02d}" if hour else f"{minute}:{second:02d}"
