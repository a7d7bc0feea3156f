"""The lock of a stage: the second waits, and takes over when the first and its verb have ended."""

from __future__ import annotations

import contextlib
import os
import socket
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from hf_trainpipe.checkpoint.lock import RunLock, boot_id
from hf_trainpipe.errors import RunLocked
from hf_trainpipe.pipelines.processes import POLL_SECONDS, Stopping
from hf_trainpipe.pipelines.record import read_begun
from hf_trainpipe.utils.processes import GRACE_SECONDS, children, kill


@contextlib.contextmanager
def hold(
    path: Path, folder: Path, *, name: str, say: Callable[[str], None], stopping: Stopping
) -> Iterator[RunLock | None]:
    """Hold the lock of a stage; None: asked to stop while waiting.

    A verb whose engine was killed is asked by the kernel to save and end. Where it does not, it is killed after
    :data:`~hf_trainpipe.utils.processes.GRACE_SECONDS`, if it lives on this machine.
    """
    lock, told, alone_since = RunLock(path), False, None
    while True:
        try:
            lock.acquire()
            break
        except RunLocked as locked:
            if stopping.asked:
                yield None
                return
            orphaned = _is_gone(locked.data)
            if not told:
                say(f"{name}: waits: {_told(locked.data, orphaned=orphaned)}")
                told = True
            if orphaned:
                alone_since = alone_since or time.monotonic()
                if time.monotonic() - alone_since > GRACE_SECONDS:
                    _kill_verb(folder)
            time.sleep(POLL_SECONDS)
    try:
        yield lock
    finally:
        lock.release()


def _told(owner: dict[str, Any], *, orphaned: bool) -> str:
    where = f"process {owner.get('pid')} on {owner.get('host')}"
    if orphaned:
        return f"{where} was killed, and its verb is still saving"
    return f"{where} has been at it since {owner.get('since')}"


def _is_gone(owner: dict[str, Any]) -> bool:
    """Whether the process that took the lock has died, and only what it began still holds it."""
    if owner.get("host") != socket.gethostname() or owner.get("boot_id") != boot_id() or not owner.get("pid"):
        return False
    try:
        os.kill(owner["pid"], 0)
    except ProcessLookupError:
        return True
    except OSError:
        return False
    return False


def _kill_verb(folder: Path) -> None:
    import psutil

    with contextlib.suppress(psutil.Error, TypeError):
        process = psutil.Process(read_begun(folder).get("child"))
        if "hf_trainpipe" in " ".join(process.cmdline()):
            kill([*children(process, recursive=True), process])
