"""A table's gradient kept in one buffer is the dense gradient, step after step."""

from __future__ import annotations

import copy

import pytest
import torch

from hf_trainpipe.engine.cpu import sparse_embedding_gradient
from hf_trainpipe.engine.cpu.sparse_embedding_gradient import EmbeddingGradients
from hf_trainpipe.engine.optimizer import Clipping


class Model(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.table = torch.nn.Embedding(50, 8, padding_idx=0)
        self.head = torch.nn.Linear(8, 3)

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        return self.head(self.table(ids).tanh()).square().sum()


@pytest.fixture
def pair(monkeypatch) -> tuple[Model, Model, EmbeddingGradients]:
    monkeypatch.setattr(sparse_embedding_gradient, "MIN_ELEMENTS", 1)
    torch.manual_seed(0)
    plain = Model()
    fast = copy.deepcopy(plain)
    return plain, fast, EmbeddingGradients(fast)


def test_same_gradient_over_micro_batches_and_steps(pair) -> None:
    plain, fast, _ = pair
    steps = [[[3, 4, 4, 0], [4, 9, 49, 3]], [[7, 7, 7, 1]], [[3, 0, 0, 0], [3, 3, 3, 3], [8, 9, 1, 2]]]
    optimizers = [torch.optim.AdamW(model.parameters(), lr=0.1, fused=True) for model in (plain, fast)]
    for step in steps:
        for model in (plain, fast):
            for batch in step:
                model(torch.tensor([batch])).backward()
        assert torch.equal(fast.table.weight.grad != 0, plain.table.weight.grad != 0)
        for one, other in zip(plain.parameters(), fast.parameters(), strict=True):
            assert torch.allclose(one.grad, other.grad, rtol=1e-6, atol=1e-7)
        for optimizer in optimizers:
            optimizer.step()
            optimizer.zero_grad()
    for one, other in zip(plain.parameters(), fast.parameters(), strict=True):
        assert torch.allclose(one, other, rtol=1e-5, atol=1e-6)


def test_the_norm_is_that_of_all_rows_and_clipping_that_of_torch(pair) -> None:
    plain, fast, known = pair
    optimizers = [torch.optim.AdamW(model.parameters(), lr=0.1, fused=True) for model in (plain, fast)]
    clipping = Clipping(optimizers[1], embeddings=known)
    for batch in ([3, 4, 4, 0], [40, 41, 3, 5]):
        for model in (plain, fast):
            model(torch.tensor([batch])).backward()
        expected = torch.nn.utils.clip_grad_norm_(plain.parameters(), 0.5)
        assert clipping.measure(0.5).item() == pytest.approx(expected.item(), rel=1e-6)
        assert expected > 0.5
        for optimizer in optimizers:
            optimizer.step()
            optimizer.zero_grad()
        for one, other in zip(plain.parameters(), fast.parameters(), strict=True):
            assert torch.allclose(one, other, rtol=1e-5, atol=1e-6)
    fast(torch.tensor([[1]])).backward()
    assert clipping.measure(1e9) < 1e9
    assert optimizers[1].grad_scale is None


def test_small_shared_and_frozen_tables_are_left_alone(monkeypatch) -> None:
    model = Model()
    EmbeddingGradients(model)
    assert "forward" not in vars(model.table), "50 rows are few"
    monkeypatch.setattr(sparse_embedding_gradient, "MIN_ELEMENTS", 1)
    tied = Model()
    tied.out = torch.nn.Linear(8, 50, bias=False)
    tied.out.weight = tied.table.weight
    frozen = Model()
    frozen.table.weight.requires_grad_(False)
    for model in (tied, frozen):
        EmbeddingGradients(model)
        assert "forward" not in vars(model.table)
