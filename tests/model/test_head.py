"""Pretrained heads: kept, reordered to the task's labels, or newly initialized."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from transformers import AutoModelForSequenceClassification, AutoModelForTokenClassification

from hf_trainpipe import Pretrained, QuestionAnswering, Regression, TextClassification, TokenClassification
from hf_trainpipe.errors import RecipeError
from hf_trainpipe.model.head import label_names, label_order
from hf_trainpipe.model.weights import build_model
from hf_trainpipe.tasks import Labels
from hf_trainpipe.testing import tiny_model

TEXT = TextClassification("text", label="label")
TAGS = TokenClassification("tokens", tags="tags")


@pytest.fixture(scope="module", params=["bert", "roberta", "distilbert"])
def base(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Heads of these are a ``classifier``, a ``classifier.out_proj`` behind a layer, and one behind another layer."""
    return tiny_model(tmp_path_factory.mktemp(request.param), kind=request.param)


def checkpoint(base: Path, folder: Path, names: tuple[str, ...] | None, *, auto: Any = None, count: int = 3) -> Any:
    """A fine-tuned model with these labels; the last layer's bias is 0, 1, 2."""
    labels = {"id2label": dict(enumerate(names))} if names else {"num_labels": count}
    torch.manual_seed(5)
    model = (auto or AutoModelForSequenceClassification).from_pretrained(base, **labels)
    with torch.no_grad():
        last(model).bias.copy_(torch.arange(float(len(last(model).bias))))
    model.save_pretrained(folder)
    return model


def last(model: Any) -> torch.nn.Linear:
    found = [
        m for n, m in model.named_modules() if isinstance(m, torch.nn.Linear) and "classifier" in n and "pre" not in n
    ]
    return found[-1]  # type: ignore[no-any-return]


def load(folder: Path, names: tuple[str, ...], task: Any = TEXT) -> tuple[Any, str]:
    said: list[str] = []
    torch.manual_seed(3)
    model = build_model(Pretrained(str(folder)), replace(task, names=Labels(names)) if names else task, say=said.append)
    return model, "\n".join(said)


def test_the_same_labels_in_another_order_are_put_in_order(base: Path, tmp_path: Path) -> None:
    before = checkpoint(base, tmp_path, ("b", "a", "c"))
    model, said = load(tmp_path, ("a", "b", "c"))
    assert last(model).bias.tolist() == [1.0, 0.0, 2.0]
    assert torch.equal(last(model).weight, last(before).weight[[1, 0, 2]])
    assert "reordered from its labels (b, a, c)" in said
    others = {n: p for n, p in before.named_parameters() if p is not last(before).bias and p is not last(before).weight}
    assert all(torch.equal(dict(model.named_parameters())[n], p) for n, p in others.items())


def test_case_does_not_make_another_label(base: Path, tmp_path: Path) -> None:
    checkpoint(base, tmp_path, ("POSITIVE", "Very Good", "negative"))
    model, _ = load(tmp_path, ("negative", "positive", "very_good"))
    assert last(model).bias.tolist() == [2.0, 0.0, 1.0]


def test_the_same_labels_in_the_same_order_stay_without_a_word(base: Path, tmp_path: Path) -> None:
    checkpoint(base, tmp_path, ("a", "b", "c"))
    model, said = load(tmp_path, ("a", "b", "c"))
    assert last(model).bias.tolist() == [0.0, 1.0, 2.0]
    assert said == ""


def test_a_head_whose_outputs_are_no_labels_is_built(base: Path) -> None:
    """DistilBERT's refuses any number of them but two."""
    model, _ = load(base, (), QuestionAnswering())
    assert model.qa_outputs.out_features == 2


def test_a_head_for_other_labels_is_initialized_from_the_seed(base: Path, tmp_path: Path) -> None:
    before = checkpoint(base, tmp_path, ("a", "b", "d"))
    model, said = load(tmp_path, ("a", "b", "c"))
    assert last(model).bias.tolist() == [0.0, 0.0, 0.0]
    assert not torch.equal(last(model).weight, last(before).weight)
    assert torch.equal(last(model).weight, last(load(tmp_path, ("a", "b", "c"))[0]).weight)
    assert 0.005 < float(last(model).weight.detach().std()) < 0.05
    assert "newly initialized: its labels are a, b, d, these are a, b, c" in said


def test_labels_without_names_are_used_in_order_with_a_message(base: Path, tmp_path: Path) -> None:
    checkpoint(base, tmp_path, None)
    model, said = load(tmp_path, ("a", "b", "c"))
    assert last(model).bias.tolist() == [0.0, 1.0, 2.0]
    assert "have no label names" in said


def test_a_tagger_s_head_is_put_in_order_too(base: Path, tmp_path: Path) -> None:
    checkpoint(base, tmp_path, ("B-x", "I-x", "O"), auto=AutoModelForTokenClassification)
    model, _ = load(tmp_path, ("O", "B-x", "I-x"), TAGS)
    assert last(model).bias.tolist() == [2.0, 0.0, 1.0]


def test_a_head_of_another_task_is_newly_initialized(tmp_path: Path) -> None:
    base = tiny_model(tmp_path / "base")
    checkpoint(base, tmp_path / "tagger", None, auto=AutoModelForTokenClassification)
    model, said = load(tmp_path / "tagger", ("a", "b", "c"))
    assert last(model).bias.tolist() == [0.0, 0.0, 0.0]
    assert "BertForTokenClassification" in said
    checkpoint(base, tmp_path / "score", None, count=1)
    model, said = load(tmp_path / "score", (), Regression("text", score="score"))
    assert said == ""


def test_names_and_orders() -> None:
    assert label_names(SimpleNamespace(id2label={"1": "b", "0": "a"})) == ("a", "b")
    assert label_names(SimpleNamespace(id2label={"0": "LABEL_0", "1": "LABEL_1"})) is None
    assert label_names(SimpleNamespace(id2label={"1": "b", "2": "a"})) is None  # no outputs 0 to n - 1
    assert label_order(("A", "a"), ("a", "A")) == [1, 0]  # differ in case alone: by their exact names
    assert label_order(("A", "a"), ("a", "b")) is None
    assert label_order(("x", "y"), ("x", "y", "z")) is None


def test_missing_layers_and_numbers_that_are_none_are_refused_by_name(tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    weights = load_file(tiny_model(tmp_path) / "model.safetensors")
    key = "encoder.layer.1.output.dense.weight"
    save_file(
        {name: tensor for name, tensor in weights.items() if name != key},
        tmp_path / "model.safetensors",
        {"format": "pt"},
    )
    with pytest.raises(
        RecipeError, match=r"lack 1 of the encoder's 3\d tensors: bert.encoder.layer.1.output.dense.weight"
    ):
        load(tmp_path, ("a", "b"))
    save_file({**weights, key: weights[key] * float("nan")}, tmp_path / "model.safetensors", {"format": "pt"})
    with pytest.raises(RecipeError, match=r"contain NaN or infinity: bert.encoder.layer.1.output.dense.weight"):
        load(tmp_path, ("a", "b"))
    halves = {name: tensor.half() for name, tensor in weights.items() if "pooler" not in name}
    save_file(halves, tmp_path / "model.safetensors", {"format": "pt"})
    model, said = load(tmp_path, ("a", "b"))
    assert {parameter.dtype for parameter in model.parameters()} == {torch.float32}
    assert "bert.pooler.dense.bias, bert.pooler.dense.weight are not in the weights" in said
