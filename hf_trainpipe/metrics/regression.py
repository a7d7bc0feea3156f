"""Metrics of numbers. Correlations and R2 of constant numbers are NaN, as SciPy has them."""

from __future__ import annotations

import math

import numpy as np

from hf_trainpipe.metrics import ranking
from hf_trainpipe.metrics.base import Floats, Metric, Predictions, WeightMetric, divide, ratio, sum_metrics


def _errors(predictions: Predictions) -> Floats:
    """[N, 3]: squared error, absolute error, 1."""
    error = predictions.outputs.astype(np.float64) - predictions.references.astype(np.float64)
    return np.stack([error * error, np.abs(error), np.ones_like(error)], axis=1)


def _pearson(predictions: Predictions, weights: Floats) -> Floats:
    return ranking.correlation(
        predictions.outputs.astype(np.float64), predictions.references.astype(np.float64), weights
    )


def _spearman(predictions: Predictions, weights: Floats) -> Floats:
    return ranking.correlation(
        ranking.ranks(predictions.outputs, weights), ranking.ranks(predictions.references, weights), weights
    )


def _r2(predictions: Predictions, weights: Floats) -> Floats:
    """1 - squared error / spread of the references around their mean."""
    y = predictions.references.astype(np.float64)
    error = predictions.outputs.astype(np.float64) - y
    y = y - y.mean()
    total = weights.sum(axis=1)
    square = weights @ (y * y)
    spread = square - (weights @ y) ** 2 / total
    spread = np.where(spread <= 1e-13 * square, 0.0, spread)
    return 1.0 - divide(weights @ (error * error), spread, otherwise=np.nan)


_MSE = ratio(0, 2)
METRICS: tuple[Metric, ...] = (
    WeightMetric(name="pearson", kind="regression", weighted=_pearson, bounds=(-1.0, 1.0)),
    WeightMetric(name="spearman", kind="regression", weighted=_spearman, bounds=(-1.0, 1.0)),
    WeightMetric(name="r2", kind="regression", weighted=_r2, bounds=(-math.inf, 1.0)),
    *sum_metrics(
        "regression",
        _errors,
        {"mse": _MSE, "rmse": lambda sums: np.sqrt(_MSE(sums)), "mae": ratio(1, 2)},
        greater_is_better=False,
        bounds=(0.0, math.inf),
    ),
)
