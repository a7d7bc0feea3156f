"""Every recipe trains a few real steps, packages and verifies with its own columns, offline."""

from __future__ import annotations

import json
import random
import runpy
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from hf_trainpipe import Budget, Data, Evaluation, Pretrained, Recipe, RunOptions, Scratch, Tokens, execute, replace
from hf_trainpipe.api.package import load as load_package
from hf_trainpipe.recipe_file import load
from hf_trainpipe.runtime.handler.predictor import Predictor
from hf_trainpipe.runtime.model.outputs import Outputs
from hf_trainpipe.runtime.tasks.base import Requests
from hf_trainpipe.testing import PLAIN, tiny_causal_model, tiny_rows, tiny_seq2seq, tiny_tagged
from tests.nightly import at_night

FILES = sorted((Path(__file__).resolve().parents[2] / "recipes").glob("*.py"))
RECIPES = [path for path in FILES if path.stem != "pipeline"]
ALIKE = ("ag_news", "sst2_lora", "stsb_embeddings")
"""Recipes of a task that another recipe has too."""
Row = dict[str, Any]


def texts(count: int, seed: int) -> list[str]:
    return [row["text"] for row in tiny_rows(count, seed=seed)]


def single(text: str, label: str, names: tuple[str, ...]) -> Callable[[int, int], list[Row]]:
    return lambda count, seed: [
        {text: sentence, label: names[position % len(names)]} for position, sentence in enumerate(texts(count, seed))
    ]


def pairs(first: str, second: str, label: str, values: tuple[Any, ...]) -> Callable[[int, int], list[Row]]:
    return lambda count, seed: [
        {first: one, second: other, label: values[position % len(values)]}
        for position, (one, other) in enumerate(zip(texts(count, seed), texts(count, seed + 50), strict=True))
    ]


def many(count: int, seed: int) -> list[Row]:
    generator = random.Random(seed)
    return [{"text": sentence, "labels": generator.sample(range(28), 2)} for sentence in texts(count, seed)]


def tagged(words: str, tags: str) -> Callable[[int, int], list[Row]]:
    return lambda count, seed: [{words: row["tokens"], tags: row["tags"]} for row in tiny_tagged(count, seed=seed)]


def parts_of_speech(count: int, seed: int) -> list[Row]:
    return [
        {"tokens": row["tokens"], "upos": ["DET" if word in PLAIN else "PROPN" for word in row["tokens"]]}
        for row in tiny_tagged(count, seed=seed)
    ]


def questions(count: int, seed: int) -> list[Row]:
    rows = []
    for position, context in enumerate(texts(count, seed)):
        answer = context.split()[position % 3]
        answers = {"text": [answer], "answer_start": [context.index(answer)]}
        rows.append({"question": "how was it?", "context": context, "answers": answers})
    return rows


def choices(count: int, seed: int) -> list[Row]:
    rows = []
    for position, text in enumerate(texts(count, seed)):
        endings = [text.split()[place] for place in range(3)][: 2 + position % 2]
        label = position % len(endings)
        rows.append({"question_propmt": text, "candidate_answers": endings, "correct_answer_idx": label})
    return rows


COLUMNS: dict[str, Callable[[int, int], list[Row]]] = {
    "sst2": single("sentence", "label", ("negative", "positive")),
    "sst2_lora": single("sentence", "label", ("negative", "positive")),
    "ag_news": single("text", "label", ("World", "Sports", "Business", "Sci/Tech")),
    "banking77": single("text", "label", ("card_arrival", "card_linking", "exchange_rate")),
    "go_emotions": many,
    "sick": pairs("sentence_A", "sentence_B", "label", ("entailment", "neutral", "contradiction")),
    "stsb": pairs("sentence1", "sentence2", "label", (0.0, 2.5, 4.2)),
    "wnut17": tagged("tokens", "ner_tags"),
    "ud_pos": parts_of_speech,
    "squad": questions,
    "stsb_embeddings": pairs("sentence1", "sentence2", "label", (0.0, 2.5, 4.2)),
    "retrieval": questions,
    "codah": choices,
    "alpaca_sft": lambda count, seed: [
        {"instruction": text[:9], "input": "it" * (place % 2), "output": text[-6:]}
        for place, text in enumerate(texts(count, seed))
    ],
    "dpo": lambda count, seed: [
        {
            name: [{"role": "user", "content": text[:9]}, {"role": "assistant", "content": answer}]
            for name, answer in (("chosen", text[-6:]), ("rejected", text[:6]))
        }
        for text in texts(count, seed)
    ],
    "multi30k": lambda count, seed: [{"en": text, "de": text[::-1]} for text in texts(count, seed)],
    "dialogsum": lambda count, seed: [{"dialogue": text, "summary": text[:20]} for text in texts(count, seed)],
    "shakespeare": lambda count, seed: [{"text": text} for text in texts(count, seed)],
    "reranker": questions,
    "mlm": lambda count, seed: [{"text": text} for text in texts(count, seed)],
}


