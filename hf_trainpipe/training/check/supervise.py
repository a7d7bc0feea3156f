"""The verb's side of a check: what needs no model, while a process of its own rehearses the run; nothing is left behind.

A process that the system kills for its memory is a finding too, and its folder is removed here.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hf_trainpipe.training import forecasts
from hf_trainpipe.training.check.ends import existing_parent, look_at_disk, look_at_folder, look_outside
from hf_trainpipe.training.check.found import REQUEST, Found, Problem, out_of_memory
from hf_trainpipe.utils.signals import handled

if TYPE_CHECKING:
    from hf_trainpipe.recipe import Recipe
    from hf_trainpipe.tracking.console import Console

PREFIX = ".check-"
_POLL_SECONDS = 0.05


def check(
    recipe: Recipe,
    arguments: Sequence[str],
    *,
    run_dir: Path,
    tracked: Sequence[str] = (),
    console: Console,
    live: bool = False,
    command: str = "hf-trainpipe check",
) -> Found:
    """Check a recipe; see :mod:`hf_trainpipe.training.check`.

    Args:
        recipe: With the fields of the command line.
        arguments: The recipe and its fields, as the command line has them, for the process that rehearses.
        run_dir: The directory of the run to come.
        tracked: Names of further trackers.
        console: Shows what is being done.
        live: Whether the run would show its progress on a terminal.
        command: What asks again.
    """
    ended, found = Found(), Found()
    look_at_folder(run_dir, found)
    with _heeding_sigterm(), _scratch(run_dir) as folder:
        (folder / REQUEST).write_text(json.dumps({"run_dir": str(run_dir.absolute()), "live": live}))
        process = subprocess.Popen(
            [sys.executable, "-m", "hf_trainpipe", "check", *arguments, "--rehearse", str(folder)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            errors="replace",
        )
        try:
            look_outside(recipe, tracked, found, retry=command)
            stderr = _wait(process, folder, console)
        finally:
            if process.poll() is None:
                process.kill()
                process.wait()
        ended = Found.read(folder)
        for problem in ended.problems:
            found.add(problem)
        if process.returncode != 0:
            found.add(_died(process.returncode, ended.stage, stderr))
        found.warnings, found.forecast, found.disk = ended.warnings, ended.forecast, ended.disk
        found.stage = ended.stage
        found.seen = {**ended.seen, **found.seen}
        look_at_disk(run_dir, found, used_here=_used(folder, run_dir), keep=recipe.budget.keep_checkpoints)
    return found


def keep_forecast(found: Found, recipe: Recipe, *, cost_per_hour: float | None) -> None:
    """Let the run that follows find the forecast; with its cost, if one is asked for."""
    if found.forecast is None:
        return
    told: dict[str, Any] = {**found.forecast, "made": time.time()}
    if cost_per_hour is not None:
        seconds = forecasts.Guess(**told["forecast"]["seconds"])
        told |= {"cost_per_hour": cost_per_hour, "cost": vars(seconds.scaled(cost_per_hour / 3600))}
    found.forecast = told
    if not found.problems:
        forecasts.wait_for_run(forecasts.recipe_key(recipe, ranks=1), told)


@contextlib.contextmanager
def _heeding_sigterm() -> Iterator[None]:
    """Meanwhile the signal ends this process as an exception does, so that its folder is removed."""

    def leave(number: int, _: object) -> None:
        sys.exit(128 + number)

    with handled([signal.SIGTERM], leave):
        yield


@contextlib.contextmanager
def _scratch(run_dir: Path) -> Iterator[Path]:
    """A folder on the disk of the run, or where that cannot be written a temporary one; it is gone afterwards, with those of
    checks that were killed."""
    import psutil

    there = existing_parent(run_dir)
    if (there / "run.json").exists():  # inside of no run
        there = there.parent
    with contextlib.suppress(OSError):
        for old in there.glob(f"{PREFIX}*"):
            match = re.match(rf"{re.escape(PREFIX)}(\d+)-", old.name)
            if match is not None and not psutil.pid_exists(int(match[1])):
                shutil.rmtree(old, ignore_errors=True)
    prefix = f"{PREFIX}{os.getpid()}-"
    try:
        folder = Path(tempfile.mkdtemp(prefix=prefix, dir=there))
    except OSError:
        folder = Path(tempfile.mkdtemp(prefix=prefix))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _wait(process: subprocess.Popen[str], folder: Path, console: Console) -> str:
    """Show the stages until the process has ended; what it wrote to standard error."""
    written: list[str] = []
    assert process.stderr is not None
    reader = threading.Thread(target=lambda: written.append(process.stderr.read()), daemon=True)  # type: ignore[union-attr]
    reader.start()
    stage = now = "starting"
    while process.poll() is None:
        with console.working(stage):
            while process.poll() is None and (now := Found.read(folder).stage) == stage:
                time.sleep(_POLL_SECONDS)
        stage = now
    reader.join(5.0)
    return "".join(written)


def _died(code: int, stage: str, stderr: str) -> Problem:
    """What is told of a rehearsal that did not end by itself.

    Raises:
        Crashed: by a bug.
    """
    if code == -9:
        return out_of_memory(stage, "the system killed the process")
    if code < 0:
        return Problem(
            "process",
            f"{stage}: expected the process to end, found it killed by signal {-code}.",
            "Run the check once more.",
        )
    raise Crashed(stderr.strip() or f"The rehearsal ended with exit code {code} ({stage}).")


class Crashed(Exception):
    """The rehearsal ended by a bug; its text is the other process's traceback."""


def _used(folder: Path, run_dir: Path) -> int:
    """Bytes of the rehearsal on the disk of the run."""
    same = folder.stat().st_dev == existing_parent(run_dir).stat().st_dev
    return forecasts.folder_bytes(folder) if same else 0
