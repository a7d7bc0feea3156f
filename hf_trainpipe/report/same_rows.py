"""Predictions of several runs on the rows that all of them scored, in one order and with one order of labels."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hf_trainpipe.errors import DataError
from hf_trainpipe.metrics.saved import Predicted, taken
from hf_trainpipe.report.facts import Facts


def in_common(runs: Sequence[Facts], names: Sequence[str], split: str, notes: list[str]) -> list[Predicted] | None:
    """The rows of a split that all runs predicted; None where there are none.

    Args:
        names: What notes call the runs.
        notes: What is left out is added here.

    Raises:
        DataError: runs of other tasks.
    """
    lacking = [run for run in runs if split not in run.predicted]
    if lacking:
        if any((run.result.get("scores") or {}).get(split) for run in lacking):
            paths = " and ".join(str(run.path) for run in lacking)
            notes.append(
                f"{split} is not compared: {paths} recorded no predictions of its rows (`hf-trainpipe package RUN` scores it once more)."
            )
        return None
    first = runs[0].predicted[split]
    kept, places = (
        np.arange(len(first)),
        [],
    )  # of the first's rows those that all have; where each row stands in each run
    for run, name in zip(runs[1:], names[1:], strict=True):
        place = _places(first, run, runs[0], split, name=name, first_name=names[0], notes=notes)
        if place is None:
            return None
        places.append(place)
        kept = kept[place[kept] >= 0]
    sides = [taken(first, kept)]
    for run, place in zip(runs[1:], places, strict=True):
        aligned = in_order_of(taken(run.predicted[split], place[kept]), first.predictions.labels)
        assert aligned is not None, "its labels were looked at"
        sides.append(aligned)
    return sides if len(kept) else None


def _places(
    one: Predicted, run: Facts, first: Facts, split: str, *, name: str, first_name: str, notes: list[str]
) -> NDArray[np.int64] | None:
    """Where each of the first's rows stands in a run, -1 where it does not; None: they cannot be compared, and a note says why."""
    two = run.predicted[split]
    if one.predictions.kind != two.predictions.kind:
        raise DataError(
            f"{first.path} and {run.path} have other tasks: {one.predictions.kind} and {two.predictions.kind}.",
            fix="Compare runs of the same task.",
        )
    pairs = _same_rows(one.rows, two.rows)
    if not len(pairs):
        notes.append(f"{split} is not compared: {name} was scored on other rows than {first_name}.")
        return None
    if len(pairs) < max(len(one), len(two)):
        notes.append(
            f"{split}: {len(pairs):,} rows are in both; {len(one) - len(pairs):,} only in {first_name} and "
            f"{len(two) - len(pairs):,} only in {name} are left out."
        )
    aligned = in_order_of(taken(two, pairs[:, 1]), one.predictions.labels)
    if aligned is None:
        notes.append(f"{split} is not compared: {name} has other labels than {first_name}.")
        return None
    same = _same_gold(taken(one, pairs[:, 0]), aligned)
    if not same.all():
        notes.append(f"{split}: {int((~same).sum()):,} rows have other gold labels in {name} and are left out.")
        pairs = pairs[same]
    place = np.full(len(one), -1, dtype=np.int64)
    place[pairs[:, 0]] = pairs[:, 1]
    return place


def _same_rows(first: NDArray[np.uint64], second: NDArray[np.uint64]) -> NDArray[np.int64]:
    """[M, 2] positions of the same rows; of equal texts the first with the first, and so on."""

    def numbered(rows: NDArray[np.uint64]) -> dict[tuple[int, int], int]:
        seen: Counter[int] = Counter()
        found = {}
        for position, row in enumerate(rows.tolist()):
            found[row, seen[row]] = position
            seen[row] += 1
        return found

    others = numbered(second)
    pairs = [(position, others[key]) for key, position in numbered(first).items() if key in others]
    return np.array(pairs, dtype=np.int64).reshape(-1, 2)


def in_order_of(found: Predicted, labels: Sequence[str]) -> Predicted | None:
    """Predictions with their labels in another order; None where they are not the same labels."""
    held = found.predictions
    if tuple(held.labels) == tuple(labels):
        return found
    if sorted(held.labels) != sorted(labels):
        return None
    order = [list(held.labels).index(label) for label in labels]
    place = np.argsort(order)

    def renamed(ids: NDArray[Any]) -> NDArray[Any]:
        return np.where(ids >= 0, place[ids], ids)

    outputs = held.outputs[:, order] if held.outputs.ndim == 2 else renamed(held.outputs)
    references = held.references[:, order] if held.references.ndim == 2 else renamed(held.references)
    threshold = held.threshold if np.ndim(held.threshold) == 0 else np.asarray(held.threshold)[order]
    chosen = None if held.chosen is None else renamed(held.chosen)
    changed = replace(
        held, outputs=outputs, references=references, labels=tuple(labels), threshold=threshold, chosen=chosen
    )
    return replace(found, predictions=changed)


def _same_gold(one: Predicted, two: Predicted) -> NDArray[np.bool_]:
    gold, other = one.predictions.references, two.predictions.references
    starts, starts_two = one.predictions.word_starts, two.predictions.word_starts
    if starts is None or starts_two is None:
        same = np.isclose(gold, other)
        return np.asarray(same.all(axis=1) if same.ndim == 2 else same)
    return np.array(
        [
            np.array_equal(gold[starts[at] : starts[at + 1]], other[starts_two[at] : starts_two[at + 1]])
            for at in range(len(one))
        ]
    )
