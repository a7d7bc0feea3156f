"""Metrics of one label an example, and of any number of labels an example."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hf_trainpipe.metrics import counts, ranking
from hf_trainpipe.metrics.base import Floats, Metric, Predictions, WeightMetric, divide, ratio, sum_metrics


def class_counts(predictions: Predictions) -> Floats:
    """[N, 3 C]: true positives, predicted, support."""
    num_examples, num_labels = len(predictions), predictions.num_labels
    predicted, gold = predictions.decisions(), predictions.references
    table = np.zeros((num_examples, 3, num_labels))
    rows = np.arange(num_examples)
    table[rows, 1, predicted] = 1
    table[rows, 2, gold] = 1
    table[:, 0] = table[:, 1] * table[:, 2]
    return table.reshape(num_examples, -1)


def set_counts(predictions: Predictions) -> Floats:
    """[N, 3 C]: true positives, predicted, support."""
    predicted = predictions.decisions().astype(np.float64)
    gold = predictions.references.astype(np.float64)
    return np.concatenate([predicted * gold, predicted, gold], axis=1)


def _set_scores(predictions: Predictions) -> Floats:
    """[N, 6]: precision, recall, f1, whether all labels are right, fraction of wrong labels, 1."""
    predicted = predictions.decisions().astype(np.float64)
    gold = predictions.references.astype(np.float64)
    true_positives, num_predicted, num_gold = (predicted * gold).sum(1), predicted.sum(1), gold.sum(1)
    wrong = (predicted != gold).mean(1)
    columns = [
        divide(true_positives, num_predicted, otherwise=0.0),
        divide(true_positives, num_gold, otherwise=0.0),
        divide(2 * true_positives, num_predicted + num_gold, otherwise=0.0),
        (wrong == 0).astype(np.float64),
        wrong,
        np.ones_like(wrong),
    ]
    return np.stack(columns, axis=1)


def _logits(predictions: Predictions) -> Floats:
    if predictions.decided:
        raise ValueError("roc_auc and average_precision need logits [N, C], found decisions (whole numbers).")
    return predictions.outputs.astype(np.float64)


Ranking = Callable[[NDArray[Any], NDArray[Any], Floats], Floats]


def _rank_classes(score: Ranking) -> Callable[[Predictions, Floats], Floats]:
    """Two labels: the last against the first, by the difference of logits. More: each against the rest
    by its probability (softmax), averaged over the labels for which it is defined."""

    def weighted(predictions: Predictions, weights: Floats) -> Floats:
        logits, references = _logits(predictions), predictions.references
        if logits.shape[1] == 2:
            return score(logits[:, 1] - logits[:, 0], references == 1, weights)
        odds = np.exp(logits - logits.max(axis=1, keepdims=True))
        chances = odds / odds.sum(axis=1, keepdims=True)
        each = [score(chances[:, label], references == label, weights) for label in range(logits.shape[1])]
        return ranking.mean_defined(each)

    return weighted


def _rank_sets(score: Ranking) -> Callable[[Predictions, Floats], Floats]:
    """The mean over the labels for which it is defined."""

    def weighted(predictions: Predictions, weights: Floats) -> Floats:
        logits, references = _logits(predictions), predictions.references
        each = [score(logits[:, label], references[:, label] != 0, weights) for label in range(logits.shape[1])]
        return ranking.mean_defined(each)

    return weighted


_AVERAGED = {
    f"{rate}_{average}": counts.averaged(rate, average) for rate in counts.RATES for average in counts.AVERAGES
}
_OF_CLASSES: dict[str, Callable[[Floats], Floats]] = {
    "accuracy": counts.accuracy,
    **{rate: counts.averaged(rate, "auto") for rate in counts.RATES},
    **_AVERAGED,
}
_OF_SETS = {
    "subset_accuracy": ratio(3, -1),
    "exact_match": ratio(3, -1),
    **{f"{rate}_samples": ratio(column, -1) for column, rate in enumerate(counts.RATES)},
}
_RANKINGS: dict[str, Ranking] = {"roc_auc": ranking.roc_auc, "average_precision": ranking.average_precision}
METRICS: tuple[Metric, ...] = (
    *sum_metrics("single_label", class_counts, _OF_CLASSES),
    *sum_metrics("single_label", class_counts, {"mcc": counts.matthews}, bounds=(-1.0, 1.0)),
    *sum_metrics("multi_label", set_counts, _AVERAGED),
    *sum_metrics("multi_label", _set_scores, _OF_SETS),
    *sum_metrics("multi_label", _set_scores, {"hamming_loss": ratio(4, -1)}, greater_is_better=False),
    *(WeightMetric(name=name, kind="single_label", weighted=_rank_classes(score)) for name, score in _RANKINGS.items()),
    *(WeightMetric(name=name, kind="multi_label", weighted=_rank_sets(score)) for name, score in _RANKINGS.items()),
)
"""``precision``, ``recall`` and ``f1`` without a suffix: the last label's for two labels, else macro."""
