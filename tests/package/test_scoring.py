from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from hf_trainpipe.api.package import load
from hf_trainpipe.data.sources import Files
from hf_trainpipe.errors import DataError, PackageError
from hf_trainpipe.recipe import Evaluation, Pretrained, Recipe
from hf_trainpipe.runtime.handler.predictor import Predictor
from hf_trainpipe.runtime.tasks.older import task_of_decoder
from hf_trainpipe.tasks import Regression, TextClassification, TokenClassification
from tests.package.conftest import TEXTS, WORDS, tiny_model, write_package


def recipe(task: object, data: Files, **changes: object) -> Recipe:
    evaluation = Evaluation(resamples=50)
    return Recipe(name="tiny", model=Pretrained("tiny"), task=task, data=data, evaluation=evaluation, **changes)  # type: ignore[arg-type]


def write_lines(path: Path, rows: list[dict[str, object]]) -> str:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


def sentences(count: int, *, seed: int = 0) -> list[list[str]]:
    random = np.random.default_rng(seed)
    return [[str(word) for word in random.choice(WORDS, size=random.integers(1, 30))] for _ in range(count)]


def test_classification_scores_are_those_of_the_answers(classifier_run: Path, tmp_path: Path) -> None:
    names = ("calm", "angry", "sad")
    texts = [" ".join(words) for words in sentences(40)] + TEXTS
    rows = [{"text": text, "label": names[i % 3]} for i, text in enumerate(texts)]
    path = write_lines(tmp_path / "rows.jsonl", rows)
    task = TextClassification(names=names)
    result = load(classifier_run).evaluate(recipe=recipe(task, Files(train=path, validation=path)))
    best = [answer[0]["label"] for answer in Predictor.load(classifier_run / "package").predict(texts)]
    right = np.mean([label == row["label"] for label, row in zip(best, rows, strict=True)])
    assert (result["split"], result["n"]) == ("validation", 44)
    score = result["scores"]["accuracy"]
    assert score["value"] == pytest.approx(right)
    assert score["low"] <= score["value"] <= score["high"]
    assert set(result["scores"]) == set(task.metrics())
    json.dumps(result, allow_nan=False)


def test_tagging_keeps_every_word_of_the_gold(tagger_run: Path, tmp_path: Path) -> None:
    words = sentences(20)
    answers = Predictor.load(tagger_run / "package").outputs([{"words": row} for row in words])
    names = ("O", "B-PER", "I-PER")
    tags = [names[tag] for tag in answers["logits"].argmax(axis=-1)]
    starts = answers.starts["words"]
    assert starts is not None
    rows = [{"tokens": row, "tags": tags[starts[i] : starts[i + 1]]} for i, row in enumerate(words)]
    path = write_lines(tmp_path / "rows.jsonl", rows)
    task = TokenClassification(names=names)
    result = load(tagger_run).evaluate(recipe=recipe(task, Files(train=path, validation=path)))
    assert result["scores"]["tag_accuracy"]["value"] == 1.0
    assert result["scores"]["entity_f1"]["value"] == 1.0


def test_pairs_and_dropped_examples(tmp_path: Path) -> None:
    pairs = [(" ".join(a[:4]), " ".join(b)) for a, b in zip(sentences(30), sentences(30, seed=1), strict=True)]
    package = write_package(
        tmp_path / "run",
        inputs=[{"text": "ada", "text_pair": "london"}],
        model=tiny_model(()),
        task=task_of_decoder({"decoder": {"kind": "regression", "labels": [], "options": {}}, "inputs": "pair"}),
        tokens={"max_length": 24, "overflow": "drop", "stride": 0},
    )
    rows: list[dict[str, object]] = [{"a": a, "b": b, "score": 0.5} for a, b in pairs]
    path = write_lines(tmp_path / "rows.jsonl", rows)
    task = Regression("a", text_pair="b")
    result = load(package).evaluate(recipe=recipe(task, Files(train=path, validation=path)))
    short = [(a, b) for a, b in pairs if len(a.split()) + len(b.split()) <= 21]
    assert 0 < len(short) < len(pairs)
    assert result["n"] == len(short)
    values = Predictor.load(package).outputs(short)["logits"][:, 0]
    assert result["scores"]["mse"]["value"] == pytest.approx(float(np.mean((values - 0.5) ** 2)), rel=1e-4)


def test_what_does_not_fit_is_refused(classifier_run: Path, tmp_path: Path) -> None:
    path = write_lines(tmp_path / "rows.jsonl", [{"text": "a", "label": "calm"}, {"text": "b", "label": "sad"}])
    data = Files(train=path, validation=path)
    with pytest.raises(DataError, match=r"'valid'.*Did you mean 'validation'"):
        load(classifier_run).evaluate(recipe=recipe(TextClassification(), data), split="valid")
    with pytest.raises(PackageError, match="answers as TextClassification"):
        load(classifier_run).evaluate(recipe=recipe(Regression("text", score="label"), data))
