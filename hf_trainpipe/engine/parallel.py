"""Data parallelism: one class each for a single process, DDP and FSDP2."""

from __future__ import annotations

import math
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING, Any

import torch

from hf_trainpipe.engine import sharding
from hf_trainpipe.engine.cpu.sparse_embedding_gradient import EmbeddingGradients
from hf_trainpipe.engine.optimizer import Clipping, build_optimizer

if TYPE_CHECKING:
    from hf_trainpipe.engine.mixed import Mixed
    from hf_trainpipe.engine.ranks import Ranks
    from hf_trainpipe.recipe import Optim


def parallelize(model: torch.nn.Module, optim: Optim, ranks: Ranks, mixed: Mixed) -> SingleProcess:
    """Wrap ``model``, which is on its device with its weights, for training on these ranks. A collective."""
    kind = SingleProcess if ranks.size == 1 else FullySharded if ranks.sharded else DataParallel
    return kind(model, optim, ranks, mixed)


class SingleProcess:
    """One rank with the whole model and the whole gradient; the base class of the others."""

    loss_scale: float = 1.0
    """Factor on the loss before the backward pass: undoes the averaging of gradients over ranks."""

    def __init__(self, model: torch.nn.Module, optim: Optim, ranks: Ranks, mixed: Mixed) -> None:
        self.bare = model
        self.ranks = ranks
        self._scaler = mixed.scaler
        self.optimizer: Any = build_optimizer(model, optim)
        self.model = model
        """The module that training steps call."""
        self._clipping: Clipping | None = None
        """Where the optimizer step itself clips, and skips a gradient that is not finite."""
        is_adamw = optim.algorithm == "adamw"
        self._prepare(is_fused=is_adamw and mixed.scaler is None)
        ordered = [parameter for group in self.optimizer.param_groups for parameter in group["params"]]
        self._clipped = list(model.parameters()) if is_adamw or mixed.scaler is not None else ordered
        """Their order decides the last bits of a norm."""

    def _prepare(self, *, is_fused: bool) -> None:
        alone_on_cpu = self.ranks.size == 1 and self.ranks.accelerator.device.type == "cpu"
        embeddings = EmbeddingGradients(self.bare) if alone_on_cpu else None
        if is_fused:
            self._clipping = Clipping(self.optimizer, embeddings=embeddings)

    def micro_batch_context(self, *, last: bool) -> AbstractContextManager[Any]:
        """The context for the forward and backward pass of a micro-batch.

        Args:
            last: Whether it is the last of the step, in which gradients are synchronised.
        """
        return nullcontext()

    def forward_alone(self) -> AbstractContextManager[Any]:
        """The context for forward passes that no backward pass follows."""
        return nullcontext()

    def clip(self, max_norm: float | None) -> torch.Tensor:
        """Clip the gradient to ``max_norm``, now or in the next step.

        Returns:
            The norm before clipping, a scalar on the device: the same on all ranks, not finite where the gradient is not.
        """
        if self._clipping is not None:
            return self._clipping.measure(max_norm)
        if self._scaler is not None:
            self._scaler.unscale_(self.optimizer)
        norm = torch.nn.utils.clip_grad_norm_(self._clipped, math.inf if max_norm is None else max_norm)
        return sharding.full_tensor(norm)

    def step(self, norm: torch.Tensor) -> None:
        """Update the weights if ``norm`` (from :meth:`clip`) is finite, and clear the gradient.

        Where the optimizer step itself tests the norm, nothing here waits for the device.
        """
        if self._scaler is not None:
            self._scaler.step(self.optimizer)
            self._scaler.update()
        elif self._clipping is not None or math.isfinite(float(norm)):
            self.optimizer.step()
        self.optimizer.zero_grad()


class DataParallel(SingleProcess):
    """torch's DistributedDataParallel: every rank has the whole model; gradients are averaged."""

    def _prepare(self, *, is_fused: bool) -> None:
        super()._prepare(is_fused=is_fused)
        self.model = self.ranks.accelerator.prepare_model(self.bare)
        self.loss_scale = float(self.ranks.size)

    def micro_batch_context(self, *, last: bool) -> AbstractContextManager[Any]:
        return nullcontext() if last else self.forward_alone()

    def forward_alone(self) -> AbstractContextManager[Any]:
        found: AbstractContextManager[Any] = self.ranks.accelerator.no_sync(self.model)
        return found


class FullySharded(SingleProcess):
    """FSDP2: every rank has its rows of each parameter (:mod:`hf_trainpipe.engine.sharding`).

    A step waits for the device: torch's fused AdamW does not take ``found_inf`` with sharded tensors.
    """

    def __init__(self, model: torch.nn.Module, optim: Optim, ranks: Ranks, mixed: Mixed) -> None:
        sharding.shard(model, ranks.accelerator.device, ranks.size)
        super().__init__(model, optim, ranks, mixed)

    def _prepare(self, *, is_fused: bool) -> None:
        self.loss_scale = float(self.ranks.size)

    def micro_batch_context(self, *, last: bool) -> AbstractContextManager[Any]:
        model: Any = self.bare
        model.set_requires_gradient_sync(last)
        model.set_is_last_backward(last)
        return nullcontext()
