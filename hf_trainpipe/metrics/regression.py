"""Metrics of numbers. Correlations and R2 of constant numbers are NaN, as SciPy has them."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from hf_trainpipe.metrics import ranking
from hf_trainpipe.metrics.base import Floats, Metric, Predictions, SumMetric, WeightMetric, divide


def _errors(predictions: Predictions) -> Floats:
    """[N, 3]: squared error, absolute error, 1."""
    error = predictions.outputs.astype(np.float64) - predictions.references.astype(np.float64)
    return np.stack([error * error, np.abs(error), np.ones_like(error)], axis=1)


def _mse(sums: Floats) -> Floats:
    return divide(sums[..., 0], sums[..., 2], otherwise=np.nan)


def _rmse(sums: Floats) -> Floats:
    return np.sqrt(_mse(sums))


def _mae(sums: Floats) -> Floats:
    return divide(sums[..., 1], sums[..., 2], otherwise=np.nan)


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


def _sum(name: str, finish: Callable[[Floats], Floats]) -> SumMetric:
    return SumMetric(name=name, kind="regression", greater_is_better=False, statistics=_errors, finish=finish)


METRICS: tuple[Metric, ...] = (
    WeightMetric(name="pearson", kind="regression", weighted=_pearson),
    WeightMetric(name="spearman", kind="regression", weighted=_spearman),
    _sum("mse", _mse),
    _sum("rmse", _rmse),
    _sum("mae", _mae),
    WeightMetric(name="r2", kind="regression", weighted=_r2),
)
