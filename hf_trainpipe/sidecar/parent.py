"""A process beside the trainer, seen from the trainer: started with pipes, read without waiting, asked to end.

The process itself is :mod:`hf_trainpipe.sidecar.child`.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path


class Sidecar:
    """A Python module of this project that runs in a process of its own; or none, with the reason as a message."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[bytes] | None = None
        self._messages: list[str] = []
        self._unread = b""

    def start(self, module: str, arguments: Sequence[str], *, log: Path) -> None:
        """Start the process.

        Args:
            module: ``python -m`` this.
            arguments: After them comes ``--parent`` and this process's id.
            log: Where its standard error is appended.

        Raises:
            OSError: it cannot be started.
        """
        package_parent = str(Path(__file__).resolve().parents[2])
        paths = [package_parent, *filter(None, os.environ.get("PYTHONPATH", "").split(os.pathsep))]
        with log.open("ab") as stream:
            self._process = subprocess.Popen(
                [sys.executable, "-P", "-m", module, *arguments, "--parent", str(os.getpid())],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=stream,
                env={**os.environ, "PYTHONPATH": os.pathsep.join(paths), "OMP_NUM_THREADS": "1"},
                start_new_session=True,  # Ctrl-C in the trainer's terminal is not for this process
            )
        assert self._process.stdout is not None
        os.set_blocking(self._process.stdout.fileno(), False)

    @property
    def pid(self) -> int | None:
        """Process id; None where nothing runs."""
        return self._process.pid if self._process is not None else None

    def messages(self) -> list[str]:
        """Lines for the user since the last call. Never waits."""
        if self._process is not None:
            assert self._process.stdout is not None
            with contextlib.suppress(OSError, ValueError):  # nothing there yet, or closed
                while part := os.read(self._process.stdout.fileno(), 65536):
                    self._unread += part
            *lines, self._unread = self._unread.split(b"\n")
            self._messages += [line.decode(errors="replace") for line in lines]
        found, self._messages = self._messages, []
        return found

    def end(self, word: str | None = None, *, timeout: float = 0.0, kill: bool = False) -> int | None:
        """Ask for the end, and read no more from it.

        Args:
            word: What to tell it; None: only the pipe is closed. Both ask for the end.
            timeout: Seconds to wait.
            kill: Whether to kill it after that; otherwise it runs on.

        Returns:
            Its exit code; None where it still runs.
        """
        process = self._process
        if process is None:
            return 0
        assert process.stdin is not None
        assert process.stdout is not None
        with contextlib.suppress(OSError):
            if word is not None:
                process.stdin.write(f"{word}\n".encode())
                process.stdin.flush()  # a worker of the trainer may hold the pipe open
        with contextlib.suppress(OSError):
            process.stdin.close()
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(timeout)
        if kill and process.poll() is None:
            process.kill()
            process.wait()
        self._messages = self.messages()
        self._process = None
        process.stdout.close()
        if process.returncode is None:
            _running.append(process)
        return process.returncode


_running: list[subprocess.Popen[bytes]] = []
"""Kept, so that Python does not warn of a process that was not waited for."""
