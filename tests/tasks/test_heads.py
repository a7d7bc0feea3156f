"""Heads over pooled vectors that begin as linear models: the whole contract, with windows and with pairs."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from safetensors.torch import load_file
from transformers import AutoModel, AutoTokenizer

import hf_trainpipe as h
from hf_trainpipe import RunOptions, execute
from hf_trainpipe.errors import RecipeError
from hf_trainpipe.runtime.tokens.batch import pad
from hf_trainpipe.runtime.tokens.encoder import Encoder
from hf_trainpipe.training import linear_probe
from hf_trainpipe.training.augmented import Augmented
from hf_trainpipe.training.run import Run
from hf_trainpipe.training.setup import set_up
from tests.nightly import at_night
from tests.package.conftest import tiny_tokenizer
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
    monkeypatch.setattr("hf_trainpipe.watch.profile.LEAST", 20)


def pooled(recipe: h.Recipe, pooling: str, pairs: str | None = None) -> h.Recipe:
    task = replace(recipe.task, pooling=pooling, pairs=pairs)  # type: ignore[type-var, call-arg]
    tokens = recipe.tokens if pairs is None else replace(recipe.tokens, overflow="truncate")
    return replace(recipe, task=task, tokens=tokens, model=replace(recipe.model, head="probe"))


@pytest.mark.parametrize(
    ("name", "pooling", "pairs"),
    [
        ("classification", "mean", None),
        ("regression", "mean", "apart"),
        *at_night(("multi_label", "max", None), ("regression", "cls", None)),
    ],
)
def test_a_pooled_head_keeps_the_contract(
    name: str, pooling: str, pairs: str | None, inputs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trained = contract.train(
        name, inputs, tmp_path / "run", FOREIGN, change=lambda recipe: pooled(recipe, pooling, pairs)
    )
    contract.features_are_those_of_serving(trained)
    contract.more_ranks_than_examples(trained)
    contract.serves(trained)
    contract.predict_is_evaluate(trained)
    if pairs is not None:
        contract.answers_in_16_bits(trained)
        contract.watches(trained)
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
    still = replace(pooled(recipe, "mean"), budget=replace(recipe.budget, max_steps=0))
    result = execute(still, run_dir=tmp_path / "run", options=RunOptions())
    assert (result.steps, result.best_step) == (0, 0)
    assert result.scores["validation"]["accuracy"]["value"] > 0.9
    [entry] = (tmp_path / "cache/heads").glob("*/weight.npy")
    packaged = load_file(tmp_path / "run/package/model.safetensors")["head.weight"]
    np.testing.assert_array_equal(packaged.numpy(), np.load(entry))


def test_what_the_head_is_fitted_to_is_read_once_though_interrupted(
    inputs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe, _ = contract.recipe_of("classification", inputs, FOREIGN)
    recipe = pooled(recipe, "mean")
    monkeypatch.setattr(linear_probe, "_TOKENS", 32)
    read, asked = linear_probe.outputs_of, list[int]()
    last = 99

    def mortal(*given: Any, chosen: np.ndarray, **more: Any) -> Any:
        if len(asked) == last:
            raise KeyboardInterrupt
        asked.append(len(chosen))
        return read(*given, chosen=chosen, **more)

    monkeypatch.setattr(linear_probe, "outputs_of", mortal)

    def begun(cache: str) -> bytes:
        monkeypatch.setenv("HF_TRAINPIPE_CACHE", str(tmp_path / cache))
        with set_up(recipe, RunOptions(), run_dir=tmp_path / f"{cache}-run") as setup:
            weight = Run(setup).bare.head.weight  # type: ignore[union-attr]
            return np.asarray(weight.detach()).tobytes()  # type: ignore[union-attr]

    whole, number, features = begun("whole"), len(asked), sum(asked)
    assert number > 2
    asked, last = [], 2
    with pytest.raises(KeyboardInterrupt):
        begun("cut")
    done, asked, last = sum(asked), [], 99
    assert begun("cut") == whole
    assert (len(asked), sum(asked)) == (number - 2, features - done)


def test_a_head_that_no_linear_model_can_begin_is_refused(inputs: Path, tmp_path: Path) -> None:
    recipe, _ = contract.recipe_of("tags", inputs, FOREIGN)
    with pytest.raises(RecipeError, match=r"model\.head: .* found TokenClassification"):
        execute(replace(recipe, model=replace(recipe.model, head="probe")), run_dir=tmp_path, options=RunOptions())


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"pooling": "mean", "pairs": "apart"}, r"found no task\.text_pair"),
        ({"text_pair": "text_pair", "pairs": "apart"}, r"found no task\.pooling"),
        ({"text_pair": "text_pair", "pooling": "mean", "pairs": "twins"}, r"task\.pairs: expected 'apart' or None"),
    ],
)
def test_sides_apart_need_a_pair_and_a_vector_of_each(fields: dict[str, str], expected: str) -> None:
    for task in (h.TextClassification, h.MultiLabelClassification, h.Regression):
        with pytest.raises(RecipeError, match=expected):
            task(**fields)


def test_sides_apart_are_two_streams_of_one_example() -> None:
    """Cut, or left out, each by itself; a side has no windows, and what is not said changes no key of a cache."""
    task = h.Regression(text_pair="text_pair", pooling="mean", pairs="apart")
    inputs = {"text": ["a story", "the parcel"], "text_pair": ["on time .", "on time . " * 9]}
    tokenizer = tiny_tokenizer()
    features = task.encode(inputs, Encoder(tokenizer, max_length=8))
    alone = [Encoder(tokenizer, max_length=8).texts(inputs[side]).input for side in inputs]
    for stream, name, expected in zip(features.streams.values(), ("input_ids", "pair_input_ids"), alone, strict=True):
        np.testing.assert_array_equal(stream[name], expected["input_ids"])
        np.testing.assert_array_equal(stream.starts, expected.starts)
    assert features.overflow.over_length == 1
    dropped = task.encode(inputs, Encoder(tokenizer, max_length=8, overflow="drop"))
    assert dropped.example.tolist() == [0]
    with pytest.raises(RecipeError, match=r"tokens\.overflow: the model reads each text as a whole"):
        task.encode(inputs, Encoder(tokenizer, max_length=8, overflow="window"))
    assert (task.encoding, h.Regression().encoding) == ({"pairs": "apart"}, {})


def test_tokens_of_both_sides_are_hidden(inputs: Path) -> None:
    task = h.Regression(text_pair="text_pair", pooling="mean", pairs="apart")
    encoder = Encoder(AutoTokenizer.from_pretrained(inputs / "bert"), max_length=16)
    features = task.encode({"text": ["a story of a day"] * 9, "text_pair": ["a day of a film"] * 9}, encoder)
    asked = h.Recipe(
        name="hidden",
        model=h.Pretrained("any"),
        data=h.Files(train="any"),
        task=task,
        augmentation=(h.TokenMask(share=0.3),),
    )
    rows: Any = SimpleNamespace(features=features, rows=SimpleNamespace(encoder=encoder))
    every = np.arange(9)
    plain = pad(features, every)
    hidden = Augmented(SimpleNamespace(recipe=asked)).hide(plain, every, 0, rows)  # type: ignore[arg-type]
    shares = []
    for name in ("input_ids", "pair_input_ids"):
        is_hidden = hidden[name] == encoder.masker.mask_id
        assert bool((hidden[name] == plain[name])[~is_hidden].all())
        shares.append(is_hidden.sum(dim=1).tolist())
    assert min(map(sum, shares)) > 0
    assert shares[0] != shares[1], "each side is drawn for by itself"
