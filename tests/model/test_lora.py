"""Adapters: what trains, what a checkpoint holds, and that merged weights answer as weights and adapters did."""

from __future__ import annotations

import copy
import json
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from peft.tuners.lora import LoraLayer
from safetensors.torch import load_file, save_file
from transformers import GPT2Config, GPT2ForSequenceClassification, T5Config, T5ForConditionalGeneration

from hf_trainpipe import (
    Files,
    Lora,
    Optim,
    Pretrained,
    QuestionAnswering,
    Recipe,
    Regression,
    TextClassification,
    TokenClassification,
    replace,
)
from hf_trainpipe.checkpoint.contract import compare
from hf_trainpipe.codec import from_json, to_json
from hf_trainpipe.engine.optimizer import build_optimizer
from hf_trainpipe.errors import MissingExtra, RecipeError
from hf_trainpipe.hub import interim
from hf_trainpipe.model import lora as adapters
from hf_trainpipe.model.adapter import Adapter, load_with_peft
from hf_trainpipe.model.facts import model_facts
from hf_trainpipe.model.weights import build_model
from hf_trainpipe.recipe_file.options import override
from hf_trainpipe.runtime.model.unpad import is_unpadded, unpad
from hf_trainpipe.tasks import Labels
from hf_trainpipe.testing import tiny_model

LABELLED = replace(TextClassification("text", label="label"), names=Labels(("a", "b", "c")))
TAGGING = replace(TokenClassification("tokens", tags="tags"), names=Labels(("O", "B-x", "I-x")))
TASKS = {"classes": LABELLED, "tags": TAGGING, "questions": QuestionAnswering(), "numbers": Regression("text")}
HEADS = {
    ("bert", "classes"): {"classifier"},
    ("roberta", "classes"): {"classifier.dense", "classifier.out_proj"},
    ("distilbert", "classes"): {"pre_classifier", "classifier"},
    ("bert", "tags"): {"classifier"},
    ("distilbert", "questions"): {"qa_outputs"},
    ("roberta", "questions"): {"qa_outputs"},
    ("bert", "numbers"): {"classifier"},
}
SETTINGS = (Lora(rank=2), Lora(rank=3, rank_stabilised=True, alpha=4), Lora(rank=2, dora=True))


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models")
    for kind in ("bert", "roberta", "distilbert"):
        tiny_model(folder / kind, kind=kind)  # type: ignore[arg-type]
    return folder


def build(folder: Path, task: Any = LABELLED, lora: Lora | None = SETTINGS[0]) -> Any:
    torch.manual_seed(3)
    return build_model(Pretrained(str(folder), lora=lora), task, say=lambda _: None).eval()


def without_pooler(folder: Path) -> Path:
    """A model whose weights lack a layer that its class has."""
    tiny_model(folder)
    weights = {name: t for name, t in load_file(folder / "model.safetensors").items() if "pooler" not in name}
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    return folder


def train_a_little(model: Any) -> Any:
    """Noise in the place of training: on every parameter that is trained, the zero matrices among them."""
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter.add_(torch.randn_like(parameter), alpha=0.05)
    return model


def batch() -> dict[str, torch.Tensor]:
    ids = torch.arange(5, 35).view(3, 10)
    mask = torch.arange(10)[None] < torch.tensor([[10], [4], [7]])
    return {"input_ids": ids * mask, "attention_mask": mask.long()}


def outputs(model: Any) -> torch.Tensor:
    with torch.no_grad():
        found: torch.Tensor = model(**batch())[0]
    return found


def gap(one: Any, other: Any) -> float:
    return float((outputs(one) - outputs(other)).abs().max())


@pytest.mark.parametrize(("kind", "task"), HEADS)
def test_head_and_adapters_train_are_held_and_come_back(models: Path, kind: str, task: str) -> None:
    plain, model = build(models / kind, TASKS[task], None), build(models / kind, TASKS[task])
    assert torch.equal(outputs(plain), outputs(model)), "the same head is drawn, and a new adapter changes nothing"
    trained = {name for name, parameter in model.named_parameters() if parameter.requires_grad}
    whole = {name.rpartition(".")[0] for name in trained if ".lora_" not in name}
    assert whole == HEADS[kind, task]
    layers = {name for name, module in model.named_modules() if isinstance(module, LoraLayer)}
    inside = {name for name, m in plain.base_model.named_modules() if isinstance(m, torch.nn.Linear)}
    assert {name.partition(".")[2] for name in layers} == inside
    model.train()(**batch())[0].square().sum().backward()
    assert {name for name, parameter in model.named_parameters() if parameter.grad is not None} == trained
    held = adapters.held(train_a_little(model.eval()))
    assert set(held) == trained
    again = build(models / kind, TASKS[task])
    assert gap(again, model) > 1e-3
    again.load_state_dict({name: tensor.clone() for name, tensor in held.items()}, strict=False)
    assert torch.equal(outputs(again), outputs(model))


