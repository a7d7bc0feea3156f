"""What is known of a run while it goes on, and what shows it."""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TextIO


@dataclass(eq=False)
class Work:
    """Work without steps: preparing data, an evaluation, packaging, an upload."""

    what: str
    total: int | None
    """Rows, where they are counted."""
    started: float
    """By the console's clock."""
    rows: int | None = None
    """Done so far; None: not told yet."""
    seconds: float = 0.0


@dataclass(eq=False)
class Progress:
    """What a console was told last."""

    total_steps: int
    """Optimizer steps of the whole run; 0: there is no training (yet)."""
    step: int = 0
    epoch: float = 0.0
    seconds_left: float | None = None
    memory: int | None = None
    """Bytes that the process holds: of the GPU, or of the machine."""
    values: Mapping[str, float] = field(default_factory=dict)
    """Of the last logging interval."""
    scored_step: int | None = None
    scores: Mapping[str, float] = field(default_factory=dict)
    """Of the last evaluation."""
    intervals: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    """Confidence intervals of some of them."""
    is_best: bool = False
    """Whether that evaluation is the best so far."""
    best: tuple[str, float, int] | None = None
    """Metric, value and step of the best one."""
    saved_step: int | None = None
    """Of the newest checkpoint."""
    works: list[Work] = field(default_factory=list)
    """What is being done now, the innermost last."""


class View:
    """Shows progress somewhere. Methods do nothing by default, and none may raise.

    Attributes:
        patience: Seconds after which work is shown at all.
        every: Seconds between two signs of work that goes on.
        shows_intervals: Whether it is worth computing them during the training.
    """

    patience = every = 4.0
    shows_intervals = False

    def tick(self, now: Progress) -> None:
        """A step is done; called after each."""

    def step(self, now: Progress) -> None:
        """There are new numbers of a logging interval."""

    def evaluation(self, now: Progress) -> None:
        """There are new scores."""

    def checkpoint(self, now: Progress) -> None:
        """A checkpoint was saved."""

    def began(self, work: Work, now: Progress) -> None:
        """Work begins; it may be over in an instant."""

    def going(self, work: Work, now: Progress) -> None:
        """It goes on; called from a thread."""

    def ended(self, work: Work, now: Progress) -> None:
        """It is over, or failed."""

    def say(self, text: str) -> None:
        """Show a line that stays."""

    def close(self, now: Progress) -> None:
        """The training is over, or has failed: leave the place clean. May be called again."""


class LineWriter:
    """Whole lines to a stream, from any thread. A closed terminal or pipe ends the lines, and not the run."""

    def __init__(self, stream: TextIO) -> None:
        self._stream: TextIO | None = stream
        self._lock = threading.RLock()

    def write(self, line: str) -> None:
        """Write a line at once; its end is added."""
        with self._lock:
            if self._stream is None:
                return
            try:
                self._stream.write(line + "\n")
                self._stream.flush()
            except (OSError, ValueError):
                self._stream = None


def wall_clock() -> float:
    """Seconds since the Unix epoch."""
    return time.time()
