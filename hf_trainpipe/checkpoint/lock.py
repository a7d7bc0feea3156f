"""One process a run directory.

An flock(2) on ``run.lock``: the kernel releases it when its holder dies, however it dies, so there is no
stale lock to remove. The file also says who holds it. Children do not inherit it: the descriptor is closed on
exec, and closed in forked children.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import json
import os
import socket
import time
import weakref
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from hf_trainpipe.errors import RunLocked, TrainpipeError

_POLL_SECONDS = 0.1
_held: weakref.WeakSet[RunLock] = weakref.WeakSet()


class RunLock:
    """The lock of a run directory: its holder alone may write there. Only rank 0 takes it.

        with RunLock(run_directory / "run.lock"):
            ...

    Args:
        path: The lock file. Its folder must exist; the file stays after the release.
    """

    def __init__(self, path: Path) -> None:
        self.path = Path(path).absolute()
        self._descriptor: int | None = None

    def acquire(self, *, timeout: float = 0.0) -> None:
        """Take the lock.

        Args:
            timeout: Seconds to wait for an owner that is about to end.

        Raises:
            RunLocked: another process holds it; carries its ``pid``, ``host``, ``boot_id`` and ``since``.
            TrainpipeError: the file cannot be written, or the file system has no locks.
        """
        assert self._descriptor is None, "this lock is held already"
        until = time.monotonic() + timeout
        descriptor = None
        try:
            descriptor = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
            while True:
                try:
                    fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    break
                except BlockingIOError:
                    if time.monotonic() >= until:
                        raise _locked(self.path) from None
                    time.sleep(_POLL_SECONDS)
            os.ftruncate(descriptor, 0)
            os.pwrite(descriptor, json.dumps(_myself()).encode() + b"\n", 0)
        except BaseException as error:
            if descriptor is not None:
                os.close(descriptor)
            if isinstance(error, OSError):
                raise _unusable(self.path, error) from error
            raise
        self._descriptor = descriptor
        _held.add(self)

    def fileno(self) -> int:
        """The descriptor, for a child that is to hold the lock too: it stays taken until all who have it ended."""
        assert self._descriptor is not None, "this lock is not held"
        return self._descriptor

    def release(self) -> None:
        """Give the lock back; nothing happens if it is not held."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None
            _held.discard(self)

    def __enter__(self) -> RunLock:
        self.acquire()
        return self

    def __exit__(self, *_: object) -> None:
        self.release()


def is_locked(path: Path) -> bool:
    """Whether a process holds the lock at ``path``. Does not wait and writes nothing."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        return False
    finally:
        os.close(descriptor)
    return False


def _drop_in_child() -> None:
    # A forked child shares the open file: as long as it lives the lock would outlive its owner. Closing the
    # child's descriptor leaves the parent's lock as it is.
    for lock in list(_held):
        lock.release()


os.register_at_fork(after_in_child=_drop_in_child)


def _myself() -> dict[str, Any]:
    return {
        "pid": os.getpid(),
        "host": socket.gethostname(),
        "boot_id": boot_id(),
        "since": datetime.now(UTC).isoformat(timespec="seconds"),
    }


def boot_id() -> str:
    with contextlib.suppress(OSError):
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    return ""


def _owner(path: Path) -> dict[str, Any]:
    for _ in range(5):  # the owner may be about to write its name
        with contextlib.suppress(OSError, ValueError):
            owner = json.loads(path.read_bytes())
            if isinstance(owner, dict):
                return owner
        time.sleep(_POLL_SECONDS / 2)
    return {}


def _locked(path: Path) -> RunLocked:
    owner = _owner(path)
    pid, host, since = (owner.get(key) for key in ("pid", "host", "since"))
    here = host == socket.gethostname()
    stop = f"kill {pid}" if here else f"ssh {host} kill {pid}"
    return RunLocked(
        f"{path.parent} is in use by process {pid or '(unknown)'} on {host or '(unknown host)'} "
        f"since {since or '(unknown)'}.",
        fix=f"Wait until it ends, stop it ({stop}), or choose another folder with --run-dir."
        if owner
        else "Wait until it ends, or choose another folder with --run-dir.",
        pid=pid,
        host=host,
        boot_id=owner.get("boot_id"),
        since=since,
    )


def _unusable(path: Path, error: OSError) -> TrainpipeError:
    if error.errno in (errno.ENOLCK, errno.ENOTSUP, errno.ENOSYS):
        return TrainpipeError(
            f"{path} cannot be locked: {error.strerror}. Its file system has no locks.",
            fix="Put the run directory on a file system with locks, with --run-dir.",
        )
    return TrainpipeError(
        f"{path} cannot be written: {error.strerror or error}.",
        fix="Choose a folder that you can write, with --run-dir.",
    )
