"""Training in a single process: the base class of DDP and FSDP2 (:mod:`hf_trainpipe.engine.parallel`)."""

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


class SingleProcess:
    """One rank with the whole model and the whole gradient."""

    loss_scale: float = 1.0
    """Factor on the loss before the backward pass: undoes the averaging of gradients over ranks."""

    def __init__(self, model: torch.nn.Module, optim: Optim, ranks: Ranks, mixed: Mixed) -> None:
        self.bare = model
        self.ranks = ranks
        self._scaler = mixed.scaler
        self._fused = optim.algorithm == "adamw"
        """Whether the optimizer step itself clips, and skips a gradient that is not finite."""
        self.optimizer: Any = build_optimizer(model, optim)
        self._prepare(self.optimizer)

    def _prepare(self, optimizer: torch.optim.Optimizer) -> None:
        """Set ``model``, the module that training steps call."""
        alone_on_cpu = self.ranks.size == 1 and self.ranks.accelerator.device.type == "cpu"
        embeddings = EmbeddingGradients(self.bare) if alone_on_cpu else None
        self._clipping: Clipping | PlainClipping = (
            Clipping(optimizer, embeddings=embeddings) if self._fused else PlainClipping(optimizer)
        )
        self.model: torch.nn.Module = self.bare

    def micro_batch_context(self, *, last: bool) -> AbstractContextManager[Any]:
        """The context for the forward and backward pass of a micro-batch.

        Args:
            last: Whether it is the last of the step, in which gradients are synchronised.
        """
        return nullcontext()

    def clip(self, max_norm: float | None) -> torch.Tensor:
        """Clip the gradient to ``max_norm``, now or in the next step.

        Returns:
            The norm before clipping, a scalar on the device: the same on all ranks, not finite where the gradient is not.
        """
        if self._scaler is None:
            return self._clipping.measure(max_norm)
        return self._clip_now(max_norm)

    def _clip_now(self, max_norm: float | None) -> torch.Tensor:
        if self._scaler is not None:
            self._scaler.unscale_(self.optimizer)
        norm = torch.nn.utils.clip_grad_norm_(self.bare.parameters(), math.inf if max_norm is None else max_norm)
        return sharding.full_tensor(norm)

    def step(self, norm: torch.Tensor) -> None:
        """Update the weights if ``norm`` (from :meth:`clip`) is finite, and clear the gradient.

        With AdamW nothing here waits for the device: the fused step itself tests the norm.
        """
        if self._scaler is None:
            if self._fused or math.isfinite(float(norm)):
                self.optimizer.step()
        else:
            self._scaler.step(self.optimizer)
            self._scaler.update()
        self.optimizer.zero_grad()
