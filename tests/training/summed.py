"""A training whose steps go as on GPUs, by graphs on each rank, with a recorder that runs eagerly: python -m tests.training.summed
FOLDER NAME [KILL_AT]; NAME ``ddp``: as ranks on a CPU train otherwise. FOLDER: a workshop's."""

from __future__ import annotations

import os
import signal
import sys
from functools import partial
from pathlib import Path

import hf_trainpipe as h
from hf_trainpipe.training import export, graphed, loop
from hf_trainpipe.training.run import Run
from tests.engine.gpu.recorder import Again


def go_by_graphs() -> None:
    """Every run of this process records its steps."""
    look = Run._look_at_data

    def and_record(run: Run) -> None:
        look(run)
        run.graphs = graphed.graphs_of(run, run.bare, run.mixed, run.loss_there)

    graphed.Graphs = partial(graphed.Graphs, record=lambda device: Again)  # type: ignore[misc, assignment]
    Run._look_at_data = and_record  # type: ignore[method-assign]


def kill_at(step: int) -> None:
    """Rank 1 ends before it takes a step, counted from 0."""
    take_step = loop.take_step

    def mortal(run: Run, *given: object, **options: object) -> object:
        if run.state.step == step and run.ranks.rank == 1:
            os.kill(os.getpid(), signal.SIGKILL)
        return take_step(run, *given, **options)  # type: ignore[arg-type]

    loop.take_step = mortal  # type: ignore[assignment]


if __name__ == "__main__":
    folder, name, *when = sys.argv[1:]
    os.chdir(folder)
    if name != "ddp":
        go_by_graphs()
    if when:
        kill_at(int(when[0]))
    export.verify = lambda package, **_: {}  # type: ignore[assignment]  # a process of its own, which changes no weight
    recipe = h.Recipe(
        name=name,
        model=h.Pretrained("model", dropout=0.0),
        data=h.Files(train="train.csv", validation="dev.csv"),
        task=h.TextClassification("text", label="label"),
        tokens=h.Tokens(max_length=32),
        optim=h.Optim(peak_lr=1e-3, precision="fp32"),
        budget=h.Budget(max_steps=8, examples_per_step=48, micro_batch_examples=8, save_every=3, keep_when_done="all"),
        evaluation=h.Evaluation(resamples=20),
    )
    h.execute(recipe, run_dir=Path(f"summed-{name}"))
