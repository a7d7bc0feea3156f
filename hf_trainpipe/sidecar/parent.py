"""A process beside the trainer, as the trainer sees it: begun with pipes, read without waiting, told to end.

Its inside is :mod:`hf_trainpipe.sidecar.child`.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

__all__ = ["Sidecar"]


class Sidecar:
    """A Python module of this package that runs in a process of its own.

    Args:
        module: ``python -m`` this.
        arguments: After them comes ``--parent`` and this process's id.
        log: Where its standard error is appended.
        environ: Beside this process's.

    Raises:
        OSError: it cannot be started.
    """

    def __init__(
        self, module: str, arguments: Sequence[str], *, log: Path, environ: Mapping[str, str] | None = None
    ) -> None:
        package_parent = str(Path(__file__).resolve().parents[2])
        paths = [package_parent, *filter(None, os.environ.get("PYTHONPATH", "").split(os.pathsep))]
        with log.open("ab") as stream:
            self._process = subprocess.Popen(
                [sys.executable, "-P", "-m", module, *arguments, "--parent", str(os.getpid())],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=stream,
                env={**os.environ, "PYTHONPATH": os.pathsep.join(paths), **(environ or {})},
                start_new_session=True,  # Ctrl-C in the trainer's terminal is not for this process
            )
        assert self._process.stdout is not None
        os.set_blocking(self._process.stdout.fileno(), False)
        self._unread = b""

    @property
    def pid(self) -> int:
        return self._process.pid

    def messages(self) -> list[str]:
        """Lines for the person that came since the last call. Never waits."""
        assert self._process.stdout is not None
        with contextlib.suppress(OSError, ValueError):  # nothing there yet, or closed
            while part := os.read(self._process.stdout.fileno(), 65536):
                self._unread += part
        *lines, self._unread = self._unread.split(b"\n")
        return [line.decode(errors="replace") for line in lines]

    def tell(self, word: str | None = None) -> None:
        """Say a word, if any, and close the pipe: both ask for the end."""
        assert self._process.stdin is not None
        with contextlib.suppress(OSError):
            if word is not None:
                self._process.stdin.write(f"{word}\n".encode())
                self._process.stdin.flush()  # said aloud: a worker of the trainer may hold the pipe open
        with contextlib.suppress(OSError):
            self._process.stdin.close()

    def wait(self, timeout: float) -> int | None:
        """Its exit code, or None where it goes on after so many seconds."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            return self._process.wait(timeout)
        return None

    def kill(self) -> None:
        self._process.kill()
        self._process.wait()

    def let_go(self) -> None:
        """Hear no more of it; where it still runs, it goes on by itself."""
        assert self._process.stdout is not None
        self._process.stdout.close()
        if self._process.poll() is None:
            _running.append(self._process)


_running: list[subprocess.Popen[bytes]] = []
"""Kept, so that Python does not warn of a process that is left to itself."""
