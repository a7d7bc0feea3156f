"""Scores equal those of scikit-learn, SciPy and seqeval on data from Hypothesis."""

from __future__ import annotations

import itertools
import warnings

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from hf_trainpipe.metrics import Predictions, known, score
from hf_trainpipe.metrics.tagging import entities

check = settings(max_examples=40, deadline=None, database=None, derandomize=True)

CLASSES = st.integers(2, 5)
EIGHTHS = st.integers(-24, 24).map(lambda value: value / 8)
"""Numbers with many ties, exact in float32."""


@st.composite
def classes(draw):
    """Logits [N, C] and class ids [N]."""
    num_labels = draw(CLASSES)
    size = draw(st.integers(1, 25))
    logits = draw(st.lists(st.lists(EIGHTHS, min_size=num_labels, max_size=num_labels), min_size=size, max_size=size))
    references = draw(st.lists(st.integers(0, num_labels - 1), min_size=size, max_size=size))
    return np.array(logits, np.float32), np.array(references, np.int64)


@st.composite
def label_sets(draw):
    """Logits [N, C] and 0/1 [N, C]."""
    num_labels, size = draw(st.integers(1, 4)), draw(st.integers(1, 20))
    cells = num_labels * size
    logits = draw(st.lists(EIGHTHS, min_size=cells, max_size=cells))
    references = draw(st.lists(st.integers(0, 1), min_size=cells, max_size=cells))
    shape = (size, num_labels)
    return np.array(logits, np.float32).reshape(shape), np.array(references, np.uint8).reshape(shape)


@st.composite
def numbers(draw, *, least=1):
    size = draw(st.integers(least, 30))
    values = st.lists(EIGHTHS, min_size=size, max_size=size)
    return np.array(draw(values), np.float32), np.array(draw(values), np.float32)


@check
@given(classes())
def test_single_label_counts_equal_scikit_learn(case):
    from sklearn import metrics as sk

    logits, due = case
    predicted = logits.argmax(1)
    predictions = Predictions("single_label", outputs=logits, references=due)
    expected = {"accuracy": sk.accuracy_score(due, predicted)}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # scikit-learn warns where a score falls back to 0
        expected["mcc"] = sk.matthews_corrcoef(due, predicted)
        for rate, function in {
            "precision": sk.precision_score,
            "recall": sk.recall_score,
            "f1": sk.f1_score,
        }.items():
            binary = logits.shape[1] == 2
            expected[rate] = function(due, predicted, average="binary" if binary else "macro", zero_division=0)
            for average in ("micro", "macro", "weighted"):
                expected[f"{rate}_{average}"] = function(due, predicted, average=average, zero_division=0)
    assert set(expected) == set(known("single_label")) - {"roc_auc", "average_precision"}
    assert score(predictions, expected) == pytest.approx(expected, abs=1e-12)
    decided = Predictions("single_label", outputs=predicted, references=due, labels=["x"] * logits.shape[1])
    assert score(decided, expected) == pytest.approx(expected, abs=1e-12)


@check
@given(numbers(least=2), st.data())
def test_ranking_of_two_classes_equals_scikit_learn(case, data):
    from sklearn import metrics as sk

    logits = np.stack(case, axis=1)
    due = np.array(data.draw(st.lists(st.integers(0, 1), min_size=len(logits), max_size=len(logits))))
    assume(len(set(due.tolist())) == 2)
    margin = logits[:, 1] - logits[:, 0]
    expected = {
        "roc_auc": sk.roc_auc_score(due, margin),
        "average_precision": sk.average_precision_score(due, margin),
    }
    found = score(Predictions("single_label", outputs=logits, references=due), expected)
    assert found == pytest.approx(expected, abs=1e-12)


