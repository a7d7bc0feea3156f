"""A pipeline in the form that engines get: steps, each one command, in an order in which needs come first."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from hf_trainpipe.errors import RecipeError

if TYPE_CHECKING:
    from hf_trainpipe.pipelines.pipeline import Pipeline

DONE = (0,)
"""The exit codes of a need after which a stage runs, unless it says others."""


@dataclass(frozen=True, kw_only=True)
class Step:
    """A stage as an engine sees it. All state is in the stage's folder: an engine runs commands and looks at exit codes.

    What the codes mean is :data:`~hf_trainpipe.errors.EXIT_CODES`: 75 and 5 run the same command again, each on its own budget
    (``Pipeline.interruptions``, ``Pipeline.push_retries``); branches choose what comes next; everything else ends the pipeline.
    """

    name: str
    needs: tuple[str, ...]
    """The steps right before it."""
    runs_if: Mapping[str, tuple[int, ...]]
    """For each need the exit codes after which this step runs. After another branch, or where a need was left out, this step is
    left out too."""
    command: tuple[str, ...]
    """``python -m hf_trainpipe pipeline stage FILE NAME``, for the folder of the pipeline's file."""
    trains: bool
    """Whether it trains: what wants a GPU and most of the time."""


def lower(pipeline: Pipeline) -> tuple[Step, ...]:
    """The steps of a pipeline that was loaded from a file.

    Raises:
        RecipeError: it was made in Python and has no file that a command could name.
    """
    if pipeline.source is None:
        raise RecipeError(
            f"{pipeline.name}: engines call `pipeline stage FILE NAME`, and this pipeline was not loaded from a file.",
            fix="Write it into a file as `def pipeline() -> Pipeline:` and load that.",
        )
    steps: dict[str, Step] = {}
    waiting = list(pipeline.stages)
    while waiting:
        stage = next(stage for stage in waiting if set(pipeline.needs_of(stage.name)) <= set(steps))
        waiting.remove(stage)
        needs = pipeline.needs_of(stage.name)
        steps[stage.name] = Step(
            name=stage.name,
            needs=needs,
            runs_if={need: stage.runs_if.get(need, DONE) for need in needs},
            command=("python", "-m", "hf_trainpipe", "pipeline", "stage", pipeline.spelled, stage.name),
            trains=stage.trains,
        )
    return tuple(steps.values())
