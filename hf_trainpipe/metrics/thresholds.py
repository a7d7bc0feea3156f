"""Thresholds of multi-label decisions, chosen on validation data."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from hf_trainpipe.metrics.base import Floats, sigmoid

if TYPE_CHECKING:
    from numpy.typing import NDArray


def best_thresholds(
    logits: NDArray[Any],
    references: NDArray[Any],
    *,
    metric: Literal["f1_micro", "f1_macro"] = "f1_micro",
    min_positives: int = 5,
) -> float | Floats:
    """The probability thresholds with the highest F1 on these examples.

    The search is exact: every threshold that changes a decision is tried; ties go to the one nearest to 0.5. A
    threshold lies half-way between two neighbouring probabilities, or is 0.5 itself.

    Args:
        logits: [N, C].
        references: 0/1, [N, C].
        metric: ``f1_micro`` gives one threshold for all labels; ``f1_macro`` one for each label, with the best F1
            of that label.
        min_positives: Labels with fewer positive examples use the threshold of ``f1_micro``: one
            fitted to one or two examples does not generalize.

    Returns:
        A float, or float64 [C] for ``f1_macro``. 0.5 where no label is positive anywhere.

    Raises:
        ValueError: for shapes that differ, an unknown metric, or NaN in the logits.
    """
    logits, references = np.asarray(logits), np.asarray(references)
    if logits.ndim != 2 or logits.shape != references.shape:
        raise ValueError(f"expected logits and references [N, C], found {logits.shape} and {references.shape}.")
    if metric not in ("f1_micro", "f1_macro"):
        raise ValueError(f"metric: expected 'f1_micro' or 'f1_macro', found {metric!r}.")
    if np.isnan(logits).any():
        raise ValueError("logits: expected numbers, found NaN.")
    chances, positive = sigmoid(logits), references != 0
    shared = _best(chances.ravel(), positive.ravel())
    if metric == "f1_micro":
        return shared
    enough = positive.sum(axis=0) >= max(min_positives, 1)
    own = [
        _best(chances[:, label], positive[:, label]) if enough[label] else shared for label in range(logits.shape[1])
    ]
    return np.array(own, np.float64)


def _best(chances: Floats, positive: NDArray[np.bool_]) -> float:
    """The threshold of the highest F1 for probabilities [N]."""
    support = int(positive.sum())
    if support == 0:
        return 0.5
    order = np.argsort(-chances, kind="stable")
    chances, true_positives = chances[order], np.cumsum(positive[order])
    # A threshold after position i predicts the label for i + 1 examples; equal probabilities stay together.
    cuts = np.flatnonzero(np.append(chances[1:] < chances[:-1], True))
    f1 = 2 * true_positives[cuts] / (cuts + 1 + support)
    upper, lower = chances[cuts], np.append(chances[1:], 0.0)[cuts]
    middle = (upper + lower) / 2
    middle = np.where(middle > lower, middle, upper)  # neighbouring floats have nothing between them
    middle = np.where((lower < 0.5) & (upper >= 0.5), 0.5, middle)
    candidates = middle[f1 == f1.max()]
    return float(candidates[np.abs(candidates - 0.5).argmin()])
