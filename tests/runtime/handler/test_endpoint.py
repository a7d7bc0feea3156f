"""The handler through its whole contract: what an endpoint is sent, and what it answers."""

from __future__ import annotations

import json
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from hf_trainpipe.runtime.errors import InputError
from hf_trainpipe.runtime.handler.endpoint import EndpointHandler

MakePackage = Callable[..., Path]
TAGS = ("O", "B-PER", "I-PER", "B-LOC", "I-LOC")


def ask(folder: Path, inputs: Any, **parameters: Any) -> Any:
    answer = EndpointHandler(str(folder))({"inputs": inputs, "parameters": parameters})
    assert json.loads(json.dumps(answer)) == answer, "JSON throughout"
    return answer


def test_pairs_one_and_several(make_package: MakePackage) -> None:
    folder = make_package(kind="single_label", inputs="pair")
    pair = {"text": "the cat", "text_pair": "the dog sat"}
    one = ask(folder, pair)
    assert [set(item) for item in one] == [{"label", "score"}] * 2
    assert sum(item["score"] for item in one) == pytest.approx(1.0)
    several = ask(folder, [pair, ["the dog sat", "the cat"]], top_k=1)
    assert several[0][0]["score"] == pytest.approx(one[0]["score"], abs=1e-6)
    with pytest.raises(InputError, match=r"inputs\[0\]: expected a pair of texts.*found str") as caught:
        ask(folder, ["the cat", "the dog"])
    assert "text_pair" in caught.value.fix


def test_a_long_text_is_answered_from_all_its_windows(make_package: MakePackage) -> None:
    """The mean of the windows' logits; each window is what fits, and neighbours overlap by the stride."""
    folder = make_package(tokens={"max_length": 12, "overflow": "window", "stride": 4})
    text = "the cat sat good bad dog left rome anna good sat the dog cat"
    words = text.split()
    handler = EndpointHandler(str(folder))
    whole = handler({"inputs": text})
    parts = [" ".join(words[:10]), " ".join(words[4:])]
    logits = handler.predictor.outputs(parts)["logits"].mean(axis=0)
    expected = np.exp(logits) / np.exp(logits).sum()
    assert {item["label"]: item["score"] for item in whole} == pytest.approx(
        {"negative": float(expected[0]), "positive": float(expected[1])}, abs=1e-5
    )


def test_thresholds_of_the_package_and_of_the_request(make_package: MakePackage) -> None:
    labels = ("joy", "anger", "fear")
    folder = make_package(kind="multi_label", labels=labels, options={"threshold": [0.0, 1.0, 0.0]})
    every = ask(folder, "the cat", threshold=0.0)
    assert [item["score"] for item in every] == sorted((item["score"] for item in every), reverse=True)
    assert {item["label"] for item in every} == set(labels)
    assert {item["label"] for item in ask(folder, "the cat")} == {"joy", "fear"}
    assert ask(folder, "the cat", threshold=1.0) == []
    assert ask(folder, "the cat", threshold=0.0, top_k=1) == every[:1]
    middle = every[1]["score"]
    assert [item["label"] for item in ask(folder, "the cat", threshold=middle)] == [x["label"] for x in every[:2]]


def test_tags_with_places_in_long_texts(make_package: MakePackage) -> None:
    folder = make_package(
        kind="tags",
        labels=TAGS,
        options={"scheme": "BIO"},
        inputs="words",
        splitter="regex",
        tokens={"max_length": 12, "overflow": "window", "stride": 4},
    )
    text = "\U0001f600 Anna  left Rome; the cat sat. " * 6
    each = ask(folder, text, aggregation="none")
    assert [item["text"] for item in each] == [text[item["start"] : item["end"]] for item in each]
    assert "".join(item["text"] for item in each) == "".join(text.split()), "no word is lost between windows"
    assert None not in {item["label"] for item in each}
    entities = ask(folder, text)
    assert entities == ask(folder, text, aggregation="simple")
    starts = {item["start"] for item in each}
    assert all(item["start"] in starts and text[item["start"] : item["end"]] == item["text"] for item in entities)
    assert all(a["end"] <= b["start"] for a, b in pairwise(entities))
    by_word = ask(folder, [{"words": ["Anna", "left"]}], aggregation="none")[0]
    assert [(item["text"], item["start"], item["end"]) for item in by_word] == [("Anna", 0, 1), ("left", 1, 2)]


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ({"inputs": "a", "parameters": {"top_k": True}}, r"parameters\.top_k: expected a whole number.*found True"),
        ({"inputs": "a", "parameters": {"threshold": 2}}, "expected top_k, found 'threshold'"),
        ({"inputs": "a", "parameters": {"inputs": ["b"]}}, "expected top_k, found 'inputs'"),
        ({"inputs": "a", "parameters": {"batch_tokens": 1}}, "expected top_k, found 'batch_tokens'"),
        ({"inputs": "a", "parameters": {1: 1}}, "expected top_k, found 1"),
        ({"inputs": "a", "parameters": 0}, "parameters: expected an object, found int"),
        ({"inputs": {"text": "a", "text_pair": "b"}}, r"inputs\[0\]: expected a text"),
        ({"x" * 1000: 1}, r"found the keys \['x{60,80}\.\.\."),
        ({"inputs": "a", "y" * 1000: 1}, r"found 'y{60,80}\.\.\."),
    ],
)
def test_errors_say_what_was_expected_and_found(make_package: MakePackage, body: Any, message: str) -> None:
    with pytest.raises(InputError, match=message) as caught:
        EndpointHandler(str(make_package()))(body)
    assert caught.value.fix
