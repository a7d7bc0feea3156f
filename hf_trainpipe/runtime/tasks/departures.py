"""How far answers in 16 bits are from those in fp32: what :meth:`.base.Task.departure` computes with.

Both are the JSON of a task's recorded arrays, one an input; None of an input that the package does not take.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from .merging import sigmoid, softmax

Array = npt.NDArray[Any]


def largest_difference(first: Array, second: Array) -> float:
    return float(np.abs(first - second).max(initial=0.0))


def one_less_cosine(first: Array, second: Array) -> float:
    return 1.0 - float((first * second).sum() / np.sqrt((first**2).sum() * (second**2).sum()))


def furthest(
    found: Sequence[Any],
    recorded: Sequence[Any],
    said: Callable[[Any], Array],
    gap: Callable[[Array, Array], float] = largest_difference,
) -> float:
    """The largest gap of what answers say; infinite where their forms differ, or one is not a number.

    Args:
        said: The numbers of an answer by which it is compared, any shape.
    """
    gaps = [0.0]
    for ours, theirs in zip(found, recorded, strict=True):
        if ours is None or theirs is None:
            gaps.append(0.0 if ours is theirs else math.inf)
            continue
        try:
            first, second = said(ours), said(theirs)
        except (IndexError, KeyError, TypeError, ValueError):  # of another package
            return math.inf
        apart = gap(first, second) if first.shape == second.shape else math.inf
        gaps.append(apart if math.isfinite(apart) else math.inf)
    return max(gaps)


def as_share(found: Sequence[Any], recorded: Sequence[Any]) -> float:
    """The largest difference of numbers, as a share of the largest that is recorded."""
    apart = furthest(found, recorded, numbers)
    if apart == math.inf:  # what is recorded may be no numbers
        return apart
    sizes = [float(np.abs(numbers(row)).max(initial=0.0)) for row in recorded if row is not None]
    return apart / (max(sizes, default=0.0) or 1.0)


def same_beginning(found: Sequence[int] | None, recorded: Sequence[int] | None) -> float:
    """The share of recorded tokens before the first that differs, in [0, 1]."""
    if not found or not recorded:
        return float(found == recorded)
    differ = [ours != theirs for ours, theirs in zip(found, recorded, strict=False)]
    if True in differ:
        return differ.index(True) / len(recorded)
    return min(len(found), len(recorded)) / max(len(found), len(recorded))


def numbers(row: Any) -> Array:
    """All numbers of an answer, [...], or [n] of several arrays."""
    if isinstance(row, dict):
        return np.concatenate([np.zeros(0), *(numbers(row[name]).ravel() for name in sorted(row))])
    return np.asarray(row, dtype=np.float64)


def of_one(row: Any) -> Array:
    """Probabilities of logits [..., C], of which one is right."""
    logits = np.asarray(row, dtype=np.float32)
    return softmax(logits.reshape(-1, logits.shape[-1]))


def of_each(row: Any) -> Array:
    """Probabilities of logits, each of its own."""
    return sigmoid(np.asarray(row, dtype=np.float32))
