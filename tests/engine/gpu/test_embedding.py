"""Gradients of embeddings are torch's, and the same bits each time."""

from __future__ import annotations

import pytest
import torch

from hf_trainpipe.engine.gpu import embedding


def both(device: str, tokens: int, rows: int, *, padding: int | None) -> None:
    torch.manual_seed(tokens + rows)
    plain = torch.nn.Embedding(rows, 24, padding_idx=padding).to(device)
    model = torch.nn.Sequential(torch.nn.Embedding(rows, 24, padding_idx=padding).to(device))
    model[0].load_state_dict(plain.state_dict())
    embedding.add_in_order(model)
    ids = (torch.rand(2, tokens // 2, device=device) ** 4 * rows).long()  # some of them very often
    upstream = torch.randn(2, tokens // 2, 24, device=device)
    (expected,) = torch.autograd.grad(plain(ids), plain.weight, upstream)
    assert torch.equal(model(ids), plain(ids))
    first, again, third = (torch.autograd.grad(model(ids), model[0].weight, upstream)[0] for _ in range(3))
    assert torch.allclose(first, expected, atol=1e-4 * float(expected.abs().max()))
    assert torch.equal(first, again)
    assert torch.equal(first, third)
    if padding is not None:
        assert not first[padding].any()


@pytest.mark.parametrize("padding", [None, 0])
@pytest.mark.parametrize(("tokens", "rows"), [(600, 900), (4000, 2), (4000, 900), (4000, 5000)])
def test_gradients_are_those_of_torch(tokens: int, rows: int, padding: int | None) -> None:
    both("cpu", tokens, rows, padding=padding)


@pytest.mark.parametrize("padding", [-1, 1])
def test_the_way_that_sorts(padding: int) -> None:
    grad, ids = torch.randn(50, 8), torch.randint(0, 3, (50,))
    expected = torch.ops.aten.embedding_dense_backward(grad, ids, 5, padding, False)
    assert torch.allclose(embedding._by_sorting(grad, ids, 5, padding), expected, atol=1e-5)


@pytest.mark.gpu
@pytest.mark.parametrize("padding", [None, 0])
@pytest.mark.parametrize(("tokens", "rows"), [(600, 900), (20_000, 2), (20_000, 900), (20_000, 5000)])
def test_on_a_gpu(tokens: int, rows: int, padding: int | None) -> None:
    both("cuda", tokens, rows, padding=padding)
