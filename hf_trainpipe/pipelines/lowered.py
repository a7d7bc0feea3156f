"""A pipeline in the form that engines get: steps, each one command, in an order in which needs come first."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from hf_trainpipe.errors import EXIT_CODES, RecipeError

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


def why_left_out(ended: Mapping[str, int | None], runs_if: Mapping[str, tuple[int, ...]]) -> str:
    """Why a stage is left out; empty: it is not.

    Args:
        ended: For each of its needs that is over the exit code; None: it was left out itself.
        runs_if: For needs the codes after which the stage runs, where they are not :data:`DONE`.
    """
    for need, code in ended.items():
        codes = runs_if.get(need, DONE)
        if code is None:
            return f"{need} was left out"
        if code not in codes:
            return f"{need} ended with {codes_in_words([code])}, and it runs after {codes_in_words(codes)}"
    return ""


def codes_in_words(codes: Iterable[int]) -> str:
    """``10 drifted``."""
    return " or ".join(f"{code} {EXIT_CODES[code].name}" for code in codes)


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
