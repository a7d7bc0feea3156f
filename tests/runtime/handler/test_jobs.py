"""Requests that share the model get the answers that each would get alone."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from hf_trainpipe.runtime.bounds import Bounds
from hf_trainpipe.runtime.errors import InputError, TooMuch
from hf_trainpipe.runtime.handler.predictor import Predictor

MakePackage = Callable[..., Path]
TAGS = ("O", "B-PER", "I-PER", "B-LOC", "I-LOC")
WINDOWS = {"max_length": 12, "overflow": "window", "stride": 3}


def close(found: Any, expected: Any) -> bool:
    if isinstance(expected, list):
        return len(found) == len(expected) and all(close(a, b) for a, b in zip(found, expected, strict=True))
    if isinstance(expected, dict):
        return set(found) == set(expected) and all(close(found[key], expected[key]) for key in expected)
    if isinstance(expected, float):
        return abs(found - expected) < 1e-5
    return bool(found == expected)


def answer_together(predictor: Predictor, requests: list[tuple[list[Any], dict[str, Any]]], seed: int) -> list[Any]:
    """All requests through one pool of features, in batches cut at random."""
    jobs = [predictor.open(inputs, **parameters) for inputs, parameters in requests]
    assert predictor.encode(jobs) == {}
    pieces = [(job, feature) for job in jobs for feature in range(job.missing)]
    assert sum(len(job.lengths) for job in jobs) == len(pieces)
    generator = random.Random(seed)
    generator.shuffle(pieces)
    while pieces:
        size = generator.randint(1, 6)
        predictor.run(pieces[:size])
        pieces = pieces[size:]
    return [predictor.answer(job) for job in jobs]


@pytest.mark.parametrize("seed", range(3))
def test_texts_with_windows(make_package: MakePackage, seed: int) -> None:
    predictor = Predictor.load(make_package(kind="multi_label", tokens=WINDOWS))
    requests: list[tuple[list[Any], dict[str, Any]]] = [
        (["the cat", "the cat sat good bad dog left rome anna " * 4], {"threshold": 0.0}),
        ([], {}),
        ([{"text": "good"}], {"top_k": 1}),
        (["bad dog , " * 9], {}),
    ]
    expected = [predictor.predict(inputs, **parameters) for inputs, parameters in requests]
    assert close(answer_together(predictor, requests, seed), expected)


@pytest.mark.parametrize("seed", range(3))
def test_pairs(make_package: MakePackage, seed: int) -> None:
    predictor = Predictor.load(make_package(kind="regression", labels=(), inputs="pair", tokens=WINDOWS))
    pair = {"text": "the cat sat " * 5, "text_pair": "the dog"}
    requests: list[tuple[list[Any], dict[str, Any]]] = [([pair, ("a", "b")], {}), ([("anna left", "rome")], {})]
    expected = [predictor.predict(inputs, **parameters) for inputs, parameters in requests]
    assert close(answer_together(predictor, requests, seed), expected)


@pytest.mark.parametrize("seed", range(3))
def test_tags(make_package: MakePackage, seed: int) -> None:
    folder = make_package(
        kind="tags",
        labels=TAGS,
        options={"scheme": "BIO"},
        inputs="words",
        splitter="regex",
        preprocessing=[{"kind": "StripHtml"}],
        tokens=WINDOWS,
    )
    predictor = Predictor.load(folder)
    requests: list[tuple[list[Any], dict[str, Any]]] = [
        (["<b>Anna</b> left Rome . " * 5, "<p></p>"], {}),
        ([{"words": ["anna", "left"] * 9}, "Anna"], {"aggregation": "none"}),
    ]
    expected = [predictor.predict(inputs, **parameters) for inputs, parameters in requests]
    assert close(answer_together(predictor, requests, seed), expected)


def test_a_text_that_is_too_long_fails_alone(make_package: MakePackage) -> None:
    predictor = Predictor.load(make_package(tokens={"max_length": 12, "overflow": "error", "stride": 0}))
    fine, wrong, other = (
        predictor.open(inputs) for inputs in (["good"], ["bad", "the cat sat good " * 9], ["dog", "cat"])
    )
    refused = predictor.encode([fine, wrong, other])
    assert list(refused) == [wrong]
    assert refused[wrong].data["position"] == 1
    for job in (fine, other):
        predictor.run([(job, feature) for feature in range(job.missing)])
    assert close(predictor.answer(fine) + predictor.answer(other), predictor.predict(["good", "dog", "cat"]))


def test_what_is_wrong_is_refused_before_tokenising(make_package: MakePackage) -> None:
    predictor = Predictor.load(make_package())
    for inputs, parameters in ((["a", ""], {}), (["a"], {"threshold": 0.5}), ("a", {})):
        with pytest.raises(InputError):
            predictor.open(inputs, **parameters)
    assert predictor.open(["abc", {"text": "de"}]).characters == 5


@pytest.mark.parametrize("inputs", ["text", "words"])
def test_a_request_encoded_in_parts_is_the_request(make_package: MakePackage, inputs: str) -> None:
    tags = {"kind": "tags", "labels": TAGS} if inputs == "words" else {}
    predictor = Predictor.load(make_package(inputs=inputs, tokens=WINDOWS, **tags))
    texts = ["the cat", "anna left rome . " * 5, "!", "good", "bad dog , " * 9]
    whole, parted = predictor.open(texts), predictor.open(texts)
    predictor.encode([whole])
    turns = 0
    while parted.prepared is None:
        predictor.encode_part(parted, characters=12)
        turns += 1
    assert turns == 4  # the short ones together
    assert parted.lengths.tolist() == whole.lengths.tolist()
    for job in (whole, parted):
        predictor.run([(job, feature) for feature in range(job.missing)])
    assert close(predictor.answer(parted), predictor.answer(whole))


def test_parts_are_held_to_bounds_and_count_positions_in_the_request(make_package: MakePackage) -> None:
    predictor = Predictor.load(make_package(tokens={**WINDOWS, "max_length": 20, "stride": 16}))
    job = predictor.open(["the cat", "a b c d e f " * 30])
    predictor.encode_part(job, characters=1)
    with pytest.raises(TooMuch, match="expected at most 500 tokens, found"):  # overlapping windows count
        predictor.encode_part(job, characters=1, bounds=Bounds(characters=1000, tokens=500))
    assert isinstance(predictor.encode([job], bounds=Bounds(characters=10, tokens=500))[job], TooMuch)
    strict = Predictor.load(make_package(name="strict", tokens={"max_length": 12, "overflow": "drop", "stride": 0}))
    job = strict.open(["the cat", "good", "bad dog , " * 9])
    strict.encode_part(job, characters=1)
    with pytest.raises(InputError, match="Example 2 has 27 tokens") as caught:
        strict.encode_part(job, characters=1000)
    assert getattr(caught.value, "position", None) == 2
