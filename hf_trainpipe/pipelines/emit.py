"""``pipeline emit ENGINE FILE``: files for other engines, which people can read and which need nothing of ours to be loaded.

They call ``pipeline stage FILE NAME`` (or ``pipeline run``) in the pipeline's folder and treat exit codes by the one table. An engine is
a module with ``write(pipeline, settings)``, listed in :data:`ENGINES`.
"""

from __future__ import annotations

import importlib
import sys
from dataclasses import dataclass
from pathlib import Path

from hf_trainpipe.errors import RecipeError, closest
from hf_trainpipe.pipelines.pipeline import Pipeline
from hf_trainpipe.utils.atomic import write_bytes

ENGINES = {
    "cron": "emit_cron",
}
"""What can be emitted, and the module here that writes it."""


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


def emit(
    pipeline: Pipeline,
    engine: str,
    output: Path,
    *,
    folder: str | None = None,
    python: str | None = None,
    schedule: str | None = None,
    image: str | None = None,
) -> list[Path]:
    """Write the files of an engine.

    Args:
        output: Their folder.
        folder: See :class:`Settings`; None: where the file lies here.
        python: None: the interpreter that runs this.

    Returns:
        What was written.

    Raises:
        RecipeError: there is no such engine, or the schedule has no five fields.
    """
    if engine not in ENGINES:
        raise RecipeError(
            f"pipeline emit: there is no engine {engine!r}.{closest(engine, ENGINES)}",
            fix=f"Engines: {', '.join(ENGINES)}.",
        )
    if schedule is not None and (len(schedule.split()) != 5 or not set(schedule) <= set("0123456789*/,- ")):
        raise RecipeError(
            f"--schedule: expected five fields of cron, found {schedule!r}.", fix='Write --schedule "0 3 * * *".'
        )
    settings = Settings(
        folder=folder or str(pipeline.folder), python=python or sys.executable, schedule=schedule, image=image
    )
    module = importlib.import_module(f"{__package__}.{ENGINES[engine]}")
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


def made_by(pipeline: Pipeline, engine: str) -> str:
    """The first line of what is written."""
    return f"{pipeline.name}: made by `hf-trainpipe pipeline emit {engine} {pipeline.spelled}`; make it again rather than edit it."
