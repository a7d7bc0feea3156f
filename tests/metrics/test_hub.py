"""The evaluate.Metric subclasses: offline, in batches, combined; and metrics loaded by evaluate."""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING

import evaluate
import numpy as np
import pytest

from hf_trainpipe.errors import RecipeError
from hf_trainpipe.metrics import Predictions, hub, known, score
from hf_trainpipe.metrics.external import as_lists

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
    metric = hub.load("accuracy", **folder)
    assert isinstance(metric, evaluate.Metric)
    metric.add_batch(predictions=[0, 1], references=[0, 0])
    metric.add(prediction=1, reference=1)
    metric.add_batch(predictions=np.array([2]), references=np.array([2]))
    assert metric.compute() == {"accuracy": 0.75}
    assert metric.compute(predictions=[1], references=[1]) == {"accuracy": 1.0}


def test_combine(folder):
    both = evaluate.combine([hub.load(name, **folder) for name in ("accuracy", "f1", "f1_macro", "mcc")])
    both.add_batch(predictions=[0, 1, 1], references=[0, 1, 0])
    both.add_batch(predictions=[0], references=[1])
    assert both.compute() == pytest.approx({"accuracy": 0.5, "f1": 0.5, "f1_macro": 0.5, "mcc": 0.0})


def test_ids_need_not_begin_at_zero(folder):
    found = hub.load("f1_macro", **folder).compute(predictions=[7, 9, 9], references=[7, 9, -3])
    assert found["f1_macro"] == pytest.approx((1 + 2 / 3 + 0) / 3)
    for label in (0, 1):
        found = hub.load("precision", **folder).compute(predictions=[label, label], references=[label, label])
        assert found == {"precision": label}


def test_load_refuses_unknown_names():
    with pytest.raises(RecipeError, match="Did you mean 'accuracy'"):
        hub.load("acuracy")


def test_tags_that_do_not_fit_are_refused(folder):
    with pytest.raises(ValueError, match="as many tags"):
        hub.load("entity_f1", **folder).compute(predictions=[["O"]], references=[["O", "O"]])


def predictions_of(kind: str) -> Predictions:
    random = np.random.default_rng(4)
    if kind == "single_label":
        return Predictions(kind, outputs=random.normal(size=(30, 3)), references=random.integers(0, 3, 30))
    if kind == "multi_label":
        return Predictions(kind, outputs=random.normal(size=(30, 3)), references=random.integers(0, 2, (30, 3)))
    if kind == "regression":
        return Predictions(kind, outputs=random.normal(size=30), references=random.normal(size=30))
    given, due = random.integers(0, 3, (2, 30))
    starts = np.array([0, 4, 9, 20, 30])
    return Predictions("tags", outputs=given, references=due, labels=("O", "B-X", "I-X"), word_starts=starts)


@pytest.mark.parametrize("kind", ["single_label", "multi_label", "regression", "tags"])
def test_every_metric_through_evaluate_is_the_same(kind, folder):
    predictions = predictions_of(kind)
    given, due = as_lists(predictions)
    for name in set(known(kind)) - ({"exact_match"} if kind == "multi_label" else set()):
        ranks = name in ("roc_auc", "average_precision")
        rows = predictions.outputs.tolist() if ranks else given
        found = hub.load(name, **folder).compute(predictions=rows, references=due)
        assert found == pytest.approx(score(predictions, [name])), name


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
