"""Threads and precision of this process, chosen rather than inherited."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal

__all__ = [
    "Precision",
    "cores",
    "num_threads",
    "set_precision",
    "set_threads",
    "settings_kept",
]

Precision = Literal["fp32", "medium", "bf16", "fp16"]


def cores() -> int:
    """Cores this process may use: where two threads share a core, it counts once."""
    logical = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    try:
        import psutil

        physical = psutil.cpu_count(logical=False) or logical
    except (ImportError, OSError):
        physical = logical
    return min(logical, physical)


def num_threads() -> int:
    """Cores this process may use, shared among the ranks of this machine.

    ``accelerate launch`` exports OMP_NUM_THREADS=1, which leaves all but one core idle on a CPU.
    """
    return max(1, cores() // int(os.environ.get("LOCAL_WORLD_SIZE", "1")))


def set_threads(wanted: int | None = None) -> int:
    """Apply a number of threads, or :func:`num_threads`, to torch, unless HF_TRAINPIPE_THREADS says otherwise."""
    import torch

    threads = int(os.environ.get("HF_TRAINPIPE_THREADS") or wanted or num_threads())
    torch.set_num_threads(threads)
    return threads


def set_precision(precision: Precision) -> None:
    """Let torch multiply fp32 matrices in bf16 (``medium``), or in fp32 on every device; autocast is :mod:`.mixed`'s."""
    import torch

    from hf_trainpipe.runtime.model.exact import Switches

    Switches.set_exact()
    if precision == "medium":
        torch.set_float32_matmul_precision("medium")


@contextmanager
def settings_kept() -> Iterator[None]:
    """What a run sets for its process is as it was when this closes; autocast of a notebook's cell is off meanwhile."""
    import torch

    from hf_trainpipe.runtime.model import attention
    from hf_trainpipe.runtime.model.exact import Switches, no_autocast

    threads, switches, draw_mask = torch.get_num_threads(), Switches(), attention.draw_mask
    try:
        with no_autocast():
            yield
    finally:
        torch.set_num_threads(threads)
        switches.restore()
        attention.draw_mask = draw_mask
