"""A training whose steps go as on GPUs, by graphs on each rank, with a recorder that runs eagerly: python -m tests.training.summed
FOLDER NAME [KILL_AT]; FOLDER: a workshop's."""

from __future__ import annotations

import os
import signal
import sys
from functools import partial
from pathlib import Path

import hf_trainpipe as h
from hf_trainpipe.data.prepare import Prepared
from hf_trainpipe.training import export, graphed, loop
from hf_trainpipe.training.run import Run
from tests.engine.gpu.recorder import Again


def go_by_graphs() -> list[Run]:
    """Every run of this process records its steps; those runs, once there are some."""
    look, runs = Run._look_at_data, list[Run]()

    def and_record(run: Run) -> Prepared:
        learnt = look(run)
        run.graphs = graphed.graphs_of(run, run.bare, run.mixed, run.loss_there)
        runs.append(run)
        return learnt

    graphed.Graphs = partial(graphed.Graphs, record=lambda device: Again)  # type: ignore[misc, assignment]
    Run._look_at_data = and_record  # type: ignore[method-assign]
    return runs


def kill_at(step: int) -> None:
    """Rank 1 ends before it takes a step, counted from 0."""
    take_step = loop.take_step

    def mortal(run: Run, *given: object, **options: object) -> object:
        if run.state.step == step and run.ranks.rank == 1:
            os.kill(os.getpid(), signal.SIGKILL)
        return take_step(run, *given, **options)  # type: ignore[arg-type]

    loop.take_step = mortal  # type: ignore[assignment]


def recipe_of(folder: Path) -> h.Recipe:
    return h.Recipe(
        name="summed",
        model=h.Pretrained(str(folder / "model"), dropout=0.0),
        data=h.Files(train="train.csv", validation="dev.csv", root=str(folder)),
        task=h.TextClassification("text", label="label"),
        tokens=h.Tokens(max_length=32),
        optim=h.Optim(peak_lr=1e-3, precision="fp32"),
        budget=h.Budget(max_steps=8, examples_per_step=48, micro_batch_examples=8, save_every=3),
        evaluation=h.Evaluation(resamples=20),
    )


def unverified(package: Path, **_: object) -> dict[str, object]:
    """In place of trying the package in a process of its own, which changes no weight."""
    return {}


def train(folder: Path, name: str) -> None:
    h.execute(recipe_of(folder), run_dir=folder / f"summed-{name}")


if __name__ == "__main__":
    folder, name, *when = sys.argv[1:]
    export.verify = unverified
    runs = go_by_graphs()
    if when:
        kill_at(int(when[0]))
    train(Path(folder), name)
    for run in runs:
        assert run.graphs is not None
        assert run.graphs.known, "no shape came for the second time"
