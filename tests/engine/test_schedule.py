"""The learning rate equals transformers' schedules."""

from __future__ import annotations

import pytest
import torch
from transformers import get_scheduler

from hf_trainpipe.engine.schedule import rate_factor


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [("linear", "linear"), ("cosine", "cosine"), ("constant", "constant_with_warmup")],
)
@pytest.mark.parametrize(("total", "warmup"), [(50, 5), (7, 0), (3, 2)])
def test_curves_are_those_of_transformers(ours, theirs, total, warmup) -> None:
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
    scheduler = get_scheduler(theirs, optimizer, num_warmup_steps=warmup, num_training_steps=total)
    for update in range(total):
        found = rate_factor(update, total=total, warmup=warmup, schedule=ours)
        assert found == pytest.approx(scheduler.get_last_lr()[0], abs=1e-12)
        optimizer.step()
        scheduler.step()
