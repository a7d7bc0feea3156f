"""Predictions over a split, every example exactly once with any number of ranks, and their scores.

Shapes: N examples, C classes, W words.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from hf_trainpipe import metrics
from hf_trainpipe.runtime.model.inference import forward
from hf_trainpipe.runtime.tasks.decoding import Decoder, Outputs
from hf_trainpipe.runtime.tokens.ragged import ranges

if TYPE_CHECKING:
    import torch

    from hf_trainpipe.data.prepare import Prepared
    from hf_trainpipe.tasks.base import Labels, Task

__all__ = ["SplitOutputs", "Thresholds", "loss_of", "predict_split", "scorable", "tune_threshold"]

Thresholds = float | list[float] | None


@dataclass(frozen=True)
class SplitOutputs:
    """What a model gives for a split, in the order of its examples.

    ``examples`` int64[n] are those that have features; ``logits`` float32[n, C], or [W, C] for
    tags with ``word_starts`` int64[n + 1] and ``words`` int32[W], each row's word in its example.
    """

    examples: np.ndarray
    logits: np.ndarray
    word_starts: np.ndarray | None = None
    words: np.ndarray | None = None

    def targets_of_words(self, first: np.ndarray) -> np.ndarray:
        """int64[W]: where each row's word stands among the flat words of the split."""
        assert self.word_starts is not None
        assert self.words is not None
        places: np.ndarray = np.repeat(first[self.examples], np.diff(self.word_starts)) + self.words
        return places


def _concatenate(parts: Sequence[Outputs]) -> SplitOutputs:
    """Join the ranks' parts and sort them by example; each example must come exactly once."""
    examples = np.concatenate([part.examples for part in parts])
    order = np.argsort(examples, kind="stable")
    assert len(np.unique(examples)) == len(examples), "an example was evaluated twice"
    logits = np.concatenate([part.outputs for part in parts])
    if parts[0].word_starts is None:
        return SplitOutputs(examples[order], logits[order])
    words = np.concatenate([part.words for part in parts if part.words is not None])
    counts = np.concatenate([np.diff(part.word_starts) for part in parts if part.word_starts is not None])
    starts = np.concatenate([[0], np.cumsum(counts)])
    flat = ranges(starts[:-1][order], counts[order])
    sorted_starts = np.concatenate([[0], np.cumsum(counts[order])])
    return SplitOutputs(examples[order], logits[flat], sorted_starts, words[flat])


def predict_split(
    model: torch.nn.Module,
    split: Prepared,
    *,
    task: Task,
    labels: Labels,
    pad_id: int,
    max_tokens: int,
    rank: int,
    world_size: int,
    gather: Callable[[Any], list[Any]],
    device: Any = "cpu",
    examples: np.ndarray | None = None,
) -> SplitOutputs:
    """Run the model over a split: each rank its share, sorted by length, under a token budget.

    Args:
        model: Unwrapped, on ``device``.
        gather: Turns this rank's part into the parts of all ranks.
        examples: Some of the usable ones; None: all.
    """
    chosen = split.usable if examples is None else examples
    by_length = chosen[np.argsort(-split.example_lengths[chosen], kind="stable")]
    mine = np.sort(by_length[rank::world_size])
    features = split.features_of(mine)
    decoder = Decoder.from_json(
        {"kind": task.decoder, "labels": list(labels.names), "options": task.decoder_options(labels)}
    )
    logits = forward(
        model,
        split.encoded,
        features=features,
        level=decoder.level,
        max_tokens=max_tokens,
        pad_id=pad_id,
        device=device,
    )
    return _concatenate(gather(decoder.merge(logits, split.encoded, features)))


def scorable(
    outputs: SplitOutputs, split: Prepared, *, task: Task, labels: Labels, threshold: Thresholds = None
) -> metrics.Predictions:
    """Outputs beside their references, as metrics take them.

    For tags every word of the gold is there, so that gold is never shortened: a word that the
    over-length policy cut off has the prediction -1, which is wrong and outside any entity.
    """
    if task.decoder != "tags":
        references = np.asarray(split.targets.values)[outputs.examples]
        fixed = 0.5 if threshold is None else threshold
        return metrics.Predictions(
            kind=cast("metrics.Kind", task.decoder),
            outputs=outputs.logits,
            references=references,
            labels=labels.names,
            threshold=np.asarray(fixed) if isinstance(fixed, list) else fixed,
        )
    starts = split.targets.word_starts
    assert starts is not None
    gold = np.asarray(split.targets.values)
    predicted = np.full(len(gold), -1, dtype=np.int32)
    predicted[outputs.targets_of_words(starts)] = outputs.logits.argmax(axis=-1)
    return metrics.Predictions(
        kind="tags",
        outputs=predicted,
        references=gold,
        labels=labels.names,
        word_starts=np.asarray(starts),
        scheme=getattr(task, "scheme", None) or "BIO",
    )


def loss_of(outputs: SplitOutputs, split: Prepared, *, task: Task) -> float:
    """The task's own mean loss over merged outputs, through ``loss_sum`` itself."""
    import torch

    values = np.asarray(split.targets.values)
    if outputs.word_starts is None:
        kind = np.int64 if split.targets.kind == "class" else np.float32
        references = torch.from_numpy(values[outputs.examples].astype(kind))
        logits = torch.from_numpy(outputs.logits)
        weights = torch.ones(len(references))
    else:
        starts = split.targets.word_starts
        assert starts is not None
        gold = values[outputs.targets_of_words(starts)].astype(np.int64)
        references = torch.from_numpy(gold)[None]
        logits = torch.from_numpy(outputs.logits)[None]
        weights = torch.ones(1)
    batch: Mapping[str, torch.Tensor] = {"labels": references, "weights": weights}

    def answered(**_: torch.Tensor) -> SimpleNamespace:
        return SimpleNamespace(logits=logits)

    with torch.inference_mode():
        total = task.loss_sum(answered, batch)  # type: ignore[arg-type]
        return float(total) / max(float(task.count(batch)), 1e-12)


def tune_threshold(outputs: SplitOutputs, split: Prepared) -> float:
    """The probability from which labels are given that makes micro F1 largest on this split."""
    references = np.asarray(split.targets.values)[outputs.examples]
    return float(metrics.best_thresholds(outputs.logits, references, metric="f1_micro"))