@pytest.mark.parametrize(
    ("kind", "task", "lora"),
    [*((*head, SETTINGS[0]) for head in HEADS), *(("bert", "tags", one) for one in SETTINGS[1:])],
)
def test_peft_loads_the_adapter_folder(models: Path, tmp_path: Path, kind: str, task: str, lora: Lora) -> None:
    model = train_a_little(build(models / kind, TASKS[task], lora))
    base = Pretrained(str(models / kind), lora=lora)
    Adapter.of(model, base).write(tmp_path / "adapter")
    config = json.loads((tmp_path / "adapter/adapter_config.json").read_text())
    assert config["base_model_name_or_path"] == kind, "the folder's name, not where it lies on this machine"
    state = torch.random.get_rng_state()
    by_peft = load_with_peft(tmp_path / "adapter", base, TASKS[task], say=lambda _: None)
    assert torch.equal(torch.random.get_rng_state(), state)
    assert gap(by_peft, model) < 1e-6


def test_a_pooler_trained_whole_is_in_the_adapter_folder(tmp_path: Path) -> None:
    model = train_a_little(build(without_pooler(tmp_path / "base")))
    base = Pretrained(str(tmp_path / "base"), lora=SETTINGS[0])
    Adapter.of(model, base).write(tmp_path / "adapter")
    assert gap(load_with_peft(tmp_path / "adapter", base, LABELLED, say=lambda _: None), model) < 1e-6


def test_a_package_that_is_pushed_in_training_has_merged_weights(models: Path, tmp_path: Path) -> None:
    model = build(models / "bert", lora=SETTINGS[2])
    adapters.merged(model).save_pretrained(tmp_path)
    train_a_little(model)
    weights, how = adapters.held(model), adapters.how_to_merge(model)
    checkpoint: Any = SimpleNamespace(load_model=lambda: weights, manifest={"adapter": how}, step=5)
    interim._replace_weights(tmp_path, checkpoint)
    assert gap(build(tmp_path, lora=None), model) < 1e-6


@pytest.mark.parametrize("lora", SETTINGS, ids=("plain", "rank-stabilised", "dora"))
@pytest.mark.parametrize("kind", ["bert", "gpt2"])
def test_merged_weights_are_those_of_peft(models: Path, tmp_path: Path, kind: str, lora: Lora) -> None:
    folder = models / "bert"
    if kind == "gpt2":  # its layers hold their weights the other way round
        folder = tmp_path / kind
        config = GPT2Config(vocab_size=120, n_positions=64, n_embd=16, n_layer=1, n_head=2, pad_token_id=0)
        GPT2ForSequenceClassification(config).save_pretrained(folder)
    model = train_a_little(build(folder, lora=lora))
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    merged, by_peft = adapters.merged(model), copy.deepcopy(model)
    for module in by_peft.modules():
        if isinstance(module, LoraLayer):
            module.merge(safe_merge=True)
    assert not any("lora" in name or "base_layer" in name for name in merged.state_dict())
    assert not adapters.is_adapted(merged)
    assert gap(model, build(folder, lora=None)) > 1e-3
    assert gap(merged, model) < 1e-6
    assert gap(merged, by_peft) < 1e-6
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())
    from_files = adapters.merged_weights(
        build(folder, lora=None).state_dict(), adapters.held(model), adapters.how_to_merge(model)
    )
    assert from_files.keys() == merged.state_dict().keys()
    assert all(torch.equal(tensor, merged.state_dict()[name]) for name, tensor in from_files.items())


def test_without_padding_the_gradient_of_the_adapters_is_the_padded_one(models: Path) -> None:
    padded = train_a_little(build(models / "bert", TAGGING, Lora(rank=2, dora=True)))
    flat = copy.deepcopy(padded)
    assert unpad(flat) is None
    assert is_unpadded(flat)
    mask = batch()["attention_mask"]
    for model in (padded, flat):
        model(**batch()).logits[mask.bool()].square().sum().backward()
    others = dict(flat.named_parameters())
    for name, parameter in padded.named_parameters():
        if parameter.requires_grad:
            torch.testing.assert_close(others[name].grad, parameter.grad, rtol=1e-5, atol=1e-6)
    assert is_unpadded(adapters.merged(flat))
    far = (outputs(adapters.merged(flat)) - outputs(padded))[mask.bool()]
    assert float(far.abs().max()) < 1e-6


