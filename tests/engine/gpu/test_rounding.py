"""Micro-batches of few shapes: what fills them up changes no loss and no gradient."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from hf_trainpipe.engine.gpu.rounding import FEATURES, RoundedBatch, fills_of, shape_of
from hf_trainpipe.runtime.model import unpad
from hf_trainpipe.runtime.model.unpad import ARCHITECTURES, known_lengths
from hf_trainpipe.runtime.tokens.batch import pad
from hf_trainpipe.runtime.tokens.features import Features, Ragged, Stream
from hf_trainpipe.runtime.tokens.ragged import ends_of
from tests.runtime.model.test_unpad import build, largest_difference


def features_of(lengths: list[int]) -> Features:
    """Features with token types, a target a token and one a feature."""
    tokens = sum(lengths)
    ids = np.random.default_rng(tokens).integers(5, 61, tokens)
    columns = {
        "input_ids": Ragged(ids, fill=1),
        "labels": Ragged(ids % 3, fill=-100, to_model=False, to_loss=True),
    }
    starts = ends_of(np.asarray(lengths))
    found = Features(
        {"input": Stream(starts, columns, mask="attention_mask")}, np.arange(len(lengths), dtype=np.int32), len(lengths)
    )
    return found.with_targets(score=np.linspace(-1.0, 1.0, len(lengths), dtype=np.float32))


def rounded(features: Features) -> RoundedBatch:
    batch = pad(features, np.arange(features.num_features), with_targets=True)
    return RoundedBatch(batch, fills_of(features))


@settings(max_examples=200, deadline=None)
@given(lengths=st.lists(st.integers(0, 600), min_size=1, max_size=80))
def test_the_features_come_first_and_the_rest_has_weight_zero(lengths: list[int]) -> None:
    features = features_of(lengths)
    batch, expected = rounded(features), pad(features, np.arange(len(lengths)), with_targets=True)
    tokens, count, width = batch.shape
    assert batch.tokens == sum(lengths) < tokens <= sum(lengths) + 64 + 2 * FEATURES + max(64, sum(lengths) // 16)
    assert count % FEATURES == 0
    for name, tensor in expected.items():
        inside = batch[name][tuple(slice(edge) for edge in tensor.shape)]
        assert torch.equal(inside, tensor), name
    real = len(lengths)
    assert not batch["weights"][real:].any()
    assert (batch["labels"][real:] == -100).all()
    filled = batch["attention_mask"].sum(1)
    assert filled.tolist()[:real] == lengths
    assert (filled[real:] >= 1).all()
    starts = batch.places["starts"]
    assert starts[0] == 0
    assert starts[-1] == tokens == len(batch.places["source_T"]) == len(batch.places["positions_T"])
    assert (starts.diff() <= width).all()
    assert torch.equal(starts.diff(), filled.int())


@given(lengths=st.lists(st.integers(1, 45), min_size=32, max_size=32))
def test_short_texts_have_a_handful_of_shapes(lengths: list[int]) -> None:
    shape = shape_of(np.asarray(lengths))
    assert shape.features == 40
    assert shape.width in (32, 48)
    assert shape.tokens % 64 == 0


@pytest.mark.parametrize("head", ["sequence", "token"])
@pytest.mark.parametrize("kind", ARCHITECTURES)
def test_gradients_are_those_without_it(kind: str, head: str) -> None:
    features = features_of([5, 17, 17, 3, 30, 9, 5, 1])
    plain, filled = pad(features, np.arange(8), with_targets=True), rounded(features)
    model = build(kind, head)
    other = copy.deepcopy(model)
    assert unpad.unpad(model) is None
    assert unpad.unpad(other) is None
    found = []
    for one, batch in ((model, plain), (other, filled)):
        with known_lengths([(batch["attention_mask"], batch.where("input"))]):
            logits = one(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"]).logits.float()
        if head == "token":
            loss = torch.nn.functional.cross_entropy(logits.flatten(0, 1), batch["labels"].flatten(), reduction="sum")
        else:
            loss = (logits.tanh().sum(1) * batch["weights"] * (batch["score"] + 2.0)).sum()
        loss.backward()
        gradients = {name: p.grad for name, p in one.named_parameters() if p.grad is not None}
        found.append((loss.item(), gradients))
    assert found[1][0] == pytest.approx(found[0][0], rel=1e-5)
    assert largest_difference(found[1][1], found[0][1]) < 1e-5
