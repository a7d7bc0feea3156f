"""Seeds are derived from their key, without state."""

from __future__ import annotations

import pytest
import torch
from hypothesis import example, given
from hypothesis import strategies as st

from hf_trainpipe.engine.randomness import derive, seed_everything

KEYS = st.lists(st.integers(0, 2**31), min_size=1, max_size=4)


def without_zeros(key: list[int]) -> list[int]:
    """A key as its seed sees it: numpy's SeedSequence fills a short one up with zeros."""
    return without_zeros(key[:-1]) if key and key[-1] == 0 else key


@given(KEYS, KEYS)
@example([0], [0, 0, 0])
def test_different_keys_give_different_seeds(one, other) -> None:
    assert derive(*one) == derive(*one)
    assert (derive(*one) == derive(*other)) == (without_zeros(one) == without_zeros(other))


def test_dropout_repeats_for_its_key() -> None:
    seed_everything(1, 2, 3, 0)
    first = torch.nn.functional.dropout(torch.ones(1000))
    torch.rand(7)
    seed_everything(1, 2, 3, 0)
    assert torch.equal(first, torch.nn.functional.dropout(torch.ones(1000)))


def test_torch_draws_what_it_does_after_its_own_seeding() -> None:
    seed_everything(4, 5)
    found = torch.rand(5)
    torch.manual_seed(derive(4, 5))
    assert torch.equal(torch.rand(5), found)


@pytest.mark.gpu
def test_a_gpu_draws_what_it_does_after_torchs_own_seeding() -> None:
    seed_everything(4, 5)
    found = torch.rand(5, device="cuda")
    torch.manual_seed(derive(4, 5))
    assert torch.equal(torch.rand(5, device="cuda"), found)
