"""Attention kernels of a GPU: the choice, what is refused, and, where there is a GPU, outputs and gradients."""

from __future__ import annotations

import itertools

import pytest
import torch

from hf_trainpipe.runtime.model import attention, kernels
from hf_trainpipe.runtime.model.kernels import KERNELS, Call, candidates, choose, is_right, try_out
from hf_trainpipe.runtime.model.layout import Layout
from hf_trainpipe.runtime.model.unpad import prove

CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def nothing_chosen(monkeypatch) -> None:
    monkeypatch.setattr(kernels, "_CHOSEN", {})


def by_views(call: Call) -> torch.Tensor:
    """The attention of a CPU, group by group."""
    return attention._by_views([call.query, call.key, call.value], call.layout, call.scale, call.dropout, call.window)


@pytest.mark.parametrize("window", [None, 9, 200])
def test_padded_sdpa_gives_outputs_and_gradients_of_the_groups(window: int | None) -> None:
    expected = try_out(by_views, CPU, torch.float32, 8, window=window)
    found = try_out(KERNELS["padded sdpa"], CPU, torch.float32, 8, window=window)
    assert len(found) == 4
    for one, other in zip(found, expected, strict=True):
        assert torch.allclose(one, other, atol=1e-5)


def test_padded_sdpa_keeps_the_order_of_the_batch() -> None:
    layout = Layout.of([3, 7, 0, 5], 9, CPU)
    query, key, value = torch.randn(3, 15, 2, 8).unbind()
    call = Call(query, key, value, layout, 0.3, 0.0, None)
    assert torch.allclose(KERNELS["padded sdpa"](call), by_views(call), atol=1e-5)


@pytest.mark.parametrize(
    ("dtype", "size", "slides", "first"),
    [
        (torch.bfloat16, 64, False, "flash-attn"),
        (torch.float16, 64, True, "flash-attn"),
        (torch.bfloat16, 20, False, "padded sdpa"),
        (torch.bfloat16, 264, False, "torch memory-efficient"),
        (torch.float32, 64, False, "torch memory-efficient"),
        (torch.float32, 64, True, "padded sdpa"),
    ],
)
def test_candidates_by_type_size_and_window(dtype, size, slides, first) -> None:
    found = candidates(dtype, size, slides=slides)
    assert found[0] == first
    assert found[-1] == "padded sdpa"


def test_a_kernel_that_is_not_here_is_passed_over() -> None:
    before = torch.random.get_rng_state()
    assert choose(CPU, torch.bfloat16, 64, False, True) == "padded sdpa"
    assert kernels.chosen(torch.bfloat16) == ["padded sdpa"]
    assert kernels.chosen(torch.float32) == []
    assert torch.equal(torch.random.get_rng_state(), before)


@pytest.mark.parametrize("wrong", ["sees its neighbours", "ignores the window", "draws no dropout", "another dropout"])
def test_a_wrong_kernel_is_refused(wrong: str) -> None:
    draws = torch.Generator().manual_seed(1)

    def kernel(call: Call) -> torch.Tensor:
        if wrong == "sees its neighbours":
            one = Layout.of([len(call.query)], len(call.query), CPU)
            return by_views(Call(call.query, call.key, call.value, one, call.scale, call.dropout, call.window))
        if wrong == "ignores the window":
            return by_views(Call(call.query, call.key, call.value, call.layout, call.scale, call.dropout, None))
        out = by_views(Call(call.query, call.key, call.value, call.layout, call.scale, 0.0, call.window))
        if wrong == "another dropout" and call.dropout:
            return out * torch.bernoulli(torch.full(out.shape, 0.5), generator=draws)
        return out

    assert is_right(by_views, CPU, torch.float32, 8, True, True)
    assert not is_right(kernel, CPU, torch.float32, 8, True, True)


@pytest.mark.gpu
@pytest.mark.parametrize("name", KERNELS)
def test_each_kernel_of_this_gpu_gives_outputs_and_gradients_of_fp32(name: str) -> None:
    if name == "flash-attn":
        pytest.importorskip("flash_attn")
    device, tried = torch.device("cuda", torch.cuda.current_device()), 0
    for dtype, slides in itertools.product(kernels.TOLERANCES, (False, True)):
        if name in candidates(dtype, 64, slides=slides):
            window = 9 if slides else None
            expected = try_out(by_views, CPU, torch.float32, 64, window=window)
            found = [tensor.cpu() for tensor in try_out(KERNELS[name], device, dtype, 64, window=window)]
            assert prove(expected, found) < kernels.TOLERANCES[dtype], (dtype, slides)
            assert is_right(KERNELS[name], device, dtype, 64, slides, True), (dtype, slides)
            tried += 1
    assert tried >= 3


@pytest.mark.gpu
def test_16_bits_run_a_flash_kernel_here() -> None:
    device = torch.device("cuda", torch.cuda.current_device())
    for slides in (False, True):
        assert "flash" in choose(device, torch.bfloat16, 64, slides, True)


@pytest.mark.gpu
def test_gradients_of_long_texts_are_the_same_bits_each_time() -> None:
    device = torch.device("cuda", torch.cuda.current_device())
    for dtype in (torch.bfloat16, torch.float32):
        name = choose(device, dtype, 64, False, True)
        first, second = (
            try_out(KERNELS[name], device, dtype, 64, dropout=0.1, lengths=(900, 512, 300, 7)) for _ in range(2)
        )
        assert all(torch.equal(one, other) for one, other in zip(first, second, strict=True)), (name, dtype)
