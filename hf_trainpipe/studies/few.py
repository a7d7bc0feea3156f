"""Few labelled rows: the ways to learn from them, held against each other without test (docs/few-labels.md).

Where there are enough rows of validation they choose; else cross-validation of the rows to learn from, in which every row is answered
once by a model that never saw it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from hf_trainpipe.metrics import better, greater_is_better
from hf_trainpipe.metrics.multiple import Family, step_down
from hf_trainpipe.metrics.paired import Difference, differences
from hf_trainpipe.metrics.scoring import intervals
from hf_trainpipe.runtime.tasks.columns import CLASS, CLASSES
from hf_trainpipe.runtime.tasks.texts import TextTask
from hf_trainpipe.studies.auto_recipe import without_repeats
from hf_trainpipe.studies.folding import Folding

if TYPE_CHECKING:
    from hf_trainpipe.data.chosen_rows import Choice
    from hf_trainpipe.metrics.base import Interval, Predictions
    from hf_trainpipe.recipe import Recipe
    from hf_trainpipe.studies.pool import Pool

FEWEST, MOST = 4, 50
"""Rows a label, the median over labels, of what counts as few."""
ENOUGH = 200
"""Rows of validation by which ways are told apart; fewer are learnt from."""
FOLDING = Folding(folds=5, splits=("train",))
EPOCHS, RATE = 10, "5e-5"
"""Of fine-tuning."""


@dataclass(frozen=True, kw_only=True)
class Way:
    """A way to learn from few rows."""

    name: str
    fields: tuple[str, ...]
    tunes: bool
    """Whether all weights are trained behind the start of the head."""

    def steps(self, rows: int, examples_per_step: int) -> int:
        """Optimizer steps of a run on so many rows."""
        return max(1, EPOCHS * math.ceil(rows / examples_per_step)) if self.tunes else 0


def _way(name: str, head: str, *, tunes: bool) -> Way:
    fields = ("--task.pooling", "mean", "--model.head", head)
    tuning = ("--optim.peak-lr", RATE, "--budget.epochs", str(EPOCHS)) if tunes else ()
    return Way(name=name, fields=(*fields, *tuning), tunes=tunes)


WAYS: tuple[Way, ...] = (
    _way("a linear model behind the frozen encoder", "probe", tunes=False),
    _way("a warm-up on pairs, then the linear model", "contrastive", tunes=False),
    _way("the linear model, then fine-tuning", "probe", tunes=True),
    _way("a warm-up on pairs, the linear model, then fine-tuning", "contrastive", tunes=True),
)
"""The plainest first: of equal scores it counts."""


def is_few(pool: Pool) -> bool:
    """Whether the training rows are few for each label, of a task whose head a linear model may begin."""
    target = pool.task.target
    if not isinstance(pool.task, TextTask) or target is None or target.cell not in (CLASS, CLASSES):
        return False
    train = pool.splits["train"]
    counts = np.bincount(pool.strata.ids[pool.strata.rows < len(train)], minlength=len(pool.task.label_names))
    return FEWEST <= float(np.median(counts[: len(pool.task.label_names)])) <= MOST


def chooses_on_validation(pool: Pool) -> bool:
    """Whether files bring enough rows of validation."""
    return "validation" in pool.splits and len(pool.splits["validation"]) >= ENOUGH


def dealt(pool: Pool) -> tuple[Choice, list[str]]:
    """All rows where they are: of few none is cut off. Too few rows of validation are learnt from.

    Args:
        pool: Of train, validation and test, as far as files bring them, train first.

    Returns:
        The choice, and what was decided.
    """
    sizes = dict(zip(pool.names, np.diff(pool.starts).tolist(), strict=True))
    learns = ["train"]
    told = [f"{sizes['train']:,} rows of train are few for {len(pool.task.label_names)} labels: none is cut off"]
    if chooses_on_validation(pool):
        told.append(f"the {sizes['validation']:,} rows of validation choose the way")
    else:
        if "validation" in sizes:
            learns.append("validation")
            told.append(f"the {sizes['validation']:,} rows of validation are too few to choose by, and are learnt from")
        told.append(f"the way is chosen by cross-validation of what is learnt from, in {FOLDING.folds} folds")
    kept, left_out = without_repeats(pool, learns)
    rows: dict[str, Any] = {"train": pool.choice(kept)}
    for name in pool.names:
        if name not in learns:
            rows |= pool.whole(name)
    return rows, [*told, *left_out]


@dataclass(frozen=True, kw_only=True)
class Answered:
    """What a way answered of rows that it did not learn from."""

    number: int
    """Of the way, from 0."""
    predictions: Predictions
    """Of the same rows, in the same order, for all ways."""


@dataclass(frozen=True, kw_only=True)
class Held:
    """A way beside the plainest one."""

    number: int
    score: Interval
    against: Difference | None
    """Of the plainest way; None of that one."""
    p: float
    """Of the difference, adjusted for all ways (Holm)."""

    def to_json(self, name: str) -> dict[str, Any]:
        score = {key: asdict(self.score)[key] for key in ("value", "low", "high")}
        found: dict[str, Any] = {"way": WAYS[self.number].name, "fields": list(WAYS[self.number].fields), **score}
        if self.against is not None:
            found["against_the_plainest"] = {
                "value": self.against.value,
                "low": self.against.low,
                "high": self.against.high,
                "p": self.p,
                "verdict": self.verdict(name),
            }
        return found

    def verdict(self, name: str) -> str:
        """``better``, ``worse`` or ``no difference shown``.

        Args:
            name: Of the metric.
        """
        if self.against is None or not self.p < 0.05:
            return "no difference shown"
        return "better" if (self.against.value > 0) == greater_is_better(name) else "worse"

    def told(self, name: str) -> str:
        """A line."""
        line = f"{WAYS[self.number].name}: {name} {self.score.value:.4f} [{self.score.low:.4f}, {self.score.high:.4f}]"
        if self.against is None:
            return line
        one = self.against
        return f"{line}, {one.value:+.4f} [{one.low:+.4f}, {one.high:+.4f}] against the plainest: {self.verdict(name)}"


def hold(answered: Sequence[Answered], recipe: Recipe) -> list[Held]:
    """The ways beside the first of them, by paired tests on the same rows."""
    name, evaluation = recipe.selected_metric, recipe.evaluation
    plainest, *others = answered
    tests = [
        differences(plainest.predictions, one.predictions, [name], confidence=evaluation.confidence)[name]
        for one in others
    ]
    adjusted = step_down([Family(p_values=[test.p], drawn=[test.drawn]) for test in tests])
    p_values = [math.nan, *(p for [p] in adjusted)]
    scores = [
        intervals(
            one.predictions, [name], confidence=evaluation.confidence, resamples=evaluation.resamples, seed=recipe.seed
        )
        for one in answered
    ]
    return [
        Held(number=one.number, score=score[name], against=test, p=p)
        for one, score, test, p in zip(answered, scores, [None, *tests], p_values, strict=True)
    ]


def best_of(held: Sequence[Held], recipe: Recipe) -> Held:
    """The best score; of equal ones the plainer way."""
    best = held[0]
    for one in held[1:]:
        if better(recipe.selected_metric, one.score.value, best.score.value, task=recipe.task):
            best = one
    return best
