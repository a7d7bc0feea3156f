"""The evaluate.Metric subclasses: offline, in batches, combined; and metrics that evaluate loads."""

from __future__ import annotations

import math
import socket
from typing import TYPE_CHECKING

import evaluate
import numpy as np
import pytest

from hf_trainpipe.errors import RecipeError
from hf_trainpipe.metrics import Predictions, hub, known, score

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture(autouse=True)
def no_network(monkeypatch):
    def refuse(*_args, **_options):
        raise OSError("no network in this test")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)


@pytest.fixture
def folder(tmp_path) -> dict[str, str]:
    return {"cache_dir": str(tmp_path / "metrics")}


def test_accuracy_in_batches(folder):
    metric = hub.Accuracy(**folder)
    assert isinstance(metric, evaluate.Metric)
    metric.add_batch(predictions=[0, 1], references=[0, 0])
    metric.add(prediction=1, reference=1)
    metric.add_batch(predictions=np.array([2]), references=np.array([2]))
    assert metric.compute() == {"accuracy": 0.75}
    assert metric.compute(predictions=[1], references=[1]) == {"accuracy": 1.0}


def test_combine(folder):
    both = evaluate.combine(
        [
            hub.Accuracy(**folder),
            hub.F1(**folder),
            hub.F1(average="macro", **folder),
            hub.load("mcc", **folder),
        ]
    )
    both.add_batch(predictions=[0, 1, 1], references=[0, 1, 0])
    both.add_batch(predictions=[0], references=[1])
    assert both.compute() == pytest.approx({"accuracy": 0.5, "f1": 0.5, "f1_macro": 0.5, "mcc": 0.0})


def test_combine_prefixes_names_that_collide(folder):
    both = evaluate.combine({"a": hub.F1(**folder), "b": hub.F1(**folder)})
    assert both.compute(predictions=[0, 1], references=[0, 1]) == {"a_f1": 1.0, "b_f1": 1.0}


@pytest.mark.parametrize("average", ["binary", "micro", "macro", "weighted"])
@pytest.mark.parametrize("name", ["precision", "recall", "f1"])
def test_rates_equal_scikit_learn(name, average, folder):
    from sklearn import metrics as sk

    function = getattr(sk, f"{name}_score")
    given, due = np.random.default_rng(1).integers(0, 2 if average == "binary" else 4, (2, 60))
    cls = {"precision": hub.Precision, "recall": hub.Recall, "f1": hub.F1}[name]
    expected = function(due, given, average=average)
    assert cls(**folder).compute(predictions=given, references=due, average=average) == {name: pytest.approx(expected)}
    key = f"{name}_{average}"
    assert cls(average=average, **folder).compute(predictions=given, references=due) == {key: pytest.approx(expected)}


def test_ids_need_not_begin_at_zero(folder):
    found = hub.F1(average="macro", **folder).compute(predictions=[7, 9, 9], references=[7, 9, -3])
    assert found["f1_macro"] == pytest.approx((1 + 2 / 3 + 0) / 3)
    assert hub.Precision(**folder).compute(predictions=[1, 1], references=[1, 1]) == {"precision": 1.0}
    assert hub.Precision(**folder).compute(predictions=[0, 0], references=[0, 0]) == {"precision": 0.0}


def test_binary_average_of_three_classes_is_refused(folder):
    with pytest.raises(ValueError, match="micro, macro or weighted"):
        hub.F1(**folder).compute(predictions=[0, 1, 2], references=[0, 1, 2], average="binary")


def test_multi_label(folder):
    given, due = [[1, 0], [1, 1]], [[1, 0], [0, 1]]
    assert hub.Accuracy(**folder).compute(predictions=given, references=due) == {"accuracy": 0.5}
    assert hub.HammingLoss(**folder).compute(predictions=given, references=due) == {"hamming_loss": 0.25}
    assert hub.load("f1_samples", **folder).compute(predictions=given, references=due)["f1_samples"] == pytest.approx(
        (1 + 2 / 3) / 2
    )


def test_numbers(folder):
    from scipy import stats

    given, due = np.random.default_rng(2).normal(size=(2, 30))
    whole = evaluate.combine([hub.load(name, **folder) for name in known("regression")])
    found = whole.compute(predictions=given, references=due)
    assert sorted(found) == list(known("regression"))
    assert found["pearson"] == pytest.approx(stats.pearsonr(given, due).statistic)
    assert found["rmse"] == pytest.approx(math.sqrt(found["mse"]))
    assert math.isnan(hub.Pearson(**folder).compute(predictions=[1.0, 1.0], references=[1.0, 2.0])["pearson"])


def test_roc_auc_takes_numbers_probabilities_and_label_sets(folder):
    from sklearn import metrics as sk

    random = np.random.default_rng(3)
    due, numbers = random.integers(0, 2, 40), random.normal(size=40)
    found = hub.RocAuc(**folder).compute(prediction_scores=numbers, references=due)
    assert found == {"roc_auc": pytest.approx(sk.roc_auc_score(due, numbers))}
    due, chances = random.integers(0, 3, 40), random.dirichlet([1, 1, 1], 40)
    found = hub.RocAuc(**folder).compute(prediction_scores=chances.tolist(), references=due)
    assert found == {"roc_auc": pytest.approx(sk.roc_auc_score(due, chances, multi_class="ovr"))}
    sets, scores = random.integers(0, 2, (40, 3)), random.normal(size=(40, 3))
    found = hub.AveragePrecision(**folder).compute(prediction_scores=scores.tolist(), references=sets.tolist())
    assert found == {"average_precision": pytest.approx(sk.average_precision_score(sets, scores))}


