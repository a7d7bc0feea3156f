from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import DistilBertConfig, DistilBertForSequenceClassification

from hf_trainpipe.runtime.errors import InputError, SchemaError
from hf_trainpipe.runtime.model.inference import forward, token_budget_batches
from hf_trainpipe.runtime.tasks.decoding import Decoder, Outputs
from hf_trainpipe.runtime.tokens.encoding import TextEncoder, features_of

TEXTS = ["the cat sat", "good dog , bad cat . anna left rome", "a", "", "the dog sat and the cat left " * 3]


@given(st.lists(st.integers(1, 50), max_size=30), st.integers(1, 120))
def test_batches_keep_the_budget(lengths: list[int], budget: int) -> None:
    sizes = np.array(lengths, dtype=np.int64)
    batches = list(token_budget_batches(sizes, max_tokens=budget))
    assert sorted(int(i) for batch in batches for i in batch) == list(range(len(sizes)))
    for batch in batches:
        assert len(batch) == 1 or len(batch) * int(sizes[batch].max()) <= budget


@pytest.mark.parametrize("max_tokens", [1, 40, 10_000])
def test_rows_follow_the_features(tokenizer: Any, make_model: Callable[..., Any], max_tokens: int) -> None:
    model = make_model(["a", "b", "c"]).train()
    encoded = TextEncoder(tokenizer, max_length=24).texts(TEXTS, TEXTS[::-1])
    features = np.array([3, 0, 4, 1])
    logits = forward(
        model, encoded, features=features, level="sequence", max_tokens=max_tokens, pad_id=tokenizer.pad_token_id
    )
    assert model.training
    model.eval()
    for row, i in zip(logits, features, strict=True):
        batch = tokenizer([TEXTS[i]], [TEXTS[::-1][i]], truncation=True, max_length=24, return_tensors="pt")
        with torch.no_grad():
            np.testing.assert_allclose(row, model(**batch).logits[0].numpy(), atol=1e-5)


def test_token_rows_follow_the_features(tokenizer: Any, make_model: Callable[..., Any]) -> None:
    model = make_model(["O", "B-X", "I-X"], level="token")
    sentences = [["the", "xyz", "sat"], [], ["cat"], ["anna", "left", "rome", "."]]
    encoded = TextEncoder(tokenizer, max_length=24).words(sentences)
    chosen = np.array([3, 1, 0])
    logits = forward(model, encoded, features=chosen, level="token", max_tokens=16, pad_id=0)
    assert encoded.words is not None
    expected = []
    for i in chosen:
        a, b = encoded.starts[i], encoded.starts[i + 1]
        with torch.no_grad():
            out = model(input_ids=torch.from_numpy(encoded.ids[a:b].astype(np.int64))[None]).logits[0].numpy()
        expected.append(out[encoded.words[a:b] >= 0])
    np.testing.assert_allclose(logits, np.concatenate(expected), atol=1e-5)


def test_models_without_token_types(tokenizer: Any) -> None:
    config = DistilBertConfig(vocab_size=len(tokenizer), dim=32, n_layers=1, n_heads=2, hidden_dim=32, num_labels=2)
    model = torch.nn.DataParallel(DistilBertForSequenceClassification(config))
    encoded = TextEncoder(tokenizer, max_length=24).texts(TEXTS, TEXTS)
    assert encoded.types is not None
    logits = forward(model, encoded, features=np.arange(5), level="sequence", max_tokens=64, pad_id=0)
    assert logits.shape == (5, 2)
    nothing = forward(model.module, encoded, features=np.arange(0), level="sequence", max_tokens=64, pad_id=0)
    assert nothing.shape == (0, 2)


def decoder(kind: str, *labels: str, **options: Any) -> Decoder:
    found = Decoder.from_json({"kind": kind, "labels": list(labels), "options": options})
    assert found.to_json() == {"kind": kind, "labels": list(labels), "options": options}
    return found


def logit(p: float) -> float:
    return float(np.log(p / (1 - p)))


def test_single_label() -> None:
    outputs = Outputs(np.arange(2), np.log(np.array([[0.2, 0.7, 0.1], [0.5, 0.2, 0.3]], dtype=np.float32)))
    single = decoder("single_label", "a", "b", "c")
    best = single.answers(outputs)
    assert [[item["label"] for item in answer] for answer in best] == [["b", "a", "c"], ["a", "c", "b"]]
    assert best[0][0]["score"] == pytest.approx(0.7)
    assert [len(answer) for answer in single.answers(outputs, top_k=2)] == [2, 2]
    for wrong in ({"top_k": 0}, {"top_k": True}, {"top_k": "2"}, {"threshold": 0.5}, {"k": 1}):
        with pytest.raises(InputError, match="parameters"):
            single.answers(outputs, **wrong)


def test_multi_label() -> None:
    outputs = Outputs(np.arange(2), np.array([[logit(0.6), logit(0.9)], [logit(0.1), logit(0.4)]], dtype=np.float32))

    def names(found: Decoder, **parameters: Any) -> list[list[str]]:
        return [[item["label"] for item in answer] for answer in found.answers(outputs, **parameters)]

    assert names(decoder("multi_label", "a", "b")) == [["b", "a"], []]
    assert names(decoder("multi_label", "a", "b", threshold=0.05)) == [["b", "a"], ["b", "a"]]
    assert names(decoder("multi_label", "a", "b", threshold=[0.7, 0.3])) == [["b"], ["b"]]
    assert names(decoder("multi_label", "a", "b"), threshold=0.05, top_k=1) == [["b"], ["b"]]
    for threshold in ([0.5], 2, "0.5", [0.5, None]):
        with pytest.raises(SchemaError, match="threshold"):
            decoder("multi_label", "a", "b", threshold=threshold)


