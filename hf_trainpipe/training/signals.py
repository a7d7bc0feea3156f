"""Requests to save and stop: signals, and the death of the process that launched the run."""

from __future__ import annotations

import os
import signal
import sys
from dataclasses import dataclass
from types import FrameType

from hf_trainpipe.errors import Interrupted
from hf_trainpipe.utils.signals import SAVE_AND_STOP, handled
from hf_trainpipe.utils.wording import command_line

LAUNCHED = ("ACCELERATE_MIXED_PRECISION", "TORCHELASTIC_RUN_ID")
"""Environment variables that ``accelerate launch`` and torch's agent give to their workers."""


@dataclass(frozen=True)
class PlannedStop:
    """What a copy of a run does when resuming is verified: die after a step, or save and stop at one.

    >>> PlannedStop.parse("kill:17")
    PlannedStop(kill_after=17, stop_at=None)
    """

    kill_after: int | None = None
    stop_at: int | None = None

    @classmethod
    def parse(cls, text: str) -> PlannedStop:
        """``kill:STEP`` or ``stop:STEP``.

        Raises:
            ValueError: it is neither.
        """
        what, _, step = text.partition(":")
        if what not in ("kill", "stop"):
            raise ValueError(text)
        return cls(kill_after=int(step)) if what == "kill" else cls(stop_at=int(step))


class StopSignals:
    """While open, SIGTERM, SIGINT and SIGUSR1 set ``requested``; a second SIGINT stops at once.

    ``accelerate launch`` with one process forwards no signal: it dies and leaves its worker an orphan. So a
    launched worker takes the death of its parent as a request to stop, too.

    >>> import os
    >>> with StopSignals() as stop:
    ...     os.kill(os.getpid(), signal.SIGUSR1)
    ...     stop.requested, stop.name
    (True, 'SIGUSR1')
    """

    def __init__(self, planned_stop: PlannedStop | None = None) -> None:
        self.name: str | None = None
        self.planned_stop = planned_stop or PlannedStop()
        launched = any(name in os.environ for name in LAUNCHED)
        self._launcher = os.getppid() if launched else None
        self._handling = handled(SAVE_AND_STOP, self._handle)

    @property
    def requested(self) -> bool:
        """Whether the run should save and stop."""
        if self.name is None and self._launcher is not None and os.getppid() != self._launcher:
            self.name = "the death of its launcher"
        return self.name is not None

    def before_step(self, step: int) -> bool:
        """Whether this step is to be the last; a planned kill happens here.

        Args:
            step: The step that comes next, counted from 1.
        """
        kill_after, stop_at = self.planned_stop.kill_after, self.planned_stop.stop_at
        if kill_after is not None and step > kill_after:
            print(f"planned stop: SIGKILL after step {kill_after}", file=sys.stderr, flush=True)
            os.kill(os.getpid(), signal.SIGKILL)
        if stop_at is not None and step >= stop_at:
            self.name = "a planned stop"
        return self.requested

    def leave(self, step: int, *, total_steps: int) -> None:
        """Leave a run that some rank was asked to stop, and that was saved after ``step``.

        Raises:
            Interrupted: there are steps left, or the stop was planned.
        """
        if step < total_steps or self.planned_stop.stop_at is not None:
            raise Interrupted(
                f"Stopped by {self.name or 'a signal to another rank'} after step {step:,}; everything up to it is saved.",
                fix=f"Continue with the same command:\n{command_line()}",
                step=step,
            )

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if number == signal.SIGINT and self.name is not None:
            raise KeyboardInterrupt
        self.name = signal.Signals(number).name

    def __enter__(self) -> StopSignals:
        self._handling.__enter__()
        return self

    def __exit__(self, *_: object) -> None:
        self._handling.__exit__(None, None, None)
