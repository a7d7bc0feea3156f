"""Numbers of a task as tensors, made once a device: a CUDA graph cannot copy them there anew each time."""

from __future__ import annotations

from functools import lru_cache

import torch


@lru_cache(maxsize=32)
def constant(values: tuple[float, ...], dtype: torch.dtype, device: torch.device) -> torch.Tensor:
    """A tensor [n] that nobody writes to."""
    with torch.inference_mode(False):
        return torch.tensor(values, dtype=dtype, device=device)