def test_multiclass_roc_auc_equals_scikit_learn_without_ties():
    from sklearn import metrics as sk

    random = np.random.default_rng(3)
    logits, due = random.normal(size=(80, 4)), random.integers(0, 4, 80)
    odds = np.exp(logits)
    chances = odds / odds.sum(1, keepdims=True)
    found = score(Predictions("single_label", outputs=logits, references=due), ["roc_auc", "average_precision"])
    assert found["roc_auc"] == pytest.approx(sk.roc_auc_score(due, chances, multi_class="ovr"), abs=1e-12)
    expected = sk.average_precision_score(np.eye(4)[due], chances, average="macro")
    assert found["average_precision"] == pytest.approx(expected, abs=1e-12)


@check
@given(label_sets(), st.sampled_from([0.5, 0.25, 0.7]))
def test_multi_label_counts_equal_scikit_learn(case, threshold):
    from sklearn import metrics as sk

    logits, due = case
    predicted = (1 / (1 + np.exp(-logits.astype(np.float64))) >= threshold).astype(int)
    occurs = np.flatnonzero((due + predicted).any(0))
    assume(len(occurs) > 0)
    expected = {
        "subset_accuracy": (due == predicted).all(1).mean(),
        "exact_match": (due == predicted).all(1).mean(),
        "hamming_loss": (due != predicted).mean(),
    }
    # One column would read as single label; two zero columns change no micro, weighted or sample score.
    wide_due, wide = (np.pad(table, ((0, 0), (0, 2))) for table in (due, predicted))
    for rate, function in {
        "precision": sk.precision_score,
        "recall": sk.recall_score,
        "f1": sk.f1_score,
    }.items():
        for average in ("micro", "weighted", "samples"):
            expected[f"{rate}_{average}"] = function(wide_due, wide, average=average, zero_division=0)
        each = function(wide_due, wide, average=None, zero_division=0)
        expected[f"{rate}_macro"] = each[occurs].mean()  # labels that occur nowhere are left out
    assert set(expected) == set(known("multi_label")) - {"roc_auc", "average_precision"}
    predictions = Predictions("multi_label", outputs=logits, references=due, threshold=threshold)
    assert score(predictions, expected) == pytest.approx(expected, abs=1e-12)
    per_label = Predictions("multi_label", outputs=logits, references=due, threshold=[threshold] * due.shape[1])
    assert score(per_label, expected) == pytest.approx(expected, abs=1e-12)


@check
@given(label_sets())
def test_multi_label_ranking_equals_scikit_learn(case):
    from sklearn import metrics as sk

    logits, due = case
    found = score(Predictions("multi_label", outputs=logits, references=due), ["roc_auc", "average_precision"])
    two = [c for c in range(due.shape[1]) if 0 < due[:, c].sum() < len(due)]
    some = [c for c in range(due.shape[1]) if due[:, c].any()]
    expected = [sk.roc_auc_score(due[:, c], logits[:, c]) for c in two]
    assert found["roc_auc"] == pytest.approx(np.mean(expected) if two else np.nan, abs=1e-12, nan_ok=True)
    expected = [sk.average_precision_score(due[:, c], logits[:, c]) for c in some]
    assert found["average_precision"] == pytest.approx(np.mean(expected) if some else np.nan, abs=1e-12, nan_ok=True)


@check
@given(numbers(least=2), st.sampled_from([0.0, 1e6]))
def test_regression_equals_scikit_learn_and_scipy(case, offset):
    from scipy import stats
    from sklearn import metrics as sk

    given_, due = case[0].astype(np.float64) + offset, case[1].astype(np.float64) + offset
    found = score(Predictions("regression", outputs=given_, references=due), known("regression"))
    expected = {
        "mse": sk.mean_squared_error(due, given_),
        "rmse": sk.root_mean_squared_error(due, given_),
        "mae": sk.mean_absolute_error(due, given_),
    }
    constant = len(set(given_)) == 1 or len(set(due)) == 1
    expected["r2"] = np.nan if len(set(due)) == 1 else sk.r2_score(due, given_)
    expected["pearson"] = np.nan if constant else stats.pearsonr(given_, due).statistic
    expected["spearman"] = np.nan if constant else stats.spearmanr(given_, due).statistic
    assert found == pytest.approx(expected, abs=1e-9, nan_ok=True)


