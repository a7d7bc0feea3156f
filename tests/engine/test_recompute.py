"""Gradient checkpointing gives the gradient of ordinary layers, dropout included, bit for bit."""

from __future__ import annotations

import pytest
import torch

from hf_trainpipe.engine.cpu import dropout
from hf_trainpipe.engine.mixed import Mixed
from hf_trainpipe.engine.randomness import seed_everything
from hf_trainpipe.engine.recompute import checkpoint_layers
from hf_trainpipe.errors import RecipeError
from hf_trainpipe.recipe import Optim
from hf_trainpipe.runtime.model.unpad import unpad
from tests.runtime.model.test_unpad import OWN, batch_of, build, gradients


@pytest.mark.parametrize("kind", ["bert", "distilbert", "electra", "modernbert", "roberta"])
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_the_gradient_is_bit_identical_and_so_is_what_is_drawn_next(kind: str, precision, monkeypatch) -> None:
    rates = ("attention_dropout", "attention_probs_dropout_prob", "dropout", "hidden_dropout_prob", "mlp_dropout")
    own = {**OWN.get(kind, {}), **dict.fromkeys(rates, 0.2)}
    monkeypatch.setitem(OWN, kind, own)
    model = build(kind)
    assert unpad(model) is None
    dropout.use_fast_dropout(model)
    called = Mixed(precision).around(model)

    def compute() -> tuple[float, dict[str, torch.Tensor], dict[str, object]]:
        seed_everything(3, 1, 4)
        loss, found = gradients(called, batch_of([5, 17, 17, 3, 30]))
        return loss, {name.removeprefix("module."): one for name, one in found.items()}, dropout.state()

    loss, expected, after = compute()
    kept = _bytes_kept(called)
    checkpoint_layers(model)
    again, found, after_again = compute()
    assert again == loss
    assert found.keys() == expected.keys()
    assert all(torch.equal(found[name], expected[name]) for name in expected)
    assert repr(after_again) == repr(after)
    assert _bytes_kept(called) < 0.7 * kept


def _bytes_kept(model: torch.nn.Module) -> int:
    """Of a forward pass, for the backward pass."""
    weights = {parameter.untyped_storage().data_ptr() for parameter in model.parameters()}
    kept: dict[int, int] = {}

    def pack(tensor: torch.Tensor) -> torch.Tensor:
        place = tensor.untyped_storage().data_ptr()
        if place not in weights:
            kept[place] = tensor.untyped_storage().nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        out = model(**batch_of([5, 17, 17, 3, 30]))  # bound: what is freed could give its place to another
    return sum(kept.values()) if out.logits.requires_grad else 0


def test_a_model_that_cannot_is_refused() -> None:
    model = build("bert")
    model.supports_gradient_checkpointing = False
    with pytest.raises(RecipeError, match=r"optim\.checkpoint_layers: this model's layers cannot be computed again"):
        checkpoint_layers(model)
    with pytest.raises(RecipeError, match=r"False where optim\.compile is True"):
        Optim(compile=True, checkpoint_layers=True)
