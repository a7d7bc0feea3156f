"""A base in few bits: what bitsandbytes makes of weights, exact products, gradients, and merging."""

from __future__ import annotations

import copy
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import BertForSequenceClassification, BitsAndBytesConfig, GPT2Config, GPT2ForSequenceClassification

from hf_trainpipe import Lora, Pretrained
from hf_trainpipe.errors import MissingExtra, RecipeError
from hf_trainpipe.model import lora as adapters
from hf_trainpipe.model.adapter import Adapter, load_with_peft
from hf_trainpipe.model.facts import model_facts
from hf_trainpipe.model.quantised import QuantisedLinear, base_of, dequantise
from hf_trainpipe.testing import tiny_model
from tests.model.test_lora import LABELLED, gap, train_a_little

BITS = (4, 8)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_model(tmp_path_factory.mktemp("model"))


def build(folder: Path, lora: Lora | None, said: list[str] | None = None) -> Any:
    from hf_trainpipe.model.weights import build_model

    torch.manual_seed(3)
    say = (lambda _: None) if said is None else said.append
    return build_model(Pretrained(str(folder), lora=lora), LABELLED, say=say).eval()


@pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::UserWarning", "ignore::DeprecationWarning")
@pytest.mark.parametrize("bits", BITS)
def test_weights_are_those_that_transformers_makes(folder: Path, bits: int) -> None:
    said: list[str] = []
    ours = build(folder, Lora(rank=2, base_bits=bits), said)  # type: ignore[arg-type]
    how = {4: {"bnb_4bit_quant_type": "nf4", "bnb_4bit_compute_dtype": torch.float32}, 8: {}}[bits]
    settings = BitsAndBytesConfig(**{f"load_in_{bits}bit": True}, llm_int8_skip_modules=["classifier"], **how)
    theirs = BertForSequenceClassification.from_pretrained(folder, quantization_config=settings, dtype=torch.float32)
    by_name = dict(theirs.named_modules())
    layers = {name: layer for name, layer in ours.named_modules() if isinstance(layer, QuantisedLinear)}
    assert len(layers) == 13, "six a layer and the pooler's"
    for name, layer in layers.items():
        weight = by_name[name.removesuffix(".base_layer")].weight
        assert torch.equal(layer.codes, weight.data)
        assert torch.equal(layer.scales, weight.quant_state.absmax if bits == 4 else weight.SCB)
    [line] = [line for line in said if "bits" in line]
    assert line.startswith(
        f"the base is held in {bits} bits: 17,408 weights of linear layers, which differ from the model's own by "
    )
    share = float(line.rpartition("by ")[2].partition("%")[0]) / 100
    assert {4: 0.07, 8: 0.002}[bits] < share < {4: 0.12, 8: 0.01}[bits]


@pytest.mark.parametrize("bits", BITS)
def test_gradients_are_those_of_the_dequantised_base(folder: Path, bits: int) -> None:
    """In one batch and in two, and with gradient that reaches through every layer."""
    model = train_a_little(build(folder, Lora(rank=2, dora=bits == 8, base_bits=bits)))  # type: ignore[arg-type]
    plain = copy.deepcopy(model)
    dequantise(plain)
    assert base_of(model) is not None
    assert base_of(plain) is None
    ids = torch.arange(5, 45).view(4, 10)
    model(input_ids=ids[:1]).logits.square().sum().backward()
    model(input_ids=ids[1:]).logits.square().sum().backward()
    plain(input_ids=ids).logits.square().sum().backward()
    expected = dict(plain.named_parameters())
    trained = [name for name, parameter in model.named_parameters() if parameter.grad is not None]
    assert len([name for name in trained if ".lora_A" in name]) == 13
    for name in trained:
        torch.testing.assert_close(model.get_parameter(name).grad, expected[name].grad, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    "lora", [Lora(rank=2, base_bits=4), Lora(rank=2, dora=True, base_bits=4), Lora(rank=2, base_bits=8)]
)
def test_a_base_is_dequantised_before_it_is_merged(folder: Path, tmp_path: Path, lora: Lora) -> None:
    model = train_a_little(build(folder, lora))
    merged = adapters.merged(model)
    assert not any(isinstance(layer, QuantisedLinear) for layer in merged.modules())
    assert isinstance(model.get_submodule("bert.pooler.dense.base_layer"), QuantisedLinear), "the run's stays as it is"
    assert gap(merged, model) < 1e-6
    merged.save_pretrained(tmp_path / "package")
    assert gap(build(tmp_path / "package", None), model) < 1e-6
    into_its_own = adapters.merged_weights(
        build(folder, None).state_dict(), adapters.held(model), adapters.how_to_merge(model)
    )
    plain = build(folder, None)
    plain.load_state_dict(into_its_own)
    assert gap(plain, model) > 100 * gap(merged, model), (
        "to merge into the weights before they were quantised is another model"
    )

    base = Pretrained(str(folder), lora=lora)
    Adapter.of(model, base).write(tmp_path / "adapter")
    assert gap(load_with_peft(tmp_path / "adapter", base, LABELLED, say=lambda _: None), model) < 1e-6


def test_what_trains_is_held_and_nothing_of_the_base(folder: Path) -> None:
    model, plain = build(folder, Lora(rank=2, base_bits=4)), build(folder, Lora(rank=2))
    held = adapters.held(model)
    assert set(held) == set(adapters.held(plain))
    again = build(folder, Lora(rank=2, base_bits=4))
    again.load_state_dict(
        {name: tensor.clone() for name, tensor in adapters.held(train_a_little(model)).items()}, strict=False
    )
    assert gap(again, model) == 0.0
    assert base_of(again) == base_of(model) != base_of(build(folder, Lora(rank=2, base_bits=8)))
    facts = model_facts(Pretrained(str(folder), lora=Lora(rank=2, base_bits=4)), LABELLED, num_labels=3)
    assert facts.quantised == 17_408
    assert facts.trained == adapters.num_trained(plain)


def test_what_cannot_be_held_in_few_bits_is_refused(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(RecipeError, match=r"model\.lora\.base_bits: expected 4, 8 or None, found 2"):
        Lora(base_bits=2)  # type: ignore[arg-type]
    config = GPT2Config(vocab_size=20, n_positions=16, n_embd=16, n_layer=1, n_head=2)
    with pytest.raises(RecipeError, match="GPT2ForSequenceClassification has no linear layers"):
        adapters.adapt(GPT2ForSequenceClassification(config), Lora(base_bits=4))
    monkeypatch.setitem(sys.modules, "bitsandbytes.functional", None)
    with pytest.raises(MissingExtra) as refused:
        build(folder, Lora(base_bits=4))
    assert "hf-trainpipe[qlora]" in refused.value.fix
