"""What emitters for Airflow and Kubeflow share: commands, and the table of exit codes as it stands in an emitted Python file."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from hf_trainpipe.errors import EXIT_CODES, INTERRUPTED, PUSH_FAILED

if TYPE_CHECKING:
    from hf_trainpipe.pipelines.emit import Settings
    from hf_trainpipe.pipelines.lowered import Step
    from hf_trainpipe.pipelines.pipeline import Pipeline

IMAGE, VOLUME = "hf-trainpipe:train", "hf-trainpipe"
"""The image that the repository's Dockerfile builds, and the claim of the volume, where the command line names none."""


def words(pipeline: Pipeline, steps: Sequence[Step], settings: Settings, *, indent: str = "") -> dict[str, str]:
    """What the templates of emitted Python files are filled with: Python literals, and names as they are.

    ``branches`` and ``failures`` are the exit codes with their meanings, ``command`` is that of a stage without its name.
    """
    return {
        "name": pipeline.name,
        "file": pipeline.spelled,
        "folder": _python(settings.folder),
        "image": _python(settings.image or IMAGE),
        "volume": _python(VOLUME if settings.volume is None else settings.volume),
        "command": _python(command_of(steps[0], settings)[:-1]),
        "branches": _literal((code for code, row in EXIT_CODES.items() if row.branch), indent),
        "failures": _literal((code for code, row in EXIT_CODES.items() if row.fails), indent),
        "interrupted": str(INTERRUPTED),
        "push_failed": str(PUSH_FAILED),
        "interruptions": str(pipeline.interruptions),
        "push_retries": str(pipeline.push_retries),
    }


def needs_of(step: Step) -> str:
    """For each need of a step the exit codes after which it runs, as a Python literal."""
    return "{" + ", ".join(f"{json.dumps(need)}: {sorted(step.runs_if[need])}" for need in step.needs) + "}"


def command_of(step: Step, settings: Settings) -> list[str]:
    """A step's command, by the interpreter that the engine has."""
    return [settings.python, *step.command[1:]]


def in_docstring(text: str) -> str:
    """A text as it may stand between the quotes of a docstring."""
    return text.replace("\\", r"\\").replace('"', r"\"")


def _python(value: object) -> str:
    """A text, or a list of them, as Python: JSON without its escapes of two halves, which Python reads as two letters."""
    return json.dumps(value, ensure_ascii=False)


def _literal(codes: Iterable[int], indent: str) -> str:
    rows = "".join(f"{indent}    {code}: {json.dumps(EXIT_CODES[code].meaning)},\n" for code in codes)
    return f"{{\n{rows}{indent}}}"
