"""Runs that learn preferences, and the gradient of their first step."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

import hf_trainpipe as h
from hf_trainpipe import RunOptions
from hf_trainpipe.testing import tiny_causal_model, tiny_rows
from hf_trainpipe.training.loop import compute_gradient
from hf_trainpipe.training.run import Run
from hf_trainpipe.training.setup import set_up

ROWS = 20


def write_inputs(folder: Path) -> None:
    """A model, pairs, and single answers; questions and answers of many lengths."""
    tiny_causal_model(folder / "model")
    pairs = []
    for place, row in enumerate(tiny_rows(ROWS, seed=1)):
        mood = "kind" if row["label"] == "positive" else "mean"
        pairs.append({
            "prompt": f"how was {row['text'][: 4 + place]}",
            "chosen": f"it was {mood}",
            "rejected": f"a {mood} day" * (1 + place % 3),
        })  # fmt: skip
    singles = [
        {"prompt": row["prompt"], "completion": row[("rejected", "chosen")[place % 2]], "label": place % 2 == 1}
        for place, row in enumerate(pairs)
    ]
    for name, rows in (("pairs", pairs), ("singles", singles)):
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))


def recipe_of(folder: Path, loss: str, *, steps: int = 1, lora: h.Lora | None = None, **more: Any) -> h.Recipe:
    budget = {name: more.pop(name) for name in ("examples_per_step", "micro_batch_examples") if name in more}
    return h.Recipe(
        name=loss,
        model=h.Pretrained(str(folder / "model"), lora=lora),
        data=h.Files(train="singles.jsonl" if loss == "kto" else "pairs.jsonl", root=str(folder)),
        task=h.PreferenceTuning(loss=loss, **more),  # type: ignore[arg-type]
        tokens=h.Tokens(max_length=60),
        optim=h.Optim(peak_lr=1e-2, precision="fp32"),
        budget=h.Budget(
            max_steps=steps, epochs=steps, micro_batch_tokens=1 << 20, **{"examples_per_step": ROWS, **budget}
        ),
    )


@contextmanager
def begun(recipe: h.Recipe, place: Path) -> Iterator[Run]:
    """A run before its first step."""
    with set_up(recipe, RunOptions(), run_dir=place) as setup:
        run = Run(setup)
        run.model.train()
        yield run


def gradient(recipe: h.Recipe, place: Path, *, pieces: bool) -> dict[str, torch.Tensor]:
    """Of each parameter, of weights that have moved from the reference; with ``loss``, the mean over the step."""
    with begun(recipe, place) as run:
        torch.manual_seed(3)
        with torch.no_grad():
            for one in run.bare.parameters():
                one += 0.02 * torch.randn(one.shape)
        micro_batches = run.feed.micro_batches(0)
        assert (len(micro_batches) > 1) == pieces
        [count] = run.ranks.sums([float(sum(run.task.count(batch) for batch in micro_batches))])
        assert count == ROWS
        computed = compute_gradient(run, micro_batches, count)
        found = {name: one.grad.clone() for name, one in run.bare.named_parameters() if one.grad is not None}
        found["loss"] = torch.tensor(run.ranks.sums([float(computed.loss_sum)])[0] / count)
        return found


def assert_same(found: dict[str, torch.Tensor], expected: dict[str, torch.Tensor]) -> None:
    assert found.keys() == expected.keys()
    assert max(float(one.abs().max()) for one in expected.values()) > 1e-3
    for name, one in expected.items():
        assert float((found[name] - one).abs().max()) <= 1e-5, name
