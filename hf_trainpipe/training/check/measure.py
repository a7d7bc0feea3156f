"""Steps and evaluations of a run, on examples that stand for all: how long they take, and whether their losses are finite."""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from hf_trainpipe.errors import TrainpipeError
from hf_trainpipe.training.loop import take_step

if TYPE_CHECKING:
    from hf_trainpipe.data.prepare import Prepared
    from hf_trainpipe.runtime.tokens.batch import Batch
    from hf_trainpipe.training.monitor import TrainingLog
    from hf_trainpipe.training.run import Run

MOST_STEPS, FEWEST_STEPS = 24, 3
STEP_SECONDS = 12.0
"""For all of them, where they are more than the fewest."""
IN_A_ROW = 6
"""Steps measured one after the other on a GPU, which prepares the next while it computes this one."""
EVALUATION_SECONDS = 4.0
"""For the examples that stand for a split."""
FEWEST_EXAMPLES, MOST_GENERATED = 64, 16
_ORDER = 0x636865636B
"""Keeps the draw of steps apart from others of the same seed."""


@dataclass(frozen=True)
class Pace:
    """How fast steps are."""

    tokens_per_second: float
    spread: float
    """Standard error of the speed, as a share."""
    first_seconds: float
    """What the first step took longer than its tokens would."""
    steps: int
    """Measured."""

    def seconds_of(self, tokens: float) -> float:
        """Of steps over so many tokens."""
        return tokens / self.tokens_per_second + self.first_seconds


def try_extremes(run: Run, log: TrainingLog) -> list[float]:
    """One optimizer step on the longest examples and one on the shortest; the first takes the largest memory.

    Returns:
        Seconds of both.

    Raises:
        TrainpipeError: a loss is not finite, or the longest example alone does not fit into the memory.
    """
    train = run.feed.learnt
    by_length = train.usable[np.argsort(train.example_lengths[train.usable], kind="stable")]
    size = min(run.plan.examples_per_step, len(by_length))
    run.model.train()
    return [
        _timed(run, log, partial(run.feed.batches_of, examples), share=0.0, of=f"the {name} examples")
        for name, examples in (("longest", by_length[-size:]), ("shortest", by_length[:size]))
    ]


def tokens_at(run: Run, step: int) -> float:
    """Tokens of a step (counted from 0) over all ranks."""
    train = run.feed.learnt
    return float(train.example_lengths[train.usable[run.feed.order.global_batch(step)]].sum())


def measure_steps(run: Run, log: TrainingLog, *, first_seconds: float) -> Pace:
    """Time steps that the run will take, drawn over its length; the rate rises to its peak meanwhile.

    Args:
        first_seconds: Of the first step of all, which warms up.
    """
    total = (
        run.plan.total_steps
        if run.recipe.data.stream() is None
        else min(run.plan.total_steps, run.feed.order.steps_per_epoch)
    )
    total = max(1, total)  # of a run without steps one is timed all the same
    block = IN_A_ROW if run.on_gpu else 1
    starts = np.unique(np.linspace(0, max(0, total - block), MOST_STEPS // block).round().astype(int))
    starts = np.random.Generator(np.random.Philox([run.recipe.seed, _ORDER])).permutation(starts)
    planned = [(int(start) + at, at) for start in starts for at in range(block) if int(start) + at < total]
    tokens, seconds, began = [], [], time.monotonic()
    for number, (step, at) in enumerate(planned):
        if number >= FEWEST_STEPS * block and time.monotonic() - began > STEP_SECONDS:
            break
        share = (number + 1) / len(planned)
        took = _timed(run, log, partial(run.feed.micro_batches, step), share=share, of=f"step {step + 1:,}")
        if at > 0 or block == 1:
            tokens.append(tokens_at(run, step))
            seconds.append(took)
    counts, times = np.asarray(tokens, dtype=float), np.asarray(seconds)
    slowness = times.sum() / counts.sum()
    errors = times - slowness * counts
    count = len(times)
    spread = math.sqrt(float((errors**2).sum()) / max(1, count - 1) / count) / float(times.mean()) if count > 1 else 0.2
    return Pace(1.0 / slowness, spread, max(0.0, first_seconds - float(times.max())), count)


def _timed(run: Run, log: TrainingLog, batches: Callable[[], list[Batch]], *, share: float, of: str) -> float:
    """The seconds of one step. One that runs out of memory is repeated in smaller micro-batches, as in training.

    Raises:
        TrainpipeError: its loss is not finite.
    """
    rate = run.recipe.optim.peak_lr * share
    while True:
        started = time.perf_counter()
        report = take_step(run, batches(), rate=rate)
        if report is not None:
            break
        run.shrink_micro_batches()
    loss, norm = float(report.loss_sum), float(report.grad_norm)  # waits for the device
    seconds = time.perf_counter() - started
    log.log_step(report)
    if not math.isfinite(loss) or (not math.isfinite(norm) and run.mixed.scaler is None):
        what = "loss" if not math.isfinite(loss) else "gradient"
        raise TrainpipeError(
            f"{of}: expected a finite {what}, found {loss if what == 'loss' else norm} (learning rate {rate:g}, precision "
            f"{run.plan.precision}).",
            fix="Lower optim.peak_lr, lengthen optim.warmup, or set optim.precision='fp32'; look for numbers in the data that "
            "are no finite ones.",
        )
    return seconds


@dataclass(frozen=True)
class Part:
    """Examples that stand for a split."""

    split: Prepared
    tokens: float
    """Of the whole split by those of the part."""
    examples: float
    """The same of examples."""


def part_of(split: Prepared, *, max_tokens: float, generates: bool) -> Part:
    """Examples of all lengths, the longest and the shortest among them; the whole split if it is no larger."""
    usable, lengths = split.usable, split.example_lengths[split.usable]
    count = min(len(usable), max(FEWEST_EXAMPLES, int(len(usable) * max_tokens / max(1, lengths.sum()))))
    if generates:
        count = min(count, MOST_GENERATED)
    if count == len(usable):
        return Part(split, 1.0, 1.0)
    by_length = np.argsort(lengths, kind="stable")
    chosen = np.unique(by_length[np.linspace(0, len(usable) - 1, count).round().astype(int)])
    part = copy.copy(split)
    part.__dict__["usable"] = usable[chosen]
    share = len(usable) / len(chosen)
    return Part(part, share if generates else float(lengths.sum() / lengths[chosen].sum()), share)