@dataclass(frozen=True)
class Rows(Data):
    """Rows made by code, with the columns that the recipe's own data set has."""

    recipe: str

    def splits(self):
        from datasets import Dataset, DatasetDict

        make = COLUMNS[self.recipe]
        return DatasetDict(
            {
                name: Dataset.from_list(make(count, seed))
                for name, count, seed in (("train", 48, 1), ("validation", 20, 2), ("test", 15, 3))
            }
        )

    def describe(self) -> str:
        return f"rows like those of {self.recipe}"


def as_outputs(recorded: list[dict[str, Any]]) -> Outputs:
    """The logits of the evaluation, as it kept them."""
    logits = [np.array(line["output"], dtype=np.float32) for line in recorded]
    numbers = np.arange(len(logits))
    if logits[0].ndim == 1 and len({len(one) for one in logits}) == 1:
        return Outputs(numbers, {"logits": np.stack(logits)})
    counts = [len(rows) for rows in logits]
    words, starts = np.concatenate([np.arange(count) for count in counts]), np.concatenate([[0], np.cumsum(counts)])
    return Outputs(numbers, {"logits": np.concatenate(logits), "words": words}, {"logits": starts, "words": starts})


def comparable(answer: Any) -> list[tuple[str, float]]:
    items = answer if isinstance(answer, list) else [answer]
    scored = [
        (item, score) for item in items for score in item.get("scores", [item.get("score", item.get("similarity"))])
    ]
    return sorted((f"{item.get('label')} {item.get('start')} {item.get('end')}", score) for item, score in scored)


def model_of(recipe: Recipe, folder: Path, place: Path) -> Pretrained:
    """A tiny model for the recipe's."""
    if isinstance(recipe.model, Scratch):
        sizes = {name: min(64, size) if type(size) is int else size for name, size in recipe.model.config.items()}
        return replace(recipe.model, vocabulary=400, config=sizes)
    if recipe.task.schema().model == "AutoModelForSeq2SeqLM":
        return Pretrained(str(tiny_seq2seq(place / "model")))
    if recipe.task.schema().model == "AutoModelForCausalLM":
        return Pretrained(str(tiny_causal_model(place / "model")), lora=recipe.model.lora)
    return Pretrained(str(folder / "model"), lora=recipe.model.lora)


