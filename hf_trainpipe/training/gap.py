"""The losses from which overfitting is told: of validation and of a sample of the training examples, both without dropout."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from hf_trainpipe.engine.evaluation import loss_of
from hf_trainpipe.metrics.overfitting import BLOCKS, TRAIN_BLOCKS

if TYPE_CHECKING:
    from hf_trainpipe.runtime.model.outputs import Outputs
    from hf_trainpipe.training.run import Run

_SHARE = 0.03
"""Of the examples between two evaluations; a forward pass is a third of a step, so that it costs a hundredth."""
_FEWEST, _MOST = 32, 512
_SAMPLE = 0x6761700000
"""Keeps the draws of the sample apart from others of the same seed."""


def sample_of(run: Run) -> np.ndarray:
    """The training examples of the sample, int64, in the order in which they were drawn; none where there is no such loss.

    Of a stream they are rows of its first window. A loss that compares the examples of a batch has no value of its own for each,
    so that of such a task there is none.
    """
    asked = run.recipe.evaluation.train_sample
    if asked == 0 or not run.task.separable or "validation" not in run.data.splits:
        return np.zeros(0, dtype=np.int64)
    between = run.plan.evaluate_every * run.plan.examples_per_step
    size = min(_MOST, max(_FEWEST, int(_SHARE * between))) if asked is None else asked
    usable = run.data.train.usable
    random = np.random.Generator(np.random.Philox([run.recipe.seed, _SAMPLE]))
    return np.asarray(random.permutation(usable)[:size])


def blocks_of(examples: np.ndarray, count: int) -> list[np.ndarray]:
    """Some examples in blocks of one size but for an example; of few examples fewer blocks."""
    return [block for block in np.array_split(examples, count) if len(block)]


def train_losses(run: Run, sample: np.ndarray) -> list[float]:
    """Mean loss of each block of the sample. All ranks call it."""
    return run.block_losses("train", blocks_of(sample, TRAIN_BLOCKS))


def validation_losses(run: Run, outputs: Outputs, sample: np.ndarray) -> list[float]:
    """Mean loss of each block of validation: from its outputs, or where those have no loss of as many examples as the sample
    has. All ranks call it."""
    features = run.data.splits["validation"].features
    shuffled = np.random.Generator(np.random.Philox([run.recipe.seed, _SAMPLE])).permutation(len(outputs))
    found: list[float] = []
    for block in blocks_of(shuffled, BLOCKS):
        loss = loss_of(outputs.take(np.sort(block)), features, run.task)
        if loss is None:
            return run.block_losses("validation", blocks_of(outputs.items[shuffled[: len(sample)]], TRAIN_BLOCKS))
        found.append(loss)
    return found


def mean(losses: Sequence[float]) -> float:
    """Of blocks, which are of one size but for an example."""
    return float(np.mean(losses))
