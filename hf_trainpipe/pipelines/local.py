"""``pipeline run FILE``: the reference engine. It knows steps, commands and exit codes, as every other engine does.

It keeps nothing: killed anywhere, the same command finds in the stages' folders what is done, and continues.
"""

from __future__ import annotations

import contextlib
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import IO, Literal

from hf_trainpipe.errors import EXIT_CODES, INTERRUPTED
from hf_trainpipe.pipelines.lowered import Step, lower, why_left_out
from hf_trainpipe.pipelines.pipeline import Pipeline
from hf_trainpipe.pipelines.processes import POLL_SECONDS, Stopping, environment, table_code
from hf_trainpipe.utils.backoff import backoff
from hf_trainpipe.utils.processes import GRACE_SECONDS
from hf_trainpipe.utils.tables import table

FIRST_PAUSE_S, LONGEST_PAUSE_S = 15.0, 600.0
"""Before a push that failed is tried again."""
Outcome = Literal["done", "left out", "failed", "interrupted", "not begun"]


@dataclass
class Ran:
    """What became of a step."""

    outcome: Outcome = "not begun"
    code: int | None = None
    seconds: float = 0.0
    starts: int = 0
    interruptions: int = 0
    push_failures: int = 0

    def to_json(self) -> dict[str, object]:
        """For programs."""
        return {
            "outcome": self.outcome,
            "exit_code": self.code,
            "seconds": round(self.seconds, 3),
            "starts": self.starts,
        }


@dataclass
class _Working:
    step: Step
    process: subprocess.Popen[bytes]
    reader: threading.Thread
    since: float = field(default_factory=time.monotonic)


class Engine:
    """Runs the steps of a pipeline as processes of this one, at most ``parallel`` at a time.

    Args:
        say: Takes a line of progress.
    """

    def __init__(self, pipeline: Pipeline, *, parallel: int, say: Callable[[str], None]) -> None:
        self.pipeline = pipeline
        self.steps = lower(pipeline)
        self.ran = {step.name: Ran() for step in self.steps}
        self._parallel = parallel
        self._say = say
        self._working: dict[str, _Working] = {}
        self._not_before: dict[str, float] = {}
        self._width = max(len(step.name) for step in self.steps)
        self._printing = threading.Lock()

    def run(self, stopping: Stopping) -> int:
        """Run what is due; the working directory is the pipeline's folder.

        Returns:
            0 when every stage is done or left out; the exit code of the first that failed; 75 where the end was asked for, or a stage
            was interrupted more often than ``Pipeline.interruptions`` allows.
        """
        try:
            while True:
                failed = next((ran for ran in self.ran.values() if ran.outcome == "failed"), None)
                if not (stopping.asked or failed):
                    self._start_due()
                if not self._working and (stopping.asked or failed or not self._waiting()):
                    break
                if stopping.asked:
                    self._end_all()
                self._look()
                time.sleep(POLL_SECONDS / 2)
        finally:
            self._end_all()
        if failed is not None and failed.code is not None:
            return failed.code
        return INTERRUPTED if stopping.asked else 0

    def summary(self) -> str:
        """A table of what became of each stage."""
        rows = []
        for name, ran in self.ran.items():
            row = EXIT_CODES.get(ran.code) if ran.code is not None else None
            ended = "" if ran.code is None else f"{ran.code} ({row.name})" if row is not None else str(ran.code)
            rows.append([name, ran.outcome, ended, f"{ran.seconds:,.1f}" if ran.starts else ""])
        return table(["stage", "outcome", "exit code", "seconds"], rows)

    def _waiting(self) -> list[Step]:
        return [
            step for step in self.steps if self.ran[step.name].outcome == "not begun" and step.name not in self._working
        ]

    def _start_due(self) -> None:
        for step in self._waiting():
            needs = {need: self.ran[need] for need in step.needs}
            if any(ran.outcome not in ("done", "left out") for ran in needs.values()):
                continue
            if why := why_left_out({need: ran.code for need, ran in needs.items()}, step.runs_if):
                self.ran[step.name].outcome = "left out"
                self._tell(step.name, f"left out: {why}")
            elif len(self._working) < self._parallel and time.monotonic() >= self._not_before.get(step.name, 0.0):
                self._start(step)

    def _start(self, step: Step) -> None:
        self.ran[step.name].starts += 1
        process = subprocess.Popen(
            [sys.executable, *step.command[1:]],
            env=environment(),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            start_new_session=True,  # Ctrl-C is for this process, which asks its stages to end
        )
        assert process.stderr is not None
        reader = threading.Thread(target=self._read, args=(step.name, process.stderr), daemon=True)
        reader.start()
        self._working[step.name] = _Working(step, process, reader)

    def _look(self) -> None:
        for name, working in list(self._working.items()):
            if working.process.poll() is not None:
                self._ended(name, self._take(name))

    def _ended(self, name: str, code: int) -> None:
        ran, row = self.ran[name], EXIT_CODES.get(code)
        ran.code = code
        if row is not None and row.branch:
            ran.outcome = "done"
            return
        if row is not None and row.retried == "again":
            ran.interruptions += 1
            if ran.interruptions <= self.pipeline.interruptions:
                self._tell(
                    name, f"interrupted, {ran.interruptions} of {self.pipeline.interruptions} times; it continues"
                )
                return
        if row is not None and row.retried == "push":
            ran.push_failures += 1
            if ran.push_failures <= self.pipeline.push_retries:
                wait = backoff(ran.push_failures, first_s=FIRST_PAUSE_S, longest_s=LONGEST_PAUSE_S)
                self._not_before[name] = time.monotonic() + wait
                tries = f"{ran.push_failures} of {self.pipeline.push_retries}"
                self._tell(name, f"its push failed; it is tried again in {wait:.0f} s ({tries})")
                return
        ran.outcome = "failed"
        told = f"{code} ({row.meaning})" if row is not None else str(code)
        behind = [step.name for step in self.steps if name in self.pipeline.before(step.name)]
        self._tell(name, f"failed with {told}" + (f"; {', '.join(behind)} cannot run" if behind else ""))

    def _end_all(self) -> None:
        """Ask all to save and end, and wait for them."""
        for working in self._working.values():
            with contextlib.suppress(ProcessLookupError):
                working.process.terminate()
        until = time.monotonic() + GRACE_SECONDS + 10.0  # a stage kills its verb after the grace
        for name, working in list(self._working.items()):
            try:
                working.process.wait(max(until - time.monotonic(), 0.0))
            except subprocess.TimeoutExpired:
                working.process.kill()
                working.process.wait()
            ran = self.ran[name]
            ran.code = self._take(name)
            row = EXIT_CODES.get(ran.code)
            ran.outcome = "failed" if row is None or row.fails else "done" if row.branch else "interrupted"

    def _take(self, name: str) -> int:
        """The exit code of a stage that has ended, which is no longer at work."""
        working = self._working.pop(name)
        working.reader.join(timeout=5.0)
        self.ran[name].seconds += time.monotonic() - working.since
        return table_code(working.process.returncode)

    def _read(self, name: str, stream: IO[bytes]) -> None:
        with stream:
            for line in stream:
                self._tell(name, line.decode(errors="replace").rstrip().removeprefix(f"{name}: "))

    def _tell(self, name: str, line: str) -> None:
        with self._printing:
            self._say(f"{name:<{self._width}} | {line}")
