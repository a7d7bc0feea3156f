"""Errors that a person can act on, and the exit codes of the command line.

    TrainpipeError(message, *, fix)      a message and a fix; further keywords are its data
    |- RecipeError                       wrong value, unknown name, file that does not load
    |- InputError (also ValueError)      a value of a request or of a package; with its kinds, of the runtime
    |- NotReproduced                     a package in 16 bits is too far from its recorded predictions
    |- DataError                         file and line, missing column or split
    |- MissingExtra (also ImportError)   names the pip extra
    |- CheckpointError
    |  '- ResumeMismatch                 the fields that differ from the interrupted run
    |- RunLocked                         another process owns the run directory
    |- TrainingDiverged                  step, loss, last good checkpoint
    |- PackageError
    |  '- PushError
    '- Interrupted                       prints the command that resumes

What each exit code means, and what whoever started a command does about it, is one table: :data:`EXIT_CODES`.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from hf_trainpipe.runtime.errors import InputError as InputError
from hf_trainpipe.runtime.errors import MissingPipeline as MissingPipeline
from hf_trainpipe.runtime.errors import MissingRuntime as MissingRuntime
from hf_trainpipe.runtime.errors import NotReproduced as NotReproduced
from hf_trainpipe.runtime.errors import RecipeError as RecipeError
from hf_trainpipe.runtime.errors import SchemaError as SchemaError
from hf_trainpipe.runtime.errors import TooMuch as TooMuch
from hf_trainpipe.runtime.errors import TrainpipeError as TrainpipeError
from hf_trainpipe.utils.wording import adapt_message

PUSH_FAILED = 5
"""Exit code where a push failed and all else is done: the same command sends what waits."""
INTERRUPTED = 75
"""Exit code of what a signal stopped, or ended: the same command continues it."""
DRIFTED = 10
"""Exit code of ``watch`` where the traffic is not what the package was made for: a branch for whoever calls it, no failure."""
NOT_SHOWN = 11
"""Exit code of ``compare --margin`` and ``promote`` where a model is not shown to be no worse: a branch, no failure."""


@dataclass(frozen=True, kw_only=True)
class ExitCode:
    """What an exit code of the command line means, and what whoever started the command does about it."""

    code: int
    name: str
    """A word for programs and pictures: ``drifted``."""
    meaning: str
    """As the help tells it."""
    retried: Literal["never", "again", "push"] = "never"
    """``again``: the same command continues where it stopped, on a budget of its own; ``push``: the same command sends what
    waits and repeats nothing else."""
    branch: bool = False
    """Whether the command is done, with an answer that chooses what comes next. 0 is one of them."""

    @property
    def fails(self) -> bool:
        """Whether it ends whatever the command was part of, at once."""
        return self.retried == "never" and not self.branch


EXIT_CODES: dict[int, ExitCode] = {
    row.code: row
    for row in (
        ExitCode(code=0, name="done", meaning="done", branch=True),
        ExitCode(code=1, name="bug", meaning="a bug in hf-trainpipe"),
        ExitCode(code=2, name="wrong-input", meaning="wrong input"),
        ExitCode(code=3, name="no-checkpoint", meaning="no valid checkpoint"),
        ExitCode(code=4, name="diverged", meaning="diverged"),
        ExitCode(code=PUSH_FAILED, name="push-failed", meaning="a push failed, all else is done", retried="push"),
        ExitCode(code=6, name="not-reproduced", meaning="a package does not reproduce its predictions"),
        ExitCode(code=DRIFTED, name="drifted", meaning="drifted: the traffic is not what was trained for", branch=True),
        ExitCode(code=NOT_SHOWN, name="not-shown", meaning="not shown to be no worse", branch=True),
        ExitCode(code=INTERRUPTED, name="interrupted", meaning="interrupted and resumable", retried="again"),
    )
}
"""The one table of exit codes, by code. Help, docs, ``pipeline run`` and everything that ``pipeline emit`` writes follow it. A code
that is not in it fails; a process that a signal ended counts as 75."""

TrainpipeError.spell = staticmethod(adapt_message)  # in the words of the place where a message is shown


class DataError(TrainpipeError):
    """Data that cannot be trained on. Carries ``file`` and ``line`` where they are known."""


class MissingExtra(TrainpipeError, ImportError):
    """A feature needs a package that is not installed. ``fix`` names the command."""


class CheckpointError(TrainpipeError):
    """No checkpoint can be used."""

    exit_code = 3


class ResumeMismatch(CheckpointError):
    """The recipe, data, tokenizer or labels differ from those of the interrupted run."""

    exit_code = 2


class RunLocked(TrainpipeError):
    """Another running process owns the run directory."""


class TrainingDiverged(TrainpipeError):
    """Losses or gradients stayed non-finite."""

    exit_code = 4


class PackageError(TrainpipeError):
    """A package is incomplete or does not reproduce its recorded predictions."""

    exit_code = 6


class PushError(PackageError):
    """An upload failed; everything before it is done and kept."""

    exit_code = PUSH_FAILED


class Interrupted(TrainpipeError):
    """A signal stopped the run after a save; the same command resumes it."""

    exit_code = INTERRUPTED


def closest(name: str, known: Iterable[str]) -> str:
    """Return ``" Did you mean 'x'?"`` for the nearest of ``known``, or ``""`` when none is near.

    >>> closest("acuracy", ["accuracy", "f1"])
    " Did you mean 'accuracy'?"
    >>> closest("zzz", ["accuracy"])
    ''
    """
    found = difflib.get_close_matches(name, list(known), n=1, cutoff=0.6)
    return f" Did you mean {found[0]!r}?" if found else ""


def render(message: str, fix: str) -> str:
    """The text that the command line prints: the message, then the fix."""
    lines = [f"error: {message}"]
    if fix:
        lines.append("")
        lines.extend(f"  {line}" for line in fix.splitlines())
    return "\n".join(lines)
