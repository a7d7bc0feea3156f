"""A look at all splits before anything is tokenised: what cannot work is refused, what is odd is said."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from hf_trainpipe.data.columns import column_of
from hf_trainpipe.data.place import FILE, LINE
from hf_trainpipe.errors import DataError, RecipeError, closest

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    from datasets import Dataset

    from hf_trainpipe.runtime.tasks.base import Task


def check_selection(select: str | None, splits: Collection[str]) -> None:
    """Refuse a metric that chooses the best model where no split is there to compute it on.

    Raises:
        RecipeError: as said.
    """
    if select and "validation" not in splits:
        raise RecipeError(
            f"evaluation.select: {select!r} needs a validation split, and there is none.",
            fix="Name one in the data (validation='validation'), or cut one off: validation=0.1.",
        )


def audit(task: Task, splits: Mapping[str, Dataset]) -> list[str]:
    """Check that splits have rows and the task's columns, and count what deserves a look.

    Returns:
        Warnings, a sentence each: columns that nothing reads, texts that repeat or are in train
        and in another split.

    Raises:
        DataError: no training split, a split without rows, a missing column.
    """
    if "train" not in splits:
        raise DataError(
            f"Expected a split 'train', found {', '.join(splits) or 'none'}.", fix="Name one in data.train."
        )
    columns = read_by(task)
    for split, dataset in splits.items():
        if len(dataset) == 0:
            raise DataError(
                f"split {split!r}: expected rows, found none.",
                fix=f"Check data.{split}, or leave the split out.",
            )
        check_columns(dataset, split, columns)
    return [*_unread(splits, columns), *_repeated(task, splits)]


def read_by(task: Task) -> list[str]:
    """The columns that a task reads."""
    return [name for column in task.columns().values() for name in column.columns]


def check_columns(dataset: Dataset, split: str, columns: list[str]) -> None:
    """Refuse a split that lacks one of the columns, with those that it has.

    Raises:
        DataError: as said, with the file.
    """
    there = [name for name in dataset.column_names if name not in (FILE, LINE)]
    for name in columns:
        if name not in there:
            file = dataset.with_format(None)[0][FILE] if FILE in dataset.column_names else None
            where = f"{file}: " if file else ""
            raise DataError(
                f"{where}split {split!r} has no column {name!r}. There are: {', '.join(there)}.",
                fix=f"Correct the column in the task, or rename it: data.rename={{'there': {name!r}}}."
                f"{closest(name, there)}",
                file=file,
                line=1 if file else None,
            )


def _unread(splits: Mapping[str, Dataset], columns: list[str]) -> list[str]:
    used = {*columns, FILE, LINE}
    extra = {split: [name for name in dataset.column_names if name not in used] for split, dataset in splits.items()}
    found = {split: names for split, names in extra.items() if names}
    if not found:
        return []
    if len({tuple(names) for names in found.values()}) == 1 and len(found) == len(splits):
        return [f"columns that the task does not read: {', '.join(next(iter(found.values())))}"]
    return [f"{split}: columns that the task does not read: {', '.join(names)}" for split, names in found.items()]


def _inputs(task: Task, dataset: Dataset) -> list[Any]:
    """What the model would read of each row, as something that can be compared."""
    columns = []
    for column in task.inputs.values():
        cells = column_of(dataset, column.name).to_pylist()
        columns.append([json.dumps(cell) if isinstance(cell, list | dict) else cell for cell in cells])
    return columns[0] if len(columns) == 1 else list(zip(*columns, strict=True))


def _repeated(task: Task, splits: Mapping[str, Dataset]) -> list[str]:
    train = _inputs(task, splits["train"])
    known = set(train)
    warnings = []
    if len(known) < len(train):
        extra = len(train) - len(known)
        warnings.append(
            f"train: {extra:,} of {len(train):,} rows repeat the input of another row ({extra / len(train):.1%})"
        )
    for split, dataset in splits.items():
        if split == "train":
            continue
        rows = _inputs(task, dataset)
        shared = sum(row in known for row in rows)
        if shared:
            warnings.append(f"{split}: {shared:,} of {len(rows):,} inputs are in train too ({shared / len(rows):.1%})")
    return warnings
