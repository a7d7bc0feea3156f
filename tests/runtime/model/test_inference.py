from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from transformers import DistilBertConfig, DistilBertForSequenceClassification

from hf_trainpipe.runtime.model.inference import run
from hf_trainpipe.runtime.model.outputs import Output, Outputs, as_lists, concatenate
from hf_trainpipe.runtime.tasks import Regression, TextClassification, TokenClassification
from hf_trainpipe.runtime.tokens.batch import token_budget_batches
from hf_trainpipe.runtime.tokens.encoding import TextEncoder

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
    found = run(model, encoded, task=TextClassification(), chosen=features, max_tokens=max_tokens)
    logits = found["logits"]
    assert found.items.tolist() == features.tolist()
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
    found = run(model, encoded, task=TokenClassification(), chosen=chosen, max_tokens=16)
    logits, stream = found["logits"], encoded.input
    assert np.diff(found.starts["logits"]).tolist() == [4, 0, 3]
    expected = []
    for i in chosen:
        a, b = stream.starts[i], stream.starts[i + 1]
        with torch.no_grad():
            out = model(input_ids=torch.from_numpy(stream["input_ids"][a:b].astype(np.int64))[None]).logits[0].numpy()
        expected.append(out[stream["words"][a:b] >= 0])
    np.testing.assert_allclose(logits, np.concatenate(expected), atol=1e-5)


def test_models_without_token_types(tokenizer: Any) -> None:
    config = DistilBertConfig(vocab_size=len(tokenizer), dim=32, n_layers=1, n_heads=2, hidden_dim=32, num_labels=2)
    model = torch.nn.DataParallel(DistilBertForSequenceClassification(config))
    encoded = TextEncoder(tokenizer, max_length=24).texts(TEXTS, TEXTS)
    assert encoded.input.get("token_type_ids") is not None
    assert run(model, encoded, task=Regression(), chosen=np.arange(5), max_tokens=64)["logits"].shape == (5, 2)
    assert len(run(model.module, encoded, task=Regression(), chosen=np.arange(0), max_tokens=64)["logits"]) == 0


class _Echo(TextClassification):
    """Answers every id that it reads: sequences of a length of their own."""

    outputs: ClassVar = {"ids": Output("sequence", fill=0)}

    def predict(self, model: Any, inputs: Any) -> Any:
        return {"ids": inputs["input_ids"]}


def test_sequences_are_as_long_as_they_are(tokenizer: Any, make_model: Callable[..., Any]) -> None:
    encoded = TextEncoder(tokenizer, max_length=24).texts(TEXTS)
    chosen = np.array([4, 0, 2])
    found = run(make_model(["a"]), encoded, task=_Echo(), chosen=chosen, max_tokens=30)
    stream = encoded.input
    expected = [stream["input_ids"][stream.starts[i] : stream.starts[i + 1]].tolist() for i in chosen]
    assert [found.rows("ids", position).tolist() for position in range(3)] == expected
    assert found["ids"].dtype.kind == "i"


def test_parts_are_joined_by_item() -> None:
    def part(items: list[int]) -> Outputs:
        rows = np.array([10 * item + place for item in items for place in range(item)])
        starts = np.concatenate([[0], np.cumsum(items)])
        return Outputs(np.array(items), {"one": np.array(items) * 2, "many": rows}, {"many": starts})

    joined = concatenate([part([3, 1]), part([2, 0])])
    assert joined.items.tolist() == [0, 1, 2, 3]
    assert joined["one"].tolist() == [0, 2, 4, 6]
    assert joined["many"].tolist() == [10, 20, 21, 30, 31, 32]
    assert as_lists(joined, ("many",), 5) == [[], [10], [20, 21], [30, 31, 32], None]
    assert as_lists(joined, ("one", "many"), 4)[1] == {"one": 2, "many": [10]}
