"""Whether the steps of a run go through CUDA graphs, which needs whole weights on each GPU, no padding and a task whose batches
can grow."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from hf_trainpipe.engine.gpu.graphs import Graphs
from hf_trainpipe.engine.gpu.rounding import STREAM, RoundedBatch, fills_of
from hf_trainpipe.runtime.model.exact import exact_products
from hf_trainpipe.runtime.model.unpad import IMPLEMENTATION, is_unpadded

if TYPE_CHECKING:
    import torch

    from hf_trainpipe.engine.mixed import Mixed
    from hf_trainpipe.runtime.tokens.batch import Batch
    from hf_trainpipe.training.setup import Setup

TOLERANCE = 1e-4
"""Relative, of a loss in fp32 with and without features of weight 0."""
_TRIED = 4
"""Examples that it is computed for."""


class LossThere(Protocol):
    """The task's loss, summed, of a micro-batch on the device; by the model of the steps, or another."""

    def __call__(self, batch: Batch, model: torch.nn.Module | None = None) -> torch.Tensor: ...


def graphs_of(setup: Setup, model: torch.nn.Module, mixed: Mixed, loss_there: LossThere) -> Graphs | None:
    """Graphs for the steps to come, or None with the reason said.

    Args:
        model: Not wrapped, on the device.
    """
    reason = why_not(setup, model) or _why_not_rounded(setup, model, loss_there)
    if setup.ranks.any(reason is not None):
        reason = reason or "another rank cannot"
    setup.console.say(f"steps       {'as CUDA graphs' if reason is None else f'launch by launch: {reason}'}")
    if reason is not None:
        return None
    if mixed.is_on and mixed.halves is None:
        mixed.take(model)
    return Graphs(
        parameters=[parameter for parameter in model.parameters() if parameter.requires_grad],
        device=setup.accelerator.device,
        mixed=mixed,
        loss_of=loss_there,
        say=setup.console.say,
    )


def why_not(setup: Setup, model: torch.nn.Module) -> str | None:
    """Why the steps are launched one by one; None: they need not be."""
    task, streams = setup.task, list(setup.data.train.features.streams)
    packed = getattr(model.config, "_attn_implementation", None) != IMPLEMENTATION
    reasons = {
        "optim.graphs is False": setup.recipe.optim.graphs is False,
        "FSDP2 cuts the weights": setup.ranks.sharded,
        "micro-batches are padded": not is_unpadded(model),
        "documents of causal models have lengths of their own": is_unpadded(model) and packed,
        "layers are computed again in the backward pass": setup.recipe.optim.checkpoint_layers,
        "the loss looks across the batch": not task.separable,
        "the task reads more than one text": streams != [STREAM] or STREAM not in task.unpadded,
    }
    return next((reason for reason, holds in reasons.items() if holds), None)


def _why_not_rounded(setup: Setup, model: torch.nn.Module, loss_there: LossThere) -> str | None:
    """Compare the loss of some examples with that of the same ones and features of weight 0."""
    import torch

    train, task, device = setup.data.train, setup.task, setup.accelerator.device
    batch = train.varied(train.features_of(train.usable[:_TRIED]), task, seed=setup.recipe.seed, epoch=0)
    rounded = RoundedBatch(batch, fills_of(train.features))
    was_training = model.training
    model.eval()
    try:
        with torch.no_grad(), exact_products():
            plain, filled = (float(loss_there(one.to(device), model)) for one in (batch, rounded))
    finally:
        model.train(was_training)
    same_count = float(task.count(batch)) == float(task.count(rounded))
    if same_count and abs(plain - filled) <= TOLERANCE * max(1.0, abs(plain)):
        return None
    return f"with features of weight 0 the loss is {filled:.6g}, without them {plain:.6g}"
