"""Intervals equal those of a plain bootstrap loop, and have the promised coverage."""

from __future__ import annotations

import math

import numpy as np
import pytest

from hf_trainpipe.errors import RecipeError
from hf_trainpipe.metrics import Predictions, intervals, known, score, scoring

LABELS = ("O", "B-X", "I-X", "B-Y", "I-Y")


def make(kind: str, size: int, seed: int = 0) -> Predictions:
    random = np.random.default_rng(seed)
    if kind == "single_label":
        # The last of four classes is rare: many resamples miss it.
        gold = random.choice(4, size, p=[0.5, 0.3, 0.15, 0.05])
        logits = np.round(random.normal(size=(size, 4)) + 1.5 * np.eye(4)[gold], 1).astype(np.float32)
        return Predictions(kind, outputs=logits, references=gold)
    if kind == "multi_label":
        gold = (random.random((size, 3)) < [0.5, 0.3, 0.05]).astype(np.uint8)
        logits = np.round(random.normal(size=(size, 3)) + 2 * gold - 1, 1).astype(np.float32)
        return Predictions(kind, outputs=logits, references=gold, threshold=0.4)
    if kind == "regression":
        gold = np.round(random.normal(size=size), 1).astype(np.float32)
        return Predictions(kind, outputs=(gold + np.round(random.normal(size=size), 1))[:, None], references=gold)
    lengths = random.integers(0, 6, size)
    gold = random.integers(0, 5, lengths.sum()).astype(np.int32)
    noise = random.integers(0, 5, lengths.sum())
    outputs = np.where(random.random(len(gold)) < 0.7, gold, noise).astype(np.int32)
    gold[random.random(len(gold)) < 0.1] = -100
    starts = np.cumsum([0, *lengths])
    return Predictions("tags", outputs=outputs, references=gold, labels=LABELS, word_starts=starts)


def take(predictions: Predictions, rows: np.ndarray) -> Predictions:
    """The drawn examples, repeated as they were drawn."""
    parts = [predictions.part(row, row + 1) for row in rows]
    starts = None
    if predictions.kind == "tags":
        starts = np.cumsum([0, *(len(part.outputs) for part in parts)])
    return Predictions(
        predictions.kind,
        outputs=np.concatenate([part.outputs for part in parts]),
        references=np.concatenate([part.references for part in parts]),
        labels=predictions.labels,
        threshold=predictions.threshold,
        word_starts=starts,
    )


@pytest.mark.parametrize("kind", ["single_label", "multi_label", "regression", "tags"])
@pytest.mark.parametrize("cells", [1 << 22, 64])
def test_equals_a_plain_loop(kind, cells, monkeypatch):
    monkeypatch.setattr(scoring, "_CELLS", cells)  # 64: every block of resamples and of rows is cut small
    predictions, names = make(kind, 20), known(kind)
    found = intervals(predictions, names, confidence=0.9, resamples=40, seed=7)
    random = np.random.Generator(np.random.Philox(7))
    drawn = [score(take(predictions, random.integers(0, 20, size=20)), names) for _ in range(40)]
    assert list(found) == list(names)
    for name in names:
        values = np.array([scores[name] for scores in drawn])
        defined = values[~np.isnan(values)]
        assert found[name].resamples == len(defined)
        assert found[name].value == pytest.approx(score(predictions, [name])[name])
        bounds = np.quantile(defined, (0.05, 0.95))
        assert (found[name].low, found[name].high) == pytest.approx(tuple(bounds), abs=1e-10)
        assert (found[name].n, found[name].confidence) == (20, 0.9)


def test_same_seed_same_interval_other_seed_another():
    predictions = make("single_label", 50)
    first, again, other = (intervals(predictions, ["accuracy", "f1_macro"], seed=seed) for seed in (1, 1, 2))
    assert first == again != other


def test_adding_a_metric_does_not_move_the_others():
    predictions = make("single_label", 30)
    alone = intervals(predictions, ["accuracy"], resamples=50)
    assert alone["accuracy"] == intervals(predictions, ["roc_auc", "mcc", "accuracy"], resamples=50)["accuracy"]


def test_coverage_of_accuracy_is_near_the_level():
    """300 samples of 150 examples from a model that is right 80 % of the time."""
    random = np.random.default_rng(11)
    covered = 0
    for seed in range(300):
        gold = random.integers(0, 2, 150)
        outputs = np.where(random.random(150) < 0.8, gold, 1 - gold)
        predictions = Predictions("single_label", outputs=outputs, references=gold, labels=("a", "b"))
        interval = intervals(predictions, ["accuracy"], confidence=0.9, resamples=200, seed=seed)["accuracy"]
        covered += interval.low <= 0.8 <= interval.high
    assert 0.85 <= covered / 300 <= 0.95