def test_regression() -> None:
    outputs = Outputs(np.arange(2), np.array([[1.5], [-2.0]], dtype=np.float32))
    assert decoder("regression").answers(outputs) == [{"score": 1.5}, {"score": -2.0}]


def test_unknown_decoders_and_options() -> None:
    with pytest.raises(SchemaError, match="found 'magic'"):
        Decoder.from_json({"kind": "magic", "labels": [], "options": {}})
    with pytest.raises(SchemaError, match="found 'thresold'"):
        decoder("multi_label", "a", thresold=0.5)
    with pytest.raises(SchemaError, match="found 'IO'"):
        decoder("tags", "O", scheme="IO")


def test_windows_are_merged(tokenizer: Any) -> None:
    texts = ["a b c d e f g h", "a", "a b c d e f"]
    encoded = TextEncoder(tokenizer, max_length=6, overflow="window", stride=0).texts(texts)
    assert encoded.example.tolist() == [0, 0, 1, 2, 2]
    features = np.array([3, 0, 4, 1])  # of examples 2, 0, 2, 0
    logits = np.array([[1, 8], [2, 0], [3, 4], [6, 2]], dtype=np.float32)
    mean = decoder("single_label", "a", "b").merge(logits, encoded, features)
    assert mean.examples.tolist() == [0, 2]
    assert mean.outputs.tolist() == [[4, 1], [2, 6]]
    assert decoder("multi_label", "a", "b").merge(logits, encoded, features).outputs.tolist() == [[6, 2], [3, 8]]
    one_each = decoder("regression").merge(logits[:2], encoded, np.array([3, 2]))
    assert (one_each.examples.tolist(), one_each.outputs.tolist()) == ([1, 2], [[2, 0], [1, 8]])


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
    assert encoded.words is not None
    features = np.random.default_rng(seed).permutation(len(encoded.example))
    # The "logits" of a token say which token it is.
    rows = [
        [float(encoded.ids[t])]
        for f in features
        for t in range(encoded.starts[f], encoded.starts[f + 1])
        if encoded.words[t] >= 0
    ]
    logits = np.array(rows, dtype=np.float32).reshape(-1, 1)
    merged = decoder("tags", "O", scheme="BIO").merge(logits, encoded, features)
    assert merged.word_starts is not None
    assert merged.words is not None
    assert merged.examples.tolist() == list(range(len(sizes)))
    assert np.diff(merged.word_starts).tolist() == sizes
    expected = [tokenizer.convert_tokens_to_ids(word) for words in sentences for word in words]
    assert merged.outputs[:, 0].tolist() == expected
    assert merged.words.tolist() == [i for size in sizes for i in range(size)]
    part = features_of(encoded, [len(sizes) - 1])
    last = decoder("tags", "O").merge(np.zeros((sizes[-1], 1), np.float32), encoded, part)
    assert last.examples.tolist() == [len(sizes) - 1]


def tag_outputs(labels: list[str], tags: list[str], probability: float = 0.8) -> Outputs:
    rest = (1 - probability) / (len(labels) - 1)
    rows = [[np.log(probability if label == tag else rest) for label in labels] for tag in tags]
    words = np.arange(len(tags), dtype=np.int32)
    return Outputs(np.array([0]), np.array(rows, dtype=np.float32), np.array([0, len(tags)]), words)


def test_tags() -> None:
    labels = ["O", "B-PER", "I-PER", "B-LOC", "I-LOC"]
    bio = decoder("tags", *labels, scheme="BIO")
    text = "Anna  Smith left New York"
    words = [("Anna", 0, 4), ("Smith", 6, 11), ("left", 12, 16), ("New", 17, 20), ("York", 21, 25)]
    outputs = tag_outputs(labels, ["B-PER", "I-PER", "O", "I-LOC", "I-LOC"])
    entities = bio.answers(outputs, words=[words], texts=[text])[0]
    assert entities == [
        {"label": "PER", "text": "Anna  Smith", "start": 0, "end": 11, "score": pytest.approx(0.8)},
        {"label": "LOC", "text": "New York", "start": 17, "end": 25, "score": pytest.approx(0.8)},
    ]
    numbered = bio.answers(outputs, words=[words])[0]
    assert numbered[0] == {"label": "PER", "text": "Anna Smith", "start": 0, "end": 2, "score": pytest.approx(0.8)}
    each = bio.answers(outputs, words=[words], texts=[text], aggregation="none")[0]
    assert [item["label"] for item in each] == ["B-PER", "I-PER", "O", "I-LOC", "I-LOC"]
    longer = [[*words, ("cut", 26, 29)]]
    assert bio.answers(outputs, words=longer, texts=[text], aggregation="none")[0][5]["label"] is None
    assert bio.answers(outputs, words=longer, texts=[text])[0] == entities
    with pytest.raises(InputError, match=r"parameters\.aggregation"):
        bio.answers(outputs, words=[words], aggregation="max")
    plain = decoder("tags", "NOUN", "VERB")
    found = plain.answers(tag_outputs(["NOUN", "VERB"], ["NOUN", "VERB"]), words=[words[1:3]], texts=[text])[0]
    assert [(item["label"], item["text"]) for item in found] == [("NOUN", "Smith"), ("VERB", "left")]
