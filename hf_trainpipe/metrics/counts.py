"""Precision, recall, F1, accuracy and MCC from counts by label, for classes, label sets and entities.

Sums have K = 3 C columns: true positives, predicted and support of C labels each. The definitions are scikit-learn's.
A macro average leaves out labels that are neither predicted nor in the references, as scikit-learn does without
``labels=``: a label that is missing from a bootstrap resample does not count as a failure.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import numpy as np

from hf_trainpipe.metrics.base import Floats, divide

Rate = Literal["precision", "recall", "f1"]
Average = Literal["auto", "binary", "micro", "macro", "weighted"]
RATES: tuple[Rate, ...] = ("precision", "recall", "f1")
AVERAGES: tuple[Average, ...] = ("micro", "macro", "weighted")


def _split(sums: Floats) -> tuple[Floats, Floats, Floats]:
    counts = sums.reshape(*sums.shape[:-1], 3, -1)
    return counts[..., 0, :], counts[..., 1, :], counts[..., 2, :]


def rate_of(rate: Rate, true_positives: Floats, predicted: Floats, support: Floats) -> Floats:
    """Of each label; 0 where it is undefined."""
    if rate == "f1":
        return divide(2 * true_positives, predicted + support, otherwise=0.0)
    return divide(true_positives, predicted if rate == "precision" else support, otherwise=0.0)


def averaged(rate: Rate, average: Average) -> Callable[[Floats], Floats]:
    """The finish of a metric: sums [..., 3 C] to scores [...].

    ``binary`` scores the last label alone; ``auto`` is binary for two labels and macro otherwise.
    """

    def finish(sums: Floats) -> Floats:
        true_positives, predicted, support = _split(sums)
        if average == "micro":
            return rate_of(rate, true_positives.sum(-1), predicted.sum(-1), support.sum(-1))
        if average == "binary" or (average == "auto" and true_positives.shape[-1] == 2):
            return rate_of(rate, true_positives[..., -1], predicted[..., -1], support[..., -1])
        weight = support if average == "weighted" else ((predicted + support) > 0).astype(np.float64)
        return divide(
            (rate_of(rate, true_positives, predicted, support) * weight).sum(-1), weight.sum(-1), otherwise=0.0
        )

    return finish


def accuracy(sums: Floats) -> Floats:
    """True positives over support; NaN without support."""
    true_positives, _, support = _split(sums)
    return divide(true_positives.sum(-1), support.sum(-1), otherwise=np.nan)


def matthews(sums: Floats) -> Floats:
    """Matthews' correlation for any number of classes (Gorodkin 2004); 0 where it is undefined."""
    true_positives, predicted, support = _split(sums)
    total = support.sum(-1)
    agreement = true_positives.sum(-1) * total - (predicted * support).sum(-1)
    spread = (total**2 - (predicted**2).sum(-1)) * (total**2 - (support**2).sum(-1))
    return divide(agreement, np.sqrt(spread), otherwise=0.0)
