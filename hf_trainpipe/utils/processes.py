"""Processes that belong together: those below one, their end, and one that ends with the process that began it."""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
from collections.abc import Iterable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import psutil

GRACE_SECONDS = 120.0
"""From the request to save and end until a run, or a verb, is killed: a step, an evaluation and a save may lie in between."""
REAP_SECONDS = 5.0
"""Seconds to wait for processes that outlive their launcher before they are killed."""
SIDECARS = frozenset({"hf_trainpipe.tracking.process", "hf_trainpipe.hub.background_push_process"})
"""Modules of the processes beside a trainer, which may finish after it."""
BEGUN_BY = "HF_TRAINPIPE_BEGUN_BY"
"""Environment variable: id of the process that began a run; with it gone, the run saves and ends."""
_PR_SET_PDEATHSIG = 1


def children(process: psutil.Process, *, recursive: bool = False) -> list[psutil.Process]:
    """The processes that one began; none where it is gone."""
    import psutil

    try:
        found: list[psutil.Process] = process.children(recursive=recursive)
    except psutil.Error:
        return []
    return found


def kill(processes: Iterable[psutil.Process]) -> None:
    """SIGKILL to those that are still there."""
    import psutil

    for process in processes:
        with contextlib.suppress(psutil.Error):
            process.kill()


def reap(descendants: Iterable[psutil.Process], *, seconds: float = REAP_SECONDS) -> None:
    """End training processes that outlived their launcher; sidecars may finish."""
    import psutil

    def is_worker(process: psutil.Process) -> bool:
        try:
            return process.is_running() and not SIDECARS & set(process.cmdline())
        except psutil.Error:
            return False

    left = [process for process in descendants if is_worker(process)]
    _, alive = psutil.wait_procs(left, timeout=seconds)
    kill(alive)


def end_with_parent() -> None:
    """Where :data:`BEGUN_BY` is set, take the death of the process above this one as SIGTERM: a run then saves and ends.

    The kernel sends it (prctl(2), PR_SET_PDEATHSIG), however the parent dies. Launchers and their workers call this too,
    so that it travels down. Elsewhere than on Linux nothing happens.
    """
    asked = os.environ.get(BEGUN_BY, "")
    if not asked.isdecimal():
        return
    with contextlib.suppress(AttributeError, OSError):
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
    try:
        os.kill(int(asked), 0)
    except ProcessLookupError:  # it died before the kernel knew
        os.kill(os.getpid(), signal.SIGTERM)
    except PermissionError:
        pass
