"""Dropout on a CPU at a tenth of its usual cost, with the same statistics.

torch draws a float for each element (``bernoulli_``), which takes a fifth of a step of a small encoder. Here each element gets
16 random bits of SFC64 (Chris Doty-Humphrey, PractRand; NumPy's implementation), compared with a threshold: the rate is
met within 1 / 65,536, and kept elements are scaled by the actual rate, so that the mean stays exact. Like all
randomness here, the bits are a function of (seed, step, micro-batch, rank).
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from hf_trainpipe.runtime.model import attention

_LEVELS = 1 << 16

_bits = np.random.SFC64(0)


def reseed(seed: int) -> None:
    """Seed the generator of random bits."""
    global _bits
    _bits = np.random.SFC64(seed)


def state() -> dict[str, Any]:
    """The state of the generator, for :func:`restore`."""
    found: dict[str, Any] = dict(_bits.state)
    return found


def restore(state: dict[str, Any]) -> None:
    """Set the generator to a state from :func:`state`."""
    _bits.state = state  # type: ignore[assignment]


def mask(count: int, rate: float, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    """[count]: 0 where an element is dropped, else 1 / (1 - rate); ``rate`` in (0, 1)."""
    threshold = min(max(round(rate * _LEVELS), 1), _LEVELS - 1)
    raw = _bits.random_raw(-(-count // 4)).view(np.int16)[:count]
    kept = torch.empty(count, dtype=dtype)
    torch.ge(torch.from_numpy(raw), threshold - _LEVELS // 2, out=kept)
    return kept.mul_(_LEVELS / (_LEVELS - threshold))


class _Masked(torch.autograd.Function):
    """``values * mask``, saving only the mask for the backward pass."""

    @staticmethod
    def forward(ctx: Any, values: torch.Tensor, rate: float) -> torch.Tensor:
        drawn = mask(values.numel(), rate, values.dtype).view(values.shape)
        ctx.save_for_backward(drawn)
        return values * drawn

    @staticmethod
    def backward(ctx: Any, grad: torch.Tensor) -> Any:
        (drawn,) = ctx.saved_tensors
        return grad * drawn, None


@torch.library.custom_op("hf_trainpipe::dropout_mask", mutates_args=(), tags=(torch.Tag.nondeterministic_seeded,))
def _mask_like(like: torch.Tensor, rate: float) -> torch.Tensor:
    """:func:`mask` in the shape of a tensor, as one operation that torch.compile neither traces nor repeats."""
    return mask(like.numel(), rate, like.dtype).view(like.shape)


@_mask_like.register_fake
def _(like: torch.Tensor, rate: float) -> torch.Tensor:
    return torch.empty(like.shape, dtype=like.dtype, device=like.device)


class FastDropout(torch.nn.Dropout):
    """``torch.nn.Dropout`` whose mask on a CPU comes from :func:`mask`."""

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        if not self.training or input.device.type != "cpu" or not 0.0 < self.p < 1.0:
            return super().forward(input)
        if torch.compiler.is_compiling():
            kept: torch.Tensor = input * _mask_like(input.detach(), self.p)
            return kept
        result: torch.Tensor = _Masked.apply(input, self.p)  # type: ignore[no-untyped-call]
        return result


def use_fast_dropout(model: torch.nn.Module) -> None:
    """Use :func:`mask` for every ``torch.nn.Dropout`` of a model on a CPU and for unpadded attention."""
    for module in model.modules():
        if type(module) is torch.nn.Dropout:
            module.__class__ = FastDropout
    attention.draw_mask = mask
