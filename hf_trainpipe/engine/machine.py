"""Ranks, threads and precision of a run on this machine. ``show`` and ``train`` call the same function."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from hf_trainpipe.engine.device import Precision, num_threads
from hf_trainpipe.engine.probe import probe


@dataclass(frozen=True, kw_only=True)
class Machine:
    """The properties of a machine that a plan depends on."""

    ranks: int
    """Processes that train together."""
    threads: int
    """Per rank."""
    precision: Precision
    """Of a training step."""
    on_gpu: bool
    sharded: bool = False
    """Whether weights, gradients and optimizer state are sharded (FSDP2)."""
    gpu_bytes: int | None = None
    """Memory of the GPU."""

    def to_json(self) -> dict[str, Any]:
        """For run.json, so that a resumed run uses the same."""
        found = {"precision": self.precision, "threads": self.threads, "ranks": self.ranks}
        return found if self.gpu_bytes is None else {**found, "gpu_bytes": self.gpu_bytes}


def this_machine(
    wanted: Precision | Literal["auto"],
    *,
    ranks: int,
    on_gpu: bool,
    sharded: bool = False,
    recorded: Mapping[str, Any] | None = None,
) -> Machine:
    """Choose threads and precision. HF_TRAINPIPE_THREADS sets the threads, and is recorded for a resume without it.

    Args:
        wanted: The recipe's ``optim.precision``.
        recorded: What the interrupted run recorded (:meth:`Machine.to_json`), to be used again.
    """
    known = recorded or {}
    if known and known["ranks"] == ranks and wanted in ("auto", known["precision"]):
        threads, precision = known["threads"], known["precision"]
    else:
        threads = probe().threads if wanted == "auto" and not on_gpu else num_threads()
        precision = (known.get("precision") if wanted == "auto" else None) or choose_precision(wanted, on_gpu=on_gpu)
    threads = int(os.environ.get("HF_TRAINPIPE_THREADS") or threads)
    gpu_bytes = (known.get("gpu_bytes") or _gpu_bytes()) if on_gpu else None
    return Machine(
        ranks=ranks, threads=threads, precision=precision, on_gpu=on_gpu, sharded=sharded, gpu_bytes=gpu_bytes
    )


def _gpu_bytes() -> int | None:
    import torch

    return torch.cuda.get_device_properties().total_memory if torch.cuda.is_available() else None


def choose_precision(wanted: Precision | Literal["auto"], *, on_gpu: bool) -> Precision:
    """``auto`` is bf16 on a GPU that has it, fp16 on an older one, and on a CPU what the probe finds."""
    if wanted != "auto":
        return wanted
    if not on_gpu:
        return probe().precision
    import torch

    return "bf16" if torch.cuda.is_bf16_supported() else "fp16"
