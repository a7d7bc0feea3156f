"""Data parallelism: one class each for a single process, DDP and FSDP2."""

from __future__ import annotations

import math
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING, Any

from hf_trainpipe.engine import sharding
from hf_trainpipe.engine.single_process import SingleProcess

if TYPE_CHECKING:
    import torch

    from hf_trainpipe.engine.mixed import Mixed
    from hf_trainpipe.engine.ranks import Ranks
    from hf_trainpipe.recipe import Optim


def parallelize(model: torch.nn.Module, optim: Optim, ranks: Ranks, mixed: Mixed) -> SingleProcess:
    """Wrap ``model``, which is on its device with its weights, for training on these ranks. A collective."""
    if ranks.size == 1:
        return SingleProcess(model, optim, ranks, mixed)
    if ranks.sharded:
        return FullySharded(model, optim, ranks, mixed)
    return DataParallel(model, optim, ranks, mixed)


class DataParallel(SingleProcess):
    """torch's DistributedDataParallel: every rank has the whole model; gradients are averaged."""

    def _prepare(self, optimizer: torch.optim.Optimizer) -> None:
        super()._prepare(optimizer)
        self.model = self.ranks.accelerator.prepare_model(self.bare)
        self.loss_scale = float(self.ranks.size)

    def micro_batch_context(self, *, last: bool) -> AbstractContextManager[Any]:
        return nullcontext() if last else self.ranks.accelerator.no_sync(self.model)


class FullySharded(SingleProcess):
    """FSDP2: every rank has its rows of each parameter (:mod:`hf_trainpipe.engine.sharding`)."""

    def __init__(self, model: torch.nn.Module, optim: Optim, ranks: Ranks, mixed: Mixed) -> None:
        sharding.shard(model, ranks.accelerator.device, ranks.size)
        super().__init__(model, optim, ranks, mixed)

    def _prepare(self, optimizer: torch.optim.Optimizer) -> None:
        self.model = self.bare
        self.loss_scale = float(self.ranks.size)

    def micro_batch_context(self, *, last: bool) -> AbstractContextManager[Any]:
        sharding.sync_gradients(self.bare, enabled=last)
        return nullcontext()

    def clip(self, max_norm: float | None) -> torch.Tensor:
        return self._clip_now(max_norm)

    def step(self, norm: torch.Tensor) -> None:
        """As :meth:`SingleProcess.step`, but waits for the device: torch's fused AdamW does not take ``found_inf`` with sharded tensors."""
        if math.isfinite(float(norm)):
            self.optimizer.step()
        self.optimizer.zero_grad()
