"""A linear model over frozen features, as the weights of a head: logistic regression, or ridge regression of numbers.

scikit-learn fits it: in double precision, without random numbers, so that the same features give the same weights. Features are
divided by one number, their root mean square length, so that the strength of the penalty means the same for every encoder.

Legend: F features (windows of examples), H numbers of each, C outputs.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]
Wide = NDArray[np.float64]

STRENGTH = 10.0
"""scikit-learn's ``C`` of the logistic regressions, over features of length 1: the smaller, the more they are held back."""
ALPHA = 1.0
"""Of the ridge regression, over features of length 1."""
_ITERATIONS = 200
_RARE = 0.5
"""Examples that a label without any is taken to have, so that its logit is low and not infinitely so."""


class Linear(NamedTuple):
    """``features @ weight.T + bias``"""

    weight: Floats
    """[C, H]"""
    bias: Floats
    """[C]"""


def fitted(kind: str, features: Floats, targets: NDArray[Any], weights: Wide, *, num_outputs: int) -> Linear:
    """The linear model that fits the targets best.

    Args:
        kind: Of the predictions: ``single_label`` (targets: ids [F]), ``multi_label`` (0 or 1, [F, C]) or ``regression``
            (numbers [F]).
        features: [F, H]
        weights: [F] how much each counts; more than 0.
        num_outputs: C; labels that no target has get a low logit everywhere.
    """
    scale = float(np.sqrt(np.average(np.square(features, dtype=np.float64).sum(axis=1), weights=weights))) or 1.0
    weight, bias = _FITS[kind](features / scale, targets, weights, num_outputs)
    return Linear((weight / scale).astype(np.float32), bias.astype(np.float32))


def _of_one_label(features: Floats, targets: NDArray[Any], weights: Wide, num_outputs: int) -> tuple[Wide, Wide]:
    weight, bias = np.zeros((num_outputs, features.shape[1])), np.zeros(num_outputs)
    present = np.unique(targets)
    if len(present) > 1:
        found = _logistic(features, targets, weights)
        if len(present) == 2:  # one row, for the second of the two
            weight[present], bias[present] = [[-0.5], [0.5]] * found.coef_, [-0.5, 0.5] * found.intercept_
        else:
            weight[present], bias[present] = found.coef_, found.intercept_
    absent = np.setdiff1d(np.arange(num_outputs), present)
    bias[absent] = bias[present].min() + np.log(_RARE / len(targets))
    return weight, bias


def _of_several_labels(features: Floats, targets: NDArray[Any], weights: Wide, num_outputs: int) -> tuple[Wide, Wide]:
    weight, bias = np.zeros((num_outputs, features.shape[1])), np.zeros(num_outputs)
    for label, has_it in enumerate((np.asarray(targets) > 0.5).T):
        if has_it.all() or not has_it.any():
            odds = np.log(len(has_it) / _RARE)
            bias[label] = odds if has_it.all() else -odds
        else:
            found = _logistic(features, has_it, weights)
            weight[label], bias[label] = found.coef_[0], found.intercept_[0]
    return weight, bias


def _logistic(features: Floats, targets: NDArray[Any], weights: Wide) -> Any:
    from sklearn.linear_model import LogisticRegression

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it need not have converged: training goes on from here
        return LogisticRegression(C=STRENGTH, max_iter=_ITERATIONS).fit(features, targets, sample_weight=weights)


def _of_numbers(features: Floats, targets: NDArray[Any], weights: Wide, num_outputs: int) -> tuple[Wide, Wide]:
    from sklearn.linear_model import Ridge

    found = Ridge(alpha=ALPHA, solver="cholesky").fit(features.astype(np.float64), targets, sample_weight=weights)
    return found.coef_.reshape(num_outputs, -1), np.atleast_1d(found.intercept_)


_FITS: Mapping[str, Callable[[Floats, NDArray[Any], Wide, int], tuple[Wide, Wide]]] = {
    "single_label": _of_one_label,
    "multi_label": _of_several_labels,
    "regression": _of_numbers,
}
KINDS = tuple(_FITS)
"""Kinds of predictions that a linear model may begin."""
