"""Sides of a benchmark that prepare beside each other and are timed one after the other.

    python scripts/bench/turns.py STEP train RECIPE ...    this project's command line, which waits before that step

Each process is started with a lock that it shares with the others while it imports, compiles and warms up. Before what
is timed it takes the lock alone, which nobody gets as long as one still prepares, and keeps it until that is done.
"""

from __future__ import annotations

import fcntl
import os
import sys
from pathlib import Path
from typing import Any

TURN = "BENCH_TURN"
"""In the environment of such a process: the file descriptor of its lock."""


def shared_lock(file: Path) -> int:
    """A descriptor of ``file`` with a lock that others share, to be handed to one process and closed here then."""
    descriptor = os.open(file, os.O_RDWR | os.O_CREAT)
    fcntl.flock(descriptor, fcntl.LOCK_SH)
    return descriptor


def wait_for_turn() -> None:
    """Wait until nobody prepares or is timed. Without a lock nothing is waited for."""
    if TURN in os.environ:
        finish_on_device()
        fcntl.flock(int(os.environ[TURN]), fcntl.LOCK_EX)


def end_turn() -> None:
    """Let the next one begin; the end of the process does so too."""
    if TURN in os.environ:
        fcntl.flock(int(os.environ[TURN]), fcntl.LOCK_UN)


def finish_on_device() -> None:
    import torch

    if torch.cuda.is_available():
        torch.cuda.synchronize()


def main() -> None:
    from hf_trainpipe.cli import run
    from hf_trainpipe.training.signals import StopSignals

    first, before_step = int(sys.argv[1]), StopSignals.before_step

    def before_step_in_turn(self: Any, step: int) -> bool:
        if step == first:
            wait_for_turn()
        return before_step(self, step)

    StopSignals.before_step = before_step_in_turn  # type: ignore[method-assign]
    del sys.argv[1]
    sys.exit(run())


if __name__ == "__main__":
    main()
