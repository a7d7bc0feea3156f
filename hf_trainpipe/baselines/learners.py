"""What learns from vectors: a function of features and targets that gives a function of features to logits.

Shapes: N examples, F features, C labels. Everything is seeded: the same rows give the same numbers.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hf_trainpipe.baselines.vectors import Unfit

Floats = NDArray[np.float32]
Answers = Callable[[Any], Floats]
"""Features [N, F] to logits [N, C], or numbers [N, 1]."""

C = 10.0
"""Inverse regularisation of logistic regression: of 1, 10 and 30 the best for frozen vectors (docs/results/baselines.md)."""
TREES = 100
RIDGE = 1.0
_LEAST = 1e-6
"""The least probability that is told, so that logarithms stay finite."""
_ROWS = 8192


def _blockwise(answer: Callable[[Any], Any]) -> Answers:
    """In blocks of rows, so that what is in flight stays bounded."""

    def answers(features: Any) -> Floats:
        parts = [np.asarray(answer(features[at : at + _ROWS]), np.float32) for at in range(0, features.shape[0], _ROWS)]
        return np.concatenate(parts)

    return answers


def _log(chances: NDArray[Any], known: NDArray[Any], num_labels: int) -> Floats:
    """Logarithms of probabilities [N, K] of the labels that were learnt, with those of all C."""
    whole = np.full((len(chances), num_labels), np.log(_LEAST), dtype=np.float32)
    whole[:, known] = np.log(np.maximum(chances, _LEAST))
    return whole


def logistic(
    features: Any, labels: NDArray[np.int64], *, num_labels: int, tol: float = 1e-4, inverse: float = C
) -> Answers:
    """Multinomial logistic regression of one label.

    Args:
        inverse: Of the regularisation.

    Raises:
        Unfit: there is one label alone.
    """
    from sklearn.linear_model import LogisticRegression

    _two(labels)
    model = _fitted(LogisticRegression(C=inverse, max_iter=300, tol=tol), features, labels)
    return _blockwise(lambda some: _log(model.predict_proba(some), model.classes_, num_labels))


def forest(features: Any, labels: NDArray[np.int64], *, num_labels: int) -> Answers:
    """A random forest over standardised features (not centred: they are sparse)."""
    from sklearn.ensemble import RandomForestClassifier
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    _two(labels)
    model = _fitted(
        make_pipeline(StandardScaler(with_mean=False), RandomForestClassifier(TREES, random_state=0)), features, labels
    )
    return _blockwise(lambda some: _log(model.predict_proba(some), model.classes_, num_labels))


def one_vs_rest(features: Any, labels: NDArray[Any], *, num_labels: int, tol: float = 1e-4) -> Answers:
    """A logistic regression for each of several labels; one that every row has, or none, keeps its share."""
    from sklearn.linear_model import LogisticRegression

    models = {
        label: _fitted(LogisticRegression(C=C, max_iter=300, tol=tol), features, labels[:, label])
        for label in range(num_labels)
        if 0 < labels[:, label].sum() < len(labels)
    }
    constant = _log_odds(labels.mean(axis=0))

    def answer(some: Any) -> Floats:
        logits = np.tile(constant, (some.shape[0], 1))
        for label, model in models.items():
            logits[:, label] = model.decision_function(some)
        return logits

    return _blockwise(answer)


def ridge(features: Any, numbers: NDArray[Any], *, num_labels: int = 1) -> Answers:
    """Linear regression with squared weights."""
    from sklearn.linear_model import Ridge

    model = _fitted(Ridge(RIDGE, solver="auto", random_state=0), features, np.asarray(numbers, np.float32))
    return _blockwise(lambda some: model.predict(some)[:, None])


def line(features: Any, numbers: NDArray[Any], *, num_labels: int = 1) -> Answers:
    """A straight line through one feature."""
    values = np.asarray(features, np.float64)[:, 0]
    spread = values.var()
    slope = 0.0 if spread == 0 else float(((values - values.mean()) * (numbers - numbers.mean())).mean() / spread)
    offset = float(np.mean(numbers)) - slope * float(values.mean())
    return _blockwise(lambda some: np.asarray(some, np.float64)[:, :1] * slope + offset)


def constant(targets: NDArray[Any], *, kind: str, num_labels: int) -> Floats:
    """float32[C] or [1]: what is answered to every text: shares of the labels, or the mean."""
    if kind == "regression":
        return np.full(1, np.mean(targets), dtype=np.float32)
    if kind == "multi_label":
        return _log_odds(targets.mean(axis=0))
    counts = np.bincount(targets, minlength=num_labels)
    shares: Floats = np.log(np.maximum(counts / max(1, counts.sum()), _LEAST)).astype(np.float32)
    return shares


def _log_odds(shares: NDArray[Any]) -> Floats:
    shares = np.clip(shares, _LEAST, 1 - _LEAST)
    odds: Floats = np.log(shares / (1 - shares)).astype(np.float32)
    return odds


def _two(labels: NDArray[Any]) -> None:
    if len(np.unique(labels)) < 2:
        raise Unfit("all training rows have the same label")


def _fitted(model: Any, features: Any, targets: Any) -> Any:
    from sklearn.exceptions import ConvergenceWarning

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # as good as its iterations make it
        return model.fit(features, targets)
