"""JSON lines for other programs: one object a line, each with its ``event`` and ``time`` (seconds since the Unix epoch).

    {"event": "step", "time": 1767225600.1, "step": 120, "total_steps": 651, "epoch": 0.55, "seconds_left": 192.4,
     "memory_bytes": 1288490188, "values": {"loss": 0.4312, "lr": 4.2e-05, "tokens_per_second": 1530.4}}

docs/watching.md lists the events. Numbers that JSON lacks are the strings of the ledger: "NaN", "Infinity", "-Infinity".
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import Any, TextIO

from hf_trainpipe.tracking.views.base import LineWriter, Progress, View, Work, wall_clock


class JsonLines(View):
    """Writes every event; text that others write to the same stream arrives in :meth:`output`."""

    shows_intervals = True

    def __init__(self, stream: TextIO) -> None:
        self._lines = LineWriter(getattr(stream, "beneath", stream))

    def write(self, event: str, **facts: Any) -> None:
        """Write one event."""
        line = json.dumps({"event": event, "time": round(wall_clock(), 3), **facts}, ensure_ascii=False, default=str)
        self._lines.write(line)

    def step(self, now: Progress) -> None:
        left = None if now.seconds_left is None else round(now.seconds_left, 1)
        self.write(
            "step",
            step=now.step,
            total_steps=now.total_steps,
            epoch=now.epoch,
            seconds_left=left,
            memory_bytes=now.memory,
            values=_plain(now.values),
        )

    def evaluation(self, now: Progress) -> None:
        intervals = {name: [_number(low), _number(high)] for name, (low, high) in now.intervals.items()}
        self.write(
            "evaluation",
            step=now.scored_step,
            total_steps=now.total_steps,
            values=_plain(now.scores),
            intervals=intervals,
            best=now.is_best,
        )

    def checkpoint(self, now: Progress) -> None:
        self.write("checkpoint", step=now.saved_step)

    def began(self, work: Work, now: Progress) -> None:
        self.write("work", what=work.what, state="begins", total=work.total)

    def going(self, work: Work, now: Progress) -> None:
        self._work(work, "goes on")

    def ended(self, work: Work, now: Progress) -> None:
        self._work(work, "ended")

    def _work(self, work: Work, state: str) -> None:
        seconds = round(work.seconds, 1)
        self.write("work", what=work.what, state=state, rows=work.rows, total=work.total, seconds=seconds)

    def say(self, text: str) -> None:
        is_warning = text.startswith("warning: ")
        self.write("message", level="warning" if is_warning else "info", text=text.removeprefix("warning: "))

    def output(self, line: str) -> None:
        """A line that others wrote."""
        if line.strip():
            self.write("output", text=line)


def _plain(values: Mapping[str, float]) -> dict[str, float | str]:
    return {name.rsplit("/", 1)[-1]: _number(value) for name, value in values.items()}


def _number(value: float) -> float | str:
    return value if math.isfinite(value) else str(json.dumps(value))
