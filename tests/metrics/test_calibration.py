"""Temperatures against scikit-learn's, nested judgement, promises and reliability against simulation."""

from __future__ import annotations

import numpy as np
import pytest

from hf_trainpipe.metrics import Predictions
from hf_trainpipe.metrics.calibration import (
    cooled,
    fit_temperature,
    keep_promise,
    nested_temperature,
    row_losses,
)
from hf_trainpipe.metrics.reliability import chances_of, from_json, reliability, to_json


def drawn(rng: np.random.Generator, rows: int, *, boast: float, labels: int = 5) -> Predictions:
    """Labels that follow the logits exactly, which are then too large by a factor."""
    logits = rng.normal(0, 1.5, (rows, labels))
    chances = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    gold = (chances.cumsum(axis=1) < rng.random((rows, 1))).sum(axis=1).clip(0, labels - 1)
    return Predictions("single_label", outputs=boast * logits, references=gold, labels=tuple("abcdefgh"[:labels]))


def test_the_temperature_is_scikit_learns() -> None:
    from sklearn.calibration import CalibratedClassifierCV
    from sklearn.frozen import FrozenEstimator
    from sklearn.linear_model import LogisticRegression

    rng = np.random.default_rng(0)
    held = drawn(rng, 400, boast=1.0)
    features = held.outputs + rng.normal(0, 1, held.outputs.shape)
    model = LogisticRegression(C=1e4).fit(features[:150], held.references[:150])
    theirs = CalibratedClassifierCV(FrozenEstimator(model), method="temperature").fit(
        features[150:], held.references[150:]
    )
    inverse = theirs.calibrated_classifiers_[0].calibrators[0].beta_
    logits = Predictions(
        "single_label",
        outputs=model.decision_function(features[150:]),
        references=held.references[150:],
        labels=held.labels,
    )
    assert fit_temperature(logits) == pytest.approx(1 / inverse, rel=1e-3)


def test_the_temperature_has_the_smallest_loss_of_several_labels_too() -> None:
    from scipy.optimize import minimize

    rng = np.random.default_rng(1)
    logits = rng.normal(0, 2, (300, 4))
    gold = (rng.random((300, 4)) < 1 / (1 + np.exp(-logits))).astype(int)
    held = Predictions("multi_label", outputs=3 * logits, references=gold, labels=tuple("abcd"))

    def loss(log: np.ndarray) -> float:
        chances = 1 / (1 + np.exp(-3 * logits / np.exp(log[0])))
        return float(-np.log(np.where(gold > 0, chances, 1 - chances)).mean())

    best = minimize(loss, [0.0], method="Nelder-Mead", options={"xatol": 1e-8, "fatol": 1e-12})
    assert fit_temperature(held) == pytest.approx(np.exp(best.x[0]), rel=1e-4)
    assert row_losses(held).mean() == pytest.approx(loss(np.zeros(1)))
    assert row_losses(cooled(held, 3.0)).mean() == pytest.approx(loss(np.log([3.0])))


def test_it_is_kept_where_it_helps_and_left_out_where_not() -> None:
    rng = np.random.default_rng(2)
    boastful = nested_temperature(drawn(rng, 500, boast=2.0))
    assert boastful is not None
    assert boastful.value == pytest.approx(2.0, abs=0.3)
    assert boastful.helps()
    assert row_losses(boastful.held_out).mean() == pytest.approx(boastful.gain.second)
    honest = [nested_temperature(drawn(rng, 300, boast=1.0), seed=seed) for seed in range(6)]
    assert sum(one is not None and one.helps() for one in honest) <= 1
    assert nested_temperature(drawn(rng, 9, boast=1.0)) is None


def test_a_promise_is_kept() -> None:
    """100 splits: the precision in truth, over all rows that the chosen score admits, is below the promise in 5 % of them at most."""
    rng, broken, answered = np.random.default_rng(3), 0, []
    for _ in range(100):
        chances = 1 / (1 + np.exp(-rng.normal(2, 2, 2000)))
        found = keep_promise(chances, rng.random(2000) < chances, 0.95)
        answered.append(found.answered)
        truth = 1 / (1 + np.exp(-rng.normal(2, 2, 20_000)))
        given = truth >= found.least
        broken += bool(given.any()) and truth[given].mean() < 0.95
    assert broken <= 9
    assert np.mean(answered) > 0.3
    assert keep_promise(np.full(50, 0.9), np.ones(50, bool), 0.99).least > 1
    easy = keep_promise(np.linspace(0.5, 1, 2000), np.ones(2000, bool), 0.99)
    assert (easy.answered, easy.right, easy.least) == (1.0, 1.0, 0.5)
    assert keep_promise(np.zeros(0), np.zeros(0, bool), 0.9).answered == 0


def test_the_error_of_exact_probabilities_is_what_they_show() -> None:
    rng = np.random.default_rng(4)
    seen = [reliability(drawn(rng, 400, boast=1.0), seed=seed) for seed in range(20)]
    errors = [one.error for one in seen if one is not None]
    assert np.mean(errors) == pytest.approx(np.mean([one.perfect for one in seen if one is not None]), rel=0.15)
    assert sum(not one.is_perfect for one in seen if one is not None) <= 4
    boastful = reliability(drawn(rng, 400, boast=3.0))
    assert boastful is not None
    assert not boastful.is_perfect
    assert boastful.low < boastful.error < boastful.high
    back = from_json(to_json(boastful) or {})
    assert np.array_equal(back.right, boastful.right, equal_nan=True)
    assert back.count.sum() == 400


def test_the_interval_of_the_calibration_error_covers_it() -> None:
    rng = np.random.default_rng(5)
    whole = reliability(drawn(rng, 20_000, boast=2.0), seed=1)
    assert whole is not None
    seen = [reliability(drawn(rng, 500, boast=2.0), seed=seed) for seed in range(20)]
    assert sum(one is not None and one.low <= whole.error <= one.high for one in seen) >= 17


def test_answers_by_cost_are_judged_as_they_are_given() -> None:
    held = drawn(np.random.default_rng(6), 50, boast=1.0, labels=3)
    chosen = np.zeros(50, dtype=np.int64)
    decided = Predictions(
        "single_label", outputs=held.outputs, references=held.references, labels=held.labels, chosen=chosen
    )
    assert (decided.decisions() == 0).all()
    found = chances_of(decided)
    assert found is not None
    expected = np.exp(held.outputs)[:, 0] / np.exp(held.outputs).sum(axis=1)
    assert np.allclose(found[0][:, 0], expected)
    assert (decided.part(10, 20).decisions() == 0).all()
