"""Predictions of several models as those of one set of rows: out-of-fold predictions.

Shapes: N rows of all parts, C labels.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hf_trainpipe.metrics.base import Predictions
from hf_trainpipe.metrics.saved import Predicted

UNSEEN = 20.0
"""How far below the lowest logit of a row a label stands that a model has never seen."""


def in_one_order(parts: Sequence[Predictions]) -> list[Predictions]:
    """The same with labels in one order: that of the first, then those that it lacks."""
    labels = tuple(dict.fromkeys(label for part in parts for label in part.labels))
    return [reordered(part, labels) for part in parts]


def reordered(part: Predictions, labels: tuple[str, ...]) -> Predictions:
    """The same with these labels in this order, all of its own among them."""
    if tuple(part.labels) == labels:
        return part
    place = np.asarray([labels.index(label) for label in part.labels], dtype=np.int64)
    outputs: NDArray[Any] = part.outputs
    references: NDArray[Any] = part.references
    threshold = part.threshold
    chosen = None if part.chosen is None else _mapped(part.chosen, place)
    if part.kind in ("single_label", "tags"):
        references = _mapped(references, place)
    if outputs.ndim == 1 and part.kind in ("single_label", "tags"):
        return replace(part, labels=labels, outputs=_mapped(outputs, place), references=references, chosen=chosen)
    if part.kind in ("single_label", "multi_label"):
        unseen = 0 if part.decided else outputs.min(axis=1, keepdims=True) - UNSEEN
        wide = np.zeros((len(outputs), len(labels)), dtype=outputs.dtype)
        wide[:] = unseen
        wide[:, place] = outputs
        outputs = wide
    if part.kind == "multi_label":
        known = np.zeros((len(references), len(labels)), dtype=references.dtype)
        known[:, place] = references
        references = known
        if np.ndim(threshold):
            wider = np.full(len(labels), 0.5)
            wider[place] = threshold
            threshold = wider
    return replace(part, labels=labels, outputs=outputs, references=references, threshold=threshold, chosen=chosen)


def _mapped(ids: NDArray[Any], place: NDArray[np.int64]) -> NDArray[Any]:
    """Ids under the new order; below 0 they stay."""
    found: NDArray[Any] = np.where(ids >= 0, place[np.maximum(ids, 0)], ids).astype(ids.dtype)
    return found


def joined(parts: Sequence[Predicted]) -> Predicted:
    """The rows of all parts, one after the other; their labels stand in one order. A threshold is the mean of theirs."""
    held = [part.predictions for part in parts]
    first = held[0]
    starts = None
    if first.word_starts is not None:
        sizes = [np.diff(part.word_starts) for part in held if part.word_starts is not None]
        starts = np.concatenate([[0], np.cumsum(np.concatenate(sizes))]).astype(np.int64)
    chosen = [part.chosen for part in held if part.chosen is not None]
    own = {name for name in first.own if all(name in part.own for part in held)}
    predictions = replace(
        first,
        outputs=np.concatenate([part.outputs for part in held]),
        references=np.concatenate([part.references for part in held]),
        threshold=np.mean([np.asarray(part.threshold) for part in held], axis=0),
        word_starts=starts,
        chosen=np.concatenate(chosen) if len(chosen) == len(held) else None,
        examples=None,
        own={name: np.concatenate([part.own[name] for part in held]) for name in first.own if name in own},
        finishes={name: finish for name, finish in first.finishes.items() if name in own},
    )
    slices = _slices(parts)
    return Predicted(
        predictions=predictions,
        rows=np.concatenate([part.rows for part in parts]),
        lengths=np.concatenate([part.lengths for part in parts]),
        slices={name: tuple(value for part in parts for value in part.slices[name]) for name in slices},
        numbers={name: np.concatenate([part.numbers[name] for part in parts]) for name in parts[0].numbers},
        kept={
            name: np.concatenate([part.kept[name] for part in parts])
            for name in parts[0].kept
            if all(name in part.kept for part in parts)
        },
    )


def _slices(parts: Sequence[Predicted]) -> list[str]:
    """Columns that cut every part into slices."""
    return [name for name in parts[0].slices if all(name in part.slices for part in parts)]
