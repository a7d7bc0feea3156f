"""Predictions over a split, every example exactly once with any number of ranks, and their scores."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from hf_trainpipe import metrics
from hf_trainpipe.engine.kept import parts_of
from hf_trainpipe.metrics.base import finishes_of
from hf_trainpipe.runtime.model.inference import known_lengths_of, run
from hf_trainpipe.runtime.model.outputs import Outputs, concatenate
from hf_trainpipe.runtime.model.unpad import is_unpadded
from hf_trainpipe.runtime.tokens.batch import pad, token_budget_batches

if TYPE_CHECKING:
    import torch

    from hf_trainpipe.data.prepare import Prepared
    from hf_trainpipe.engine.kept import Kept
    from hf_trainpipe.engine.ranks import Ranks
    from hf_trainpipe.runtime.tasks.base import Metric, Task
    from hf_trainpipe.runtime.tokens.features import Features


def predict_split(
    model: torch.nn.Module,
    split: Prepared,
    ranks: Ranks,
    *,
    task: Task,
    max_tokens: int,
    examples: np.ndarray | None = None,
    kept: Kept | None = None,
    done: Callable[[int], None] | None = None,
) -> Outputs:
    """Run the model over a split: each rank its share, sorted by length, under a token budget. A collective.

    Args:
        model: Unwrapped, on the ranks' device.
        examples: Some of the usable ones; None: all.
        kept: Where what is done stays, in parts of some batches; None: nowhere.
        done: Called with the examples that all ranks have done, as far as this one knows.
    """
    examples = split.usable if examples is None else examples
    share = _share_of(split, examples, ranks)
    if len(examples) and not len(share):  # more ranks than examples: the others have all of them
        return concatenate(ranks.gather(Outputs(share, {})))
    chosen = split.features_of(share)
    told = _Told(done or (lambda _: None), len(examples), len(chosen))

    def outputs(features: np.ndarray) -> Outputs:
        device, scores = ranks.accelerator.device, task.scored is not None
        return run(
            model,
            split.features,
            task=task,
            chosen=features,
            max_tokens=max_tokens,
            device=device,
            scores_targets=scores,
            done=told.add,
        )

    if kept is None or not len(chosen):
        found = outputs(chosen)
    else:
        parts = parts_of(chosen, task.widths(split.features)[chosen], max_tokens=max_tokens)
        answered = []
        for part, end in zip(parts, np.cumsum([len(part) for part in parts]), strict=True):
            answered.append(kept.part(part, partial(outputs, part)))
            told.reach(int(end))  # what was on the disk is done too
        found = concatenate(answered)
    merged = task.merge(found, split.features)
    assert split.rows.encoder is not None
    return concatenate(ranks.gather(task.decode(merged, split.rows.encoder)))


class _Told:
    """Tells how many examples are done, from the features that this rank has done of its share."""

    def __init__(self, done: Callable[[int], None], examples: int, features: int) -> None:
        self._done, self._examples, self._features, self._count = done, examples, max(features, 1), 0

    def add(self, count: int) -> None:
        """``count`` features more."""
        self.reach(self._count + count)

    def reach(self, count: int) -> None:
        """``count`` features in all."""
        self._count = count
        self._done(self._examples * count // self._features)


def _share_of(split: Prepared, examples: np.ndarray, ranks: Ranks) -> np.ndarray:
    """int64: the examples of a rank, ascending; similar in length over the ranks."""
    by_length = examples[np.argsort(-split.example_lengths[examples], kind="stable")]
    return np.sort(by_length[ranks.rank :: ranks.size])


def judge(predictions: Outputs, features: Features, task: Task) -> metrics.Predictions:
    """Predictions beside what is right, as metrics take them."""
    return as_predictions(task.judge(predictions, features), task, predictions.items)


def as_predictions(judged: Any, task: Task, items: np.ndarray) -> metrics.Predictions:
    """What a task judged, as metrics take it.

    Args:
        items: int64[N] the examples that it is of, unless it tells them.
    """
    own = [metric for metric in task.metrics() if not isinstance(metric, str)]
    finishes = finishes_of(own)
    if task.judged_as is not None:
        examples = judged.pop("examples", items)
        found = metrics.Predictions(task.judged_as, examples=examples, **judged)  # type: ignore[arg-type]
        columns = {metric.name: metric.statistic(found) for metric in own}
        return found.with_own(columns, finishes=finishes, signatures=_signatures(own, found)) if own else found
    columns = {metric.name: np.asarray(metric.statistic(judged), dtype=np.float64) for metric in own}
    return metrics.Predictions.of_own(
        columns, examples=items, judged=judged, finishes=finishes, signatures=_signatures(own, judged)
    )


def _signatures(own: Sequence[Metric], judged: Any) -> dict[str, str]:
    """How scores of a task's own were computed, by name, where they tell."""
    return {metric.name: metric.signature(judged) for metric in own if metric.signature is not None}


def tune(task: Task, predictions: metrics.Predictions) -> Task:
    """The task with what it chooses on validation, by what :func:`judge` gave for its predictions there."""
    return task.tune(predictions if task.judged_as is not None else predictions.judged)


def loss_of(predictions: Outputs, features: Features, task: Task) -> float | None:
    """The task's own mean loss over merged outputs, through ``loss_sum`` itself; None where they have none."""
    import torch

    arrays = task.merged_batch(predictions, features)
    if arrays is None:
        return None
    outputs, batch = ({name: torch.from_numpy(array) for name, array in part.items()} for part in arrays)
    with torch.inference_mode():
        return float(task.loss_sum(outputs, batch)) / max(float(task.count(batch)), 1e-12)


def mean_loss(
    model: torch.nn.Module,
    split: Prepared,
    ranks: Ranks,
    *,
    task: Task,
    max_tokens: int,
    examples: np.ndarray | None = None,
) -> float:
    """The task's mean loss over the features of a split, as the training step computes it, without dropout. A collective.

    Args:
        examples: Some of the usable ones; None: all.
    """
    import torch

    share, device = _share_of(split, split.usable if examples is None else examples, ranks), ranks.accelerator.device
    chosen, sums = split.features_of(share), torch.zeros(2, dtype=torch.float64, device=device)
    unpadded, was_training = is_unpadded(model), model.training
    model.eval()
    try:
        with torch.inference_mode():
            together = split.features.example[chosen] if split.features.together else None
            for places in token_budget_batches(split.features.widths[chosen], max_tokens=max_tokens, together=together):
                batch = pad(split.features, chosen[places], with_targets=True)
                there = (batch.pinned() if device.type == "cuda" else batch).to(device)
                with known_lengths_of(there, task if unpadded else None):
                    outputs = task.forward(model, there.inputs)
                found = task.loss_sum(outputs, there), task.count(there)  # the count on any device
                sums += torch.stack([one.double().to(device) for one in found])
    finally:
        model.train(was_training)
    total, count = ranks.sums(sums.tolist())  # read from the device once
    return total / max(count, 1e-12)
