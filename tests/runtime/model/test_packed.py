"""Packed documents: alone, with the numbers of the padded model; and the loss of the head in chunks."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional

from hf_trainpipe.runtime.model import next_token, packed
from hf_trainpipe.runtime.model.next_token import IGNORED, chunked_losses, summed_loss, token_losses
from hf_trainpipe.runtime.model.unpad import is_unpadded, unpad

SIZES: dict[str, Any] = {
    "vocab_size": 120, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4,
    "max_position_embeddings": 64, "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2,
}  # fmt: skip
SHARED = {**SIZES, "num_key_value_heads": 2}
GPT2 = {"vocab_size": 120, "n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 64, "bos_token_id": 1, "eos_token_id": 2,
        "attn_pdrop": 0.0, "resid_pdrop": 0.0, "embd_pdrop": 0.0}  # fmt: skip
HEADS = {**SHARED, "head_dim": 8}
SLIDES = {**HEADS, "sliding_window": 5}
CONFIGURATIONS: dict[str, dict[str, Any]] = {
    **dict.fromkeys(packed.ARCHITECTURES, HEADS),
    **dict.fromkeys(("cohere", "granite", "olmo2", "phi3", "smollm3", "starcoder2"), SHARED),
    **dict.fromkeys(("gpt_neox", "olmo", "phi"), SIZES),
    **dict.fromkeys(("gpt2", "gpt_bigcode"), GPT2),
    "gemma3_text": {**SLIDES, "layer_types": ["sliding_attention", "full_attention"]},
    "granite": {**SHARED, "logits_scaling": 3.0},
    "mistral": SLIDES,
    "opt": {**SIZES, "ffn_dim": 48, "word_embed_proj_dim": 32, "dropout": 0.0},
    "mixtral": {**HEADS, "sliding_window": None, "num_local_experts": 4},
}


def make(kind: str, **more: Any) -> Any:
    from transformers import AutoConfig, AutoModelForCausalLM

    torch.manual_seed(1)
    model = AutoModelForCausalLM.from_config(AutoConfig.for_model(kind, **{**CONFIGURATIONS.get(kind, SIZES), **more}))
    for parameter in model.parameters():
        if parameter.dim() > 1:
            parameter.data.normal_(0, 0.15)
    for module in model.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0
    return model.train()


def batch() -> tuple[dict[str, torch.Tensor], torch.Tensor]:
    torch.manual_seed(2)
    lengths = torch.tensor([12, 7, 7, 1])
    ids = torch.randint(3, 120, (4, 12))
    mask = (torch.arange(12)[None] < lengths[:, None]).long()
    labels = torch.where((mask > 0) & (torch.rand(4, 12) < 0.6), torch.randint(0, 120, (4, 12)), IGNORED)
    return {"input_ids": ids, "attention_mask": mask}, labels


@pytest.mark.parametrize("kind", packed.ARCHITECTURES)
def test_documents_are_alone_and_learn_as_in_a_padded_batch(kind: str) -> None:
    model = make(kind)
    inputs, labels = batch()
    logits = model(**inputs, use_cache=False).logits
    loss = functional.cross_entropy(logits.flatten(0, 1), labels.flatten(), ignore_index=IGNORED, reduction="sum")
    parameters = list(model.parameters())
    expected = torch.autograd.grad(loss, parameters, allow_unused=True)
    assert unpad(model) is None
    found = summed_loss(model, inputs, labels)
    assert found.item() == pytest.approx(loss.item(), rel=1e-5)
    for one, other in zip(expected, torch.autograd.grad(found, parameters, allow_unused=True), strict=True):
        if one is not None:
            assert torch.allclose(one, other, atol=1e-5), kind
    assert token_losses(model, inputs, labels).sum().item() == pytest.approx(loss.item(), rel=1e-5)
    with torch.no_grad():
        other_ids = inputs["input_ids"].clone()
        other_ids[0, :5] = 7
        before, after = (model(**{**inputs, "input_ids": ids}).logits[1:] for ids in (inputs["input_ids"], other_ids))
    real = inputs["attention_mask"][1:].bool()
    assert torch.allclose(before[real], after[real], atol=1e-5)


def test_generation_is_that_of_the_model_as_it_was() -> None:
    model = make("llama").eval()
    prompt = {
        "input_ids": torch.tensor([[0, 0, 5, 9], [4, 8, 3, 7]]),
        "attention_mask": torch.tensor([[0, 0, 1, 1], [1] * 4]),
    }
    expected = model.generate(**prompt, max_new_tokens=8, do_sample=False)
    assert unpad(model) is None
    assert torch.equal(model.generate(**prompt, max_new_tokens=8, do_sample=False), expected)


@pytest.mark.parametrize("kind", sorted(packed.LEAKING))
def test_architectures_whose_documents_would_see_each_other_are_refused_by_name(kind: str) -> None:
    assert f"packed documents of {kind} would see each other" in str(packed.why_not(kind))


def test_a_model_that_turns_out_to_leak_is_padded(monkeypatch: pytest.MonkeyPatch) -> None:
    model = make("stablelm", num_key_value_heads=2)
    monkeypatch.setattr(packed, "why_not", lambda kind: None)
    before = model.config._attn_implementation
    assert "a changed document moves the outputs of others" in str(unpad(model))
    assert not is_unpadded(model)
    assert model.config._attn_implementation == before


def test_attention_with_a_soft_cap_is_left_to_the_padded_way(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(packed, "why_not", lambda kind: None)
    model = make("gemma2", num_key_value_heads=2, head_dim=8)
    assert "softcap" in str(unpad(model))
    inputs, labels = batch()
    logits = model(**inputs, use_cache=False).logits
    loss = functional.cross_entropy(logits.flatten(0, 1), labels.flatten(), ignore_index=IGNORED, reduction="sum")
    assert summed_loss(model, inputs, labels).item() == pytest.approx(loss.item(), rel=1e-5)


@settings(max_examples=40, deadline=None)
@given(
    rows=st.integers(0, 40),
    vocabulary=st.integers(2, 30),
    elements=st.sampled_from([1, 300, 1 << 20]),
    bias=st.booleans(),
)
def test_chunks_have_the_loss_and_gradients_of_the_whole(rows: int, vocabulary: int, elements: int, bias: bool) -> None:
    torch.manual_seed(rows)
    shapes = [(rows, 8), (vocabulary, 8), *([(vocabulary,)] if bias else [])]
    tensors = [torch.randn(shape, dtype=torch.float64).float().requires_grad_() for shape in shapes]
    targets = torch.randint(0, vocabulary, (rows,))
    hidden, weight, *rest = tensors
    expected = functional.cross_entropy(functional.linear(hidden, weight, *rest), targets, reduction="sum")
    before = next_token.CHUNK_ELEMENTS
    next_token.CHUNK_ELEMENTS = elements
    try:
        found = chunked_losses(hidden, weight, rest[0] if rest else None, targets)
    finally:
        next_token.CHUNK_ELEMENTS = before
    assert found.item() == pytest.approx(expected.item(), rel=1e-5, abs=1e-6)
    for one, other in zip(
        torch.autograd.grad(expected * 3, tensors), torch.autograd.grad(found * 3, tensors), strict=True
    ):
        assert torch.allclose(one, other, atol=1e-4)


def test_logits_of_a_large_vocabulary_are_never_held_whole() -> None:
    rows, vocabulary = 2000, 20_000
    hidden, weight = torch.randn(rows, 8, requires_grad=True), torch.randn(vocabulary, 8, requires_grad=True)
    largest: list[int] = []

    class Watch(torch.overrides.TorchFunctionMode):
        def __torch_function__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            out = function(*args, **(kwargs or {}))
            if isinstance(out, torch.Tensor):
                largest.append(out.numel())
            return out

    with Watch():
        chunked_losses(hidden, weight, None, torch.zeros(rows, dtype=torch.long)).backward()
    assert max(largest) <= next_token.CHUNK_ELEMENTS < rows * vocabulary
    assert weight.grad is not None
