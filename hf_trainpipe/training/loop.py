"""The training loop: one optimizer step after the other, as a generator. It is the same for every task."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from hf_trainpipe.engine.gpu.rounding import RoundedBatch
from hf_trainpipe.engine.randomness import seed_everything
from hf_trainpipe.engine.schedule import rate_factor
from hf_trainpipe.errors import Interrupted, TrainingDiverged
from hf_trainpipe.training.across import losses

if TYPE_CHECKING:
    import torch

    from hf_trainpipe.runtime.tokens.batch import Batch
    from hf_trainpipe.training.run import Run
    from hf_trainpipe.training.signals import StopSignals

MAX_SKIPPED = 5
"""Steps in a row without a finite gradient before the run stops, once the log has fetched them."""


@dataclass(kw_only=True)
class Computed:
    """Sums over the micro-batches of a step on this rank; the gradient is in the parameters."""

    loss_sum: torch.Tensor
    """This rank's part of the loss, float64 scalar, still on the device: reading it is a sync."""
    tokens: int = 0
    """Tokens of this rank, without padding."""
    computed_tokens: int = 0
    """The same with padding."""
    out_of_memory: bool = False
    """This rank ran out of memory; then the gradient is not finite on any rank."""
    busy_seconds: float = 0.0
    """Seconds that this rank computed before it waited for the others, by the host's clock."""


@dataclass(kw_only=True)
class StepReport(Computed):
    """One optimizer step: what this rank computed, and what is the same on all of them."""

    step: int
    """Counted from 1."""
    count: float
    """The global count that the losses of all ranks are divided by."""
    learning_rate: float
    grad_norm: torch.Tensor
    """Scalar, still on the device; if it is not finite, it is so on all ranks, and no rank updated."""
    stop: bool
    """Some rank was asked to stop; all ranks see it at the same step."""


def train(run: Run, signals: StopSignals | None = None) -> Iterator[StepReport]:
    """Yield one report per optimizer step, from ``run.state.step`` on.

    Args:
        signals: Ask for an early stop; None: nothing does.

    Data order and randomness are functions of (seed, epoch, step, micro-batch, rank): a resumed run
    repeats the interrupted one. The loss of a step is a sum over the global batch, divided by the
    global count: the same for any number of ranks, any accumulation and any micro-batch split.
    If a rank runs out of memory, all ranks repeat the step in smaller micro-batches.

    Raises:
        TrainingDiverged: gradients stayed non-finite for ``MAX_SKIPPED`` steps.
        Interrupted: a rank ran out of memory inside a collective; the next attempt can use smaller micro-batches.
    """
    plan, optim, state = run.plan, run.recipe.optim, run.state
    run.model.train()
    while state.step < plan.total_steps:
        micro_batches = run.feed.micro_batches(state.step)
        stop_here = signals is not None and signals.before_step(state.step + 1)
        factor = rate_factor(state.updates, total=plan.total_steps, warmup=plan.warmup_steps, schedule=optim.schedule)
        report = take_step(run, micro_batches, rate=optim.peak_lr * factor, stop=stop_here)
        if report is None:
            run.shrink_micro_batches()
            continue
        yield report
        if state.skipped >= MAX_SKIPPED:
            raise TrainingDiverged(
                f"Step {state.step}: the gradient was not finite for {state.skipped} steps in a row.",
                fix="Lower optim.peak_lr, lengthen optim.warmup, or set optim.precision='fp32'; then run the "
                "same command with --allow-change naming those fields. The last good checkpoint is kept.",
                step=state.step,
            )


def take_step(run: Run, micro_batches: Sequence[Batch], *, rate: float, stop: bool = False) -> StepReport | None:
    """One optimizer step over this rank's micro-batches; None where some rank ran out of memory, and none updated.

    Args:
        rate: The learning rate.
        stop: Whether this rank was asked to stop; it is told to the others.
    """
    counted = float(sum(run.task.count(batch) for batch in micro_batches))
    count, stops = run.ranks.sums([counted, float(stop)])
    run.set_rate(rate)
    computed = compute_gradient(run, micro_batches, count)
    grad_norm = run.parallel.clip(run.recipe.optim.max_grad_norm)
    if ran_out_of_memory(run, computed, grad_norm):
        return None
    run.parallel.step(grad_norm)
    run.state.took_step()
    return StepReport(
        **vars(computed), step=run.state.step, count=count, learning_rate=rate, grad_norm=grad_norm, stop=stops > 0
    )


def ran_out_of_memory(run: Run, computed: Computed, grad_norm: torch.Tensor) -> bool:
    """Whether some rank ran out of memory in the step; the same on all ranks.

    Then the norm is not finite on any rank. If reading the norm needs a sync, the hosts exchange a flag instead.
    """
    if run.ranks.size == 1 or (run.device_is_host and math.isfinite(float(grad_norm))):
        return computed.out_of_memory
    return run.ranks.any(computed.out_of_memory)


def compute_gradient(run: Run, micro_batches: Sequence[Batch], count: float) -> Computed:
    """Add up the gradient of a step over its micro-batches and, in the last one, over the ranks.

    A rank that runs out of memory still joins the all-reduce, with a gradient that is not finite. So all ranks learn of
    it, and no step needs another collective.
    """
    started = time.perf_counter()
    done = Computed(loss_sum=run.zero())
    scale = run.parallel.loss_scale / max(count, 1e-12)
    loss_of = losses(run, micro_batches)
    for micro, batch in enumerate(micro_batches):
        is_last = micro == len(micro_batches) - 1
        if done.out_of_memory and not is_last:
            continue
        exchanging = run.ranks.sharded
        with run.parallel.micro_batch_context(last=is_last):
            try:
                if not done.out_of_memory:
                    seed_everything(run.recipe.seed, run.state.step, micro, run.ranks.rank)
                    if run.graphs is not None and isinstance(batch, RoundedBatch):
                        loss_sum = run.graphs.add_gradient(batch, scale)
                        done.busy_seconds = time.perf_counter() - started
                        run.beat()
                    else:
                        loss_sum = loss_of(micro)
                        done.busy_seconds = time.perf_counter() - started
                        exchanging = exchanging or (is_last and run.parallel.exchanges)
                        run.mixed.backward(loss_sum * scale)
                    done.loss_sum += loss_sum.detach().double()
                    done.tokens += batch.tokens
                    done.computed_tokens += run.computed_tokens(batch)
            except (RuntimeError, MemoryError) as error:
                if not is_out_of_memory(error):
                    raise
                if exchanging:
                    raise _cannot_repeat(run) from error
                done.out_of_memory = True
            if done.out_of_memory and is_last and run.ranks.size > 1:
                run.mixed.backward(run.loss_sum(run.feed.empty_batch()) * math.nan)
    return done


def is_out_of_memory(error: Exception) -> bool:
    """Whether an error means that the device or the machine ran out of memory."""
    from accelerate.utils.memory import should_reduce_batch_size

    return isinstance(error, MemoryError) or should_reduce_batch_size(error)


def _cannot_repeat(run: Run) -> Interrupted:
    half = max(1, run.feed.micro_batch_tokens // 2)
    return Interrupted(
        f"Step {run.state.step + 1}: rank {run.ranks.rank} ran out of memory inside a collective.",
        fix=f"Run the same command with --budget.micro-batch-tokens {half}: it continues from the last checkpoint.",
        step=run.state.step,
    )
