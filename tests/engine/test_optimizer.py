"""Parameter groups: weight decay, layer-wise learning rates, frozen layers."""

from __future__ import annotations

from importlib.util import find_spec

import pytest
import torch
from transformers import AutoModelForSequenceClassification

from hf_trainpipe.engine import sharding
from hf_trainpipe.engine.mixed import Mixed
from hf_trainpipe.engine.optimizer import build_optimizer, depth_of, freeze, reinitialize_top, state_bytes
from hf_trainpipe.engine.parallel import parallelize
from hf_trainpipe.engine.ranks import Ranks, make_accelerator
from hf_trainpipe.errors import RecipeError
from hf_trainpipe.recipe import Optim
from hf_trainpipe.testing import tiny_model


@pytest.fixture(params=["bert", "roberta", "distilbert"])
def model(request, tmp_path) -> torch.nn.Module:
    return AutoModelForSequenceClassification.from_pretrained(tiny_model(tmp_path / "m", kind=request.param))


def test_every_parameter_is_in_one_group_and_vectors_do_not_decay(model) -> None:
    optimizer = build_optimizer(model, Optim(weight_decay=0.1))
    grouped = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    assert {id(p) for p in grouped} == {id(p) for p in model.parameters()}
    assert len(grouped) == len({id(p) for p in grouped})
    for group in optimizer.param_groups:
        for parameter in group["params"]:
            assert group["weight_decay"] == (0.0 if parameter.ndim == 1 else 0.1)


def test_layer_decay_falls_from_the_head_to_the_embeddings(model) -> None:
    optimizer = build_optimizer(model, Optim(layer_decay=0.5))
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    scales = {names[id(parameter)]: group["scale"] for group in optimizer.param_groups for parameter in group["params"]}
    for name, scale in scales.items():
        assert scale == 0.5 ** (3 - depth_of(name, num_layers=2)), name
    assert {scale for name, scale in scales.items() if "classifier" in name} == {1.0}
    assert {scale for name, scale in scales.items() if "word_embeddings" in name} == {0.125}


def test_frozen_parts_have_no_gradient(model) -> None:
    freeze(model, Optim(freeze_embeddings=True, freeze_layers=1))
    for name, parameter in model.named_parameters():
        assert parameter.requires_grad == (depth_of(name, num_layers=2) > 1), name


def test_freezing_more_layers_than_there_are_is_refused(model) -> None:
    with pytest.raises(RecipeError, match="2 layers, found 3"):
        freeze(model, Optim(freeze_layers=3))


def test_top_layers_and_a_pooler_begin_at_random_and_the_rest_stays(model) -> None:
    before = {name: parameter.detach().clone() for name, parameter in model.named_parameters()}
    for _ in range(2):  # the same draws from the same seed
        torch.manual_seed(3)
        reinitialize_top(model, 1)
        drawn = {name: parameter.detach().clone() for name, parameter in model.named_parameters()}
    changed = {name for name, parameter in drawn.items() if not torch.equal(parameter, before[name])}
    # biases and norms begin as the architecture draws them, which is what the tiny model has
    assert changed == {name for name in before if (".1." in name or "pooler" in name) and before[name].ndim > 1}
    torch.manual_seed(3)
    reinitialize_top(model, 1)
    assert all(torch.equal(parameter, drawn[name]) for name, parameter in model.named_parameters())
    assert all(parameter.std() == pytest.approx(0.02, rel=0.3) for name, parameter in drawn.items() if name in changed)


def test_more_random_layers_than_there_are_are_refused(model) -> None:
    with pytest.raises(RecipeError, match=r"2 layers .* found 3"):
        reinitialize_top(model, 3)


ALGORITHMS = [
    "adafactor",
    pytest.param("adamw_8bit", marks=pytest.mark.skipif(not find_spec("bitsandbytes"), reason="needs bitsandbytes")),
]


@pytest.mark.parametrize("algorithm", ALGORITHMS)
@pytest.mark.parametrize("precision", ["fp32", "fp16"])
def test_an_optimizer_with_little_state_clips_and_skips_what_is_not_finite(algorithm, precision) -> None:
    torch.manual_seed(0)
    model = torch.nn.Sequential(torch.nn.Embedding(500, 64), torch.nn.Linear(64, 128), torch.nn.Linear(128, 2))
    mixed = Mixed(precision)
    if mixed.scaler is not None:
        mixed.scaler.load_state_dict({**mixed.scaler.state_dict(), "scale": 128.0})
    parallel = parallelize(model, Optim(algorithm=algorithm, peak_lr=1e-2), Ranks(make_accelerator()), mixed)
    called = mixed.around(parallel.model)
    losses, kept = [], []
    for step, scale in enumerate((1.0, 1.0, float("nan"), 1.0)):
        before = model[1].weight.detach().clone()
        loss = (called(torch.arange(8)) - torch.ones(2)).square().mean()
        mixed.backward(loss * scale)
        norm = parallel.clip(0.01)
        if step == 0:
            assert float(torch.nn.utils.get_total_norm([p.grad for p in model.parameters()])) <= 0.0101
        parallel.step(norm)
        losses.append(loss.item())
        kept.append(torch.equal(before, model[1].weight))
    assert kept == [False, False, True, False]
    assert losses[-1] < losses[0]
    states = [parallel.optimizer.state[parameter] for parameter in model.parameters()]
    held = sum(
        one.nbytes for state in states for one in state.values() if isinstance(one, torch.Tensor) and one.ndim > 1
    )
    numbers = sum(parameter.numel() for parameter in model.parameters())
    assert held <= state_bytes(algorithm, parameters=numbers, in_tables=500 * 64) + 16 * (500 + 64 + 4 * 128)


def test_a_cut_model_takes_adamw_alone() -> None:
    with pytest.raises(RecipeError, match=r"optim\.algorithm: adafactor does not go with FSDP2"):
        sharding.check(Optim(algorithm="adafactor"), precision="fp32")
    with pytest.raises(RecipeError, match=r"optim\.precision: fp16 does not go"):
        sharding.check(Optim(), precision="fp16")


@pytest.mark.skipif(find_spec("bitsandbytes") is not None, reason="bitsandbytes is installed")
def test_the_library_that_is_missing_is_named(model) -> None:
    with pytest.raises(RecipeError, match="adamw_8bit needs bitsandbytes"):
        build_optimizer(model, Optim(algorithm="adamw_8bit"))
