"""A training step does not synchronise with the device."""

from __future__ import annotations

import pytest
import torch

from hf_trainpipe.engine.mixed import Mixed
from hf_trainpipe.engine.parallel import parallelize
from hf_trainpipe.engine.ranks import Ranks, make_accelerator
from hf_trainpipe.recipe import Optim


@pytest.mark.gpu
def test_a_step_does_not_wait_for_the_device() -> None:
    ranks = Ranks(make_accelerator())
    device = ranks.accelerator.device
    model = torch.nn.Sequential(torch.nn.Linear(8, 8), torch.nn.GELU(), torch.nn.Linear(8, 1)).to(device)
    before = [parameter.detach().clone() for parameter in model.parameters()]
    parallel = parallelize(model, Optim(peak_lr=0.1), ranks, Mixed())
    rows = torch.randn(4, 8, device=device)
    norms = []
    try:
        for step, scale in enumerate((1.0, float("nan"), 1.0)):
            if step:  # the first makes the optimizer's state
                torch.cuda.set_sync_debug_mode("error")
            (model(rows).sum() * scale).backward()
            norms.append(parallel.clip(0.5))
            parallel.step(norms[-1])
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert torch.isfinite(torch.stack(norms)).tolist() == [True, False, True]
    for parameter, old in zip(model.parameters(), before, strict=True):
        assert torch.isfinite(parameter).all()
        assert not torch.equal(parameter, old)
