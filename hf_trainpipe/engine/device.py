"""Threads and matmul precision of this process."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    import torch

Precision = Literal["fp32", "medium", "bf16", "fp16"]


def cores() -> int:
    """Physical cores that this process may use."""
    logical = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    try:
        import psutil

        physical = psutil.cpu_count(logical=False) or logical
    except (ImportError, OSError):
        physical = logical
    return min(logical, physical)


def num_threads() -> int:
    """Threads for each rank: the cores of this process divided by the ranks of this machine.

    ``accelerate launch`` exports OMP_NUM_THREADS=1, which leaves all but one core idle on a CPU.
    """
    return max(1, cores() // int(os.environ.get("LOCAL_WORLD_SIZE", "1")))


def set_precision(precision: Precision) -> None:
    """Multiply fp32 matrices in bf16 (``medium``), else in fp32, on every device. Autocast is in :mod:`.mixed`."""
    import torch

    from hf_trainpipe.runtime.model.exact import Switches

    Switches.set_exact()
    if precision == "medium":
        torch.set_float32_matmul_precision("medium")


def memory_in_use(device: torch.device) -> int | None:
    """Bytes that this process holds: of the GPU, kept for reuse included, or of the machine; None where nobody tells."""
    import torch

    if device.type == "cuda":
        return torch.cuda.memory_reserved(device)
    try:
        import psutil

        return int(psutil.Process().memory_info().rss)
    except (ImportError, OSError):
        return None


def peak_memory(device: torch.device) -> int | None:
    """The most bytes that this process has held, as :func:`memory_in_use` counts them; None where nobody tells."""
    import torch

    if device.type == "cuda":
        return torch.cuda.max_memory_reserved(device)
    try:
        for line in Path("/proc/self/status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    except (OSError, ValueError):
        pass
    return None


def reset_peak_memory() -> None:
    """Let :func:`peak_memory` count from now on, where the system can."""
    import torch

    if torch.cuda.is_available():
        torch.cuda.reset_peak_memory_stats()
    with suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")


@contextmanager
def restore_torch_settings() -> Iterator[None]:
    """Restore threads, precision and attention masks on exit; a caller's autocast is off inside."""
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
