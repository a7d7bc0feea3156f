"""The trainer's side of pushing while it trains: start a process that looks after it, and let it go.

The process (:mod:`hf_trainpipe.package.courier_process`) sees new checkpoints by looking into the run's directory.
The loop neither knows of it nor waits for it, and it can be killed at any instant: what it does is in the outbox.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hf_trainpipe.checkpoint.atomic import write_json
from hf_trainpipe.package.outbox import OUTBOX

if TYPE_CHECKING:
    from hf_trainpipe.package.card import CardFacts
    from hf_trainpipe.recipe import Hub

__all__ = ["SPEC", "Courier"]

SPEC = "courier.json"
"""In the outbox: what the process is to do. No secret is in it."""


class Courier:
    """A running process that pushes; or none, with the reason among the messages.

    Args:
        run: The run's directory.
        hub: What the recipe asks for.
        select: The metric that chooses the best model.
        facts: What cards tell beside the template; None: there is no template, so only checkpoints are mirrored.
    """

    def __init__(self, run: Path, hub: Hub, *, select: str, facts: CardFacts | None) -> None:
        self._messages: list[str] = []
        self._unread = b""
        self._process: subprocess.Popen[bytes] | None = None
        spec: dict[str, Any] = {
            "repo": hub.repo,
            "private": hub.private,
            "when": hub.when if facts is not None else "end",
            "checkpoints": hub.checkpoints,
            "select": select,
            "facts": asdict(facts) if facts is not None else {},
        }
        package_parent = str(Path(__file__).resolve().parents[2])
        paths = [package_parent, *filter(None, os.environ.get("PYTHONPATH", "").split(os.pathsep))]
        command = [sys.executable, "-P", "-m", "hf_trainpipe.package.courier_process", str(run.resolve())]
        try:
            (run / OUTBOX).mkdir(exist_ok=True)
            write_json(run / OUTBOX / SPEC, spec)
            with open(run / OUTBOX / "courier.log", "ab") as log:
                process = subprocess.Popen(
                    [*command, "--parent", str(os.getpid())],
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    stderr=log,
                    env={**os.environ, "PYTHONPATH": os.pathsep.join(paths), "OMP_NUM_THREADS": "1"},
                    start_new_session=True,  # Ctrl-C in the trainer's terminal is not for this process
                )
        except OSError as error:
            self._messages.append(f"warning: nothing is pushed while it trains ({error})")
            return
        assert process.stdout is not None
        os.set_blocking(process.stdout.fileno(), False)
        self._process = process

    def messages(self) -> list[str]:
        """Lines for the person that came since the last call. Never waits."""
        if self._process is not None and self._process.stdout is not None:
            with contextlib.suppress(OSError, ValueError):  # nothing there yet, or closed
                while part := os.read(self._process.stdout.fileno(), 65536):
                    self._unread += part
            *lines, self._unread = self._unread.split(b"\n")
            self._messages += [line.decode(errors="replace") for line in lines]
        found, self._messages = self._messages, []
        return found

    def stop(self, *, timeout: float = 20.0) -> None:
        """End it where the run is complete: a push in flight may finish for so long; the outbox keeps the rest."""
        if self._process is None:
            return
        assert self._process.stdin is not None
        with contextlib.suppress(OSError):
            self._process.stdin.write(b"stop\n")
            self._process.stdin.close()
        try:
            self._process.wait(timeout)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._messages = self.messages()
        self._close()

    def leave(self) -> None:
        """Let it go on by itself where the run was interrupted: it pushes the newest checkpoint and ends."""
        if self._process is not None:
            assert self._process.stdin is not None
            with contextlib.suppress(OSError):
                self._process.stdin.close()
            self._messages = self.messages()
            _still_pushing.append(self._process)
            self._close()

    def _close(self) -> None:
        assert self._process is not None
        assert self._process.stdout is not None
        self._process.stdout.close()
        self._process = None


_still_pushing: list[subprocess.Popen[bytes]] = []
