"""Optimizer steps, as a generator. One loop for every task: recipes are copied, the loop is not."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

from hf_trainpipe.engine.randomness import seed_everything
from hf_trainpipe.engine.schedule import rate_factor
from hf_trainpipe.errors import Interrupted, TrainingDiverged

if TYPE_CHECKING:
    import torch

    from hf_trainpipe.training.run import Run

__all__ = ["MAX_SKIPPED", "StepReport", "train"]

T = TypeVar("T")

MAX_SKIPPED = 5
"""Steps in a row without a finite gradient before the run stops, once the log has looked at them."""


@dataclass(frozen=True)
class StepReport:
    """One optimizer step, the same on all ranks except for ``loss_sum`` and ``tokens``.

    Tensors are still on the device: reading one waits for it.
    """

    step: int
    """Counted from 1."""
    loss_sum: torch.Tensor
    """This rank's part of the loss, float64 scalar."""
    count: float
    """What the losses of all ranks are divided by."""
    tokens: int
    """Real tokens this rank computed, padding not counted."""
    computed_tokens: int
    """The same with padding."""
    learning_rate: float
    grad_norm: torch.Tensor
    """Scalar; where it is not finite on some rank, it is so on all, and no rank updated."""
    stop: bool
    """Some rank was asked to stop; all ranks see it at the same step."""
    busy_seconds: float
    """What this rank computed for before it waited for the others, as the host's clock sees it."""


def mark_last(items: Sequence[T]) -> Iterator[tuple[T, bool]]:
    """Each item, and whether it is the last."""
    for position, item in enumerate(items):
        yield item, position == len(items) - 1


def train(run: Run) -> Iterator[StepReport]:
    """Yield one report per optimizer step, from ``run.state.step`` on.

    Data order and randomness are functions of (seed, epoch, step, micro-batch, rank): a resumed run
    repeats the interrupted one. The loss of a step is a sum over the global batch, divided by the
    global count: the same for any number of ranks, any accumulation and any micro-batch split.
    Where memory is too small on some rank, all ranks repeat the step in smaller micro-batches.

    Raises:
        TrainingDiverged: gradients stayed non-finite for ``MAX_SKIPPED`` steps.
        Interrupted: memory was too small where ranks cannot repeat a step; the next attempt can.
    """
    plan, task, optim, state = run.plan, run.task, run.recipe.optim, run.state
    run.model.train()
    while state.step < plan.total_steps:
        micro_batches = run.micro_batches(state.step)
        counted = float(sum(task.count(batch) for batch in micro_batches))
        count, stop = run.ranks.agree(count=counted, stop=run.stop_requested)
        factor = rate_factor(state.updates, total=plan.total_steps, warmup=plan.warmup_steps, schedule=optim.schedule)
        run.set_rate(optim.peak_lr * factor)
        computed = compute_gradient(run, micro_batches, count)
        grad_norm = run.parallel.clip(optim.max_grad_norm)
        if memory_was_too_small(run, computed, grad_norm):
            run.shrink_micro_batches()
            continue
        run.parallel.step(grad_norm)
        state.took_step()
        yield StepReport(
            step=state.step,
            loss_sum=computed.loss_sum,
            count=count,
            tokens=computed.tokens,
            computed_tokens=computed.computed_tokens,
            learning_rate=optim.peak_lr * factor,
            grad_norm=grad_norm,
            stop=stop,
            busy_seconds=computed.busy_seconds,
        )
        if state.skipped >= MAX_SKIPPED:
            raise TrainingDiverged(
                f"Step {state.step}: the gradient was not finite for {state.skipped} steps in a row.",
                fix="Lower optim.peak_lr, lengthen optim.warmup, or set optim.precision='fp32'; then run the "
                "same command with --allow-change naming those fields. The last good checkpoint is kept.",
                step=state.step,
            )


@dataclass(frozen=True)
class Computed:
    """What the micro-batches of a step gave on this rank, beside the gradient in the parameters."""

    loss_sum: torch.Tensor
    tokens: int
    computed_tokens: int
    out_of_memory: bool
    """Memory was too small here; then the gradient is not finite on any rank."""
    busy_seconds: float


def memory_was_too_small(run: Run, computed: Computed, grad_norm: torch.Tensor) -> bool:
    """Whether memory was too small for the step on some rank; the same on all of them.

    Then the norm is not finite on any rank. Where looking at it means waiting for a device, the hosts ask each other.
    """
    if run.ranks.size == 1 or (run.device_is_host and math.isfinite(float(grad_norm))):
        return computed.out_of_memory
    return run.ranks.any(computed.out_of_memory)


def compute_gradient(run: Run, micro_batches: Sequence[dict[str, torch.Tensor]], count: float) -> Computed:
    """Add up the gradient of a step over its micro-batches and, in the last one, over the ranks.

    A rank that runs out of memory still joins the exchange in which the others wait for it, with a gradient
    that is not finite: so all of them learn of it without an exchange of its own in every step.
    """
    started = time.perf_counter()
    loss_total, tokens, computed, busy, exhausted = run.zero(), 0, 0, 0.0, False
    scale = run.parallel.loss_scale / max(count, 1e-12)
    for micro, (batch, is_last) in enumerate(mark_last(micro_batches)):
        if exhausted and not is_last:
            continue
        exchanging = run.ranks.sharded
        with run.parallel.backward_of(last=is_last):
            try:
                if not exhausted:
                    seed_everything(run.recipe.seed, run.state.step, micro, run.ranks.rank)
                    loss_sum = run.loss_sum(batch)
                    busy = time.perf_counter() - started
                    exchanging = exchanging or (is_last and run.parallel.exchanges_in_backward)
                    run.backward(loss_sum * scale)
                    loss_total += loss_sum.detach().double()
                    tokens += int(batch["attention_mask"].sum())
                    computed += run.computed_tokens(batch)
            except (RuntimeError, MemoryError) as error:
                if not is_out_of_memory(error):
                    raise
                if exchanging:
                    raise _cannot_repeat(run) from error
                exhausted = True
            if exhausted and is_last and run.ranks.size > 1:
                run.backward(run.loss_sum(run.empty_batch()) * math.nan)
    return Computed(loss_total, tokens, computed, exhausted, busy)


def is_out_of_memory(error: Exception) -> bool:
    """Whether an error says that a device's memory, or this machine's, is too small."""
    from accelerate.utils.memory import should_reduce_batch_size

    return isinstance(error, MemoryError) or should_reduce_batch_size(error)


def _cannot_repeat(run: Run) -> Interrupted:
    half = max(1, run.micro_batch_tokens // 2)
    return Interrupted(
        f"Step {run.state.step + 1}: rank {run.ranks.rank} ran out of memory in the middle of an exchange of gradients.",
        fix=f"Run the same command with --budget.micro-batch-tokens {half}: it continues from the last checkpoint.",
        step=run.state.step,
    )
