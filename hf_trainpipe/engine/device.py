"""Threads and matmul precision of this process."""

from __future__ import annotations

import os
import platform
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from hf_trainpipe.errors import RecipeError

if TYPE_CHECKING:
    import torch

Precision = Literal["fp32", "tf32", "medium", "bf16", "fp16", "bf16-pure"]

IN_WORDS: Mapping[Precision, str] = {
    "fp32": "fp32",
    "tf32": "fp32, matrices multiplied in TF32",
    "medium": "fp32, matrices multiplied in bf16",
    "bf16": "fp32, layers in bf16 by autocast",
    "fp16": "fp32, layers in fp16 by autocast, the loss scaled",
    "bf16-pure": "weights and gradients of each pass in bf16; their fp32 masters in the optimizer",
}
"""What a training step computes in, for people."""
_PRODUCTS = {"tf32": "high", "medium": "medium"}
"""What torch calls the products of fp32 matrices that are not exact."""


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
    """Multiply fp32 matrices in TF32 (``tf32``) or bf16 (``medium``), else in fp32, on every device.

    What computes in 16 bits is in :mod:`.mixed`.
    """
    import torch

    from hf_trainpipe.runtime.model.exact import Switches

    Switches.set_exact()
    if precision in _PRODUCTS:
        torch.set_float32_matmul_precision(_PRODUCTS[precision])


def check_products(precision: Precision, device: torch.device) -> None:
    """Refuse TF32 where there is none: torch would multiply in fp32 and say nothing.

    Raises:
        RecipeError: as said.
    """
    import torch

    if precision == "tf32" and not (device.type == "cuda" and torch.cuda.is_tf32_supported()):
        raise RecipeError(
            f"optim.precision: tf32 needs a GPU that multiplies in it (NVIDIA's since Ampere), found {device.type}.",
            fix="Set optim.precision to 'auto', which chooses what the machine can do, or to 'fp32'.",
        )


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


def cpu_facts(*names: str) -> list[str]:
    """What the kernel says of the processors under these names (``model name``, ``flags``), a line each; elsewhere what Python knows."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return [platform.processor()]
    return sorted({line for line in lines if line.startswith(names)})


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
