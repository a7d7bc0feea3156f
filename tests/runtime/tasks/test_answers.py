"""From outputs of features to answers of examples, and what packages of older versions mean."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hf_trainpipe.runtime.errors import InputError, SchemaError
from hf_trainpipe.runtime.model.outputs import Outputs
from hf_trainpipe.runtime.safety.older import translated
from hf_trainpipe.runtime.tasks import (
    MultiLabelClassification,
    Regression,
    Requests,
    TextClassification,
    TokenClassification,
)
from hf_trainpipe.runtime.tokens.encoding import TextEncoder
from hf_trainpipe.runtime.tokens.features import Features, Ragged, Stream, features_of


def logit(p: float) -> float:
    return float(np.log(p / (1 - p)))


def asked(*inputs: dict[str, Any], places: list[list[tuple[int, int]]] | None = None) -> Requests:
    flat = np.array([place for words in places or () for place in words], dtype=np.int64).reshape(-1, 2)
    starts = np.concatenate([[0], np.cumsum([len(words) for words in places or ()])]).astype(np.int64)
    within = Stream(starts, {"start": Ragged(flat[:, 0]), "end": Ragged(flat[:, 1])})
    features = Features({}, np.zeros(0, np.int32), len(inputs), within=within)
    return Requests(inputs, features, None)  # type: ignore[arg-type]


NOTHING = asked({}, {})


def test_single_label() -> None:
    rows = np.log(np.array([[0.2, 0.7, 0.1], [0.5, 0.2, 0.3]], dtype=np.float32))
    outputs, task = Outputs(np.arange(2), {"logits": rows}), TextClassification(names=("a", "b", "c"))
    best = task.answers(outputs, NOTHING)
    assert [[item["label"] for item in answer] for answer in best] == [["b", "a", "c"], ["a", "c", "b"]]
    assert best[0][0]["score"] == pytest.approx(0.7)
    assert [len(answer) for answer in task.answers(outputs, NOTHING, top_k=2)] == [2, 2]
    for wrong in ({"top_k": 0}, {"top_k": True}, {"top_k": "2"}, {"threshold": 0.5}, {"k": 1}):
        with pytest.raises(InputError, match="parameters"):
            task.check_parameters(wrong)


def test_multi_label() -> None:
    rows = np.array([[logit(0.6), logit(0.9)], [logit(0.1), logit(0.4)]], dtype=np.float32)
    outputs = Outputs(np.arange(2), {"logits": rows})

    def names(threshold: Any = 0.5, **parameters: Any) -> list[list[str]]:
        task = MultiLabelClassification(names=("a", "b"), threshold=threshold)
        return [[item["label"] for item in answer] for answer in task.answers(outputs, NOTHING, **parameters)]

    assert names() == [["b", "a"], []]
    assert names(0.05) == [["b", "a"], ["b", "a"]]
    assert names((0.7, 0.3)) == [["b"], ["b"]]
    assert names(threshold=0.5, top_k=1) == [["b"], []]


def test_regression() -> None:
    outputs = Outputs(np.arange(2), {"logits": np.array([[1.5], [-2.0]], dtype=np.float32)})
    assert Regression().answers(outputs, NOTHING) == [{"score": 1.5}, {"score": -2.0}]
    assert Regression(low=0.0).answers(outputs, NOTHING) == [{"score": 1.5}, {"score": 0.0}]


def manifest(kind: str, *labels: str, inputs: str = "text", **options: Any) -> dict[str, Any]:
    decoder = {"kind": kind, "labels": list(labels), "options": options}
    return {"schema": 1, "name": "x", "decoder": decoder, "inputs": inputs, "tokens": {}}


def test_packages_of_older_versions_are_translated() -> None:
    found = translated(manifest("multi_label", "a", "b", inputs="pair", threshold=[0.7, 0.3]), where="x")
    assert found["task"]["kind"] == "MultiLabelClassification"
    assert (found["task"]["threshold"], found["task"]["text_pair"]) == ([0.7, 0.3], "text_pair")
    assert (found["about"]["reads"], found["about"]["answers"]) == ("pair", "multi_label")
    columns = {"inputs": ["review"], "target": "stars", "rename": {"Text": "review"}, "join": {}}
    named = translated({**manifest("single_label", "a", "b"), "columns": columns}, where="x")
    assert (named["about"]["columns"], named["about"]["target"]) == ({"text": "review"}, "stars")
    assert named["columns"] == {"rename": {"Text": "review"}, "join": {}}
    tags = translated(
        {**manifest("tags", "O", "B-X", inputs="words", scheme="BILOU"), "splitter": "blank:en"}, where="x"
    )
    assert (tags["task"]["scheme"], tags["task"]["splitter"]) == ("BIOES", "blank:en")


def test_older_packages_that_are_wrong_are_refused() -> None:
    with pytest.raises(SchemaError, match="found 'magic'"):
        translated(manifest("magic"), where="x")
    with pytest.raises(SchemaError, match="found 'thresold'"):
        translated(manifest("multi_label", "a", thresold=0.5), where="x")
    with pytest.raises(SchemaError, match="scheme"):
        translated(manifest("tags", "O", inputs="words", scheme="IO"), where="x")
    for threshold in ([0.5], 2, "0.5", [0.5, None]):
        with pytest.raises(SchemaError, match="threshold"):
            translated(manifest("multi_label", "a", "b", threshold=threshold), where="x")


def test_windows_are_merged(tokenizer: Any) -> None:
    texts = ["a b c d e f g h", "a", "a b c d e f"]
    encoded = TextEncoder(tokenizer, max_length=6, overflow="window", stride=0).texts(texts)
    assert encoded.example.tolist() == [0, 0, 1, 2, 2]
    logits = np.array([[1, 8], [2, 0], [3, 4], [6, 2]], dtype=np.float32)
    outputs = Outputs(np.array([3, 0, 4, 1]), {"logits": logits})  # of examples 2, 0, 2, 0
    mean = TextClassification().merge(outputs, encoded)
    assert mean.items.tolist() == [0, 2]
    assert mean["logits"].tolist() == [[4, 1], [2, 6]]
    assert MultiLabelClassification().merge(outputs, encoded)["logits"].tolist() == [[6, 2], [3, 8]]
    one_each = Regression().merge(Outputs(np.array([3, 2]), {"logits": logits[:2]}), encoded)
    assert (one_each.items.tolist(), one_each["logits"].tolist()) == ([1, 2], [[2, 0], [1, 8]])


@settings(max_examples=60, deadline=None)
@given(
    sizes=st.lists(st.integers(0, 26), min_size=1, max_size=4),
    max_length=st.integers(4, 12),
    stride=st.integers(0, 5),
    seed=st.integers(0, 9),
)
def test_windows_give_back_the_rows_of_words_in_order(
    tokenizer: Any, sizes: list[int], max_length: int, stride: int, seed: int
) -> None:
    sentences = [list("abcdefghijklmnopqrstuvwxyz"[:size]) for size in sizes]
    encoder = TextEncoder(tokenizer, max_length=max_length, overflow="window", stride=min(stride, max_length - 3))
    encoded = encoder.words(sentences)
    stream, task = encoded.input, TokenClassification()
    features = np.random.default_rng(seed).permutation(len(encoded.example))
    # The "logits" of a token say which token it is.
    rows = [
        [
            [float(stream["input_ids"][t])]
            for t in range(stream.starts[f], stream.starts[f + 1])
            if stream["words"][t] >= 0
        ]
        for f in features
    ]
    logits = np.array([row for found in rows for row in found], dtype=np.float32).reshape(-1, 1)
    starts = np.concatenate([[0], np.cumsum([len(found) for found in rows])]).astype(np.int64)
    merged = task.merge(Outputs(features, {"logits": logits}, {"logits": starts}), encoded)
    assert merged.items.tolist() == list(range(len(sizes)))
    assert np.diff(merged.starts["words"]).tolist() == sizes
    expected = [tokenizer.convert_tokens_to_ids(word) for words in sentences for word in words]
    assert merged["logits"][:, 0].tolist() == expected
    assert merged["words"].tolist() == [i for size in sizes for i in range(size)]
    part = features_of(encoded, [len(sizes) - 1])
    last = task.merge(Outputs(part, {"logits": np.zeros((sizes[-1], 1), np.float32)}), encoded)
    assert last.items.tolist() == [len(sizes) - 1]


def tag_outputs(labels: tuple[str, ...], tags: list[str], probability: float = 0.8) -> Outputs:
    rest = (1 - probability) / (len(labels) - 1)
    rows = [[np.log(probability if label == tag else rest) for label in labels] for tag in tags]
    starts, words = np.array([0, len(tags)]), np.arange(len(tags), dtype=np.int32)
    arrays = {"logits": np.array(rows, dtype=np.float32), "words": words}
    return Outputs(np.array([0]), arrays, {"logits": starts, "words": starts})


def test_tags() -> None:
    task = TokenClassification(names=("O", "B-PER", "I-PER", "B-LOC", "I-LOC"))
    text = "Anna  Smith left New York"
    places = [(0, 4), (6, 11), (12, 16), (17, 20), (21, 25)]
    outputs = tag_outputs(task.label_names, ["B-PER", "I-PER", "O", "I-LOC", "I-LOC"])
    entities = task.answers(outputs, asked({"text": text}, places=[places]))[0]
    assert entities == [
        {"label": "PER", "text": "Anna  Smith", "start": 0, "end": 11, "score": pytest.approx(0.8)},
        {"label": "LOC", "text": "New York", "start": 17, "end": 25, "score": pytest.approx(0.8)},
    ]
    numbered = task.answers(outputs, asked({"words": text.split()}))[0]
    assert numbered[0] == {"label": "PER", "text": "Anna Smith", "start": 0, "end": 2, "score": pytest.approx(0.8)}
    each = task.answers(outputs, asked({"text": text}, places=[places]), aggregation="none")[0]
    assert [item["label"] for item in each] == ["B-PER", "I-PER", "O", "I-LOC", "I-LOC"]
    longer = asked({"text": f"{text} cut"}, places=[[*places, (26, 29)]])
    assert task.answers(outputs, longer, aggregation="none")[0][5]["label"] is None
    assert task.answers(outputs, longer)[0] == entities
    with pytest.raises(InputError, match=r"parameters\.aggregation"):
        task.check_parameters({"aggregation": "max"})
