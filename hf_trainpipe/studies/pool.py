"""The rows of a recipe's data that a study deals out, with what is spread evenly and what stays together."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from hf_trainpipe.audit.corpus import Corpus
from hf_trainpipe.audit.twins import Twins
from hf_trainpipe.data.audit import audit
from hf_trainpipe.data.columns import column_of
from hf_trainpipe.data.place import FILE, LINE, error_at, place
from hf_trainpipe.data.rows import Rows
from hf_trainpipe.data.span_forms import read_spans
from hf_trainpipe.data.spelling import entity_types
from hf_trainpipe.data.splits import as_codes
from hf_trainpipe.data.unread import UnreadEncoder
from hf_trainpipe.errors import DataError, RecipeError, closest
from hf_trainpipe.runtime.tasks.columns import CLASS, CLASSES, NUMBER, SPANS, TAGS
from hf_trainpipe.studies.folds import Strata

if TYPE_CHECKING:
    from datasets import Dataset

    from hf_trainpipe.data.chosen_rows import Choice
    from hf_trainpipe.recipe import Recipe
    from hf_trainpipe.runtime.tasks.base import Task

Ints = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Pool:
    """Rows of some splits of a recipe's data, one split after the other.

    Shapes: N rows of these splits.
    """

    task: Task
    """Fitted to the training split."""
    splits: Mapping[str, Dataset]
    """All splits of the data."""
    names: tuple[str, ...]
    """Those that the rows are of."""

    @classmethod
    def of(cls, recipe: Recipe, names: Sequence[str] | None = None) -> Pool:
        """Read the data of a recipe.

        Args:
            names: Splits to pool; None: train and validation, where there are these.

        Raises:
            DataError: what training would refuse of splits, columns and labels; a stream; a split that is not there.
        """
        if recipe.data.stream() is not None:
            raise DataError(
                f"{recipe.data.describe()} is streamed, and the rows of a stream have no numbers to deal.",
                fix="Set data.streaming to false, or data.take to read so many rows.",
            )
        splits = dict(recipe.data.splits())
        audit(recipe.task, splits)
        for name in names or ():
            if name not in splits:
                raise RecipeError(
                    f"--splits: the data has no split {name!r}, but {', '.join(splits)}.{closest(name, splits)}",
                    fix=f"Name some of them: --splits {next(iter(splits))}",
                )
        encoder = UnreadEncoder(steps=())
        task = recipe.task.fit(Rows(splits["train"], "train", encoder=encoder, others=splits, is_training=True))
        chosen = tuple(dict.fromkeys(names or [name for name in ("train", "validation") if name in splits]))
        return cls(task, splits, chosen)

    def __len__(self) -> int:
        return int(self.starts[-1])

    @cached_property
    def starts(self) -> Ints:
        """[S + 1]: the first row of each split."""
        return np.concatenate([[0], np.cumsum([len(self.splits[name]) for name in self.names])]).astype(np.int64)

    def choice(self, rows: Ints) -> list[tuple[str, list[int]]]:
        """Rows, ascending, as :mod:`~hf_trainpipe.data.chosen_rows` writes them."""
        found = []
        for name, low, high in zip(self.names, self.starts[:-1], self.starts[1:], strict=True):
            mine = rows[(rows >= low) & (rows < high)] - low
            if len(mine):
                found.append((name, mine.tolist()))
        return found

    def whole(self, split: str) -> Choice:
        """All rows of a split, for one that no study deals out."""
        return {split: [(split, range(len(self.splits[split])))]}

    def place(self, row: int) -> Any:
        """Where a row comes from, for messages."""
        at = int(np.searchsorted(self.starts, row, side="right")) - 1
        return place(self.splits[self.names[at]], self.names[at], row - int(self.starts[at]))

    def column(self, name: str) -> list[Any]:
        """[N] the cells of a column.

        Raises:
            RecipeError: a split has none of that name.
        """
        found: list[Any] = []
        for split in self.names:
            there = [one for one in self.splits[split].column_names if one not in (FILE, LINE)]
            if name not in there:
                raise RecipeError(
                    f"split {split!r} has no column {name!r}. There are: {', '.join(there)}.{closest(name, there)}",
                    fix="Name a column that all of these splits have.",
                )
            found += column_of(self.splits[split], name).to_pylist()
        return found

    @cached_property
    def strata(self) -> Strata:
        """What is spread evenly: labels; of several labels a row each; of tags and spans the types of entities; of numbers
        ten bins; of other tasks nothing."""
        target, labels = self.task.target, self.task.label_names
        if target is None or target.cell not in (CLASS, CLASSES, NUMBER, TAGS, SPANS):
            return Strata.of_ids(np.zeros(len(self), dtype=np.int64), ("row",))
        rows = {name: Rows(self.splits[name], name) for name in self.names}
        if target.cell is CLASS:
            return Strata.of_ids(np.concatenate([one.class_ids(target, labels) for one in rows.values()]), labels)
        if target.cell is NUMBER:
            return Strata.of_numbers(np.concatenate([one.numbers(target) for one in rows.values()]))
        if target.cell is CLASSES:
            hot = np.concatenate([one.label_sets(target, labels) for one in rows.values()])
            at, ids = np.nonzero(hot)
            return Strata.of_pairs(at, ids, labels, len(self))
        return self._of_entities(target.name, is_spans=target.cell is SPANS)

    def _of_entities(self, column: str, *, is_spans: bool) -> Strata:
        """Which types of entities each row has, or which tags, where these mark none."""
        names: dict[str, int] = {}
        pairs: set[tuple[int, int]] = set()
        labels = self.task.label_names
        for row, cell in enumerate(self.column(column)):
            if is_spans:
                found = [span.label for span in _spans(cell)]
            else:
                tags = [
                    labels[tag] if isinstance(tag, int) and 0 <= tag < len(labels) else str(tag) for tag in cell or ()
                ]
                found = [kind for kind in entity_types(tags) if kind] or sorted({tag for tag in tags if tag != "O"})
            pairs |= {(row, names.setdefault(name, len(names))) for name in found}
        at = np.asarray(sorted(pairs), dtype=np.int64).reshape(-1, 2)
        return Strata.of_pairs(at[:, 0], at[:, 1], tuple(names), len(self))

    @cached_property
    def duplicates(self) -> Ints:
        """[N] number of each row's cluster: rows whose inputs are the same in normal form or nearly (docs/audit.md), and what
        these are near to."""
        return Twins.of(Corpus(self.task, {name: self.splits[name] for name in self.names})).cluster

    def groups(self, column: str | None) -> Ints:
        """[N] number of each row's group: by a column, or by duplicates; a missing value is a group alone."""
        if column is None:
            return self.duplicates
        cells = self.column(column)
        return as_codes([(row, None) if cell is None or cell != cell else json.dumps(cell, default=str)
                         for row, cell in enumerate(cells)])  # fmt: skip

    def times(self, column: str) -> list[Any]:
        """[N] when each row is from: numbers, dates, or ISO 8601 as text.

        Raises:
            DataError: with the place of a cell that is none of these.
        """
        cells = self.column(column)
        kinds = {type(cell) for cell in cells}
        if kinds <= {int, float} and not any(cell != cell for cell in cells):
            return cells
        if str not in kinds and None not in kinds and len(kinds) == 1:
            return cells
        if kinds <= {str}:
            for read in (float, datetime.fromisoformat):
                try:
                    found = [read(cell) for cell in cells]
                    sorted(set(found))  # dates with and without a zone cannot be compared
                    return found
                except (TypeError, ValueError):
                    continue
        row, cell = next(((row, cell) for row, cell in enumerate(cells) if not _is_time(cell)), (0, cells[0]))
        raise error_at(
            self.place(row),
            f"--time {column}: expected a number or a date like 2026-11-27 in every row, found {cell!r:.60}.",
            fix="Correct the row, drop such rows (data.drop_missing), or name another column.",
        )


def _is_time(cell: Any) -> bool:
    if isinstance(cell, str):
        try:
            datetime.fromisoformat(cell)
        except ValueError:
            return False
        return True
    return cell is not None and cell == cell


def _spans(cell: Any) -> list[Any]:
    try:
        return list(read_spans(cell))
    except DataError:
        return []  # refused with its place when the data are prepared
