"""A hung rank ends the run with its name, rather than leaving the others waiting for ever.

Every rank's thread writes once a second how long its model has been silent. Where nothing moved for most of the
time that collectives may take, the rank that is stopped, or was silent first, is named, and the process ends.
"""

from __future__ import annotations

import contextlib
import json
import os
import socket
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hf_trainpipe.errors import EXIT_FILE, Interrupted, render
from hf_trainpipe.utils.atomic import write_json

if TYPE_CHECKING:
    import torch

__all__ = ["Heartbeat", "collective_timeout", "hung_rank"]

TICK_SECONDS = 1.0
SHARE = 0.7
"""Of the collectives' timeout: the name of the hung rank comes before the backend's own, nameless error."""


def collective_timeout() -> float:
    """Seconds that one rank waits for another: HF_TRAINPIPE_TIMEOUT, or ten minutes."""
    return float(os.environ.get("HF_TRAINPIPE_TIMEOUT") or 600.0)


def hung_rank(before: dict[int, dict[str, Any]], after: dict[int, dict[str, Any]], ranks: int) -> tuple[int, str]:
    """The rank that the others wait for, and why it is thought to be that one.

    Args:
        before: What each rank wrote (``tick, silent``), by rank.
        after: The same, some ticks later. A rank whose tick is the same cannot run at all.

    >>> hung_rank({0: {"tick": 4, "silent": 9.0}}, {0: {"tick": 7, "silent": 12.0}}, ranks=2)
    (1, 'never began')
    """
    for rank in range(ranks):
        if rank not in after:
            return rank, "never began"
        if before.get(rank, {}).get("tick") == after[rank]["tick"]:
            return rank, f"is stopped or dead (process {after[rank].get('pid')} on {after[rank].get('host')})"
    rank = max(after, key=lambda one: float(after[one]["silent"]))
    return rank, f"was the first to fall silent (process {after[rank].get('pid')} on {after[rank].get('host')})"


class Heartbeat:
    """Watches over this rank while open; nothing at all where there is one rank.

    Args:
        folder: A folder that all ranks see.
        rank: This rank.
        ranks: How many there are.
        watched: A module whose every forward pass is a beat.
        timeout: Seconds of silence after which the process ends; None: most of the collectives' timeout.
        end: Called with the exit code and the message; None: say it and leave the process.
    """

    def __init__(
        self,
        folder: Path,
        *,
        rank: int,
        ranks: int,
        watched: torch.nn.Module | None = None,
        timeout: float | None = None,
        end: Callable[[int, str], None] | None = None,
    ) -> None:
        self.folder = folder
        self.rank = rank
        self.ranks = ranks
        self._watched = watched
        self._hook: Any = None
        self.timeout = SHARE * collective_timeout() if timeout is None else timeout
        self._end = end or _leave
        self._last = time.monotonic()
        self._tick = 0
        self._closed = threading.Event()
        self._thread: threading.Thread | None = None

    def beat(self, *_: object) -> None:
        """Something moved. Takes what a forward pre-hook is given."""
        self._last = time.monotonic()

    def __enter__(self) -> Heartbeat:
        if self.ranks > 1:
            if self._watched is not None:
                self._hook = self._watched.register_forward_pre_hook(self.beat)
            self.folder.mkdir(parents=True, exist_ok=True)
            self.beat()
            self._write()
            self._thread = threading.Thread(target=self._watch, name="heartbeat", daemon=True)
            self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._closed.set()
        if self._hook is not None:
            self._hook.remove()
        if self._thread is not None:
            self._thread.join()

    def _watch(self) -> None:
        woke = time.monotonic()
        every = min(TICK_SECONDS, self.timeout / 16)
        while not self._closed.wait(every):
            now = time.monotonic()
            if now - woke > max(5 * TICK_SECONDS, self.timeout / 2):
                self.beat()  # this process itself was stopped and goes on: the others may not be blamed
            woke = now
            self._write()
            if now - self._last > self.timeout:
                self._diagnose(every)
                return

    def _write(self) -> None:
        self._tick += 1
        facts = {
            "tick": self._tick,
            "silent": round(time.monotonic() - self._last, 3),
            "pid": os.getpid(),
            "host": socket.gethostname(),
        }
        with contextlib.suppress(OSError):  # a full or read-only disk must not end the run here; a save will say it
            write_json(self.folder / f"rank-{self.rank}.json", facts, durable=False)

    def _read(self) -> dict[int, dict[str, Any]]:
        found: dict[int, dict[str, Any]] = {}
        for rank in range(self.ranks):
            try:
                found[rank] = json.loads((self.folder / f"rank-{rank}.json").read_text())
            except (OSError, ValueError):
                continue
        return found

    def _diagnose(self, every: float) -> None:
        before = self._read()
        for _ in range(3):
            if self._closed.wait(every):
                return
            self._write()
        rank, why = hung_rank(before, self._read(), self.ranks)
        silent = time.monotonic() - self._last
        self._end(
            Interrupted.exit_code,
            render(
                f"rank {rank} {why}; nothing moved for {silent:,.0f} s, so rank {self.rank} ends.",
                "The last checkpoint is valid: run the same command again. "
                "HF_TRAINPIPE_TIMEOUT (seconds) sets the limit.",
            ),
        )


def _leave(code: int, message: str) -> None:
    print(message, file=sys.stderr, flush=True)
    if file := os.environ.get(EXIT_FILE):
        Path(file).write_text(str(code))
    os._exit(code)  # the main thread sits in a collective and cannot be asked
