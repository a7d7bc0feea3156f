"""Students, teachers and rows for the tests of distillation."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

import hf_trainpipe as h
from hf_trainpipe import Distil, RunOptions
from hf_trainpipe.testing import tiny_model, tiny_rows
from hf_trainpipe.training.loop import compute_gradient
from hf_trainpipe.training.run import Run
from hf_trainpipe.training.setup import set_up


def write_inputs(folder: Path) -> None:
    """Rows of three tasks, a student of one layer, and an encoder for teachers."""
    tiny_model(folder / "model", layers=1)
    tiny_model(folder / "large", kind="roberta")
    rows = [
        {
            "text": f"<b>{row['text']}</b>",
            "pair": row["label"],
            "label": "kind" if row["label"] == "positive" else "mean",
            "labels": ["long"] if len(row["text"]) > 60 else ["long", "kind"],
            "score": len(row["text"]) / 50,
        }
        for row in tiny_rows(40, seed=1)
    ]
    (folder / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))


def raw(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "rows.jsonl").read_text().splitlines()]


def student(folder: Path, *, task: h.Task | None = None, distil: Distil | None = None, **changes: Any) -> h.Recipe:
    recipe = h.Recipe(
        name="student",
        model=h.Pretrained(str(folder / "model"), dropout=0.0),
        data=h.Files(train="rows.jsonl", validation="rows.jsonl", root=str(folder)),
        task=task or h.TextClassification(),
        tokens=h.Tokens(max_length=16, overflow="window", stride=4),
        optim=h.Optim(peak_lr=1e-2, precision="fp32"),
        budget=h.Budget(max_steps=4, examples_per_step=16, log_every=1, save_every=2),
        evaluation=h.Evaluation(resamples=20),
        distil=distil,
    )
    return replace(recipe, **changes)


def untrained(folder: Path, name: str, **config: Any) -> Path:
    """A model with a head, as transformers writes it."""
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        made = AutoModelForSequenceClassification.from_pretrained(folder / "large", **config)
        with torch.no_grad():
            made.classifier.out_proj.weight *= 50  # a teacher is sure of something
    made.save_pretrained(folder / name)
    AutoTokenizer.from_pretrained(folder / "large").save_pretrained(folder / name)
    return folder / name


def gradient(recipe: h.Recipe, run_dir: Path) -> tuple[float, dict[str, torch.Tensor], int]:
    """The mean loss and the gradient of the first step, and how many micro-batches this rank had."""
    with set_up(recipe, RunOptions(), run_dir=run_dir) as setup:
        run = Run(setup)
        run.model.train()
        batches = run.feed.micro_batches(0)
        [count] = run.ranks.sums([float(sum(run.task.count(batch) for batch in batches))])
        [loss] = run.ranks.sums([float(compute_gradient(run, batches, count).loss_sum)])
        return loss / count, {name: one.grad.clone() for name, one in run.bare.named_parameters()}, len(batches)


def cut(folder: Path, *, piece: int | None) -> h.Recipe:
    """A student of :func:`untrained`'s teacher, whose first step is cut into micro-batches of so many texts at most."""
    distil = Distil(str(folder / "head"), temperature=3.0, weight=0.3)
    recipe = student(folder, distil=distil, tokens=h.Tokens(max_length=64))
    return replace(recipe, budget=replace(recipe.budget, examples_per_step=40, micro_batch_examples=piece))
