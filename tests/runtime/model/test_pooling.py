"""One vector of a text from those of its tokens, without padding as with it."""

from __future__ import annotations

import pytest
import torch
from transformers import AutoConfig

from hf_trainpipe.runtime.errors import RecipeError
from hf_trainpipe.runtime.model.pooling import APART, AUTO, POOLINGS, Pooling, compared, pooled
from hf_trainpipe.runtime.model.unpad import ARCHITECTURES, unpad
from tests.runtime.model.test_unpad import OWN, SIZES, batch_of, gradients, largest_difference


@pytest.mark.parametrize("pooling", POOLINGS)
def test_each_feature_alone_gives_its_vector(pooling: Pooling) -> None:
    lengths, hidden = [4, 1, 9], torch.randn(3, 9, 5, generator=torch.Generator().manual_seed(1))
    mask = torch.arange(9)[None] < torch.tensor(lengths)[:, None]
    found = pooled(hidden, mask.long(), pooling)
    for row, length in enumerate(lengths):
        own = hidden[row, :length]
        expected = {"cls": own[0], "mean": own.mean(dim=0), "max": own.amax(dim=0)}[pooling]
        torch.testing.assert_close(found[row], expected, rtol=0, atol=1e-6)
    assert torch.equal(pooled(hidden, None, pooling)[2], found[2])


@pytest.mark.parametrize("pooling", ["mean", "max"])
def test_a_feature_without_tokens_is_zero_and_so_is_its_gradient(pooling: Pooling) -> None:
    hidden = torch.randn(2, 3, 4, requires_grad=True)
    found = pooled(hidden, torch.tensor([[1, 1, 0], [0, 0, 0]]), pooling)
    found.square().sum().backward()
    assert hidden.grad is not None
    assert found[1].abs().max() == 0
    assert hidden.grad[1].abs().max() == 0
    assert hidden.grad[0, :2].abs().max() > 0


def test_the_sides_of_a_pair_are_read_apart() -> None:
    """Each row is what the vectors of its texts alone give, whatever stands beside them and however much is padded."""
    torch.manual_seed(3)
    model = APART["mean"].from_config(AutoConfig.for_model("bert", **SIZES)).eval()  # type: ignore[attr-defined]
    first, second = batch_of([5, 17, 3]), batch_of([9, 2, 30])
    both = {**first, **{f"pair_{name}": tensor for name, tensor in second.items()}}
    with torch.inference_mode():
        padded = model(**both).logits
        assert unpad(model) is None
        found = model(**both).logits
        for row in range(3):
            alone = [
                model.bert(side["input_ids"][row : row + 1, : int(side["attention_mask"][row].sum())])[0].mean(dim=1)
                for side in (first, second)
            ]
            torch.testing.assert_close(found[row], model.head(compared(*alone))[0], rtol=0, atol=1e-5)
    torch.testing.assert_close(found, padded, rtol=0, atol=1e-5)
    assert model.head.in_features == 4 * SIZES["hidden_size"]


def test_the_mean_of_the_product_is_the_cosine() -> None:
    sides = torch.randn(2, 4, 6, generator=torch.Generator().manual_seed(2)) * 7
    first, second, apart, product = compared(*sides).chunk(4, dim=1)
    torch.testing.assert_close(product.mean(dim=1), torch.nn.functional.cosine_similarity(*sides))
    torch.testing.assert_close(apart, (first - second).abs())
    assert torch.isfinite(compared(torch.zeros(1, 3), torch.ones(1, 3))).all(), "texts without tokens have no direction"


@pytest.mark.parametrize("kind", ARCHITECTURES)
def test_gradients_without_padding_are_those_of_the_padded_model(kind: str) -> None:
    config = AutoConfig.for_model(kind, **{**SIZES, **OWN.get(kind, {})})
    for pooling in POOLINGS:
        torch.manual_seed(3)
        model = AUTO[pooling].from_config(config).train()  # type: ignore[attr-defined]
        batch = batch_of([5, 17, 3, 30, 1], types=kind in ("bert", "electra"))
        loss, expected = gradients(model, batch)
        assert unpad(model) is None
        found_loss, found = gradients(model, batch)
        assert found_loss == pytest.approx(loss, rel=1e-5)
        assert largest_difference(found, expected) < 1e-5


def test_a_head_that_pools_as_it_is_told_stays_transformers_own() -> None:
    config = AutoConfig.for_model("modernbert", **{**SIZES, **OWN["modernbert"], "classifier_pooling": "cls"})
    model = AUTO["mean"].from_config(config)  # type: ignore[attr-defined]
    assert type(model).__name__ == "ModernBertForSequenceClassification"
    assert model.config.classifier_pooling == "mean"


def test_a_decoder_is_refused() -> None:
    with pytest.raises(RecipeError, match=r"task\.pooling: a t5 has a decoder"):
        AUTO["mean"].from_config(AutoConfig.for_model("t5"))  # type: ignore[attr-defined]