def test_a_pooler_that_the_weights_lack_is_trained_whole(models: Path, tmp_path: Path) -> None:
    trained = {n for n, parameter in build(without_pooler(tmp_path)).named_parameters() if parameter.requires_grad}
    assert {"bert.pooler.dense.weight", "bert.pooler.dense.bias"} <= trained
    assert not any("pooler" in name and "lora" in name for name in trained)
    known = {name for name, parameter in build(models / "bert").named_parameters() if parameter.requires_grad}
    assert "bert.pooler.dense.lora_A.default.weight" in known
    assert "bert.pooler.dense.weight" not in known


def test_the_tied_head_of_a_language_model_stays_as_it_is() -> None:
    sizes = {"d_model": 16, "d_kv": 8, "d_ff": 32, "num_layers": 1, "num_decoder_layers": 1, "num_heads": 2}
    model = T5ForConditionalGeneration(T5Config(vocab_size=50, **sizes))
    adapters.adapt(model, Lora(rank=2))
    assert all(".lora_" in name for name, parameter in model.named_parameters() if parameter.requires_grad)
    assert not isinstance(model.lm_head, LoraLayer)
    merged = adapters.merged(model)
    assert merged.lm_head.weight is merged.shared.weight


def test_the_optimizer_gets_what_trains_and_no_decay_for_lengths_of_rows(models: Path) -> None:
    model = build(models / "bert", lora=Lora(rank=2, dora=True))
    optimizer = build_optimizer(model, Optim(weight_decay=0.1, layer_decay=0.5))
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    decayed = {names[id(p)]: group["weight_decay"] for group in optimizer.param_groups for p in group["params"]}
    assert set(decayed) == {name for name, parameter in model.named_parameters() if parameter.requires_grad}
    plain = {name for name, decay in decayed.items() if decay == 0.0}
    assert plain == {name for name in decayed if "magnitude" in name or name.endswith("bias")}
    scales = {names[id(p)]: group["scale"] for group in optimizer.param_groups for p in group["params"]}
    assert scales["bert.encoder.layer.0.attention.self.query.lora_A.default.weight"] == 0.25
    assert scales["classifier.weight"] == 1.0


def test_what_is_trained_is_counted_without_weights(models: Path) -> None:
    model = Pretrained(str(models / "bert"), lora=Lora(rank=2, dora=True))
    assert model_facts(model, LABELLED, num_labels=3).trained == adapters.num_trained(
        build(models / "bert", lora=model.lora)
    )
    assert model_facts(replace(model, lora=None), LABELLED, num_labels=3).trained is None


def test_some_layers_only(models: Path) -> None:
    model = build(models / "bert", lora=Lora(rank=2, targets=("layer.1.attention.self.query", "value")))
    layers = [name for name, module in model.named_modules() if isinstance(module, LoraLayer)]
    assert [name.partition("layer.")[2] for name in layers] == [
        "0.attention.self.value", "1.attention.self.query", "1.attention.self.value",
    ]  # fmt: skip


@pytest.mark.parametrize("target", ["q_proj", "classifier", "ery"])
def test_a_target_that_is_no_layer_is_refused_with_those_that_are(models: Path, target: str) -> None:
    with pytest.raises(RecipeError, match="is the end of no linear layer of BertForSequenceClassification") as refused:
        build(models / "bert", lora=Lora(targets=(target,)))
    assert "query, key, value, dense" in refused.value.fix


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"rank": 0}, "model.lora.rank: expected a positive number, found 0"),
        ({"alpha": -1.0}, "model.lora.alpha"),
        ({"dropout": 1.0}, "model.lora.dropout"),
        ({"targets": "query"}, "model.lora.targets: expected 'all-linear' or a tuple"),
        ({"targets": ()}, "model.lora.targets: expected at least one name"),
    ],
)
def test_wrong_settings_are_refused(wrong: dict[str, Any], said: str) -> None:
    with pytest.raises(RecipeError, match=said):
        Lora(**wrong)


