"""Baselines of tiny data with a tiny model: what they learn from, what they answer, and that they are kept."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from hf_trainpipe import (
    Budget,
    Evaluation,
    Frame,
    MultiLabelClassification,
    Pretrained,
    Recipe,
    Regression,
    TextClassification,
    TokenClassification,
    Tokens,
    replace,
)
from hf_trainpipe.baselines import learners, measure, tagging
from hf_trainpipe.baselines.frozen import frozen_texts
from hf_trainpipe.baselines.vectors import TfIdf, Unfit
from hf_trainpipe.cli import run
from hf_trainpipe.errors import RecipeError
from hf_trainpipe.metrics import score
from hf_trainpipe.metrics.saved import load
from hf_trainpipe.model.tokenizer import load_tokenizer
from hf_trainpipe.runtime.model import inference
from hf_trainpipe.runtime.tokens.encoder import Encoder
from hf_trainpipe.testing import tiny_model, tiny_rows, tiny_tagged, write_rows
from hf_trainpipe.tracking.console import Console


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_model(tmp_path_factory.mktemp("baselines") / "model")


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("HF_TRAINPIPE_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def made(model: Path, task: Any, **rows: list[dict[str, Any]]) -> Recipe:
    import pandas

    frames = {name: pandas.DataFrame(found) for name, found in rows.items()}
    return Recipe(
        name="tiny",
        model=Pretrained(str(model)),
        data=Frame(**frames),  # type: ignore[arg-type]
        task=task,
        tokens=Tokens(max_length=32),
        budget=Budget(epochs=1),
        evaluation=Evaluation(resamples=50),
    )


def test_texts_are_told_apart_and_what_was_learnt_is_kept(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    splits = {"train": tiny_rows(80), "validation": tiny_rows(40, seed=1), "test": tiny_rows(40, seed=2)}
    recipe = made(model, TextClassification("text", label="label"), **splits)
    first = measure.measure(recipe, console=Console(0))
    by_name = {one.name: one for one in first.measured}
    assert list(by_name) == ["majority", "words", "characters", "forest", "frozen"]
    values = {name: one.scores["test"]["accuracy"]["value"] for name, one in by_name.items()}
    most = max(np.bincount([row["label"] == "positive" for row in splits["train"]]))
    assert abs(values["majority"] - 0.5) < 0.3
    assert most < 80
    assert min(values["words"], values["characters"]) >= 0.9 > values["majority"]
    assert first.best is not None
    assert first.best.scores["validation"]["accuracy"]["value"] >= 0.9
    kept = by_name["words"].predicted["test"]
    assert score(kept.predictions, ["accuracy"])["accuracy"] == values["words"]
    assert (kept.rows == by_name["frozen"].predicted["test"].rows).all()

    def fails(*_: Any, **__: Any) -> Any:
        raise AssertionError("it was to be kept")

    for name in ("logistic", "forest"):
        monkeypatch.setattr(learners, name, fails)
    second = measure.measure(replace(recipe, seed=7, budget=Budget(epochs=2)), console=Console(0))
    assert second.to_json() == first.to_json()
    changed = [{**row, "label": "positive"} if at == 0 else row for at, row in enumerate(splits["test"])]
    other = made(model, TextClassification("text", label="label"), **{**splits, "test": changed})
    with pytest.raises(AssertionError, match="kept"):
        measure.measure(other, console=Console(0))


def test_vectors_are_those_of_the_padded_model_and_are_kept(model: Path, cache: Path) -> None:
    import torch
    from transformers import AutoModel

    pretrained = Pretrained(str(model))
    tokenizer = load_tokenizer(pretrained)
    texts = [row["text"] for row in tiny_rows(30)] + ["", "the film"]
    said: list[str] = []
    asked = {"model": pretrained, "encoder": Encoder(tokenizer, max_length=32), "root": cache, "say": said.append}
    found = frozen_texts([*texts, texts[3]], **asked)  # type: ignore[arg-type]
    batch = tokenizer(texts, padding=True, truncation=True, max_length=32, return_tensors="pt")
    with torch.inference_mode():
        hidden = AutoModel.from_pretrained(model).eval()(**batch)[0]
    mask = batch["attention_mask"][:, :, None]
    mean = torch.nn.functional.normalize((hidden * mask).sum(1) / mask.sum(1), dim=1).numpy()
    assert np.abs(found[:-1] - mean).max() < 1e-5
    assert (found[-1] == found[3]).all()
    assert len(said) == 1
    assert (frozen_texts([*texts, texts[3]], **asked) == found).all()  # type: ignore[arg-type]
    assert len(said) == 1
    next((cache / "frozen").glob("*/vectors.npy")).write_bytes(b"torn")
    assert (frozen_texts([*texts, texts[3]], **asked) == found).all()  # type: ignore[arg-type]
    assert len(said) == 2


def test_vectors_that_were_interrupted_go_on_behind_the_last_block(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("hf_trainpipe.baselines.frozen._BLOCK", 8)
    pretrained, texts = Pretrained(str(model)), [row["text"] for row in tiny_rows(30)]
    encoder, whole = Encoder(load_tokenizer(pretrained), max_length=32), inference.run
    asked: list[int] = []

    def look(*given: Any, chosen: np.ndarray, **more: Any) -> Any:
        if len(asked) == 2:
            raise KeyboardInterrupt
        asked.append(len(chosen))
        return whole(*given, chosen=chosen, **more)

    with monkeypatch.context() as patch:
        patch.setattr(inference, "run", look)
        with pytest.raises(KeyboardInterrupt):
            frozen_texts(texts, model=pretrained, encoder=encoder, root=tmp_path / "cut")
        asked = [0]
        with pytest.raises(KeyboardInterrupt):
            frozen_texts(texts, model=pretrained, encoder=encoder, root=tmp_path / "cut")
        assert asked == [0, 8], "the third block, behind the two that were there"
    found = frozen_texts(texts, model=pretrained, encoder=encoder, root=tmp_path / "cut")
    expected = frozen_texts(texts, model=pretrained, encoder=encoder, root=tmp_path / "whole")
    assert found.tobytes() == expected.tobytes()
    assert not list((tmp_path / "cut/frozen").glob("*.pieces"))


def test_words_of_other_splits_are_not_learnt_and_pairs_match() -> None:
    vectors = TfIdf()
    learnt = vectors.fit([["one two", "two three"], ["two", "three four"]])
    assert learnt.shape == (2, 4 * len(vectors._fitted[0].vocabulary_))
    assert vectors.transform([["unseen words"], ["others"]]).nnz == 0
    one, two = (vectors._fitted[0].transform([text]).toarray() for text in ("one two", "two"))
    expected = np.concatenate([one, two, np.abs(one - two), one * two], axis=1)
    assert np.array_equal(vectors.transform([["one two"], ["two"]]).toarray(), expected)
    with pytest.raises(Unfit):
        TfIdf().fit([["", " "]])
    with pytest.raises(Unfit):
        learners.logistic(learnt, np.zeros(2, dtype=np.int64), num_labels=2)


def test_numbers_of_pairs(model: Path) -> None:
    def rows(count: int, seed: int) -> list[dict[str, Any]]:
        texts = [row["text"] for row in tiny_rows(2 * count, seed=seed)]
        same = np.arange(count) % 2
        return [
            {"a": texts[at], "b": texts[at] if same[at] else texts[count + at], "score": float(same[at])}
            for at in range(count)
        ]

    task = Regression("a", text_pair="b", score="score")
    found = measure.measure(made(model, task, train=rows(60, 0), validation=rows(30, 1)), console=Console(0))
    values = {one.name: one.scores["validation"]["spearman"]["value"] for one in found.measured}
    assert values["majority"] is None
    assert values["cosine"] > 0.8
    assert values["words"] > 0.5


def test_tags_of_words(model: Path) -> None:
    splits = {"train": tiny_tagged(60), "validation": tiny_tagged(20, seed=1)}
    found = measure.measure(made(model, TokenClassification("tokens", tags="tags"), **splits), console=Console(0))
    values = {one.name: one.scores["validation"]["entity_f1"]["value"] for one in found.measured}
    assert list(values) == ["majority", "word-tags", "linear-tagger"]
    assert values["majority"] == 0
    assert values["linear-tagger"] > values["word-tags"] > 0.3
    assert values["linear-tagger"] > 0.95
    train = tagging.Sentences(words=["Ada", "ran", "Bo", "x"], starts=np.array([0, 2, 4]))
    answer = tagging.most_frequent(train, np.array([1, 0, 2, -100]), num_labels=3)
    assert answer(tagging.Sentences(words=["ada", "ran", "x"], starts=np.array([0, 3]))).tolist() == [1, 0, 0]


def test_little_data_gives_a_result_or_a_screen(
    model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    task = TextClassification("text", label="label", names=("negative", "positive"))
    one_class = [{"text": row["text"], "label": "positive"} for row in tiny_rows(6)]
    found = measure.measure(made(model, task, train=one_class, validation=tiny_rows(4)), console=Console(0))
    assert [one.name for one in found.measured] == ["majority"]
    assert set(found.unfit.values()) >= {"all training rows have the same label"}
    found = measure.measure(made(model, task, train=tiny_rows(1), validation=tiny_rows(1)), console=Console(0))
    assert [one.name for one in found.measured] == ["majority"]
    folder = tmp_path / "data"
    folder.mkdir()
    for name, rows in (("train", tiny_rows(30)), ("dev", tiny_rows(9, seed=1)), ("empty", [])):
        write_rows(folder / f"{name}.csv", rows)
    (folder / "recipe.py").write_text(
        "from hf_trainpipe import *\n\n\ndef recipe():\n"
        f"    return Recipe(name='tiny', model=Pretrained({str(model)!r}), task=TextClassification('text', label='label'),\n"
        "                  data=Files(train='train.csv', validation='dev.csv'), tokens=Tokens(max_length=32))\n"
    )
    spelled = str(folder / "recipe.py")
    assert run(["baseline", spelled, "--json", "--most-rows", "20", "--output", str(tmp_path / "kept")]) == 0
    told = json.loads(capsys.readouterr().out)
    assert [one["name"] for one in told["baselines"]] == ["majority", "words", "characters", "forest", "frozen"]
    assert {(one["rows"], one["of"]) for one in told["baselines"]} == {(20, 30)}
    assert len(load(tmp_path / "kept/words/validation.npz")) == 9
    rows = tmp_path / "rows.json"
    rows.write_text(json.dumps({"train": [["train", [*range(12)]]], "test": [["validation", [0, 1, 2]]]}))
    assert run(["baseline", spelled, "--rows", str(rows), "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert {(one["of"], one["scores"]["test"]["accuracy"]["n"]) for one in told["baselines"]} == {(12, 3)}
    assert run(["baseline", spelled]) == 0
    assert "What a fine-tuned model has to beat" in capsys.readouterr().out
    assert run(["baseline", spelled, "--data.train", "empty.csv"]) == 2
    assert "expected" in capsys.readouterr().err


def test_a_task_that_writes_has_none(model: Path) -> None:
    from hf_trainpipe import Summarization

    recipe = made(model, Summarization("text", summary="label"), train=tiny_rows(4), validation=tiny_rows(4))
    with pytest.raises(RecipeError, match="there are no baselines for Summarization"):
        measure.measure(recipe, console=Console(0))


def test_several_labels_and_spans(model: Path) -> None:
    def labelled(count: int, seed: int) -> list[dict[str, Any]]:
        rows = tiny_rows(count, seed=seed)
        return [
            {"text": row["text"], "labels": [row["label"], *(["film"] if "film" in row["text"] else [])]}
            for row in rows
        ]

    task = MultiLabelClassification("text", labels="labels")
    splits = {"train": labelled(80, 0), "validation": labelled(40, 1)}
    found = measure.measure(made(model, task, **splits), console=Console(0))
    values = {one.name: one.scores["validation"]["f1_macro"]["value"] for one in found.measured}
    assert list(values) == ["majority", "words", "characters", "frozen"]
    assert values["words"] > 0.9 > values["majority"]

    def spanned(count: int, seed: int) -> list[dict[str, Any]]:
        found = []
        for row in tiny_tagged(count, seed=seed):
            at = np.cumsum([0, *(len(word) + 1 for word in row["tokens"])]).tolist()
            spans = [
                {"start": at[number], "end": at[number] + len(word), "label": tag[2:]}
                for number, (word, tag) in enumerate(zip(row["tokens"], row["tags"], strict=True))
                if tag != "O"
            ]
            found.append({"text": " ".join(row["tokens"]), "entities": spans})
        return found

    tagger = TokenClassification(text="text", spans="entities")
    splits = {"train": spanned(40, 0), "validation": spanned(20, 1)}
    found = measure.measure(made(model, tagger, **splits), console=Console(0), most_rows=30)
    values = {one.name: one.scores["validation"]["entity_f1"]["value"] for one in found.measured}
    assert values["word-tags"] > 0.9
    assert {one.rows for one in found.measured} == {30}
