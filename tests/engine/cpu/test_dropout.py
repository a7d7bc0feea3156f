"""Cheap dropout keeps what is drawn at its rate, the mean at its value, and the same mask on the way back."""

from __future__ import annotations

import pytest
import torch

from hf_trainpipe.engine.cpu import dropout
from hf_trainpipe.engine.randomness import seed_everything


@pytest.mark.parametrize("rate", [0.1, 0.5, 0.013])
def test_rate_and_mean(rate: float) -> None:
    dropout.reseed(5)
    count = 1_000_000
    mask = dropout.mask(count, rate)
    share = float((mask == 0).double().mean())
    error = (rate * (1 - rate) / count) ** 0.5
    assert abs(share - rate) < 5 * error + 1 / 65536
    kept = mask[mask > 0].unique()
    assert len(kept) == 1
    assert float(kept[0]) == pytest.approx(1 / (1 - rate), rel=2 / 65536 / (1 - rate))
    assert float(mask.double().mean()) == pytest.approx(1.0, abs=6 * error / (1 - rate))


def test_neighbours_are_independent() -> None:
    dropout.reseed(6)
    dropped = (dropout.mask(1_000_000, 0.25) == 0).double()
    for lag in (1, 2, 3, 4, 8, 384):
        both = float((dropped[lag:] * dropped[:-lag]).mean())
        assert both == pytest.approx(0.0625, abs=0.0015), lag


def test_the_way_back_uses_the_same_mask() -> None:
    layer = torch.nn.Dropout(0.3)
    model = torch.nn.Sequential(layer)
    dropout.use_fast_dropout(model)
    assert isinstance(model[0], dropout.FastDropout)
    values = torch.ones(1000, requires_grad=True)
    out = model(values)
    out.sum().backward()
    assert torch.equal(out.detach(), values.grad)
    assert 0 < int((out == 0).sum()) < 1000
    model.eval()
    assert torch.equal(model(values), values)


def test_masks_are_a_function_of_the_key() -> None:
    seed_everything(1, 2, 3)
    first = [dropout.mask(999, 0.1), dropout.mask(7, 0.5)]
    seed_everything(1, 2, 3)
    again = [dropout.mask(999, 0.1), dropout.mask(7, 0.5)]
    seed_everything(1, 2, 4)
    other = dropout.mask(999, 0.1)
    assert all(torch.equal(one, two) for one, two in zip(first, again, strict=True))
    assert not torch.equal(first[0], other)


def test_bf16() -> None:
    mask = dropout.mask(1000, 0.1, torch.bfloat16)
    assert mask.dtype == torch.bfloat16
    assert set(mask.float().unique().tolist()) == {0.0, float(torch.tensor(1 / 0.9).bfloat16())}
