"""Optimizers whose state takes less memory than AdamW's two moments in fp32.

``adafactor`` keeps a row and a column of the second moment of each matrix (https://arxiv.org/abs/1804.04235; torch's own
implementation), ``adamw_8bit`` both moments in 8 bits with a scale for each block (https://arxiv.org/abs/2110.02861; by
bitsandbytes, imported only when used).
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from hf_trainpipe.errors import RecipeError

if TYPE_CHECKING:
    import torch

    from hf_trainpipe.recipe import Optim


def state_bytes(algorithm: str, *, parameters: int, in_tables: int) -> int:
    """Approximate bytes of an optimizer's state, without row and column factors and scales.

    Args:
        in_tables: Parameters of embedding tables, whose moments stay in fp32 with ``adamw_8bit`` too.
    """
    if algorithm == "adafactor":
        return 0
    return 8 * parameters if algorithm == "adamw" else 2 * (parameters - in_tables) + 8 * in_tables


def make_adafactor(groups: list[dict[str, Any]], optim: Optim) -> torch.optim.Optimizer:
    """torch's Adafactor; its learning rate is relative to the size of each weight."""
    import torch

    return torch.optim.Adafactor(groups, lr=optim.peak_lr)


def make_adamw_8bit(groups: list[dict[str, Any]], optim: Optim, *, tables: set[int]) -> torch.optim.Optimizer:
    """bitsandbytes' AdamW.

    Args:
        tables: ``id()`` of embedding weights, kept in fp32: few of their rows get a gradient, and blocks share one scale.

    Raises:
        RecipeError: bitsandbytes is not installed.
    """
    try:
        import bitsandbytes
    except ImportError as error:
        raise RecipeError(
            f"optim.algorithm: adamw_8bit needs bitsandbytes: {error}.",
            fix="pip install 'hf-trainpipe[8bit]'; or choose adafactor, which needs nothing more.",
        ) from None

    class AdamW8bit(bitsandbytes.optim.AdamW8bit):  # type: ignore[misc, unused-ignore]
        def get_config(self, gindex: int, pindex: int, group: dict[str, Any]) -> dict[str, Any]:
            found: dict[str, Any] = super().get_config(gindex, pindex, group)
            return {**found, "optim_bits": 32} if id(group["params"][pindex]) in tables else found

    made: torch.optim.Optimizer = AdamW8bit(groups, lr=optim.peak_lr, betas=optim.betas, eps=optim.eps)
    return made


class PlainClipping:
    """Clips the gradient before the optimizer step, for optimizers that cannot do it in the step.

    Like :class:`~hf_trainpipe.engine.optimizer.Clipping` for fused AdamW, but here a step waits for the device.
    """

    def __init__(self, optimizer: torch.optim.Optimizer) -> None:
        self._parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]

    def measure(self, max_norm: float | None) -> torch.Tensor:
        """The norm of the gradient, a scalar; the gradient is clipped to ``max_norm``."""
        import torch

        return torch.nn.utils.clip_grad_norm_(self._parameters, math.inf if max_norm is None else max_norm)
