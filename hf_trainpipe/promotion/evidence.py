"""What a package answers on rows that decide, each computed here and now: no figure of a run is taken on trust."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from hf_trainpipe.audit.corpus import Corpus
from hf_trainpipe.data.predicted import predicted
from hf_trainpipe.data.prepare import Prepared
from hf_trainpipe.errors import DataError
from hf_trainpipe.metrics.calibration import cooled
from hf_trainpipe.metrics.saved import Predicted, taken
from hf_trainpipe.package.scoring import judged_rows, task_for
from hf_trainpipe.report.same_rows import in_order_of
from hf_trainpipe.utils.brief import listed

if TYPE_CHECKING:
    from datasets import Dataset

    from hf_trainpipe.metrics import Predictions
    from hf_trainpipe.recipe import Recipe
    from hf_trainpipe.runtime.handler.predictor import Predictor


@dataclass(frozen=True, kw_only=True)
class Answers:
    """Of one package on one set of rows."""

    found: Predicted
    examples: np.ndarray
    """int64[N]: which of the rows each prediction is of; those that the package does not take have none."""
    temperature: float
    """What the package divides logits by."""

    @property
    def honest(self) -> Predictions:
        """The predictions with the probabilities that the package answers."""
        held = self.found.predictions
        return held if self.temperature == 1.0 or held.decided else cooled(held, self.temperature)


@dataclass(frozen=True, kw_only=True)
class Pair:
    """Champion and challenger on the same rows, in the same order, with one order of labels."""

    what: str
    """``test`` or ``fresh``."""
    champion: Answers
    challenger: Answers
    notes: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.champion.found)


def answers(
    package: Path,
    dataset: Dataset,
    recipe: Recipe,
    *,
    what: str,
    progress: Callable[[int], None] = lambda _: None,
    **worker: Any,
) -> Answers:
    """What a package gives some rows, read as the recipe's task reads them.

    Raises:
        DataError: the rows cannot be read, or have labels that the package does not know.
        PackageError: the package is of another task.
    """
    from hf_trainpipe.runtime.handler.predictor import Predictor
    from hf_trainpipe.training.calibrating import asked

    predictor = Predictor.load(package, precision="fp32", **worker)  # whatever the environment asks of servers
    task = task_for(predictor, recipe.task, name=str(package))
    _check_labels(predictor, dataset, recipe, package=package, what=what)
    judged = judged_rows(predictor, dataset, task=task, split=what, model=recipe.model, progress=progress)
    prepared = Prepared(what, judged.features, judged.rows, "")
    found = predicted(prepared, judged.predictions, task)
    held = judged.predictions.examples
    calibration = asked(predictor.task)
    temperature = None if calibration is None else calibration.temperature
    return Answers(
        found=found,
        examples=np.arange(len(found)) if held is None else np.asarray(held),
        temperature=float(temperature) if isinstance(temperature, int | float) else 1.0,
    )


def _check_labels(predictor: Predictor, dataset: Dataset, recipe: Recipe, *, package: Path, what: str) -> None:
    from hf_trainpipe.data.rows import Rows

    task = task_for(predictor, recipe.task, name=str(package))
    unknown = task.unknown_labels(Rows(dataset, what)) if len(dataset) else []
    if unknown:
        names = sorted({str(spelled) for _, spelled in unknown})
        raise DataError(
            f"{package} does not know the labels {listed(names, 8, quoted=True)}, which {len({row for row, _ in unknown}):,} "
            f"rows of {what} have: models with other labels cannot be held against each other.",
            fix="Take these rows out, or begin another alias for the new labels: --over aliases/OTHER",
        )


def pair(champion: Answers, challenger: Answers, *, what: str) -> Pair:
    """Both on the rows that both take.

    Raises:
        DataError: they have other labels, or no row in common.
    """
    both = np.intersect1d(champion.examples, challenger.examples)
    notes = []
    for name, side in (("champion", champion), ("challenger", challenger)):
        if left := len(side.examples) - len(both):
            notes.append(f"{what}: {left:,} rows that only the {name} takes are left out.")
    sides = []
    for side in (champion, challenger):
        rows = np.flatnonzero(np.isin(side.examples, both)).astype(np.int64)
        sides.append(Answers(found=taken(side.found, rows), examples=both, temperature=side.temperature))
    labels = sides[0].found.predictions.labels
    aligned = in_order_of(sides[1].found, labels)
    if aligned is None or not len(both):
        raise DataError(
            f"{what}: the champion's labels are {listed(labels, 8)}, the challenger's "
            f"{listed(sides[1].found.predictions.labels, 8)}; they have {len(both):,} rows in common.",
            fix="Models with other labels need an alias of their own: --over aliases/OTHER",
        )
    challenger = Answers(found=aligned, examples=both, temperature=sides[1].temperature)
    return Pair(what=what, champion=sides[0], challenger=challenger, notes=tuple(notes))


def fingerprint(dataset: Dataset, recipe: Recipe) -> str:
    """sha256 of inputs and what is right, whatever the order of the rows."""
    corpus = Corpus(recipe.task, {"test": dataset})
    target = recipe.task.target
    right: list[Any] = list(corpus.targets)
    if target is not None and all(one is None for one in right):
        right = [[cells[at] for cells in map(corpus.column, target.columns)] for at in range(len(corpus))]
    lines = sorted(
        json.dumps([raw, gold], ensure_ascii=False, default=str) for raw, gold in zip(corpus.raw, right, strict=True)
    )
    return hashlib.sha256("\n".join(lines).encode("utf-8", "surrogatepass")).hexdigest()
