"""Data parallelism: one class each for a single process, on a CPU or a GPU, for gradients that are added up over the ranks after
the last micro-batch, for DDP and for FSDP2."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch

from hf_trainpipe.engine import sharding
from hf_trainpipe.engine.cpu.sparse_embedding_gradient import EmbeddingGradients
from hf_trainpipe.engine.gpu.graphs import Record, Recorder, Replayable
from hf_trainpipe.engine.optimizer import Clipping, build_optimizer

if TYPE_CHECKING:
    from hf_trainpipe.engine.mixed import Mixed
    from hf_trainpipe.engine.ranks import Ranks
    from hf_trainpipe.recipe import Optim

BUCKET = 2**24
"""Elements of the gradient that go over the network at once; a larger parameter goes alone."""


def parallelize(
    model: torch.nn.Module, optim: Optim, ranks: Ranks, mixed: Mixed, *, graphed: bool = False
) -> SingleProcess:
    """Wrap ``model``, which is on its device with its weights, for training on these ranks. A collective.

    Args:
        graphed: Whether passes are CUDA graphs, inside of which DDP's hooks do not run.
    """
    on_gpu = ranks.accelerator.device.type == "cuda"
    if ranks.size == 1:
        return (OneGpu if on_gpu else SingleProcess)(model, optim, ranks, mixed)
    if ranks.sharded:
        return FullySharded(model, optim, ranks, mixed)
    if graphed or mixed.is_pure:
        return (SummedOnGpus if on_gpu else Summed)(model, optim, ranks, mixed)
    return DataParallel(model, optim, ranks, mixed)


class SingleProcess:
    """One rank with the whole model and the whole gradient; the base class of the others."""

    loss_scale: float = 1.0
    """Factor on the loss before the backward pass: undoes the averaging of gradients over ranks."""
    exchanges: bool = False
    """Whether ranks exchange gradients inside of the last micro-batch's backward pass, so that no rank can leave it alone."""

    def __init__(self, model: torch.nn.Module, optim: Optim, ranks: Ranks, mixed: Mixed) -> None:
        self.bare = model
        self.ranks = ranks
        self._scaler, self._is_pure = mixed.scaler, mixed.is_pure
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
        embeddings = EmbeddingGradients(self.bare) if alone_on_cpu and not self._is_pure else None
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


@dataclass(eq=False)
class Recorded:
    """Clipping and update of a gradient that lies in certain tensors, as CUDA graphs."""

    clipping: Replayable
    norm: torch.Tensor
    """Overwritten by each clipping."""
    read: tuple[torch.Tensor, torch.Tensor | None]
    """What the update reads of the clipping: whether to skip, the factor on the gradient."""
    update: Replayable | None = None


