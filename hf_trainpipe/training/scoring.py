"""Final scores of a run: predictions in fp32, what is tuned on them, metrics with intervals, and what stands behind them."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from functools import partial
from typing import TYPE_CHECKING, Any

from hf_trainpipe import metrics
from hf_trainpipe.engine.evaluation import judge, tune
from hf_trainpipe.engine.scores import score_predictions
from hf_trainpipe.training.calibrating import Chosen, asked, choose, facts_of, promise
from hf_trainpipe.training.choosing_apart import choose_apart
from hf_trainpipe.training.reporting import keep_predictions

if TYPE_CHECKING:
    import torch

    from hf_trainpipe.runtime.model.outputs import Outputs
    from hf_trainpipe.runtime.tasks.base import Task
    from hf_trainpipe.training.run import Run


def scored(run: Run, outputs: Mapping[str, Outputs]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Scores with intervals, and what stands behind them, by split; what was predicted is kept."""
    with run.console.working("computing the scores and their intervals"):
        chosen = _tune_again(run, outputs)
        task = run.tuned_task
        judged = {name: judge(found, run.data.splits[name].features, task) for name, found in outputs.items()}
        scores, report = _final_scores(run, judged), _behind_scores(run, judged)
        if chosen is not None:
            _add_calibration(run, outputs, judged, chosen, report)
        keep_predictions(run, judged)
    return scores, report


def outputs_in_fp32(
    run: Run, split: str, model: torch.nn.Module, *, first: int | None = None, task: Task | None = None
) -> Outputs:
    """Outputs for a split, or its first examples, of the run's task or of another, on every rank; all ranks call it."""
    examples = None if first is None else run.data.splits[split].usable[:first]
    total = len(run.data.splits[split]) if examples is None else len(examples)
    with run.console.working(f"scoring {split} in fp32", total=total) as done:
        return run.predict(split, autocast=False, examples=examples, model=model, task=task, done=done)


def _tune_again(run: Run, outputs: Mapping[str, Outputs]) -> Chosen | None:
    """Choose what was tuned by what the package will answer, in fp32: the training's own answers may be less exact.

    Returns:
        What the task's calibration became, where it has one.
    """
    if run.options.crossval is not None:
        return choose_apart(run, run.options.crossval)
    best = run.state.best
    if best is None or "validation" not in outputs:
        return None
    judged = partial(judge, outputs["validation"], run.data.splits["validation"].features)
    chosen = None if asked(run.task) is None else choose(run.task, judged, seed=run.recipe.seed)
    task = run.task if chosen is None else chosen.task
    if best.tuned:
        task = tune(task, judged(task))
    if chosen is not None:
        chosen.task = task
        promise(chosen, judged)
        task = chosen.task
        for line in chosen.lines:
            run.console.say(line)
    if task is not run.task:
        run.state.best = dataclasses.replace(best, tuned=task.changes_from(run.task))
    return chosen


def _add_calibration(
    run: Run,
    outputs: Mapping[str, Outputs],
    judged: Mapping[str, metrics.Predictions],
    chosen: Chosen,
    report: Mapping[str, dict[str, Any]],
) -> None:
    """Put into the report how honest probabilities are, before and after."""
    plain = run.tuned_task.changed({"calibration": None})
    for name, found in outputs.items():
        raw = judge(found, run.data.splits[name].features, plain)
        report[name]["calibration"] = facts_of(chosen, raw, judged[name], split=name)


def _final_scores(run: Run, judged: Mapping[str, metrics.Predictions]) -> dict[str, dict[str, dict[str, Any]]]:
    """Every metric on every evaluated split, with its bootstrap interval."""
    recipe = run.recipe
    names = [*recipe.scored_metrics, *run.tuned_task.metric_names]
    return {
        name: score_predictions(predictions, names, evaluation=recipe.evaluation, seed=recipe.seed)
        for name, predictions in judged.items()
    }


def _behind_scores(run: Run, judged: Mapping[str, metrics.Predictions]) -> dict[str, dict[str, Any]]:
    """Each label, confusions and worst errors of every evaluated split; the errors with their texts and places."""
    report = {}
    task = run.tuned_task
    for name, predictions in judged.items():
        split = run.data.splits[name]
        found = metrics.breakdown(predictions, num_errors=run.recipe.evaluation.errors)
        if predictions.kind == "own":
            found["errors"] = task.worst(predictions.judged, run.recipe.evaluation.errors)
        asked = split.asked(task)
        for error in found["errors"]:
            example = predictions.example(error.pop("position"))
            given = asked.inputs[example]
            error |= {
                "example": example,
                "place": str(split.rows.place(example)),
                "text": " | ".join(column.cell.spelt(given[role]) for role, column in task.inputs.items()),
            }
            error |= task.explain(error, asked, example)
        report[name] = found
    return report
