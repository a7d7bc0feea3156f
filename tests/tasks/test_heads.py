"""Heads over pooled vectors that begin as linear models: the whole contract, with windows and with pairs."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from safetensors.torch import load_file
from transformers import AutoModel

import hf_trainpipe as h
from hf_trainpipe import RunOptions, execute
from hf_trainpipe.errors import RecipeError
from tests.nightly import at_night
from tests.tasks import contract

FOREIGN = Path(__file__).parent / "foreign.py"


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("inputs")
    contract.write_inputs(folder)
    return folder


@pytest.fixture(autouse=True)
def one_cache(inputs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TRAINPIPE_CACHE", str(inputs / "cache"))
    monkeypatch.setenv("HF_TRAINPIPE_THREADS", "1")


def pooled(recipe: h.Recipe, pooling: str) -> h.Recipe:
    return replace(recipe, task=replace(recipe.task, pooling=pooling), model=replace(recipe.model, head="probe"))  # type: ignore[type-var, call-arg]


@pytest.mark.parametrize(
    ("name", "pooling"), [("classification", "mean"), *at_night(("multi_label", "max"), ("regression", "cls"))]
)
def test_a_pooled_head_keeps_the_contract(
    name: str, pooling: str, inputs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trained = contract.train(name, inputs, tmp_path / "run", FOREIGN, change=lambda recipe: pooled(recipe, pooling))
    contract.features_are_those_of_serving(trained)
    contract.more_ranks_than_examples(trained)
    contract.serves(trained)
    contract.predict_is_evaluate(trained)
    assert h.load(tmp_path / "run").predictor.info.code is None, "no consent is asked for"
    shutil.rmtree(inputs / "cache" / "heads")  # what is fitted again is the same
    contract.resumes_after_a_kill(trained, tmp_path / "killed", monkeypatch)
    card = (tmp_path / "run/package/README.md").read_text()
    assert "AutoModelForSequenceClassification" not in card, "plain transformers would answer with another head"
    plain, info = AutoModel.from_pretrained(tmp_path / "run/package", output_loading_info=True, add_pooling_layer=False)
    assert not info["missing_keys"], "it is the encoder of the package all the same"
    assert plain.config.model_type == "bert"


def test_the_head_begins_as_the_linear_model(inputs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TRAINPIPE_CACHE", str(tmp_path / "cache"))
    recipe, _ = contract.recipe_of("classification", inputs, FOREIGN)
    still = replace(pooled(recipe, "mean"), optim=replace(recipe.optim, peak_lr=1e-9))
    result = execute(still, run_dir=tmp_path / "run", options=RunOptions())
    assert result.scores["validation"]["accuracy"]["value"] > 0.9
    [entry] = (tmp_path / "cache/heads").glob("*/weight.npy")
    packaged = load_file(tmp_path / "run/package/model.safetensors")["head.weight"]
    np.testing.assert_allclose(packaged.numpy(), np.load(entry), atol=1e-6)


def test_a_head_that_no_linear_model_can_begin_is_refused(inputs: Path, tmp_path: Path) -> None:
    recipe, _ = contract.recipe_of("tags", inputs, FOREIGN)
    with pytest.raises(RecipeError, match=r"model\.head: .* found TokenClassification"):
        execute(replace(recipe, model=replace(recipe.model, head="probe")), run_dir=tmp_path, options=RunOptions())
