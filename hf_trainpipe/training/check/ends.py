"""What needs no model: the run's folder, room on its disk, the Hub, trackers. Nothing here imports torch."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

from hf_trainpipe.checkpoint.lock import is_locked
from hf_trainpipe.errors import TrainpipeError
from hf_trainpipe.hub.permission import require_permission
from hf_trainpipe.report.forecast import spelt
from hf_trainpipe.tracking.base import with_trackers
from hf_trainpipe.tracking.reach import obstacle
from hf_trainpipe.training.check.found import Found, Problem
from hf_trainpipe.utils.atomic import free_bytes, require_writable

if TYPE_CHECKING:
    from hf_trainpipe.recipe import Recipe

ANSWER_SECONDS = 6.0
"""For a server to answer."""


def existing_parent(folder: Path) -> Path:
    """The folder itself, or the nearest above it that is there."""
    found = folder.absolute()
    while not found.exists() and found != found.parent:
        found = found.parent
    return found


def look_at_folder(run_dir: Path, found: Found) -> None:
    """Refuse a folder that cannot be written, or that another process trains in. Nothing is made there."""
    there = existing_parent(run_dir)
    try:
        if there.is_dir():
            require_writable(there)
        else:
            raise TrainpipeError(
                f"{run_dir}: expected a folder, found that {there} is a file.", fix="Choose another folder: --run-dir"
            )
        if is_locked(run_dir / "run.lock"):
            raise TrainpipeError(
                f"{run_dir}: expected a folder that no run uses, found one that a process trains in.",
                fix="Wait for its end, or choose another folder: --run-dir",
            )
    except TrainpipeError as error:
        found.add(Problem("run folder", error.message, error.fix))


def look_at_disk(run_dir: Path, found: Found, *, used_here: int, keep: int) -> None:
    """Refuse a disk that cannot hold what the run writes.

    Args:
        used_here: Bytes that the rehearsal takes there, which will be free.
        keep: ``budget.keep_checkpoints``.
    """
    disk = found.disk
    if not disk:
        return
    free = free_bytes(run_dir) + used_here
    found.disk["free"] = free
    if disk["most"] > free:
        found.add(
            Problem(
                "disk",
                f"{run_dir}: expected {spelt('disk_bytes', disk['most'])} to be free for checkpoints of "
                f"{spelt('disk_bytes', disk['checkpoint'])} (budget.keep_checkpoints {keep:,}, the best and the one being "
                f"written) and a package of {spelt('disk_bytes', disk['package'])}, found {spelt('disk_bytes', free)}.",
                "Free some space, choose another disk with --run-dir, or lower budget.keep_checkpoints.",
            )
        )


def look_outside(recipe: Recipe, tracked: Sequence[str], found: Found, *, retry: str) -> None:
    """Ask the Hub and the trackers' servers, all at the same time; nothing is sent to them.

    Args:
        tracked: Names of further trackers, of ``--track``.
        retry: The command that asks again.
    """
    for name in tracked:
        try:
            recipe = with_trackers(recipe, [name])
        except TrainpipeError as error:
            found.add(Problem("tracker", error.message, error.fix))
    asked: list[tuple[str, Callable[[], TrainpipeError | None]]] = []
    if (hub := recipe.hub) is not None:

        def ask_hub() -> TrainpipeError | None:
            try:
                require_permission(hub, retry=retry, seconds=ANSWER_SECONDS)
            except TrainpipeError as error:
                return error
            found.seen["hub"] = f"the token may write to {hub.repo}"
            return None

        asked.append(("hub", ask_hub))
    for tracker in recipe.trackers:
        asked.append(("tracker", lambda tracker=tracker: obstacle(tracker, seconds=ANSWER_SECONDS)))  # type: ignore[misc]
    if not asked:
        return
    with ThreadPoolExecutor(len(asked)) as threads:
        for (what, _), met in zip(asked, threads.map(lambda one: one[1](), asked), strict=True):
            if met is not None:
                found.add(Problem(what, met.message, met.fix))
    if recipe.trackers and not any(problem.what == "tracker" for problem in found.problems):
        found.seen["trackers"] = ", ".join(type(tracker).__name__ for tracker in recipe.trackers)
