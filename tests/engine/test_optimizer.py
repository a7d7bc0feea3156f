"""Parameter groups: decay, layer-wise rates, frozen parts."""

from __future__ import annotations

import pytest
import torch
from transformers import AutoModelForSequenceClassification

from hf_trainpipe.engine.optimizer import build_optimizer, depth_of, freeze
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