@pytest.mark.parametrize(
    "path",
    [
        *at_night(*(path for path in RECIPES if path.stem in ALIKE)),
        *(path for path in RECIPES if path.stem not in ALIKE),
    ],
    ids=lambda path: path.stem,
)
def test_recipe_trains_packages_and_answers(path, workshop, tmp_path, monkeypatch) -> None:
    monkeypatch.setenv("HF_TRAINPIPE_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    recipe, source = load(str(path))
    assert "Run the same command again" in (path.read_text())
    recipe = replace(
        recipe,
        model=model_of(recipe, workshop.folder, tmp_path),
        tokens=replace(recipe.tokens, max_length=50 if path.stem in ("alpaca_sft", "dpo") else 24, stride=4),
        task=replace(recipe.task, max_new_tokens=8) if recipe.task.generates else recipe.task,
        budget=Budget(max_steps=3, examples_per_step=16, log_every=1),
        evaluation=replace(recipe.evaluation, resamples=20),
        data=Rows(path.stem) if path.stem in COLUMNS else recipe.data,
    )
    result = execute(recipe, run_dir=tmp_path / "run", options=RunOptions(source=source))

    assert result.verified["passed"]
    assert result.verified["max_abs_diff"] <= 1e-5
    selected = result.scores["validation"][result.select]
    assert selected["low"] <= selected["value"] <= selected["high"]
    again = load_package(result.package).evaluate(recipe=recipe, split="validation")
    for name, score in again["scores"].items():
        assert score["value"] == pytest.approx(result.scores["validation"][name]["value"], abs=1e-5), name
    recorded = [json.loads(line) for line in (tmp_path / "run/recorded.jsonl").read_text().splitlines()]
    assert len(recorded) == min(len(recipe.data.splits()["validation"]), recipe.task.num_recorded)
    handler = runpy.run_path(str(result.package / "handler.py"))["EndpointHandler"](str(result.package))
    answers = handler({"inputs": [line["input"] for line in recorded]})
    loaded = Predictor.load(result.package)
    inputs = [line["input"] for line in recorded]
    asked = Requests(
        [loaded.open([given]).examples[0].values for given in inputs], loaded.features(inputs), loaded.encoder
    )
    if "ids" in loaded.task.recorded:
        for found, line in zip(answers, recorded, strict=True):
            ids = line["output"]["ids"] if isinstance(line["output"], dict) else line["output"]
            text = found.get("generated_text") or next(iter(found.values()))
            assert text.startswith(loaded.tokenizer.decode(ids, skip_special_tokens=True).strip())
        return
    if loaded.task.recorded == ("score", "given"):
        assert answers == [[]] * len(recorded), "texts of the data have no masks to be answered"
        return
    if loaded.task.schema().answers == "ranking":
        told = [[{"score": 1 / (1 + np.exp(-row[0]))} for row in line["output"]] for line in recorded]
    elif loaded.task.recorded == ("logits",):
        told = loaded.task.answers(as_outputs(recorded), asked)
    elif loaded.task.recorded == ("embedding",):
        told = [{"similarity": float(np.dot(*line["output"]))} for line in recorded]
    else:
        told = [line["output"] for line in recorded]
    for found, expected in zip(answers, told, strict=True):
        assert [key for key, _ in comparable(found)] == [key for key, _ in comparable(expected)]
        scores = [score for _, score in comparable(expected)]
        assert [score for _, score in comparable(found)] == pytest.approx(scores, abs=1e-5)


def test_sentence_transformers_loads_a_package_and_gives_its_vectors(workshop, tmp_path, monkeypatch) -> None:
    libraries = pytest.importorskip("sentence_transformers")
    monkeypatch.setenv("HF_TRAINPIPE_CACHE", str(tmp_path / "cache"))
    recipe = replace(
        load(str(RECIPES[0].with_name("retrieval.py")))[0],
        model=Pretrained(str(workshop.folder / "model")),
        data=Rows("retrieval"),
        tokens=Tokens(max_length=24),
        budget=Budget(max_steps=1, examples_per_step=16),
        evaluation=Evaluation(resamples=20),
    )
    asked = texts(20, seed=9)
    for name, fields in (
        ("mean", {"prompt": "a ", "pair_prompt": "the "}),
        ("cls", {"pooling": "cls", "normalize": False}),
    ):
        result = execute(replace(recipe, task=replace(recipe.task, **fields)), run_dir=tmp_path / name)
        ours, theirs = load_package(result.package), libraries.SentenceTransformer(str(result.package), device="cpu")
        for role, encode in (("text", theirs.encode_query), ("text_pair", theirs.encode_document)):
            found = [answer["embedding"] for answer in ours.predict([{role: text} for text in asked])]
            assert np.abs(np.array(found) - encode(asked)).max() <= 1e-5


def test_a_cross_encoder_of_sentence_transformers_gives_the_scores_of_a_package(
    workshop, tmp_path, monkeypatch
) -> None:
    libraries = pytest.importorskip("sentence_transformers")
    monkeypatch.setenv("HF_TRAINPIPE_CACHE", str(tmp_path / "cache"))
    recipe = replace(
        load(str(RECIPES[0].with_name("reranker.py")))[0],
        model=Pretrained(str(workshop.folder / "model")),
        data=Rows("reranker"),
        tokens=Tokens(max_length=64),
        budget=Budget(max_steps=1, examples_per_step=16),
        evaluation=Evaluation(resamples=20),
    )
    result = execute(recipe, run_dir=tmp_path / "run")
    documents = texts(8, seed=9)
    [answer] = load_package(result.package).predict([{"query": "how was it?", "documents": documents}])
    theirs = libraries.CrossEncoder(str(result.package), device="cpu").predict(
        [("how was it?", text) for text in documents]
    )
    assert [item["score"] for item in sorted(answer, key=lambda item: item["index"])] == pytest.approx(theirs, abs=1e-5)


def test_every_recipe_has_a_sibling_on_files() -> None:
    for path in RECIPES:
        assert load(f"{path}:files")[0].name == f"{path.stem}-files"
        lines = path.read_text().splitlines()
        assert len(lines) <= 75, path
