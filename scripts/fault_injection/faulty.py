"""The recipe of the fault runs, with a tiny model; environment variables inject the faults.

FAULT     nan, spike, oom or sleep, in the micro-batches FROM to TO of a process, on rank ON
FITS      with oom: elements of a micro-batch that fit
PACE      milliseconds added to every micro-batch, to leave time for a kill
DIE_IN    module:Class.method:N: SIGKILL to this process when the N-th call of the method returns
"""

from __future__ import annotations

import functools
import importlib
import math
import os
import signal
import time
from dataclasses import dataclass
from typing import Any

import torch

from hf_trainpipe import Budget, Evaluation, Files, Optim, Pretrained, Recipe, TextClassification, Tokens, main

RANK = os.environ.get("RANK", "0")
FAULT = os.environ.get("FAULT", "")
FIRST, LAST = int(os.environ.get("FROM", "0")), int(os.environ.get("TO", "1000000"))
FITS = int(os.environ.get("FITS", "0"))
PACE = float(os.environ.get("PACE", "0")) / 1000
seen = [0]


@dataclass(frozen=True)
class Faulty(TextClassification):
    """Text classification with injected faults."""

    def loss_sum(self, outputs: Any, batch: dict[str, torch.Tensor]) -> torch.Tensor:
        if "input_ids" not in batch or not torch.is_grad_enabled():  # an evaluation
            return super().loss_sum(outputs, batch)
        seen[0] += 1
        time.sleep(PACE)
        ours = FIRST <= seen[0] <= LAST and os.environ.get("ON", RANK) == RANK
        if ours and FAULT == "oom" and batch["input_ids"].numel() > FITS:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 MiB.")
        if ours and FAULT == "sleep":
            time.sleep(0.2)
        factor = {"nan": math.nan, "spike": 100.0}.get(FAULT, 1.0) if ours else 1.0
        return super().loss_sum(outputs, batch) * factor


def die_in(place: str) -> None:
    """Wrap a method so that the process is killed when its N-th call returns."""
    module, name, number = place.split(":")
    owner, method = name.split(".")
    cls = getattr(importlib.import_module(module), owner)
    inner = getattr(cls, method)
    calls = [0]

    @functools.wraps(inner)
    def wrapper(*args: Any, **options: Any) -> Any:
        result = inner(*args, **options)
        calls[0] += 1
        if calls[0] == int(number):
            os.kill(os.getpid(), signal.SIGKILL)
        return result

    setattr(cls, method, wrapper)


def recipe() -> Recipe:
    """26 steps of 16 examples: two epochs of 200, a checkpoint every 4 steps."""
    return Recipe(
        name="faulty",
        model=Pretrained("model"),
        data=Files(train="train.csv", validation="dev.csv"),
        task=Faulty("text", label="label"),
        tokens=Tokens(max_length=32),
        optim=Optim(peak_lr=1e-3),
        budget=Budget(epochs=2, examples_per_step=16, log_every=1, save_every=4, micro_batch_tokens=4096),
        evaluation=Evaluation(select="accuracy", resamples=50),
    )


if "DIE_IN" in os.environ:
    die_in(os.environ["DIE_IN"])
if __name__ == "__main__":
    main(recipe)
