"""One rank takes its steps alone; what ranks do differently overrides it (:mod:`hf_trainpipe.engine.parallel`)."""

from __future__ import annotations

import math
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING, Any

import torch

from hf_trainpipe.engine import sharding
from hf_trainpipe.engine.cpu.sparse_embedding_gradient import EmbeddingGradients
from hf_trainpipe.engine.optimizer import Clipping, build_optimizer
from hf_trainpipe.engine.small_memory import PlainClipping

if TYPE_CHECKING:
    from hf_trainpipe.engine.mixed import Mixed
    from hf_trainpipe.engine.ranks import Ranks
    from hf_trainpipe.recipe import Optim

__all__ = ["SingleProcess"]


class SingleProcess:
    """One rank: the whole model, the whole gradient. The other ways differ in what they override."""

    loss_scale: float = 1.0
    """What a loss is multiplied by before its backward pass, so that gradients of the ranks add up."""

    def __init__(self, model: torch.nn.Module, optim: Optim, ranks: Ranks, mixed: Mixed) -> None:
        self.bare = model
        self.ranks = ranks
        self._scaler = mixed.scaler
        self._fused = optim.algorithm == "adamw"
        """Whether the optimizer itself clips, and looks whether the gradient is finite."""
        self.optimizer: Any = build_optimizer(model, optim)
        self._prepare(self.optimizer)

    def _prepare(self, optimizer: torch.optim.Optimizer) -> None:
        """Set ``model``, to be called: it, or what exchanges its gradients."""
        alone_on_cpu = self.ranks.size == 1 and self.ranks.accelerator.device.type == "cpu"
        rows = EmbeddingGradients(self.bare) if alone_on_cpu else None
        self._clipping: Clipping | PlainClipping = (
            Clipping(optimizer, rows=rows) if self._fused else PlainClipping(optimizer)
        )
        self.model: torch.nn.Module = self.bare

    def backward_of(self, *, last: bool) -> AbstractContextManager[Any]:
        """The context of a forward and a backward pass.

        Args:
            last: It is the last one of the step, in which ranks may exchange their gradients.
        """
        return nullcontext()

    def clip(self, max_norm: float | None) -> torch.Tensor:
        """Let the next step clip the gradient to ``max_norm``.

        Returns:
            The norm before, a scalar on the device: the same on all ranks, not finite where the gradient is not.
        """
        if self._scaler is None:
            return self._clipping.measure(max_norm)
        return self._clip_now(max_norm)

    def _clip_now(self, max_norm: float | None) -> torch.Tensor:
        if self._scaler is not None:
            self._scaler.unscale_(self.optimizer)
        norm = torch.nn.utils.clip_grad_norm_(self.bare.parameters(), math.inf if max_norm is None else max_norm)
        return sharding.whole_tensor(norm)

    def step(self, norm: torch.Tensor) -> None:
        """Update the weights, where ``norm`` (what :meth:`clip` returned) is finite, and let go of the gradient.

        With AdamW nothing here waits for the device: the optimizer itself looks whether the norm is finite.
        """
        if self._scaler is None:
            if self._fused or math.isfinite(float(norm)):
                self.optimizer.step()
        else:
            self._scaler.step(self.optimizer)
            self._scaler.update()
        self.optimizer.zero_grad()