class OneGpu(SingleProcess):
    """A process with a GPU: clipping and update are CUDA graphs where gradients lie in the same memory again.

    The optimizer reads learning rates from the device, recorded or not, so that both ways give the same bits.
    """

    record: Callable[[torch.device], Record] = Recorder
    limit = 2
    """Gradients that are recorded: of steps with one micro-batch, and with several."""

    def _prepare(self, *, is_fused: bool) -> None:
        super()._prepare(is_fused=is_fused)
        groups: list[dict[str, Any]] = self.optimizer.param_groups
        self._parameters = [parameter for group in groups for parameter in group["params"]]
        self._rates = [torch.zeros((), device=self._parameters[0].device) for _ in groups]
        self._place: tuple[int, ...] = ()
        """The addresses of this step's gradient."""
        self._seen: Counter[tuple[int, ...]] = Counter()
        self._known: dict[tuple[int, ...], Recorded] = {}
        self._recorder: Record | None = None

    def clip(self, max_norm: float | None) -> torch.Tensor:
        if self._clipping is None:
            return super().clip(max_norm)
        grads = [parameter.grad for parameter in self._parameters]
        self._place = tuple(grad.data_ptr() for grad in grads if grad is not None)
        self._seen[self._place] += 1
        if (
            self._place
            and self._place not in self._known
            and self._seen[self._place] > 1
            and len(self._known) < self.limit
        ):
            self._record_clipping(self._clipping, max_norm)
        if (known := self._known.get(self._place)) is None:
            return super().clip(max_norm)
        known.clipping.replay()
        return known.norm.clone()

    def step(self, norm: torch.Tensor) -> None:
        if self._clipping is None:
            super().step(norm)
            return
        for rate, group in zip(self._rates, self.optimizer.param_groups, strict=True):
            rate.fill_(group["lr"])
        if (known := self._known.get(self._place)) is None:
            self._update()
        else:
            if known.update is None:
                assert self._recorder is not None
                known.update = self._recorder(self._update, warm_ups=0)
            known.update.replay()
        self.optimizer.zero_grad()

    def _record_clipping(self, clipping: Clipping, max_norm: float | None) -> None:
        self._recorder = self._recorder or self.record(self._rates[0].device)
        norm = torch.zeros_like(self._rates[0])
        recorded = self._recorder(lambda: norm.copy_(clipping.measure(max_norm)))
        read = (self.optimizer.found_inf, self.optimizer.grad_scale)
        self._known[self._place] = Recorded(recorded, norm, read)

    def _update(self) -> None:
        groups = self.optimizer.param_groups
        options = [{name: group[name] for name in ("lr", "capturable")} for group in groups]
        try:
            for group, rate in zip(groups, self._rates, strict=True):
                group.update(lr=rate, capturable=True)
            self.optimizer.step()
        finally:
            for group, held in zip(groups, options, strict=True):
                group.update(held)


class Summed(SingleProcess):
    """Every rank has the whole model; gradients are added up over the ranks after the last micro-batch.

    They go in buckets of a fixed order. Nothing hangs on the backward pass: it may be a CUDA graph, or that of copies of the
    weights. The ranks begin with the weights of the first.
    """

    def _prepare(self, *, is_fused: bool) -> None:
        super()._prepare(is_fused=is_fused)
        self._trained = [parameter for parameter in self.bare.parameters() if parameter.requires_grad]
        sizes = [parameter.numel() for parameter in self._trained]
        # Made once, so that no later step runs out of memory between the collectives.
        self._flat = torch.zeros(min(sum(sizes), max(BUCKET, *sizes)), device=self.ranks.accelerator.device)
        with torch.no_grad():
            for parameter in self.bare.parameters():
                torch.distributed.broadcast(parameter, 0)

    def clip(self, max_norm: float | None) -> torch.Tensor:
        self._add_up()
        return super().clip(max_norm)

    def _add_up(self) -> None:
        for bucket in self._buckets():
            for parameter in bucket:
                if parameter.grad is None:
                    parameter.grad = torch.zeros_like(parameter)
            grads = [parameter.grad for parameter in bucket if parameter.grad is not None]
            flat = self._flat[: sum(grad.numel() for grad in grads)]
            torch.cat([grad.reshape(-1) for grad in grads], out=flat)
            torch.distributed.all_reduce(flat)
            parts = flat.split([grad.numel() for grad in grads])  # type: ignore[no-untyped-call]
            torch._foreach_copy_(grads, [part.view_as(grad) for part, grad in zip(parts, grads, strict=True)])

    def _buckets(self) -> list[list[torch.nn.Parameter]]:
        """The parameters that have a gradient on any rank in this step, by bucket: another step may have others."""
        held = self.ranks.sums([float(parameter.grad is not None) for parameter in self._trained])
        buckets: list[list[torch.nn.Parameter]] = []
        room = 0
        for parameter, count in zip(self._trained, held, strict=True):
            if not count:
                continue
            if parameter.numel() > room:
                buckets.append([])
                room = BUCKET
            buckets[-1].append(parameter)
            room -= parameter.numel()
        return buckets


class SummedOnGpus(Summed, OneGpu):
    """The same with a GPU each, where clipping and update are CUDA graphs."""


class DataParallel(SingleProcess):
    """torch's DistributedDataParallel: every rank has the whole model; gradients are averaged."""

    exchanges = True

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

    exchanges = True

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