def test_it_is_set_from_the_command_line_and_recorded() -> None:
    made: dict[str, Any] = {
        "name": "x",
        "data": Files(train="x.csv"),
        "task": TextClassification("text", label="label"),
    }
    plain = Recipe(**made, model=Pretrained("model"))
    adapted = override(plain, ["--model.lora.rank", "4", "--model.lora.targets", "query", "value", "--model.lora.dora"])
    assert adapted.model.lora == Lora(rank=4, targets=("query", "value"), dora=True)
    assert from_json(json.loads(json.dumps(to_json(adapted)))) == adapted
    assert override(adapted, ["--model.lora.targets", "all-linear"]).model.lora == Lora(rank=4, dora=True)
    assert override(adapted, ["--model.lora", "none"]) == plain


def test_only_what_is_packaged_may_change_in_a_resumed_run() -> None:
    made: dict[str, Any] = {
        "name": "x",
        "data": Files(train="x.csv"),
        "task": TextClassification("text", label="label"),
    }
    before, packaged, other = (
        {"recipe": to_json(Recipe(**made, model=Pretrained("model", lora=lora)))}
        for lora in (Lora(), Lora(save_adapter=True), Lora(alpha=8))
    )
    assert compare(before, packaged) == []
    assert [str(one) for one in compare(before, other)] == ["model.lora.alpha: 16.0 -> 8"]


@pytest.mark.parametrize("frozen", [{"freeze_layers": 1}, {"freeze_embeddings": True}])
def test_freezing_what_is_frozen_is_refused(frozen: dict[str, Any]) -> None:
    made: dict[str, Any] = {
        "name": "x",
        "data": Files(train="x.csv"),
        "task": TextClassification("text", label="label"),
    }
    Recipe(**made, model=Pretrained("model", lora=Lora()))
    with pytest.raises(RecipeError, match="which freezes the model"):
        Recipe(**made, model=Pretrained("model", lora=Lora()), optim=Optim(**frozen))


def test_without_peft_the_extra_is_named(models: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "peft", None)
    with pytest.raises(MissingExtra) as refused:
        build(models / "bert")
    assert "hf-trainpipe[lora]" in refused.value.fix


def test_the_base_is_known_by_its_files(models: Path, tmp_path: Path) -> None:
    here = Pretrained(str(models / "bert"))
    assert adapters.base_fingerprint(here) == adapters.base_fingerprint(Pretrained(str(tiny_model(tmp_path))))
    weights = load_file(tmp_path / "model.safetensors")
    weights["embeddings.LayerNorm.bias"] += 1e-3
    save_file(weights, tmp_path / "model.safetensors", metadata={"format": "pt"})
    assert adapters.base_fingerprint(here) != adapters.base_fingerprint(Pretrained(str(tmp_path)))
    assert adapters.base_fingerprint(Pretrained("user/name", revision="0" * 40)) == "0" * 40


def test_a_base_in_shards_is_known_by_each_of_them_and_by_its_bits(models: Path, tmp_path: Path) -> None:
    build(models / "bert", lora=None).save_pretrained(tmp_path, max_shard_size="20KB")
    here = Pretrained(str(tmp_path))
    before = adapters.base_fingerprint(here)
    in_bits = adapters.base_fingerprint(replace(here, lora=Lora(base_bits=4)))
    assert in_bits == f"{before} in 4 bits"
    shards = sorted(tmp_path.glob("model-*.safetensors"))
    assert len(shards) > 1
    for shard in shards:
        content = shard.read_bytes()
        weights = load_file(shard)
        save_file({name: tensor + 1e-3 for name, tensor in weights.items()}, shard, metadata={"format": "pt"})
        assert adapters.base_fingerprint(here) != before, shard.name
        shard.write_bytes(content)
    assert adapters.base_fingerprint(here) == before


def test_layers_that_hold_their_weights_in_two_ways_get_no_adapters_together() -> None:
    config = GPT2Config(vocab_size=120, n_positions=64, n_embd=16, n_layer=1, n_head=2, pad_token_id=0)
    model = GPT2ForSequenceClassification(config)
    model.transformer.h[0].mlp.c_fc = torch.nn.Linear(16, 64)
    with pytest.raises(RecipeError, match="expected layers of one kind, found Linear and Conv1D: c_attn, c_proj, c_fc"):
        adapters.adapt(model, Lora(rank=2))
    adapters.adapt(model, Lora(rank=2, targets=("c_fc",)))
    assert [name for name, module in model.named_modules() if isinstance(module, LoraLayer)] == [
        "transformer.h.0.mlp.c_fc"
    ]
