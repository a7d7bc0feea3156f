"""Slices in which a model is worse than in the rest: of a split whose predictions a run kept, or of rows that a package answers."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from hf_trainpipe.behaviour.row_facts import facts_of
from hf_trainpipe.data.place import place
from hf_trainpipe.data.predicted import row_hashes
from hf_trainpipe.errors import DataError, RecipeError, closest
from hf_trainpipe.metrics.base import finishes_of
from hf_trainpipe.metrics.breakdown import breakdown
from hf_trainpipe.metrics.errors import Errors, errors_of
from hf_trainpipe.metrics.registry import greater_is_better
from hf_trainpipe.metrics.saved import folder_of, load, taken
from hf_trainpipe.metrics.score_details import describe_error
from hf_trainpipe.metrics.slice_search import Search, weak_slices

if TYPE_CHECKING:
    import pyarrow as pa
    from datasets import Dataset

    from hf_trainpipe.metrics import Predictions
    from hf_trainpipe.out_of_fold import OutOfFold
    from hf_trainpipe.recipe import Recipe
    from hf_trainpipe.runtime.tasks.base import Task

_SHOWN, _TEXT = 3, 400


@dataclass(frozen=True, kw_only=True)
class Sliced:
    """What was found in a split or a file."""

    name: str
    """The split, or the file."""
    source: str
    """Where its predictions are from."""
    search: Search
    errors: tuple[tuple[Mapping[str, str], ...], ...]
    """Of each slice some rows that are wrong: ``place``, ``told``, ``text``."""
    left_out: Counter[str] = field(default_factory=Counter)
    """Rows that were not looked at, by reason."""

    def to_json(self) -> dict[str, Any]:
        found = self.search.to_json()
        slices = [
            {**one, "errors": list(map(dict, errors))}
            for one, errors in zip(found.pop("slices"), self.errors, strict=True)
        ]
        return {"of": self.name, "source": self.source, "left_out": dict(self.left_out), **found, "slices": slices}


def sliced(
    predictions: Predictions,
    dataset: Dataset,
    *,
    task: Task,
    name: str,
    source: str,
    lengths: NDArray[np.int64] | None = None,
    further: pa.Table | None = None,
    select: str | None = None,
    hashes: NDArray[np.uint64] | None = None,
    **options: Any,
) -> Sliced:
    """Look for weak slices of rows.

    Args:
        predictions: Of rows of the dataset, which ``predictions.examples`` names.
        lengths: [N] tokens of each row of the dataset.
        further: [N] columns beside those of the task.
        select: The metric that chooses the best model, which is told where it is one of single rows.
        hashes: [N] equal for rows that belong together; None: of the inputs.
        options: Of :func:`~hf_trainpipe.metrics.slice_search.weak_slices`.

    Raises:
        RecipeError: nothing is known of single rows.
    """
    errors = _errors(predictions, task, select)
    there = np.arange(len(dataset)) if predictions.examples is None else predictions.examples
    if len(there) < len(dataset):
        dataset = dataset.select(there)
        lengths = None if lengths is None else lengths[there]
        further = None if further is None else further.take(there)
        hashes = None if hashes is None else hashes[there]
    if hashes is None:
        hashes = row_hashes(dataset.with_format("arrow")[:], task)
    search = weak_slices(errors, facts_of(task, dataset, lengths=lengths, further=further), hashes, **options)
    texts = _Texts(task, dataset, predictions, errors)
    return Sliced(
        name=name, source=source, search=search, errors=tuple(texts.wrong(one.members) for one in search.slices)
    )


def sliced_run(
    run: Path, recipe: Recipe, *, task: Task | None = None, split: str | None = None, **options: Any
) -> Sliced:
    """Look for weak slices of a split by the predictions that a run kept; nothing is predicted again.

    Args:
        recipe: The run's, whose data are read.
        task: Fitted, as the package has it; None: as in the recipe.
        split: None: test, or validation where there is no other.

    Raises:
        DataError: the run kept no predictions of the split, or its data are others now.
        RecipeError: as :func:`sliced`.
    """
    kept = {file.stem: file for file in folder_of(run).glob("*.npz")}
    split = split or next((name for name in ("test", "validation") if name in kept), None)
    if split is None or split not in kept:
        asked = "of a split" if split is None else f"of {split!r}"
        raise DataError(
            f"{run}: expected predictions {asked}, found {', '.join(map(repr, sorted(kept))) or 'none'}.",
            fix=f"A run keeps them when it is complete; of an earlier version `hf-trainpipe package {run}` scores it once more.",
        )
    task = task or recipe.task
    held = load(kept[split], finishes=finishes_of(task.metrics()))
    splits = recipe.data.splits()
    if split not in splits:
        raise DataError(
            f"{run}: its data have no split {split!r}, but {', '.join(map(repr, splits))}.{closest(split, splits)}",
            fix="Choose one of them with --split.",
        )
    dataset = splits[split]
    places = _matched(held.rows, row_hashes(dataset.with_format("arrow")[:], task))
    known = np.flatnonzero(places >= 0)
    if not len(known):
        raise DataError(
            f"{run}: none of the {len(held):,} rows of {split} that it predicted is among the {len(dataset):,} rows that its data have "
            "now.",
            fix="Bring the data back; or name a file: the package answers its rows. Texts in blocks of many have no slices.",
        )
    found = taken(held, known)
    chosen = dataset.select(places[known])
    result = sliced(
        found.predictions, chosen, task=task, name=split, source="kept predictions", lengths=found.lengths,
        select=recipe.selected_metric, hashes=found.rows, **options,
    )  # fmt: skip
    if missing := len(held) - len(known):
        result.left_out["that its data no longer have"] += missing
    return result


def sliced_study(kept: OutOfFold, splits: Mapping[str, Dataset], *, task: Task, select: str, **options: Any) -> Sliced:
    """Look for weak slices by what a cross-validation keeps: of each row the answer of a model that never saw it.

    Of several repeats the first counts, so that each row does once. Groups are in the same half whole.

    Args:
        splits: The data that were dealt.
        task: Fitted, as one of the folds has it.
        select: As of :func:`sliced`.

    Raises:
        DataError: the data have other rows than were dealt.
        RecipeError: as :func:`sliced`.
    """
    held, dataset = kept.first(), kept.rows(splits, task)
    groups = held.numbers["group"].astype(np.uint64)
    return sliced(
        held.predictions, dataset, task=task, name="all folds", source="answers of models that never saw the rows", lengths=held.lengths,
        select=select, hashes=groups, **options,
    )  # fmt: skip


def _errors(predictions: Predictions, task: Task, select: str | None) -> Errors:
    own = [name for name, column in predictions.own.items() if column.ndim == 1]
    chosen = select if select in own or not own else own[0]
    found = errors_of(predictions, select=chosen, greater_is_better=chosen is None or greater_is_better(chosen, task))
    if found is None or not predictions.answered() or not found.units.any():
        raise RecipeError(
            f"slices need a score of each row, and {type(task).__name__} with {select or 'its metrics'} has none.",
            fix="Use it with tasks that give labels, numbers or tags, or whose metrics are means over rows.",
        )
    return found


def _matched(kept: NDArray[np.uint64], there: NDArray[np.uint64]) -> NDArray[np.int64]:
    """[M]: where each kept row stands now, -1 where it does not; of equal ones the first is the first, and so on."""
    waiting: dict[int, list[int]] = {}
    for place_now, value in enumerate(there.tolist()):
        waiting.setdefault(value, []).append(place_now)
    found = np.full(len(kept), -1, dtype=np.int64)
    taken_of: Counter[int] = Counter()
    for at, value in enumerate(kept.tolist()):
        places = waiting.get(value, ())
        if taken_of[value] < len(places):
            found[at] = places[taken_of[value]]
            taken_of[value] += 1
    return found


class _Texts:
    """Rows for a person."""

    def __init__(self, task: Task, dataset: Dataset, predictions: Predictions, errors: Errors) -> None:
        self._task, self._dataset, self._errors = task, dataset, errors
        self._told = _described(predictions, errors)

    def wrong(self, members: NDArray[np.bool_]) -> tuple[Mapping[str, str], ...]:
        """Some of the rows with the most errors."""
        excess = np.where(members, self._errors.residuals(), -np.inf)
        worst = np.argsort(-excess, kind="stable")[: min(_SHOWN, int(members.sum()))]
        found: list[Mapping[str, str]] = []
        for row in worst.tolist():
            if excess[row] <= 0:
                break
            cells = self._dataset[row]
            text = " | ".join(_shown(cells[column.name]) for column in self._task.inputs.values())
            told = {
                "place": str(place(self._dataset, "rows", row)),
                "told": self._told.get(row, ""),
                "text": text[:_TEXT],
            }
            found.append(told)
        return tuple(found)


def _shown(cell: Any) -> str:
    if isinstance(cell, str):
        return cell
    if isinstance(cell, Sequence):
        return " ".join(map(str, cell))
    return str(cell)


def _described(predictions: Predictions, errors: Errors) -> dict[int, str]:
    """What is wrong with each wrong row, by its position."""
    kind = predictions.kind
    if kind in ("multi_label", "regression") or (kind == "single_label" and not predictions.decided):
        listed = breakdown(predictions, num_errors=len(predictions))["errors"]
        return {int(one["position"]): describe_error(one) for one in listed}
    if kind == "tags":
        what = "entities, predicted and gold," if predictions.has_entities else "words"
        pairs = zip(errors.wrong.tolist(), errors.units.tolist(), strict=True)
        return {row: f"{wrong:g} of {units:g} {what} wrong" for row, (wrong, units) in enumerate(pairs)}
    if kind == "single_label":
        names, gold, said = predictions.labels, predictions.references.tolist(), predictions.decisions().tolist()
        return {
            row: f"{names[one]} predicted as {names[two]}"
            for row, (one, two) in enumerate(zip(gold, said, strict=True))
        }
    return {
        row: f"{errors.score} {errors.shift + errors.scale * wrong:.3g}"
        for row, wrong in enumerate(errors.wrong.tolist())
    }
