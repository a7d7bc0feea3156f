"""A question computed once for two answers: each answer has the numbers of a row of its own, in every architecture or by name."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch.nn import functional

from hf_trainpipe.runtime.model import branches, packed
from hf_trainpipe.runtime.model.branches import Rows, answer_losses, separate_losses, why_not_shared
from hf_trainpipe.runtime.model.layout import Branched
from hf_trainpipe.runtime.model.next_token import IGNORED, position_losses
from hf_trainpipe.runtime.model.unpad import unpad
from tests.runtime.model.test_packed import batch, make

GAINS = torch.tensor([[1.0, -2.0], [0.5, 0.25], [-1.0, 3.0]])


def rows_of(parts: list[list[int]]) -> Rows:
    torch.manual_seed(2)
    size = torch.tensor(parts)
    places = torch.arange(int(size.sum(1).max()))[None]
    mask = (places < size.sum(1, keepdim=True)).long()
    branch = ((places >= size[:, :1]).long() + (places >= size[:, :2].sum(1, keepdim=True)).long()) * mask
    ids = torch.randint(3, 120, mask.shape)
    return Rows(ids, torch.where(branch > 0, torch.randint(0, 120, mask.shape), IGNORED), branch, mask)


@pytest.mark.parametrize("kind", packed.ARCHITECTURES)
def test_an_answer_has_the_numbers_of_a_row_of_its_own(kind: str) -> None:
    model = make(kind)
    rows = rows_of([[9, 7, 4], [0, 3, 8], [12, 1, 6]])
    parameters = [one for one in model.parameters() if one.requires_grad]
    padded = separate_losses(model, rows)
    expected = torch.autograd.grad((padded * GAINS).sum(), parameters, allow_unused=True)
    assert why_not_shared(model) == "its batches are padded"
    assert unpad(model) is None
    assert (why_not_shared(model) is None) == (kind != "opt")  # it counts positions by itself
    found = answer_losses(model, rows)
    assert torch.allclose(found, padded, atol=2e-5)
    for one, other in zip(
        expected, torch.autograd.grad((found * GAINS).sum(), parameters, allow_unused=True), strict=True
    ):
        if one is not None:
            assert torch.allclose(one, other, atol=2e-5), kind


def test_a_model_whose_answers_see_each_other_computes_questions_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    model = make("llama")
    assert unpad(model) is None

    def leaks(query: Any, key: Any, value: Any, layout: Branched, window: Any, options: Any) -> torch.Tensor:
        return packed._by_document(query, key, value, layout, window, options)

    with monkeypatch.context() as patch:
        patch.setattr(packed, "_by_branch", leaks)
        assert "another first answer moves what it makes of the second" in str(why_not_shared(model))
    rows = rows_of([[9, 7, 4], [1, 3, 8]])
    assert torch.equal(answer_losses(model, rows), separate_losses(model, rows))
    assert why_not_shared(model) is not None, "it is asked once"


@pytest.mark.parametrize("window", [None, 4])
def test_attention_by_one_call_is_that_of_feature_after_feature(window: int | None) -> None:
    rows = rows_of([[9, 7, 4], [0, 3, 8], [12, 1, 6]])
    layout = Branched.of_parts(rows.parts, rows.ids.shape[1], torch.device("cpu"))
    query, key, value = (torch.randn(1, heads, layout.num_tokens, 8) for heads in (4, 2, 2))
    options = {"dropout_p": 0.0, "scale": None, "enable_gqa": True}
    found = packed._branches_at_once(query, key, value, layout, window, options)
    assert torch.allclose(found, packed._by_branch(query, key, value, layout, window, options), atol=1e-6)


def test_each_position_has_a_gradient_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hf_trainpipe.runtime.model.next_token.CHUNK_ELEMENTS", 1)
    for kind, more in (("llama", {}), ("llama", {"tie_word_embeddings": True}), ("granite", {}), ("gpt2", {})):
        model = make(kind, **more)
        inputs, labels = batch()
        factors = torch.linspace(-1, 2, labels.numel()).view(labels.shape)
        logits = model(**inputs, use_cache=False).logits
        losses = functional.cross_entropy(
            logits.flatten(0, 1), labels.flatten(), ignore_index=IGNORED, reduction="none"
        )
        parameters = list(model.parameters())
        expected = torch.autograd.grad((losses.view(labels.shape) * factors).sum(), parameters)
        found = position_losses(model, inputs, labels)
        assert torch.allclose(found, losses.view(labels.shape), atol=1e-5)
        for one, other in zip(expected, torch.autograd.grad((found * factors).sum(), parameters), strict=True):
            assert torch.allclose(one, other, atol=1e-5), kind


def test_nothing_that_is_asked_for_is_no_loss() -> None:
    rows = rows_of([[4, 2, 2]])
    model = make("llama")
    assert unpad(model) is None
    found = answer_losses(model, rows._replace(labels=torch.full_like(rows.labels, IGNORED)))
    assert found.tolist() == [[0.0, 0.0]]
    found.sum().backward()
    assert branches.why_not_shared(model) is None
