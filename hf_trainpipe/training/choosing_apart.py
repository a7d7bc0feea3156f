"""Thresholds and calibration chosen on what a cross-validation answered (``package RUN --crossval STUDY``): each row by a model that never saw
it, so that all rows count, and none of them chose a step.

They are of models that learnt from fewer rows than the run's. What is chosen is judged on each fold by what the others choose, and on the
run's own splits as ever.

Shapes: N rows, C labels.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from hf_trainpipe.engine.evaluation import as_predictions, tune
from hf_trainpipe.errors import RecipeError
from hf_trainpipe.metrics import Predictions
from hf_trainpipe.metrics.paired import differences
from hf_trainpipe.metrics.saved import Predicted
from hf_trainpipe.out_of_fold import OutOfFold, judged
from hf_trainpipe.training.calibrating import Chosen, asked, choose, promise

if TYPE_CHECKING:
    from hf_trainpipe.runtime.tasks.base import Task
    from hf_trainpipe.training.run import Run


def choose_apart(run: Run, study: Path) -> Chosen | None:
    """Choose what the run's task chooses on rows, on those of a cross-validation; :attr:`.Run.chosen_apart` has it then.

    Returns:
        What the task's calibration became, where it has one.

    Raises:
        DataError: the study is none, not finished, without answers of rows, or of other rows.
        RecipeError: nothing of the task is chosen on rows.
    """
    kept = OutOfFold.read(study)
    kept.rows({name: split.rows.dataset for name, split in run.data.splits.items()}, run.task)
    answers = _Answers.of(kept, run.task)
    on, groups, folds = (
        f"{len(answers.held):,} held-out rows of {study}",
        answers.numbers("group"),
        answers.numbers("fold"),
    )
    chosen = None
    task = run.task
    if asked(task) is not None:
        chosen = choose(task, answers.judged, seed=run.recipe.seed, dealt=folds, groups=groups, on=on)
        chosen.nested = None  # of the study's rows, not of validation's
        chosen.facts["on"] = on
        task = chosen.task
    tuned = tune(task, answers.judged(task))
    lines = []
    if tuned is not task:
        line, is_kept = _threshold_told(run, answers, task, tuned, folds, on=on)
        lines.append(line)
        task = tuned if is_kept else task
    elif chosen is None:
        raise RecipeError(
            f"package --crossval: {type(run.task).__name__} as this recipe has it chooses nothing on rows: no calibration and no threshold.",
            fix="Give the recipe a task.calibration (docs/calibration.md), which a complete run takes: package RUN --recipe FILE --crossval STUDY",
        )
    if chosen is not None:
        chosen.task = task
        promise(chosen, answers.judged, on=on)
        task = chosen.task
        lines = [*chosen.lines, *lines]
    for line in lines:
        run.console.say(line)
    run.chosen_apart = task.changes_from(run.task)
    return chosen


def _threshold_told(
    run: Run, answers: _Answers, before: Task, tuned: Task, folds: NDArray[np.int64], *, on: str
) -> tuple[str, bool]:
    """What a threshold comes to on rows that it was not chosen on, and whether it stays: not where it is shown to be worse there than what the
    task had before."""
    changed = tuned.changes_from(before)
    if not changed:
        return f"the threshold stays as it is by {on}", True
    best = run.state.best
    earlier = run.task.changed(best.tuned if best is not None else {})
    parts, orders = [], []
    for fold in np.unique(folds):
        mine, others = np.flatnonzero(folds == fold), np.flatnonzero(folds != fold)
        parts.append(answers.judged(tune(before, answers.judged(before, others)), mine))
        orders.append(mine)
    order = np.argsort(np.concatenate(orders))
    nested = _taken(_decided(parts), order)
    names = nested.own if nested.kind == "own" else before.metric_names
    metric = run.recipe.selected_metric if run.recipe.selected_metric in names else next(iter(names))
    found = differences(_decided([answers.judged(earlier)]), nested, [metric], seed=run.recipe.seed)[metric]
    told = ", ".join(f"{name} {_spelt(getattr(earlier, name))} -> {_spelt(value)}" for name, value in changed.items())
    is_worse = found.high < 0
    kept = "left out, it is worse: " if is_worse else ""
    return (
        f"{told}: {kept}{metric} of {on} by thresholds of the other folds {found.first:.4f} -> {found.second:.4f} "
        f"({found.value:+.4f}, between {found.low:+.4f} and {found.high:+.4f})",
        not is_worse,
    )


def _spelt(value: Any) -> str:
    return f"{value:.4f}" if isinstance(value, float) else str(value)


@dataclass(frozen=True, eq=False)
class _Answers:
    """What models that never saw a row answered to it, as a task judges it."""

    held: Predicted
    judged: Callable[..., Predictions]
    """Of a task, and of some rows [M] where these are named."""

    @classmethod
    def of(cls, kept: OutOfFold, task: Task) -> _Answers:
        """Those of a study, with the labels in the task's order."""
        if task.judged_as is not None:
            held = kept.logits(task)
            return cls(held, partial(judged, held.predictions))
        held = kept.raw()
        if not (task.kept and set(task.kept) <= set(held.kept)):
            raise RecipeError(
                f"package --crossval: {kept.folder} does not keep what {type(task).__name__} chooses a threshold by.",
                fix="Of a study of an earlier version cross-validate again; a task of one's own names it in `kept`.",
            )
        return cls(held, partial(_of_kept, held))

    def numbers(self, name: str) -> NDArray[np.int64]:
        """[N] fold or group."""
        return self.held.numbers[name]


def _of_kept(held: Predicted, task: Task, rows: NDArray[np.int64] | None = None) -> Predictions:
    rows = np.arange(len(held)) if rows is None else rows
    return as_predictions(
        task.judged_again({name: held.kept[name][rows] for name in task.kept}), task, np.arange(len(rows))
    )


def _decided(parts: Sequence[Predictions]) -> Predictions:
    """The decisions of some predictions, one after the other: they may be by other thresholds."""
    return replace(
        parts[0],
        outputs=np.concatenate([part.decisions() for part in parts]),
        references=np.concatenate([part.references for part in parts]),
        own={name: np.concatenate([part.own[name] for part in parts]) for name in parts[0].own},
        threshold=0.5,
        examples=None,
        judged=None,
    )


def _taken(found: Predictions, order: NDArray[np.int64]) -> Predictions:
    return replace(
        found,
        outputs=found.outputs[order],
        references=found.references[order],
        own={name: column[order] for name, column in found.own.items()},
    )
