"""Threads and precision of this process, chosen rather than inherited."""

from __future__ import annotations

import os
from typing import Literal

__all__ = ["Precision", "choose_precision", "num_threads", "set_threads"]

Precision = Literal["fp32", "bf16", "fp16"]


def num_threads() -> int:
    """Cores this process may use, shared among the ranks of this machine.

    ``accelerate launch`` exports OMP_NUM_THREADS=1, which leaves all but one core idle on a CPU.
    """
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, cores // int(os.environ.get("LOCAL_WORLD_SIZE", "1")))


def set_threads() -> int:
    """Apply :func:`num_threads` to torch, unless HF_TRAINPIPE_THREADS says otherwise."""
    import torch

    threads = int(os.environ.get("HF_TRAINPIPE_THREADS") or num_threads())
    torch.set_num_threads(threads)
    return threads


def choose_precision(wanted: Literal["auto", "fp32", "bf16", "fp16"]) -> Precision:
    """``auto`` is bf16 on a GPU that has it, fp16 on an older one, and fp32 on a CPU."""
    import torch

    if wanted != "auto":
        return wanted
    if not torch.cuda.is_available():
        return "fp32"
    return "bf16" if torch.cuda.is_bf16_supported() else "fp16"