def test_width_of_accuracy_is_near_the_normal_approximation():
    predictions = make("single_label", 2000)
    found = intervals(predictions, ["accuracy"], resamples=2000)["accuracy"]
    expected = 2 * 1.96 * math.sqrt(found.value * (1 - found.value) / 2000)
    assert found.high - found.low == pytest.approx(expected, rel=0.1)


def test_one_example_and_none():
    one = Predictions("single_label", outputs=np.array([[0.0, 1.0]]), references=np.array([1]))
    found = intervals(one, known("single_label"), resamples=10)
    assert (found["accuracy"].low, found["accuracy"].high, found["accuracy"].n) == (1.0, 1.0, 1)
    assert math.isnan(found["roc_auc"].value)
    assert math.isnan(found["roc_auc"].low)
    assert found["roc_auc"].resamples == 0
    for kind, outputs, references in (
        ("single_label", np.empty((0, 2)), np.empty(0, int)),
        ("multi_label", np.empty((0, 2)), np.empty((0, 2), int)),
        ("regression", np.empty((0, 1)), np.empty(0)),
    ):
        none = Predictions(kind, outputs=outputs, references=references)
        assert all(math.isnan(value) for value in score(none, known(kind)).values())
        assert all(each.n == 0 and math.isnan(each.low) for each in intervals(none, known(kind)).values())
    words = Predictions(
        "tags",
        outputs=np.empty(0, int),
        references=np.empty(0, int),
        labels=LABELS,
        word_starts=np.array([0]),
    )
    assert all(math.isnan(value) for value in score(words, known("tags")).values())


def test_examples_without_words():
    words = Predictions(
        "tags",
        outputs=np.empty(0, int),
        references=np.empty(0, int),
        labels=LABELS,
        word_starts=np.zeros(3, int),
    )
    found = score(words, known("tags"))
    assert found["entity_f1"] == 0.0
    assert math.isnan(found["tag_accuracy"])


@pytest.mark.parametrize("constant", [0.0, 0.1, 1e6 + 0.1])
def test_constant_predictions(constant):
    gold = np.random.default_rng(0).normal(size=40)
    predictions = Predictions("regression", outputs=np.full(40, constant), references=gold)
    found = intervals(predictions, ["pearson", "spearman", "mse"], resamples=50)
    for name in ("pearson", "spearman"):
        assert math.isnan(found[name].value)
        assert found[name].resamples == 0
    assert found["mse"].low < found["mse"].value < found["mse"].high


def test_nan_outputs_have_no_score():
    predictions = make("single_label", 10)
    predictions.outputs[3, 1] = np.nan
    assert all(math.isnan(value) for value in score(predictions, ["accuracy", "roc_auc"]).values())
    assert math.isnan(intervals(predictions, ["accuracy"])["accuracy"].high)


def test_infinite_outputs():
    outputs, gold = np.array([np.inf, 1.0, 2.0]), np.array([3.0, 1.0, 2.0])
    found = score(Predictions("regression", outputs=outputs, references=gold), known("regression"))
    assert found["mse"] == math.inf
    assert math.isnan(found["pearson"])
    assert found["spearman"] == pytest.approx(1.0)


def test_a_class_that_resamples_miss_does_not_drag_macro_f1_down():
    gold = np.array([0] * 30 + [1] * 30 + [2])
    predictions = Predictions("single_label", outputs=gold.copy(), references=gold, labels=("a", "b", "c"))
    found = intervals(predictions, ["f1_macro"], resamples=100)["f1_macro"]
    assert (found.low, found.high) == (1.0, 1.0)


def test_loss_and_hub_metrics_have_no_interval():
    assert intervals(make("regression", 5), ["loss", "evaluate:mse"]) == {}
    assert score(make("regression", 5), ["loss"]) == {}


def test_wrong_arguments():
    predictions = make("regression", 5)
    with pytest.raises(ValueError, match="confidence"):
        intervals(predictions, ["mse"], confidence=1.0)
    with pytest.raises(RecipeError):
        intervals(predictions, ["accuracy"])


def test_parts_add_up():
    """What streaming over a split, or over ranks, does."""
    from hf_trainpipe.metrics.base import SumMetric
    from hf_trainpipe.metrics.registry import get

    predictions = make("tags", 30)
    for name in known("tags"):
        metric = get(name, "tags")
        assert isinstance(metric, SumMetric)
        bounds = [(0, 7), (7, 7), (7, 20), (20, 30)]
        sums = sum(metric.statistics(predictions.part(a, b)).sum(axis=0) for a, b in bounds)
        assert float(metric.finish(sums)) == pytest.approx(score(predictions, [name])[name])
