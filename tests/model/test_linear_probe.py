"""Linear models over frozen features, as the weights of a head."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression

from hf_trainpipe.model.linear_probe import STRENGTH, fitted


@pytest.fixture(scope="module")
def features() -> np.ndarray:
    found = np.random.default_rng(0).normal(size=(400, 6)).astype(np.float32)
    return found / np.linalg.norm(found, axis=1, keepdims=True)


def ones(count: int) -> np.ndarray:
    return np.ones(count)


@pytest.mark.parametrize("count", [2, 4])
def test_logits_give_the_probabilities_of_scikit_learn(features: np.ndarray, count: int) -> None:
    targets = (features[:, :count].argmax(axis=1)).astype(np.int64)
    weights = np.linspace(0.5, 1.5, len(features))
    found = fitted("single_label", features * 7.0, targets, weights, num_outputs=count)
    logits = features * 7.0 @ found.weight.T + found.bias
    probabilities = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    expected = LogisticRegression(C=STRENGTH, max_iter=500).fit(features, targets, sample_weight=weights)
    np.testing.assert_allclose(probabilities, expected.predict_proba(features), atol=2e-3)


def test_labels_without_examples_are_unlikely_everywhere(features: np.ndarray) -> None:
    targets = np.where(features[:, 0] > 0, 3, 1)
    found = fitted("single_label", features, targets, ones(400), num_outputs=5)
    logits = features @ found.weight.T + found.bias
    assert (logits.argmax(axis=1) == targets).mean() > 0.95
    assert np.exp(logits)[:, [0, 2, 4]].max() < 0.02 * np.exp(logits)[:, [1, 3]].max(axis=1).min()


def test_several_labels_are_one_model_each(features: np.ndarray) -> None:
    targets = np.stack([features[:, 0] > 0, np.zeros(400, dtype=bool), features[:, 1] > 0.2], axis=1)
    found = fitted("multi_label", features, targets.astype(np.float32), ones(400), num_outputs=3)
    logits = features @ found.weight.T + found.bias
    assert ((logits > 0) == targets).mean() > 0.95
    assert logits[:, 1].max() < -5


def test_numbers_are_those_of_a_ridge_regression(features: np.ndarray) -> None:
    targets = features @ np.arange(6.0) + 2.5
    found = fitted("regression", features * 3.0, targets, ones(400), num_outputs=1)
    assert found.weight.shape == (1, 6)
    assert np.corrcoef((features * 3.0 @ found.weight.T + found.bias)[:, 0], targets)[0, 1] > 0.999
