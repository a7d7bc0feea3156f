"""What a check finds: problems, what was seen, and a forecast. One process writes it down as it goes, the other reads it."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import traceback
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from hf_trainpipe.errors import DataError, MissingExtra, PackageError, PushError, RecipeError, TrainpipeError
from hf_trainpipe.tracking.views.base import Progress, View, Work
from hf_trainpipe.utils.atomic import write_json
from hf_trainpipe.utils.brief import first_line

REQUEST, FILE = "request.json", "found.json"
"""What the process that rehearses is told, and what it finds."""
_OF_PARTS = "warning: not held against baselines"
"""The beginning of a line that is true of the part of a split that is scored, not of the run."""


@dataclass(frozen=True)
class Problem:
    """Something that ``train`` would stumble over."""

    what: str
    """Of what: ``data``, ``model``, ``hub``, ..."""
    message: str
    """What was expected, and what was found."""
    fix: str

    @classmethod
    def of(cls, what: str, error: TrainpipeError) -> Problem:
        """One that an error tells."""
        for kind, name in (
            (DataError, "data"),
            (PushError, "hub"),
            (PackageError, "package"),
            (MissingExtra, "install"),
        ):
            if isinstance(error, kind):
                what = name
        if isinstance(error, RecipeError) and (field := re.match(r"[a-z]+(?=[.:\[])", error.message)) is not None:
            what = field[0]
        return cls(what, error.message, error.fix)


@dataclass
class Found:
    """All of it."""

    problems: list[Problem] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    seen: dict[str, str] = field(default_factory=dict)
    """What was done and found in order, by name, a line each."""
    forecast: dict[str, Any] | None = None
    disk: dict[str, int] = field(default_factory=dict)
    """Bytes: of a ``checkpoint``, the ``package``, ``most`` while it trains, ``done`` at its end."""
    stage: str = "starting"
    """What is being done."""

    def add(self, problem: Problem) -> None:
        """Add a problem, once."""
        if problem not in self.problems:
            self.problems.append(problem)

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def read(cls, folder: Path) -> Found:
        """What the other process has written down so far."""
        try:
            told = json.loads((folder / FILE).read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return cls()
        return cls(**{**told, "problems": [Problem(**one) for one in told["problems"]]})


class Notes(View):
    """Writes down what is found at each stage, and times the work that a run's console is told of.

    Args:
        folder: Where to.
        own_file: The recipe's: an error of its code is a problem of the recipe and no bug.
        live: Whether the run would show its progress on a terminal.
    """

    def __init__(self, folder: Path, *, own_file: Path | None, live: bool) -> None:
        self.found = Found()
        self.seconds: dict[str, float] = {}
        """Of each work, by its name."""
        self.shows_intervals = live
        self._folder, self._own_file, self._parent = folder, own_file, os.getppid()

    def began(self, work: Work, now: Progress) -> None:
        self.at(work.what)

    def ended(self, work: Work, now: Progress) -> None:
        self.seconds[work.what] = self.seconds.get(work.what, 0.0) + work.seconds

    def say(self, text: str) -> None:
        is_told = text.startswith(("warning: ", "audit: ")) and not text.startswith(_OF_PARTS)
        if is_told and (line := text.removeprefix("warning: ")) not in self.found.warnings:
            self.found.warnings.append(line)

    def write(self) -> None:
        """Put it where the other process reads it."""
        with contextlib.suppress(OSError):  # of a full disk: its own problem
            write_json(self._folder / FILE, self.found.to_json(), durable=False)

    def at(self, stage: str) -> None:
        """Say what is being done; where nobody listens any more, leave nothing and end."""
        if os.getppid() != self._parent:
            shutil.rmtree(self._folder, ignore_errors=True)
            os._exit(1)
        self.found.stage = stage
        self.write()

    def stage(self, what: str, doing: str) -> _Stage:
        """Around a stage: errors that a person can act on become problems, and the check goes on.

        Args:
            what: Of what a problem is.
            doing: The stage, for people.
        """
        return _Stage(self, what, doing)

    def heed(self, error: BaseException, what: str, doing: str) -> bool:
        """Make a problem of an error; False where it is a bug."""
        from hf_trainpipe.training.loop import is_out_of_memory

        if isinstance(error, TrainpipeError):
            self.found.add(Problem.of(what, error))
        elif not isinstance(error, Exception):
            return False
        elif is_out_of_memory(error):
            told = first_line(error)
            self.found.add(out_of_memory(doing, told))
        elif (place := self._place(error)) is not None:
            told = f"{place}: {doing}: expected no error, found {type(error).__name__}: {error}"
            self.found.add(Problem("code", told, "Correct the code of the recipe's file there."))
        else:
            return False
        return True

    def _place(self, error: Exception) -> str | None:
        """Where in the recipe's own file an error came from, if it did."""
        frames = traceback.extract_tb(error.__traceback__)
        own = [frame for frame in frames if self._own_file is not None and Path(frame.filename) == self._own_file]
        return f"{self._own_file}:{own[-1].lineno}" if own else None


class _Stage:
    """What :meth:`Notes.stage` gives."""

    def __init__(self, notes: Notes, what: str, doing: str) -> None:
        self._notes, self._what, self._doing = notes, what, doing

    def __enter__(self) -> None:
        self._notes.at(self._doing)

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: object) -> bool:
        heeded = error is not None and self._notes.heed(error, self._what, self._doing)
        self._notes.write()
        return heeded


def out_of_memory(doing: str, told: str) -> Problem:
    """The problem where memory was not enough."""
    return Problem(
        "memory",
        f"{doing}: expected enough memory, found too little ({told}).",
        "Lower tokens.max_length or budget.micro_batch_tokens, set optim.checkpoint_layers, choose a smaller model, or use a "
        "machine with more memory.",
    )