def test_entities(folder):
    given = [["B-PER", "I-PER", "O", "O"], ["B-LOC", "O"]]
    due = [["B-PER", "I-PER", "O", "B-LOC"], ["B-LOC", "O"]]
    metric = hub.EntityF1(**folder)
    for row in range(2):
        metric.add_batch(predictions=given[row : row + 1], references=due[row : row + 1])
    expected = {"entity_precision": 1.0, "entity_recall": 2 / 3, "entity_f1": 0.8, "tag_accuracy": 5 / 6}
    assert metric.compute() == pytest.approx(expected)
    macro = hub.load("entity_f1_macro", **folder).compute(predictions=given, references=due)
    assert macro["entity_f1_macro"] == pytest.approx((1 + 2 / 3) / 2)
    with pytest.raises(ValueError, match="as many tags"):
        metric.compute(predictions=[["O"]], references=[["O", "O"]])


def test_exact_match(folder):
    metric = hub.ExactMatch(**folder)
    texts = {"predictions": ["Yes.", "no"], "references": ["yes", "no"]}
    assert metric.compute(**texts) == {"exact_match": 0.5}
    assert metric.compute(**texts, ignore_case=True, ignore_punctuation=True) == {"exact_match": 1.0}
    rows = {"predictions": [["O", "O"], ["O"], []], "references": [["O", "O"], ["B-X"], []]}
    assert hub.ExactMatch(**folder).compute(**rows) == {"exact_match": 0.5}


def test_load_refuses_unknown_names():
    with pytest.raises(RecipeError, match="Did you mean 'accuracy'"):
        hub.load("acuracy")


def predictions_of(kind: str) -> Predictions:
    random = np.random.default_rng(4)
    if kind == "single_label":
        return Predictions(kind, outputs=random.normal(size=(30, 3)).astype("f"), references=random.integers(0, 3, 30))
    if kind == "multi_label":
        due = random.integers(0, 2, (30, 3)).astype(np.uint8)
        return Predictions(kind, outputs=random.normal(size=(30, 3)), references=due, threshold=0.6)
    if kind == "regression":
        return Predictions(kind, outputs=random.normal(size=(30, 1)), references=random.normal(size=30).astype("f"))
    labels = ("O", "B-X", "I-X")
    due = random.integers(0, 3, 30)
    given = np.where(random.random(30) < 0.7, due, -1)
    due[4:9] = -100
    return Predictions("tags", outputs=given, references=due, labels=labels, word_starts=np.array([0, 4, 9, 20, 30]))


@pytest.mark.parametrize("kind", ["single_label", "multi_label", "regression", "tags"])
def test_scores_through_evaluate_are_the_same(kind, folder):
    predictions = predictions_of(kind)
    # Without answers a word is tagged O by evaluate's metrics, while the accuracy of words counts it wrong.
    names = [name for name in known(kind) if kind != "tags" or name.startswith("entity_")]
    found = hub.compute_with_evaluate(predictions, names, **folder)
    assert found == pytest.approx(score(predictions, names))


SCRIPT = """
import datasets
import evaluate


class Near(evaluate.Metric):
    def _info(self):
        number = datasets.Value("int64")
        features = datasets.Features({"predictions": number, "references": number})
        return evaluate.MetricInfo(description="", citation="", inputs_description="", features=features)

    def _compute(self, predictions, references):
        near = sum(abs(a - b) <= 1 for a, b in zip(predictions, references)) / len(predictions)
        return {"near": near, "other": 1.0}
"""


@pytest.fixture
def script(tmp_path, monkeypatch) -> Path:
    import evaluate.config
    import evaluate.loading

    monkeypatch.setattr(evaluate.config, "HF_METRICS_CACHE", tmp_path / "cache")
    monkeypatch.setattr(evaluate.config, "HF_MODULES_CACHE", tmp_path / "modules")
    path = tmp_path / "near" / "near.py"
    path.parent.mkdir()
    path.write_text(SCRIPT)
    return path


def test_a_metric_of_ones_own(script, monkeypatch):
    monkeypatch.syspath_prepend(str(script.parents[1] / "modules"))
    due = np.array([0, 1, 3])
    predictions = Predictions("single_label", outputs=np.array([0, 2, 0]), references=due, labels=tuple("abcd"))
    name = f"evaluate:{script}"
    assert score(predictions, ["accuracy", name]) == pytest.approx({"accuracy": 1 / 3, name: 2 / 3})
    assert score(predictions, [f"{name}#other"]) == {f"{name}#other": 1.0}
    with pytest.raises(RecipeError, match="'third'"):
        score(predictions, [f"{name}#third"])


def test_without_network_the_error_is_clear(tmp_path, monkeypatch):
    import evaluate.config

    monkeypatch.setattr(evaluate.config, "HF_METRICS_CACHE", tmp_path / "cache")
    monkeypatch.setattr(evaluate.config, "HF_MODULES_CACHE", tmp_path / "modules")
    predictions = Predictions("single_label", outputs=np.array([0, 1]), references=np.array([0, 1]))
    with pytest.raises(RecipeError, match="could not load metric 'evaluate:bleu'") as caught:
        score(predictions, ["evaluate:bleu"])
    assert "network" in caught.value.fix
