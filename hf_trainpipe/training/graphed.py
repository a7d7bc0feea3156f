"""Whether the steps of a run go through CUDA graphs, which needs one GPU, no padding and a task whose batches can grow."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hf_trainpipe.engine.gpu.graphs import Graphs
from hf_trainpipe.engine.gpu.halves import HalfWeights
from hf_trainpipe.engine.gpu.rounding import STREAM, RoundedBatch, fills_of
from hf_trainpipe.runtime.model.exact import exact_products
from hf_trainpipe.runtime.model.unpad import IMPLEMENTATION

if TYPE_CHECKING:
    from hf_trainpipe.training.run import Run

TOLERANCE = 1e-4
"""Relative, of a loss in fp32 with and without features of weight 0."""
_TRIED = 4
"""Examples that it is computed for."""


def graphs_of(run: Run) -> Graphs | None:
    """Graphs for the steps to come, or None with the reason said."""
    reason = why_not(run)
    run.console.say(f"steps       {'as CUDA graphs' if reason is None else f'launch by launch: {reason}'}")
    if reason is not None:
        return None
    if run.mixed.is_on:
        run.mixed.halves = HalfWeights(run.bare, run.mixed.dtype)
    return Graphs(
        parameters=[parameter for parameter in run.bare.parameters() if parameter.requires_grad],
        device=run.accelerator.device,
        mixed=run.mixed,
        loss_of=run.loss_there,
        say=run.console.say,
    )


def why_not(run: Run) -> str | None:
    """Why the steps are launched one by one; None: they need not be."""
    task, features = run.task, run.data.train.features
    reasons = {
        "optim.graphs is False": run.recipe.optim.graphs is False,
        "there are several ranks": run.ranks.size > 1,
        "micro-batches are padded": not run.unpadded,
        "documents of causal models have lengths of their own": run.unpadded and _attention(run) != IMPLEMENTATION,
        "layers are computed again in the backward pass": run.recipe.optim.checkpoint_layers,
        "the loss looks across the batch": not task.separable,
        "the task reads more than one text": list(features.streams) != [STREAM] or STREAM not in task.unpadded,
    }
    found = next((reason for reason, holds in reasons.items() if holds), None)
    return found or _why_not_rounded(run)


def _attention(run: Run) -> str:
    return str(getattr(run.bare.config, "_attn_implementation", None))


def _why_not_rounded(run: Run) -> str | None:
    """Compare the loss of some examples with that of the same ones and features of weight 0."""
    import torch

    train, task = run.data.train, run.task
    batch = train.varied(train.features_of(train.usable[:_TRIED]), task, seed=run.recipe.seed, epoch=0)
    rounded = RoundedBatch(batch, fills_of(train.features))
    was_training = run.bare.training
    run.bare.eval()
    try:
        with torch.no_grad(), exact_products():
            plain, filled = (
                float(run.loss_there(one.to(run.accelerator.device), run.bare)) for one in (batch, rounded)
            )
    finally:
        run.bare.train(was_training)
    same_count = float(task.count(batch)) == float(task.count(rounded))
    if same_count and abs(plain - filled) <= TOLERANCE * max(1.0, abs(plain)):
        return None
    return f"with features of weight 0 the loss is {filled:.6g}, without them {plain:.6g}"
