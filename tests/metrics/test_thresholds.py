"""Thresholds equal those of an exhaustive search."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hf_trainpipe.metrics import Predictions, best_thresholds, score

check = settings(max_examples=30, deadline=None, database=None, derandomize=True)


def f1(logits, due, threshold, metric="f1_micro"):
    predictions = Predictions("multi_label", outputs=logits, references=due, threshold=threshold)
    return score(predictions, [metric])[metric]


@st.composite
def cases(draw):
    num_labels, size = draw(st.integers(1, 3)), draw(st.integers(1, 15))
    cells = num_labels * size
    logits = draw(st.lists(st.integers(-12, 12), min_size=cells, max_size=cells))
    due = draw(st.lists(st.integers(0, 1), min_size=cells, max_size=cells))
    shape = (size, num_labels)
    return np.array(logits, np.float32).reshape(shape) / 4, np.array(due, np.uint8).reshape(shape)


def brute(logits, due):
    """The best F1 over a threshold just under, and one just above, every probability."""
    chances = np.unique(1 / (1 + np.exp(-logits.astype(np.float64))))
    return max(f1(logits, due, threshold) for threshold in (*(chances - 1e-9), *(chances + 1e-9)))


@check
@given(cases())
def test_micro_is_the_best_single_threshold(case):
    logits, due = case
    threshold = best_thresholds(logits, due)
    assert isinstance(threshold, float)
    assert 0 < threshold <= 1
    assert f1(logits, due, threshold) == pytest.approx(brute(logits, due), abs=1e-12)


@check
@given(cases())
def test_macro_is_the_best_of_each_label(case):
    logits, due = case
    thresholds = best_thresholds(logits, due, metric="f1_macro", min_positives=1)
    assert thresholds.shape == (due.shape[1],)
    for label, threshold in enumerate(thresholds):
        column = slice(label, label + 1)
        if due[:, label].any():
            best = brute(logits[:, column], due[:, column])
            assert f1(logits[:, column], due[:, column], threshold) == pytest.approx(best, abs=1e-12)


def test_rare_labels_take_the_shared_threshold():
    random = np.random.default_rng(0)
    due = np.zeros((200, 3), np.uint8)
    due[:80, 0] = 1
    due[0, 1] = 1
    logits = random.normal(size=(200, 3)) + 2 * due - 2
    thresholds = best_thresholds(logits, due, metric="f1_macro")
    shared = best_thresholds(logits, due)
    assert thresholds[1] == thresholds[2] == shared != thresholds[0]


def test_half_is_kept_where_it_is_among_the_best():
    logits = np.array([[3.0], [2.0], [-2.0], [-3.0]])
    assert best_thresholds(logits, np.array([[1], [1], [0], [0]])) == 0.5
    assert best_thresholds(logits, np.zeros((4, 1))) == 0.5


def test_ties_saturation_and_neighbouring_floats():
    due = np.array([[1], [0], [1], [0]])
    assert f1(np.zeros((4, 1)), due, best_thresholds(np.zeros((4, 1)), due)) == pytest.approx(2 / 3)
    large = np.array([[900.0], [800.0], [-800.0], [-900.0]])
    threshold = best_thresholds(large, due)
    assert f1(large, due, threshold) == pytest.approx(2 / 3)
    close, first = np.array([[1.0], [np.nextafter(1.0, 0)], [-5.0], [-6.0]]), np.array([[1], [0], [0], [0]])
    assert f1(close, first, best_thresholds(close, first)) >= 2 / 3


@pytest.mark.parametrize(
    ("logits", "due", "options"),
    [
        (np.zeros((2, 2)), np.zeros((2, 3)), {}),
        (np.zeros(2), np.zeros(2), {}),
        (np.full((2, 2), np.nan), np.zeros((2, 2)), {}),
        (np.zeros((2, 2)), np.zeros((2, 2)), {"metric": "accuracy"}),
    ],
)
def test_wrong_input_is_refused(logits, due, options):
    with pytest.raises(ValueError, match="expected"):
        best_thresholds(logits, due, **options)
