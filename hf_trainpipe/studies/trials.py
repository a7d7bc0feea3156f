"""The ledger of a search, ``trials.jsonl``: what began, with which values, and how it ended. It is the truth; all else follows.

    {"event": "began", "run": "trials/003", "number": 3, "values": {"optim.peak_lr": 3.1e-05}}
    {"event": "ended", "run": "trials/003", "number": 3, "state": "complete", "score": 0.912, "curve": [[1.0, 0.9]], ...}

A line is written whole and reaches the device before anything is done that relies on it. One that a crash tore is cut off when
the ledger is opened again. Of each run there is one line of each kind.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any, Literal, Self

from hf_trainpipe.errors import CheckpointError
from hf_trainpipe.tracking.ledger import parse_object

State = Literal[
    "complete", "pruned", "diverged", "out of memory", "no score", "refused", "time limit", "killed", "failed"
]
WORST: tuple[State, ...] = ("diverged", "out of memory", "no score", "refused")
"""States that follow from a trial's values: the sampler is told that nothing is worse."""
CUT: tuple[State, ...] = ("pruned", "time limit")
"""States of trials that were ended early: the sampler is told their curve."""


@dataclass(frozen=True, kw_only=True)
class Trial:
    """A run of a search that has ended, or a finalist's on a fresh seed."""

    run: str
    """Its folder in the study's: ``trials/003``; ``finals/003-1`` on the first fresh seed."""
    number: int
    """Of the trial, from 0."""
    values: Mapping[str, Any]
    """What the space gave it."""
    seed: int
    state: State
    score: float | None = None
    """Of the selected metric on validation, as result.json has it; None where it was not complete."""
    low: float | None = None
    high: float | None = None
    curve: list[tuple[float, float]] = field(default_factory=list)
    """Epoch and score of each evaluation that counts."""
    steps: int | None = None
    seconds: float = 0.0
    reason: str = ""
    """Why it ended as it did, in a sentence."""


class TrialLedger:
    """The open ledger of a study; whoever opens it holds the study's lock.

    Raises:
        CheckpointError: it cannot be read or written.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.began: dict[str, Mapping[str, Any]] = {}
        """Folder of a run to the values that it began with."""
        self.ended: dict[str, Trial] = {}
        try:
            content = path.read_bytes() if path.exists() else b""
            whole = content.rfind(b"\n") + 1
            for line in content[:whole].splitlines(keepends=True):
                self._take(line)
            self._file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
            if whole < len(content):
                os.ftruncate(self._file, whole)
                os.fsync(self._file)
        except OSError as error:
            raise CheckpointError(
                f"{path}: the ledger of the search cannot be used: {error.strerror or error}.",
                fix="Choose a folder that you can write, with --study-dir.",
                exit_code=2,
            ) from error

    def begin(self, run: str, *, number: int, values: Mapping[str, Any]) -> None:
        """A run is about to begin."""
        assert run not in self.began, f"{run} has begun already"
        self._append({"event": "began", "run": run, "number": number, "values": dict(values)})

    def end(self, trial: Trial) -> None:
        """A run has ended, for good."""
        assert trial.run not in self.ended, f"{trial.run} has ended already"
        self._append({"event": "ended", **asdict(trial)})

    def trials(self) -> list[Trial]:
        """Those of the search that have ended, by number."""
        return sorted((one for one in self.ended.values() if one.run.startswith("trials/")), key=lambda one: one.number)

    def finals(self) -> list[Trial]:
        """Runs of finalists on fresh seeds that have ended."""
        return [one for one in self.ended.values() if one.run.startswith("finals/")]

    def close(self) -> None:
        os.close(self._file)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _append(self, facts: dict[str, Any]) -> None:
        line = json.dumps(facts, allow_nan=False, ensure_ascii=False).encode() + b"\n"
        rest = memoryview(line)
        while rest:
            rest = rest[os.write(self._file, rest) :]
        os.fsync(self._file)
        self._take(line)

    def _take(self, line: bytes) -> None:
        facts = parse_object(line)
        if facts is None:
            raise CheckpointError(
                f"{self.path}: expected one JSON object a line, found {line[:60]!r}.",
                fix="Bring the file back from a copy, or begin another study: --study-dir OTHER",
                exit_code=2,
            )
        if facts.get("event") == "began":
            self.began[facts["run"]] = facts["values"]
        elif facts.get("event") == "ended":
            known = {item.name for item in fields(Trial)}
            kept = {name: value for name, value in facts.items() if name in known}
            self.ended[facts["run"]] = Trial(**{**kept, "curve": [(point[0], point[1]) for point in kept["curve"]]})
