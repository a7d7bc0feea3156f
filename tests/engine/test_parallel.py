"""A training step does not synchronise with the device."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from hf_trainpipe.engine.gpu.graphs import Recorder
from hf_trainpipe.engine.mixed import Mixed
from hf_trainpipe.engine.parallel import OneGpu, parallelize
from hf_trainpipe.engine.ranks import Ranks, make_accelerator
from hf_trainpipe.recipe import Optim
from tests.engine.gpu.recorder import Again


@pytest.mark.gpu
@pytest.mark.filterwarnings("ignore:Synchronization debug mode")
def test_a_step_does_not_wait_for_the_device() -> None:
    ranks = Ranks(make_accelerator())
    device = ranks.accelerator.device
    model = torch.nn.Sequential(torch.nn.Linear(8, 8), torch.nn.GELU(), torch.nn.Linear(8, 1)).to(device)
    before = [parameter.detach().clone() for parameter in model.parameters()]
    parallel = parallelize(model, Optim(peak_lr=0.1), ranks, Mixed())
    rows = torch.randn(4, 8, device=device)
    norms = []
    try:
        for step, scale in enumerate((1.0, 1.0, 1.0, float("nan"), 1.0)):
            if step == 3:  # until then the optimizer's state is made, and graphs are recorded
                torch.cuda.set_sync_debug_mode("error")
            (model(rows).sum() * scale).backward()
            norms.append(parallel.clip(0.5))
            parallel.step(norms[-1])
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert torch.isfinite(torch.stack(norms)).tolist() == [True, True, True, False, True]
    for parameter, old in zip(model.parameters(), before, strict=True):
        assert torch.isfinite(parameter).all()
        assert not torch.equal(parameter, old)


def weights_after(
    kind: type[OneGpu], device: str, *, same_memory: bool = True
) -> tuple[list[float], torch.Tensor, OneGpu]:
    """Norms, weights and the object after steps whose gradient lies in the same tensors, or in new ones."""
    torch.manual_seed(4)
    model = torch.nn.Sequential(torch.nn.Linear(8, 8), torch.nn.GELU(), torch.nn.Linear(8, 1)).to(device)
    ranks = Ranks(make_accelerator())
    parallel = kind(model, Optim(peak_lr=0.1), ranks, Mixed())
    held = [torch.zeros_like(parameter) for parameter in model.parameters()]
    generator, norms = torch.Generator().manual_seed(1), []
    for step in range(7):
        for place, parameter in enumerate(model.parameters()):
            drawn = torch.randn(parameter.shape, generator=generator).to(device)
            drawn = drawn * torch.nan if step == 3 else drawn
            parameter.grad = held[place].copy_(drawn) if same_memory else drawn
        for group in parallel.optimizer.param_groups:
            group["lr"] = 0.1 / (step + 1)
        norm = parallel.clip(0.5)
        parallel.step(norm)
        norms.append(norm)
    return [float(norm) for norm in norms], torch.cat([p.detach().reshape(-1) for p in model.parameters()]), parallel


def compare_updates(record: Any, device: str) -> None:
    eager = type("Eager", (OneGpu,), {"limit": 0})
    recording = type("Recording", (OneGpu,), {"record": staticmethod(record)})
    norms, expected, _ = weights_after(eager, device)
    found_norms, found, parallel = weights_after(recording, device)
    assert torch.equal(found, expected)
    assert found_norms[:3] == norms[:3]
    assert parallel._known
    assert parallel.optimizer.param_groups[0]["lr"] == pytest.approx(0.1 / 7), "a number, as checkpoints keep it"


def test_recorded_updates_give_the_same_bits() -> None:
    compare_updates(lambda device: Again, "cpu")


@pytest.mark.gpu
def test_recorded_updates_give_the_same_bits_on_a_gpu() -> None:
    compare_updates(Recorder, "cuda")
