"""Which runs have steps that may be CUDA graphs: the reasons are found without a GPU."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from hf_trainpipe import Files, Optim, Recipe, TextClassification, TokenClassification, Tokens
from hf_trainpipe.engine.gpu.graphs import Graphs
from hf_trainpipe.engine.gpu.rounding import RoundedBatch, fills_of
from hf_trainpipe.training import graphed
from hf_trainpipe.training.options import RunOptions
from hf_trainpipe.training.run import Run
from hf_trainpipe.training.setup import set_up
from tests.training import summed
from tests.training.ranks import run_ranks


class OfTheWholeBatch(TextClassification):
    """Its loss depends on features that have weight 0: a mean over the batch."""

    def loss_sum(self, outputs, batch):  # type: ignore[no-untyped-def]
        return outputs["logits"].float().square().mean()


def looked_at(recipe: Recipe, folder: Path) -> Graphs | str | None:
    """The graphs of a run, or why there are none."""
    with set_up(recipe, RunOptions(), run_dir=folder) as setup:
        run = Run(setup)
        reason = graphed.why_not(run, run.bare) or graphed._why_not_rounded(run, run.bare, run.loss_there)
        return reason or graphed.graphs_of(run, run.bare, run.mixed, run.loss_there)


@pytest.mark.parametrize("tags", [False, True])
def test_the_tasks_of_one_text_may_be_rounded(recipe, workshop, tmp_path, tags) -> None:
    one = replace(recipe, task=replace(recipe.task, class_weights="balanced"))
    if tags:
        files = Files(train=str(workshop.folder / "train.jsonl"), validation=str(workshop.folder / "dev.jsonl"))
        one = replace(recipe, data=files, task=TokenClassification(), evaluation=type(recipe.evaluation)())
    assert isinstance(looked_at(one, tmp_path), Graphs)


@pytest.mark.parametrize(
    ("changed", "why"),
    [
        ({"optim": Optim(graphs=False)}, "optim.graphs is False"),
        ({"optim": Optim(checkpoint_layers=True)}, "layers are computed again in the backward pass"),
        ({"tokens": Tokens(max_length=32, padding="batch")}, "micro-batches are padded"),
    ],
)
def test_others_go_launch_by_launch(recipe, tmp_path, changed, why) -> None:
    assert looked_at(replace(recipe, **changed), tmp_path) == why


def test_a_loss_that_sees_what_fills_up_is_found(recipe, tmp_path) -> None:
    fields = {name: getattr(recipe.task, name) for name in ("text", "label")}
    reason = looked_at(replace(recipe, task=OfTheWholeBatch(**fields)), tmp_path)
    assert isinstance(reason, str)
    assert reason.startswith("with features of weight 0 the loss is ")


def test_the_gradient_of_graphs_is_that_of_the_step(recipe, tmp_path) -> None:
    with set_up(replace(recipe, optim=Optim(precision="fp32")), RunOptions(), run_dir=tmp_path) as setup:
        run = Run(setup)
        run.model.eval()
        (batch,) = run.feed.micro_batches(0)
        run.mixed.backward(run.loss_sum(batch))
        expected = [parameter.grad.clone() for parameter in run.bare.parameters() if parameter.grad is not None]
        run.optimizer.zero_grad()
        run.graphs = graphed.graphs_of(run, run.bare, run.mixed, run.loss_there)
        assert run.graphs is not None
        rounded = RoundedBatch(batch, fills_of(setup.data.train.features))
        assert run.computed_tokens(rounded) > run.computed_tokens(batch) == rounded.tokens
        run.graphs.run(rounded, 1.0)
        found = [parameter.grad for parameter in run.bare.parameters() if parameter.grad is not None]
    largest = max(float(one.abs().max()) for one in expected)
    for one, other in zip(found, expected, strict=True):
        assert torch.allclose(one, other, atol=1e-4 * largest)


def of_two_ranks(workshop, *arguments: str) -> tuple[int, str]:
    """Exit code and standard error of a training by :mod:`tests.training.summed`."""
    command = [sys.executable, "-m", "tests.training.summed", str(workshop.folder), *arguments]
    code, _, said = run_ranks(command, 2, cwd=workshop.folder, env=workshop.environment(workshop.ranks(2)), timeout=240)
    return code, said


@pytest.mark.nightly
def test_graphs_of_two_ranks_train_as_one_process_does_without_them(workshop, monkeypatch) -> None:
    code, said = of_two_ranks(workshop, "graphs")
    assert code == 0, said
    assert "steps       as CUDA graphs" in said
    monkeypatch.setattr(summed.export, "verify", summed.unverified)
    summed.train(workshop.folder, "alone")
    found, expected = (
        load_file(workshop.folder / f"summed-{name}/package/model.safetensors") for name in ("graphs", "alone")
    )
    for name, one in expected.items():
        assert torch.allclose(found[name], one, atol=1e-5), name


@pytest.mark.nightly
def test_a_killed_run_of_two_ranks_with_graphs_ends_bit_identical(workshop) -> None:
    """In parts: graphs give the bits of eager passes (test_graphs), ranks that are killed end so (test_precision)."""
    code, said = of_two_ranks(workshop, "whole")
    assert code == 0, said
    assert of_two_ranks(workshop, "killed", "4")[0] != 0
    code, said = of_two_ranks(workshop, "killed")
    assert code == 0, said
    assert "continuing after step" in said
    assert workshop.weights("summed-killed") == workshop.weights("summed-whole")
