"""Optimizer steps, as a generator. One loop for every task: recipes are copied, the loop is not."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

from hf_trainpipe.engine.randomness import seed_everything
from hf_trainpipe.engine.schedule import rate_factor
from hf_trainpipe.errors import TrainingDiverged

if TYPE_CHECKING:
    import torch

    from hf_trainpipe.run import Run

__all__ = ["MAX_SKIPPED", "StepReport", "train"]

T = TypeVar("T")

MAX_SKIPPED = 5
"""Steps in a row without a finite gradient before the run stops."""


@dataclass(frozen=True)
class StepReport:
    """One optimizer step, the same on all ranks except for ``loss_sum`` and ``tokens``."""

    step: int
    """Counted from 1."""
    loss_sum: torch.Tensor
    """This rank's part of the loss, float64 scalar."""
    count: float
    """What the losses of all ranks are divided by."""
    tokens: int
    """Real tokens this rank computed, padding not counted."""
    learning_rate: float
    grad_norm: float
    skipped: bool
    """The gradient was not finite on some rank, so no rank updated."""
    stop: bool
    """Some rank was asked to stop; all ranks see it at the same step."""


def mark_last(items: Sequence[T]) -> Iterator[tuple[T, bool]]:
    """Each item, and whether it is the last."""
    for position, item in enumerate(items):
        yield item, position == len(items) - 1


def train(run: Run) -> Iterator[StepReport]:
    """Yield one report per optimizer step, from ``run.state.step`` on.

    Data order and randomness are functions of (seed, epoch, step, micro-batch, rank): a resumed run
    repeats the interrupted one. The loss of a step is a sum over the global batch, divided by the
    global count: the same for any number of ranks, any accumulation and any micro-batch split.

    Raises:
        TrainingDiverged: gradients stayed non-finite for ``MAX_SKIPPED`` steps.
    """
    plan, task, optim, state = run.plan, run.task, run.recipe.optim, run.state
    run.model.train()
    for micro_batches in run.batches(first=state.step, last=plan.total_steps):
        counted = float(sum(task.count(batch) for batch in micro_batches))
        count, stop = run.ranks.agree(count=counted, stop=run.stop_requested)
        factor = rate_factor(state.updates, total=plan.total_steps, warmup=plan.warmup_steps, schedule=optim.schedule)
        run.set_rate(optim.peak_lr * factor)
        loss_total = run.zero()
        tokens = 0
        for micro, (batch, is_last) in enumerate(mark_last(micro_batches)):
            seed_everything(run.recipe.seed, state.step, micro, run.ranks.rank)
            with run.gradient_sync(enabled=is_last):
                on_device = run.to_device(batch)
                loss_sum = task.loss_sum(run.model, on_device)  # a sum, not a mean
                # DDP averages gradients over ranks, so the sum is multiplied by their number.
                run.backward(loss_sum * (run.ranks.size / max(count, 1e-12)))
            loss_total += loss_sum.detach().double()
            tokens += int(batch["attention_mask"].sum())
        grad_norm = run.clip(optim.max_grad_norm)
        skipped = not run.update(grad_norm)
        state.step += 1
        state.updates += not skipped
        state.skipped = state.skipped + 1 if skipped else 0
        yield StepReport(
            step=state.step,
            loss_sum=loss_total,
            count=count,
            tokens=tokens,
            learning_rate=optim.peak_lr * factor,
            grad_norm=grad_norm,
            skipped=skipped,
            stop=stop,
        )
        if state.skipped >= MAX_SKIPPED:
            raise TrainingDiverged(
                f"Step {state.step}: the gradient was not finite for {MAX_SKIPPED} steps in a row.",
                fix="Lower optim.peak_lr, lengthen optim.warmup, or set optim.precision='fp32'; then run the "
                "same command with --allow-change naming those fields. The last good checkpoint is kept.",
                step=state.step,
            )
