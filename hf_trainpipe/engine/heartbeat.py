"""Find the rank that hangs, name it and end the run, instead of letting the other ranks wait forever.

A thread on every rank writes once a second how long ago its model ran last. If that exceeds most of the collective
timeout, it names the rank that is stopped, or that went silent first, and ends the process.
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
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hf_trainpipe.errors import Interrupted, render
from hf_trainpipe.utils.atomic import write_json
from hf_trainpipe.utils.ranks import EXIT_FILE, leave_code

if TYPE_CHECKING:
    import torch

TICK_SECONDS = 1.0
SHARE = 0.7
"""Of the collective timeout, so that the hung rank is named before the backend fails without a name."""


def collective_timeout() -> float:
    """Seconds that a collective may take: HF_TRAINPIPE_TIMEOUT, or ten minutes."""
    return float(os.environ.get("HF_TRAINPIPE_TIMEOUT") or 600.0)


def hung_rank(before: dict[int, dict[str, Any]], after: dict[int, dict[str, Any]], ranks: int) -> tuple[int, str]:
    """The rank that the others wait for, and the reason.

    Args:
        before: What each rank wrote (``tick, silent``), by rank.
        after: The same, some ticks later. A rank whose tick did not change is not running.

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


def _leave(code: int, message: str) -> None:
    print(message, file=sys.stderr, flush=True)
    if file := os.environ.get(EXIT_FILE):
        leave_code(Path(file), code)
    os._exit(code)  # the main thread is blocked in a collective


@dataclass(kw_only=True, eq=False)
class Heartbeat:
    """Watches for hung ranks inside a ``with`` block; does nothing with a single rank."""

    folder: Path
    """A folder that all ranks see."""
    rank: int
    """This rank."""
    ranks: int
    """Number of ranks."""
    watched: torch.nn.Module | None = None
    """A module; each of its forward passes is a beat."""
    timeout: float = field(default_factory=lambda: SHARE * collective_timeout())
    """Seconds without a beat after which the process ends."""
    end: Callable[[int, str], None] = _leave
    """Called with the exit code and the message."""
    _hook: Any = field(default=None, init=False)
    _last: float = field(default_factory=time.monotonic, init=False)
    _tick: int = field(default=0, init=False)
    _closed: threading.Event = field(default_factory=threading.Event, init=False)
    _thread: threading.Thread | None = field(default=None, init=False)

    def beat(self, *_: object) -> None:
        """Record progress. Has the signature of a forward pre-hook."""
        self._last = time.monotonic()

    def __enter__(self) -> Heartbeat:
        if self.ranks > 1:
            if self.watched is not None:
                self._hook = self.watched.register_forward_pre_hook(self.beat)
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
                self.beat()  # this process itself was paused: do not blame the others
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
        with contextlib.suppress(OSError):  # a full or read-only disk is reported by the next save
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
        self.end(
            Interrupted.exit_code,
            render(
                f"rank {rank} {why}; nothing moved for {silent:,.0f} s, so rank {self.rank} ends.",
                "The last checkpoint is valid: run the same command again. "
                "HF_TRAINPIPE_TIMEOUT (seconds) sets the limit.",
            ),
        )
