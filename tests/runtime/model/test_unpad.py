"""Without padding, outputs and gradients are those of the padded model, architecture by architecture."""

from __future__ import annotations

import copy

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import AutoConfig, AutoModelForSequenceClassification, AutoModelForTokenClassification

from hf_trainpipe.runtime.model import attention, unpad
from hf_trainpipe.runtime.model.layout import Layout
from hf_trainpipe.runtime.model.unpad import ARCHITECTURES, is_unpadded, known_lengths, padded

SIZES = {
    "vocab_size": 61, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 48,
    "max_position_embeddings": 40, "hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0, "pad_token_id": 1,
    "num_labels": 3,
}  # fmt: skip
OWN = {
    "distilbert": {"dim": 32, "n_layers": 2, "n_heads": 4, "hidden_dim": 48, "dropout": 0.0, "attention_dropout": 0.0,
                   "seq_classif_dropout": 0.0},
    "electra": {"embedding_size": 16},
    "modernbert": {"attention_dropout": 0.0, "embedding_dropout": 0.0, "mlp_dropout": 0.0, "classifier_dropout": 0.0,
                   "local_attention": 8, "global_attn_every_n_layers": 2, "classifier_pooling": "mean",
                   "bos_token_id": 2, "eos_token_id": 3, "cls_token_id": 2, "sep_token_id": 3},
}  # fmt: skip
HEADS = {"sequence": AutoModelForSequenceClassification, "token": AutoModelForTokenClassification}


def build(kind: str, head: str = "sequence") -> torch.nn.Module:
    torch.manual_seed(3)
    config = AutoConfig.for_model(kind, **{**SIZES, **OWN.get(kind, {})})
    return HEADS[head].from_config(config).train()


def batch_of(lengths: list[int], *, types: bool = False) -> dict[str, torch.Tensor]:
    width = max(lengths)
    mask = (torch.arange(width)[None] < torch.tensor(lengths)[:, None]).long()
    generator = torch.Generator().manual_seed(sum(lengths))
    ids = torch.randint(5, 61, mask.shape, generator=generator) * mask + (1 - mask)
    batch = {"input_ids": ids, "attention_mask": mask}
    return {**batch, "token_type_ids": ((torch.arange(width)[None] > 2) * mask).long()} if types else batch


def loss_of(model: torch.nn.Module, batch: dict[str, torch.Tensor]) -> torch.Tensor:
    """Something that depends on every real token of a token head, or on every row."""
    logits = model(**batch).logits
    if logits.dim() == 3:
        logits = logits * batch["attention_mask"][..., None]
    weights = torch.linspace(-1.0, 1.0, logits.numel(), device=logits.device).view(logits.shape)
    return (logits.tanh() * weights).sum()


def gradients(model: torch.nn.Module, batch: dict[str, torch.Tensor]) -> tuple[float, dict[str, torch.Tensor]]:
    model.zero_grad()
    loss = loss_of(model, batch)
    loss.backward()
    return loss.item(), {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}


def largest_difference(found: dict[str, torch.Tensor], expected: dict[str, torch.Tensor]) -> float:
    """Over the largest gradient of all: zeros of one parameter are not compared with its own rounding."""
    assert found.keys() == expected.keys()
    scale = max(float(gradient.abs().max()) for gradient in expected.values())
    return max(float((found[name] - expected[name]).abs().max()) for name in expected) / scale


@pytest.mark.parametrize("head", HEADS)
@pytest.mark.parametrize("kind", ARCHITECTURES)
def test_gradients_are_those_of_the_padded_model(kind: str, head: str) -> None:
    model = build(kind, head)
    batch = batch_of([5, 17, 17, 3, 30, 9, 5, 1], types=kind in ("bert", "electra"))
    loss, expected = gradients(model, batch)
    assert unpad.unpad(model) is None
    assert is_unpadded(model)
    found_loss, found = gradients(model, batch)
    assert found_loss == pytest.approx(loss, rel=1e-5)
    assert largest_difference(found, expected) < 1e-5


@pytest.mark.gpu
@pytest.mark.parametrize("kind", ARCHITECTURES)
def test_gradients_on_a_gpu_are_those_of_the_padded_model_in_fp32(kind: str) -> None:
    batch = batch_of([5, 17, 17, 3, 30, 9, 5, 1], types=kind in ("bert", "electra"))
    batch = {name: tensor.cuda() for name, tensor in batch.items()}
    _, expected = gradients(build(kind).cuda(), batch)
    flat = build(kind).cuda()
    assert unpad.unpad(flat) is None
    assert largest_difference(gradients(flat, batch)[1], expected) < 1e-4
    for dtype in (torch.bfloat16, torch.float16):
        with torch.autocast("cuda", dtype=dtype):
            found = gradients(flat, batch)[1]
            assert unpad.gpu_kernels(flat, dtype)
        assert largest_difference(found, expected) < 0.05


@pytest.mark.parametrize("kind", ["bert", "modernbert"])
@settings(max_examples=15, deadline=None)
@given(lengths=st.lists(st.integers(1, 30), min_size=1, max_size=7))
def test_any_lengths(kind: str, lengths: list[int]) -> None:
    padded, flat = build(kind, "token"), build(kind, "token")
    assert unpad.unpad(flat) is None
    batch = batch_of(lengths)
    loss, expected = gradients(padded, batch)
    found_loss, found = gradients(flat, batch)
    assert found_loss == pytest.approx(loss, rel=1e-5, abs=1e-6)
    assert largest_difference(found, expected) < 1e-5


