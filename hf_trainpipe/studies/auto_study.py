"""What ``auto`` knows of its runs so far, and the candidates that it chooses among; auto.json holds it for the next call."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hf_trainpipe.metrics import better
from hf_trainpipe.package.layout import MANIFEST, finite
from hf_trainpipe.recipe import Recipe
from hf_trainpipe.runtime.tasks.texts import TextTask
from hf_trainpipe.studies import few
from hf_trainpipe.studies.halving import FEWEST, Rung
from hf_trainpipe.studies.runs import finished
from hf_trainpipe.training.run_files import is_packaged
from hf_trainpipe.utils.atomic import write_json

if TYPE_CHECKING:
    from hf_trainpipe.recipe.source import RecipeSource
    from hf_trainpipe.studies.few import Held

RESULT, BEST, SELECTED_ON = "auto.json", "best", "validation"
OUT_OF_TIME = "out of time"
"""The outcome of a run that the budget ended; it goes on where the budget grows."""
EVALUATIONS = 4
"""Of a run."""
_MEAN, _PROBE = ("--task.pooling", "mean"), ("--model.head", "probe")
_APART = ("--task.pairs", "apart", *_MEAN)
TEXTS: tuple[tuple[str, ...], ...] = (
    (*_MEAN, *_PROBE, "--optim.peak-lr", "1e-4"),
    (*_MEAN, "--optim.peak-lr", "1e-4"),
    (*_MEAN, *_PROBE, "--optim.peak-lr", "5e-5"),
    (*_MEAN, "--optim.peak-lr", "2e-4"),
    ("--optim.peak-lr", "1e-4"),
    (*_MEAN, *_PROBE, "--optim.peak-lr", "2e-5"),
)
"""The portfolio of tasks with an answer a text, the likeliest first: where there is time for a part of it, for its beginning."""
SIMILAR: tuple[tuple[str, ...], ...] = (
    (*_APART, *_PROBE, "--optim.peak-lr", "5e-5"),
    (*_MEAN, "--optim.peak-lr", "2e-4"),
    (*_APART, *_PROBE, "--optim.peak-lr", "1e-4"),
    (*_MEAN, *_PROBE, "--optim.peak-lr", "1e-4"),
    (*_MEAN, "--optim.peak-lr", "1e-4"),
    (*_APART, *_PROBE, "--optim.peak-lr", "2e-5"),
)
"""Of tasks with a number a pair of texts, which tells most often how alike they are."""
COMPARED: tuple[tuple[str, ...], ...] = (
    (*_MEAN, *_PROBE, "--optim.peak-lr", "2e-4"),
    (*_MEAN, "--optim.peak-lr", "2e-4"),
    (*_APART, *_PROBE, "--optim.peak-lr", "5e-5"),
    (*_MEAN, *_PROBE, "--optim.peak-lr", "1e-4"),
    (*_APART, *_PROBE, "--optim.peak-lr", "1e-4"),
    (*_MEAN, "--optim.peak-lr", "1e-4"),
)
"""Of tasks with labels a pair of texts, such as entailment."""
OTHERS: tuple[tuple[str, ...], ...] = tuple(("--optim.peak-lr", rate) for rate in ("1e-4", "2e-4", "5e-5", "4e-4"))
"""Of other tasks."""


def run_name(candidate: int, steps: int) -> str:
    """The folder of a run below ``runs/``."""
    return f"{candidate + 1}-{steps}"


@dataclass(frozen=True, kw_only=True)
class Tried:
    """A run of a candidate."""

    candidate: int
    """From 0."""
    steps: int
    outcome: str
    seconds: float
    score: float | None = None
    """Of the metric that selects: on validation, or of few labels out of fold; of a run that the budget ended the
    best so far; None of another run that did not end complete, or of a way that was not scored."""

    @property
    def name(self) -> str:
        """Of its folder."""
        return run_name(self.candidate, self.steps)


@dataclass(frozen=True, kw_only=True)
class Tempo:
    """Seconds that a run takes here."""

    start: float = 0.0
    """To begin."""
    step: float = 0.0
    """A step."""
    evaluation: float = 0.0
    """An evaluation on validation."""
    end: float = 0.0
    """To score it on test and to package it."""


@dataclass(kw_only=True)
class Study:
    """What auto knows so far; auto.json holds it."""

    recipe: Recipe
    """The first candidate's, without its fields."""
    source: RecipeSource
    folder: Path
    budget: float
    """Seconds."""
    spent: float = 0.0
    """Seconds, in earlier calls too."""
    assumed: Sequence[str] = ()
    audited: Sequence[str] = ()
    tried: list[Tried] = field(default_factory=list)
    plan: list[Rung] = field(default_factory=list)
    tempo: Tempo = field(default_factory=Tempo)
    dealt: Mapping[str, int] = field(default_factory=dict)
    """Rows of each split."""
    is_few: bool = False
    """Whether the candidates are :data:`.few.WAYS`."""
    ways: list[Held] = field(default_factory=list)
    """Of few labels, those that were compared."""
    baselines: list[dict[str, Any]] = field(default_factory=list)
    verdict: str = ""
    _since: float = field(default_factory=time.monotonic)

    @property
    def portfolio(self) -> tuple[tuple[str, ...], ...]:
        """Fields of each candidate."""
        if self.is_few:
            return tuple(way.fields for way in few.WAYS)
        task = self.recipe.task
        if not isinstance(task, TextTask):
            return OTHERS
        if task.text_pair is None:
            return TEXTS
        return SIMILAR if "spearman" in task.metric_names else COMPARED

    def fields_of(self, candidate: int, steps: int) -> list[str]:
        """Fields of a run: those of the candidate, its steps, and how often it is evaluated, so that one that is ended early has a score."""
        every = max(FEWEST, -(-steps // EVALUATIONS))
        return [*self.portfolio[candidate], "--budget.max-steps", str(steps), "--budget.evaluate-every", str(every)]

    def place(self, tried: Tried) -> Path:
        """The folder of a run."""
        return self.folder / "runs" / tried.name

    @property
    def quickest(self) -> int:
        """The first candidate that needs no pass over the data before its first step; of few labels the first."""
        return (
            0 if self.is_few else next(at for at, fields in enumerate(self.portfolio) if "--model.head" not in fields)
        )

    @property
    def left(self) -> float:
        """Seconds."""
        return self.budget - self.spent - (time.monotonic() - self._since)

    @property
    def metric(self) -> str:
        return self.recipe.selected_metric

    @property
    def best(self) -> Tried | None:
        """The run with the best score, complete or ended for want of time; of equal ones, and where none has a score, the first."""
        return self._best_of(self.tried)

    def _best_of(self, tried: Sequence[Tried]) -> Tried | None:
        usable = [
            one for one in tried if one.outcome == "complete" or (one.outcome == OUT_OF_TIME and one.score is not None)
        ]
        best = usable[0] if usable else None
        for one in usable[1:]:
            assert best is not None
            if one.score is not None and better(self.metric, one.score, best.score, task=self.recipe.task):
                best = one
        return best

    def is_packaged(self, tried: Tried) -> bool:
        """Whether a run has the package of its best step."""
        run = self.place(tried)
        if (result := finished(run)) is not None:
            return is_packaged(result)
        package, ledger = run / "package" / MANIFEST, run / "ledger.jsonl"
        return package.exists() and package.stat().st_mtime >= ledger.stat().st_mtime

    def point_to_best(self) -> None:
        """Make ``best`` lead to the best run that has a package, at once."""
        if (best := self._best_of([one for one in self.tried if self.is_packaged(one)])) is None:
            return
        link, beside = self.folder / BEST, self.folder / f".{BEST}-{os.getpid()}"
        beside.unlink(missing_ok=True)
        beside.symlink_to(Path("runs") / best.name, target_is_directory=True)
        os.replace(beside, link)

    def save(self) -> None:
        """Write auto.json."""
        now = time.monotonic()
        self.spent, self._since = self.spent + now - self._since, now
        best = self.best
        write_json(self.folder / RESULT, finite(self.to_json() | {"best": None if best is None else best.name}))

    def to_json(self) -> dict[str, Any]:
        """For programs, and for the next call."""
        return {
            "schema": 1,
            "budget_seconds": self.budget,
            "spent_seconds": self.spent,
            "metric": self.metric,
            "assumed": list(self.assumed),
            "audit": list(self.audited),
            "plan": [vars(rung) for rung in self.plan],
            "runs": [
                {**vars(one), "fields": list(self.portfolio[one.candidate]), "run": f"runs/{one.name}"}
                for one in self.tried
            ],
            "ways": [one.to_json(self.metric) for one in self.ways],
            "baselines": self.baselines,
            "verdict": self.verdict,
        }
