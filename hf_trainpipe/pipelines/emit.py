"""``pipeline emit ENGINE FILE``: files for other engines, which people can read and which need nothing of ours to be loaded.

They call ``pipeline stage FILE NAME`` (or ``pipeline run``) in the pipeline's folder and treat exit codes by the one table. An engine is
a module with ``write(pipeline, settings)``, listed in :data:`ENGINES`.
"""

from __future__ import annotations

import importlib
import shlex
import sys
import unicodedata
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hf_trainpipe.errors import RecipeError, closest
from hf_trainpipe.pipelines.pipeline import Pipeline
from hf_trainpipe.utils.atomic import write_bytes

ENGINES = {
    "actions": "emit_actions",
    "airflow": "emit_airflow",
    "cron": "emit_cron",
    "kfp": "emit_kfp",
    "slurm": "emit_slurm",
    "trainjob": "emit_trainjob",
}
"""What can be emitted, and the module here that writes it."""
IN_CONTAINERS = {"kfp": "/opt/venv/bin/python", "trainjob": "python"}
"""Engines whose commands run in containers, in ``/work`` where a volume is mounted, and the interpreter there that has hf-trainpipe. The
Python that is first on the path of a component is KFP's."""
HEEDED = {
    "schedule": ("actions", "airflow", "cron"),
    "image": ("kfp", "trainjob"),
    "volume": ("kfp", "trainjob"),
    "nodes": ("trainjob",),
    "gpus": ("trainjob",),
}
"""The engines whose files have a place for a setting; without a row: all."""
_BREAKS = ("Cc", "Cs", "Zl", "Zp")
"""Kinds of characters that end a line or cannot be written."""


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What an engine has to know beside the pipeline."""

    folder: str
    """The folder of the pipeline's file, as the engine's machines see it."""
    python: str
    """The interpreter there."""
    schedule: str | None = None
    """When it runs: five fields of cron."""
    image: str | None = None
    """Of engines that run containers."""
    volume: str | None = None
    """The PersistentVolumeClaim that is mounted at the folder, writable from all nodes; None: the usual one; empty: none."""
    nodes: int | None = None
    """Machines that train one model together; None: 1."""
    gpus: int | None = None
    """GPUs of each of them; None: 0, a process on the CPU."""


def emit(pipeline: Pipeline, engine: str, output: Path, **given: str | int | None) -> list[Path]:
    """Write the files of an engine.

    Args:
        output: Their folder.
        given: Fields of :class:`Settings`; None: the folder where the file lies here and the interpreter that runs this, or
            those of :data:`IN_CONTAINERS`; of Actions the folder from the top of its repository.

    Returns:
        What was written.

    Raises:
        RecipeError: there is no such engine, it cannot run this pipeline, or a setting is wrong or not for it.
    """
    if engine not in ENGINES:
        raise RecipeError(
            f"pipeline emit: there is no engine {engine!r}.{closest(engine, ENGINES)}",
            fix=f"Engines: {', '.join(ENGINES)}.",
        )
    schedule = given.get("schedule")
    if isinstance(schedule, str) and (len(schedule.split()) != 5 or not set(schedule) <= set("0123456789*/,- ")):
        raise RecipeError(
            f"--schedule: expected five fields of cron, found {schedule!r}.", fix='Write --schedule "0 3 * * *".'
        )
    for name, engines in HEEDED.items():
        if given.get(name) is not None and engine not in engines:
            raise RecipeError(
                f"--{name}: a file for {engine} has none.",
                fix=f"Leave it out{'; of kfp, make a recurring run' if name == 'schedule' else ''}. "
                f"Engines that take it: {', '.join(engines)}.",
            )
    module = importlib.import_module(f"{__package__}.{ENGINES[engine]}")
    chosen: dict[str, Any] = dict(zip(("folder", "python"), _usual(pipeline, engine), strict=True))
    settings = Settings(**chosen | {name: value for name, value in given.items() if value is not None})
    for text in (pipeline.spelled, pipeline.runs, *map(str, vars(settings).values())):
        if any(unicodedata.category(letter) in _BREAKS for letter in text):
            raise RecipeError(
                f"pipeline emit: expected names and paths of one line, found {text!r}.",
                fix="Rename it: it would break the lines of what is emitted.",
            )
    files: dict[str, str] = module.write(pipeline, settings)
    written = []
    for name, text in files.items():
        path = output / name
        path.parent.mkdir(parents=True, exist_ok=True)
        write_bytes(path, text.encode())
        if text.startswith("#!"):
            path.chmod(0o755)
        written.append(path)
    return written


def _usual(pipeline: Pipeline, engine: str) -> tuple[str, str]:
    """Folder and interpreter where nothing else is said."""
    if engine in IN_CONTAINERS:
        return "/work", IN_CONTAINERS[engine]
    folder = pipeline.folder
    if engine == "actions":  # from the top of the repository
        top = next((above for above in (folder, *folder.parents) if (above / ".git").exists()), folder)
        return folder.relative_to(top).as_posix(), "python"
    return str(folder), sys.executable


def made_by(pipeline: Pipeline, engine: str) -> str:
    """The first line of what is written."""
    command = f"hf-trainpipe pipeline emit {engine} {shlex.quote(pipeline.spelled)}"
    return f"{pipeline.name}: made by `{command}`; make it again rather than edit it."