def test_only_real_tokens_go_through_the_layers() -> None:
    model = build("bert")
    assert unpad.unpad(model) is None
    seen = []
    for module in model.modules():
        if isinstance(module, torch.nn.Linear):
            module.register_forward_hook(lambda _, inputs, __: seen.append(inputs[0].shape))
    loss_of(model, batch_of([4, 20, 7]))
    inside = [shape for shape in seen if len(shape) == 3]
    assert inside
    assert {shape[:2] for shape in inside} == {(1, 31)}


def test_evaluation_takes_the_same_way() -> None:
    model = build("roberta", "token").eval()
    batch = batch_of([4, 20, 7])
    with torch.inference_mode():
        expected = model(**batch).logits
        assert unpad.unpad(model) is None
        with known_lengths([(batch["attention_mask"], [4, 20, 7])]):
            found = model(**batch).logits
            other = model(**batch_of([9, 2, 5])).logits  # another batch meanwhile: its own lengths count
    real = batch["attention_mask"].bool()
    assert torch.allclose(found[real], expected[real], atol=1e-5)
    assert torch.allclose(other, model(**batch_of([9, 2, 5])).logits, atol=1e-5)


def test_attention_without_gradients_multiplies_in_fp32_whatever_the_layers_do(monkeypatch) -> None:
    """Its blocks are too small to be worth a conversion to bf16."""
    model = build("bert").eval()
    assert unpad.unpad(model) is None
    plain, seen = attention.F.scaled_dot_product_attention, []

    def recorded(*args: torch.Tensor, **kwargs: object) -> torch.Tensor:
        seen.append(torch.get_float32_matmul_precision())
        return plain(*args, **kwargs)

    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("medium")
    try:
        monkeypatch.setattr(attention.F, "scaled_dot_product_attention", recorded)
        with torch.inference_mode():
            model(**batch_of([4, 20, 7]))
        assert torch.get_float32_matmul_precision() == "medium"
    finally:
        torch.set_float32_matmul_precision(before)
    assert set(seen) == {"highest"}


def test_a_batch_that_is_not_padded_on_the_right_is_computed_as_before() -> None:
    model = build("bert").eval()
    batch = batch_of([4, 9])
    batch["attention_mask"] = batch["attention_mask"].flip(1)
    with torch.inference_mode():
        expected = model(**batch).logits
        assert unpad.unpad(model) is None
        assert torch.allclose(model(**batch).logits, expected, atol=1e-6)


def test_hidden_states_that_are_asked_for_keep_their_shape() -> None:
    model = build("bert").eval()
    assert unpad.unpad(model) is None
    with torch.inference_mode():
        out = model(**batch_of([4, 9]), output_hidden_states=True)
    assert {state.shape for state in out.hidden_states} == {(2, 9, 32)}


@pytest.mark.parametrize("kind", ["deberta-v2", "mpnet"])
def test_other_architectures_stay_as_they_are(kind: str) -> None:
    model = build(kind)
    before = model.config._attn_implementation
    assert "is not among" in (unpad.unpad(model) or "")
    assert not is_unpadded(model)
    assert model.config._attn_implementation == before


def test_a_model_whose_outputs_differ_is_left_padded() -> None:
    """Layers that mix the whole row, unlike those of any supported architecture."""
    model = build("bert").eval()

    class Mean(torch.nn.Module):
        def __init__(self, inner: torch.nn.Module) -> None:
            super().__init__()
            self.inner = inner

        def forward(self, hidden: torch.Tensor) -> torch.Tensor:
            return self.inner(hidden) + hidden.mean(dim=1, keepdim=True)

    attention = model.bert.encoder.layer[0].attention.self
    attention.value = Mean(attention.value)
    batch = batch_of([4, 9])
    with torch.inference_mode():
        expected = model(**batch).logits
        assert "differ from the padded model's" in (unpad.unpad(model) or "")
        assert torch.equal(model(**batch).logits, expected)


def test_the_saved_configuration_does_not_know_of_it(tmp_path) -> None:
    plain, flat = build("bert"), build("bert")
    assert unpad.unpad(flat) is None
    plain.save_pretrained(tmp_path / "plain")
    flat.save_pretrained(tmp_path / "flat")
    for name in ("config.json", "model.safetensors"):
        assert (tmp_path / "flat" / name).read_bytes() == (tmp_path / "plain" / name).read_bytes()


def test_a_copy_works_beside_the_original() -> None:
    model = build("bert").eval()
    assert unpad.unpad(model) is None
    twin = copy.deepcopy(model)
    batch = batch_of([4, 9])
    with torch.inference_mode():
        assert torch.equal(twin(**batch).logits, model(**batch).logits)
        with padded(twin):
            assert (is_unpadded(twin), is_unpadded(model)) == (False, True)
            assert twin.config._attn_implementation != model.config._attn_implementation
            assert torch.allclose(twin(**batch).logits, model(**batch).logits, atol=1e-5)
        assert is_unpadded(twin)


def test_a_layout_puts_equal_lengths_side_by_side() -> None:
    layout = Layout.of([2, 5, 2, 0, 5], 6, torch.device("cpu"))
    assert layout.lengths == (5, 5, 2, 2, 0)
    assert layout.groups == ((5, 2), (2, 2))
    assert layout.num_tokens == 14
    values = torch.arange(30).view(5, 6)
    assert layout.flatten(values)[0, :6].tolist() == [6, 7, 8, 9, 10, 24]
    restored = layout.restore(layout.flatten(values)[..., None].float())
    assert restored[1, :, 0].tolist() == [6, 7, 8, 9, 10, 0]
    assert restored[3].abs().sum() == 0
