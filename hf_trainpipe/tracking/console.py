"""The progress of a run: what it tells is kept here, and given to one view.

On a terminal a few lines redraw (:mod:`.views.terminal`), in a notebook an output (:mod:`.views.notebook`), elsewhere there
are plain lines (:mod:`.views.lines`); ``train --log json`` writes JSON lines (:mod:`.views.jsonlines`).
"""

from __future__ import annotations

import contextlib
import os
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Literal, TextIO

from hf_trainpipe.tracking.views.base import Progress, View, Work
from hf_trainpipe.tracking.views.captured import Captured
from hf_trainpipe.tracking.views.jsonlines import JsonLines
from hf_trainpipe.tracking.views.lines import Lines
from hf_trainpipe.utils.wording import adapt_message, current_place

Form = Literal["auto", "live", "plain", "json"]
_chosen: Form = "auto"


class Console:
    """Shows the progress of a run. Every method returns at once, and does nothing outside the main process.

    Args:
        total_steps: Optimizer steps of the whole run.
        is_main: Whether this process shows anything.
        stream: Where to; None: standard error.
        form: How; None: what :func:`choose_form` said, which is ``auto``: what the stream is.
        view: What shows it, in place of the stream and the form.
        clock: Seconds, for the time left.
    """

    def __init__(
        self,
        total_steps: int,
        is_main: bool = True,
        *,
        stream: TextIO | None = None,
        form: Form | None = None,
        view: View | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.now = Progress(total_steps)
        self.memory: Callable[[], int | None] = lambda: None
        """Asked for the bytes that the process holds when numbers are shown."""
        self._is_main = is_main
        self._view = (view or view_of(stream, form)) if is_main else View()
        self._clock = clock
        self._first_step = 0
        self._started: float | None = None
        self._paused_at: float | None = None

    @property
    def total_steps(self) -> int:
        """Optimizer steps of the whole run; 0 until they are known."""
        return self.now.total_steps

    @total_steps.setter
    def total_steps(self, total: int) -> None:
        self.now.total_steps = total

    @property
    def shows_intervals(self) -> bool:
        """Whether intervals of scores are shown while a run trains, so that it is worth computing them."""
        return self._view.shows_intervals

    def start(self, step: int = 0) -> None:
        """Begin to count; ``step`` is above 0 where a run continues."""
        self._first_step = step
        self._started = self._clock()

    def tick(self, *, step: int, epoch: float) -> None:
        """An optimizer step is done."""
        self._at(step, epoch)
        self._view.tick(self.now)

    def step(self, values: Mapping[str, float], *, step: int, epoch: float) -> None:
        """Show the numbers of a logging interval; names may carry their ``train/`` prefix."""
        self.now.values = dict(values)
        self._at(step, epoch)
        self.now.memory = self.memory()
        self._view.step(self.now)

    def evaluation(
        self,
        values: Mapping[str, float],
        *,
        step: int,
        best: bool = False,
        select: str | None = None,
        intervals: Mapping[str, tuple[float, float]] | None = None,
    ) -> None:
        """Show the scores of an evaluation on a line that stays.

        Args:
            best: Whether it is the best so far.
            select: The metric that decides.
            intervals: Low and high of some scores.
        """
        now = self.now
        now.scores, now.scored_step, now.is_best, now.intervals = dict(values), step, best, dict(intervals or {})
        if best and select is not None and select in values:
            now.best = (select, values[select], step)
        self._view.evaluation(now)

    def checkpoint(self, step: int) -> None:
        """A checkpoint of ``step`` is on the disk."""
        self.now.saved_step = step
        self._view.checkpoint(self.now)

    def pause(self) -> None:
        """Do not count the time until the next step (an evaluation, a save) when the time left is estimated."""
        if self._paused_at is None:
            self._paused_at = self._clock()

    @contextlib.contextmanager
    def working(self, what: str, *, total: int | None = None) -> Iterator[Callable[[int], None]]:
        """Show progress of long work that shows none by itself, from a thread, while the block lasts.

        Yields:
            What to call with the number of rows that are done, of ``total`` where they are counted.
        """
        work, over, view, now = Work(what, total, self._clock()), threading.Event(), self._view, self.now

        def tell() -> None:
            seconds = view.patience
            while not over.wait(seconds):
                seconds, work.seconds = view.every, self._clock() - work.started
                if now.works[-1:] == [work]:  # work inside of it shows for both
                    view.going(work, now)

        def done(rows: int) -> None:
            work.rows = rows

        thread = threading.Thread(target=tell, name="working", daemon=True)
        if self._is_main:
            now.works.append(work)
            view.began(work, now)
            thread.start()
        try:
            yield done
        finally:
            over.set()
            if thread.is_alive():
                thread.join()
            if self._is_main:
                now.works.remove(work)
                work.seconds = self._clock() - work.started
                view.ended(work, now)

    def say(self, text: str) -> None:
        """Write a line that stays; commands in it are spelled for where it is shown."""
        self._view.say(adapt_message(text))

    def close(self) -> None:
        """End the live view. Closing twice is fine."""
        self._view.close(self.now)

    def seconds_left(self, step: int) -> float | None:
        """Estimate from the steps done since :meth:`start`; None before the first."""
        done = step - self._first_step
        if self._started is None or done <= 0:
            return None
        spent = self._clock() - self._started
        return max(spent, 0.0) / done * max(self.total_steps - step, 0)

    def _at(self, step: int, epoch: float) -> None:
        if self._paused_at is not None and self._started is not None:
            self._started += self._clock() - self._paused_at  # as if it had begun so much later
        self._paused_at = None
        self.now.step, self.now.epoch, self.now.seconds_left = step, epoch, self.seconds_left(step)


def view_of(stream: TextIO | None = None, form: Form | None = None) -> View:
    """What shows progress on a stream (None: standard error), in a form (None: the chosen one)."""
    form = form or _chosen
    if form == "auto" and stream is None and current_place() == "notebook":
        from hf_trainpipe.tracking.views.notebook import Notebook

        return Notebook()
    stream = sys.stderr if stream is None else stream
    if form == "json":
        return JsonLines(stream)
    if form == "live" or (form == "auto" and redraws(stream)):
        from hf_trainpipe.tracking.views.terminal import Terminal

        return Terminal(stream)
    return Lines(stream)


def redraws(stream: TextIO) -> bool:
    """Whether a stream is a terminal that can redraw lines."""
    if isinstance(stream, Captured):  # another view has the terminal
        return False
    try:
        return stream.isatty() and os.environ.get("TERM", "dumb") not in ("dumb", "unknown", "")
    except ValueError:  # it is closed
        return False


def fitted(text: str, stream: TextIO) -> str:
    """A text as it is shown on a stream: on a terminal its long lines are broken between words."""
    if not redraws(stream):
        return text
    from hf_trainpipe.tracking.views.terminal import wrapped

    try:
        width = os.get_terminal_size(stream.fileno()).columns
    except OSError:
        width = 0
    return "\n".join(wrapped(text, width or 80))


def choose_form(form: Form) -> None:
    """Show progress in this form until :func:`forms_of_a_verb` ends. With ``json`` all that is written to standard error
    becomes events."""
    global _chosen
    _chosen = form
    if form == "json" and not isinstance(sys.stderr, Captured):
        sys.stderr = Captured(sys.stderr, JsonLines(sys.stderr).output)


@contextlib.contextmanager
def forms_of_a_verb() -> Iterator[None]:
    """What is chosen inside ends with it."""
    global _chosen
    before, stream = _chosen, sys.stderr
    try:
        yield
    finally:
        _chosen = before
        if isinstance(sys.stderr, Captured):
            JsonLines(stream).output(sys.stderr.let_go(lambda: sys.stderr))
            sys.stderr = stream


def tell_error(message: str, fix: str, *, exit_code: int) -> bool:
    """Write an error as an event where JSON is written; returns whether it is."""
    if _chosen != "json":
        return False
    JsonLines(sys.stderr).write("error", message=message, fix=fix, exit_code=exit_code)
    return True
