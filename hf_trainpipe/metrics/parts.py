"""A score by parts of a split (lengths, slices), and what constant answers would score.

Shapes: N examples, C labels.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hf_trainpipe.metrics.base import Floats, Interval, Predictions
from hf_trainpipe.metrics.registry import LOSS, is_external
from hf_trainpipe.metrics.scoring import computation, metric_of, score

_RESAMPLES, _FEWEST = 500, 50
_CELLS, _MOST_CELLS = 1 << 22, 50_000_000
"""Weights of resamples at a time, and of a part at all: of a large split there are fewer resamples, of a huge one no interval."""


def by_part(
    predictions: Predictions,
    name: str,
    parts: Mapping[str, NDArray[np.bool_]],
    *,
    confidence: float = 0.95,
    seed: int = 0,
) -> dict[str, Interval]:
    """A score of each part of the examples, with a bootstrap interval over its own examples.

    Args:
        parts: Name to which examples [N] belong to it; an empty part is left out.
    """
    unknown = predictions.kind == "own" and name not in predictions.own
    if unknown or name == LOSS or is_external(name) or not predictions.answered():
        return {}
    compute = computation(predictions, [metric_of(name, predictions)])
    random = np.random.Generator(np.random.Philox(seed))
    num_examples = len(predictions)
    resamples = min(_RESAMPLES, _MOST_CELLS // num_examples)
    found, tail = {}, (1 - confidence) / 2
    for part, inside in parts.items():
        members = np.flatnonzero(inside)
        if not len(members):
            continue
        value = float(compute(inside[None].astype(np.float64))[name][0])
        drawn: list[Floats] = []
        for start in range(0, resamples, block := max(1, _CELLS // num_examples)):
            weights = np.zeros((min(block, resamples - start), num_examples))
            for row in weights:
                row[members] = np.bincount(random.integers(0, len(members), size=len(members)), minlength=len(members))
            drawn.append(compute(weights)[name])
        values = np.concatenate(drawn) if drawn else np.zeros(0)
        defined = values[~np.isnan(values)]
        low, high = np.quantile(defined, (tail, 1 - tail)) if len(defined) >= _FEWEST else (np.nan, np.nan)
        found[part] = Interval(
            value=value, low=float(low), high=float(high), confidence=confidence, n=len(members), resamples=len(defined)
        )  # fmt: skip
    return found


def by_length(lengths: NDArray[np.int64], *, num_parts: int = 5) -> dict[str, NDArray[np.bool_]]:
    """Examples by their number of tokens, in parts of similar size.

    >>> {name: int(inside.sum()) for name, inside in by_length(np.array([3, 4, 5, 9]), num_parts=2).items()}
    {'3-4': 2, '5-9': 2}
    """
    if not len(lengths):
        return {}
    edges = np.unique(np.quantile(lengths, np.linspace(0, 1, num_parts + 1)[1:-1], method="lower"))
    place = np.searchsorted(edges, lengths, side="left")
    found = {}
    for part in np.unique(place):
        inside = place == part
        low, high = int(lengths[inside].min()), int(lengths[inside].max())
        found[f"{low}-{high}" if low < high else str(low)] = inside
    return found


def constant_scores(predictions: Predictions, names: Sequence[str]) -> tuple[str, dict[str, float]] | None:
    """What always giving the same answer would score: the most frequent label or tag of the split, or its mean.

    Returns:
        The answer, and the scores; None where no single answer stands for a task.
    """
    gold = predictions.references
    names = [name for name in names if name not in predictions.own and not is_external(name) and name != LOSS]
    if not len(predictions) or not names:
        return None
    if predictions.kind == "single_label":
        label = int(np.bincount(gold).argmax())
        outputs: NDArray[Any] = np.zeros((len(gold), predictions.num_labels))
        outputs[:, label] = 1.0
        said = repr(predictions.labels[label] if predictions.labels else label)
    elif predictions.kind == "regression":
        outputs, said = np.full(len(gold), float(gold.mean())), f"{float(gold.mean()):.3g}"
    elif predictions.kind == "tags" and (gold >= 0).any():
        tag = int(np.bincount(gold[gold >= 0]).argmax())
        outputs, said = np.full(len(gold), tag), repr(predictions.labels[tag])
    else:
        return None
    return said, score(replace(predictions, outputs=outputs, chosen=None), names)