def test_correlation_of_numbers_far_from_zero():
    from scipy import stats

    random = np.random.default_rng(5)
    x = random.normal(size=500)
    y = x + random.normal(size=500)
    found = score(Predictions("regression", outputs=x + 1e8, references=y + 1e8), ["pearson"])
    assert found["pearson"] == pytest.approx(stats.pearsonr(x, y).statistic, abs=1e-6)


TYPES = ("PER", "LOC")
SCHEMES = {"BIO": "BI", "IOB1": "BI", "BIOES": "BIES"}


@st.composite
def tagged(draw):
    """Label names, scheme, predicted and gold tag ids, starts of the examples. Any tags, valid or not."""
    scheme = draw(st.sampled_from(sorted(SCHEMES)))
    labels = ["O", *(f"{prefix}-{kind}" for prefix, kind in itertools.product(SCHEMES[scheme], TYPES))]
    labels = draw(st.permutations(labels))
    lengths = draw(st.lists(st.integers(0, 6), min_size=1, max_size=6))
    ids = st.lists(st.integers(0, len(labels) - 1), min_size=sum(lengths), max_size=sum(lengths))
    due = draw(ids)
    kept = draw(st.lists(st.booleans(), min_size=len(due), max_size=len(due)))
    predicted = [a if keep else b for a, b, keep in zip(due, draw(ids), kept, strict=True)]
    return labels, scheme, np.array(predicted, np.int32), np.array(due, np.int32), np.cumsum([0, *lengths])


def names_of(labels, ids, starts):
    return [[labels[i] for i in ids[a:b]] for a, b in itertools.pairwise(starts)]


@settings(check, max_examples=150)
@given(tagged())
def test_entities_equal_seqeval(case):
    from seqeval import metrics as se
    from seqeval.metrics.sequence_labeling import get_entities

    labels, scheme, predicted, due, starts = case
    rows, due_rows = names_of(labels, predicted, starts), names_of(labels, due, starts)
    for row in rows:
        assert entities(row) == get_entities(row)
    assume(any(get_entities(row) for row in rows + due_rows))
    assume(len(due) > 0)
    predictions = Predictions(
        "tags", outputs=predicted, references=due, labels=labels, word_starts=starts, scheme=scheme
    )
    expected = {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for rate, function in {
            "precision": se.precision_score,
            "recall": se.recall_score,
            "f1": se.f1_score,
        }.items():
            expected[f"entity_{rate}"] = function(due_rows, rows)
            expected[f"entity_{rate}_macro"] = function(due_rows, rows, average="macro")
            if any(get_entities(row) for row in due_rows):
                expected[f"entity_{rate}_weighted"] = function(due_rows, rows, average="weighted")
    expected["tag_accuracy"] = se.accuracy_score(due_rows, rows)
    expected["exact_match"] = np.mean([a == b for a, b in zip(due_rows, rows, strict=True) if b])
    assert score(predictions, expected) == pytest.approx(expected, abs=1e-12)


def test_words_not_scored_are_taken_out_and_missing_answers_are_wrong():
    labels = ["O", "B-X", "I-X"]
    # -100 stands between two halves of one entity; -1 is a word that was cut off.
    due = np.array([1, -100, 2, 0, 1], np.int32)
    given_ = np.array([1, 0, 2, 0, -1], np.int32)
    predictions = Predictions("tags", outputs=given_, references=due, labels=labels, word_starts=np.array([0, 4, 5]))
    found = score(predictions, ["entity_precision", "entity_recall", "tag_accuracy", "exact_match"])
    assert found == {"entity_precision": 1.0, "entity_recall": 0.5, "tag_accuracy": 0.75, "exact_match": 0.5}


def test_bilou_is_read_as_bioes():
    assert entities(["B-A", "L-A", "U-A", "U-B", "O"]) == [("A", 0, 1), ("A", 2, 2), ("B", 3, 3)]
    assert entities([]) == []
