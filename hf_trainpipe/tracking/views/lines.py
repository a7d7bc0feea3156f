"""Plain lines: what a log file, a pipe and a terminal without a cursor get.

step 120/651  epoch 0.55  loss 0.4312  lr 4.2e-05  1,530 tok/s  left 3:12
eval 120/651  accuracy 0.8612  loss 0.3911  best
scoring validation: 12,000 of 40,000 rows, 8 s
"""

from __future__ import annotations

from typing import TextIO

from hf_trainpipe.tracking.views.base import LineWriter, Progress, View, Work
from hf_trainpipe.tracking.views.wording import evaluation_parts, step_line, work_line


class Lines(View):
    """Writes a line for all that stays, and one every few seconds for work that goes on."""

    def __init__(self, stream: TextIO) -> None:
        self._write = LineWriter(stream).write

    def step(self, now: Progress) -> None:
        self._write(step_line(now))

    def evaluation(self, now: Progress) -> None:
        self._write("  ".join(evaluation_parts(now, with_intervals=False)))

    def going(self, work: Work, now: Progress) -> None:
        self._write(work_line(work))

    def say(self, text: str) -> None:
        self._write(text)
