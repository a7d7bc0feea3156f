"""The rows of all splits as an audit reads them: leniently, since what is wrong is to be counted, not refused.

Shapes: N rows of all splits, one split after the other.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from hf_trainpipe.audit.normal import PARTS, TOKENS, normal, normal_words
from hf_trainpipe.data.columns import column_of, names_in_feature
from hf_trainpipe.data.place import FILE, LINE, place
from hf_trainpipe.data.spelling import key, spelt
from hf_trainpipe.data.written_lists import is_written_list, parse_list
from hf_trainpipe.runtime.tasks.columns import CHOICES, CLASS, CLASSES, NUMBER, SPANS, TAGS, TEXT, WORDS, Column, Unfit

if TYPE_CHECKING:
    from datasets import Dataset

    from hf_trainpipe.runtime.tasks.base import Task

_KINDS = {CLASS: "class", CLASSES: "set", NUMBER: "number", TAGS: "tags", SPANS: "spans"}
Ints = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Corpus:
    """Splits, and the task that reads them.

    Raises:
        DataError: a split lacks a column of the task.
    """

    task: Task
    splits: Mapping[str, Dataset]

    def __len__(self) -> int:
        return int(self.starts[-1])

    @cached_property
    def names(self) -> tuple[str, ...]:
        """The splits, in the order of their rows."""
        return tuple(self.splits)

    @cached_property
    def starts(self) -> Ints:
        """[S + 1]: the first row of each split, and the number of rows."""
        return np.concatenate([[0], np.cumsum([len(dataset) for dataset in self.splits.values()])]).astype(np.int64)

    @cached_property
    def split_of(self) -> Ints:
        """[N]: the position of the split of each row."""
        return np.repeat(np.arange(len(self.names)), np.diff(self.starts))

    def rows_of(self, split: str) -> Ints:
        """The rows of a split."""
        at = self.names.index(split)
        return np.arange(self.starts[at], self.starts[at + 1])

    def home(self, row: int) -> tuple[str, int]:
        """The split of a row, and its number there."""
        at = int(np.searchsorted(self.starts, row, side="right")) - 1
        return self.names[at], int(row - self.starts[at])

    def place(self, row: int) -> str:
        """Where a row comes from: ``train.csv, line 17``."""
        split, number = self.home(row)
        return place(self.splits[split], split, number)

    # -- inputs --------------------------------------------------------------------------------------------------------

    @cached_property
    def roles(self) -> tuple[str, ...]:
        """The parts of an input."""
        return tuple(self.task.inputs)

    @cached_property
    def has_words(self) -> bool:
        """Whether texts come as words."""
        return any(column.cell == WORDS for column in self.task.inputs.values())

    @cached_property
    def texts(self) -> dict[str, list[str]]:
        """By role [N] what a person reads of a cell; empty where there is nothing."""
        return {role: [_read(cell) for cell in self._cells(column)] for role, column in self.task.inputs.items()}

    @cached_property
    def words(self) -> list[list[str]]:
        """[N] words of a task whose texts come as words."""
        column = next(column for column in self.task.inputs.values() if column.cell == WORDS)
        return [[str(word) for word in cell or ()] for cell in self._cells(column)]

    @cached_property
    def raw(self) -> list[str]:
        """[N] the whole input; two are equal where all cells are."""
        if self.has_words:
            return [TOKENS.join(words) for words in self.words]
        columns = [
            list(map(_exact, self._cells(column))) if column.cell != TEXT else self.texts[role]
            for role, column in self.task.inputs.items()
        ]
        return columns[0] if len(columns) == 1 else [PARTS.join(parts) for parts in zip(*columns, strict=True)]

    @cached_property
    def shown(self) -> list[str]:
        """[N] the input for a person."""
        columns = list(self.texts.values())
        return columns[0] if len(columns) == 1 else [" | ".join(parts) for parts in zip(*columns, strict=True)]

    @cached_property
    def normals(self) -> dict[str, list[str]]:
        """By role [N] the normal form of each text."""
        return {role: list(map(normal, texts)) for role, texts in self.texts.items()}

    @cached_property
    def same(self) -> list[str]:
        """[N] what is equal for inputs that are the same: of words their own form, else the normal form of each text."""
        if self.has_words:
            return [normal_words(words) for words in self.words]
        columns = list(self.normals.values())
        return columns[0] if len(columns) == 1 else [PARTS.join(parts) for parts in zip(*columns, strict=True)]

    @cached_property
    def is_empty(self) -> NDArray[np.bool_]:
        """[N]: whether a text of the row is missing or blank."""
        empty = np.zeros(len(self), dtype=bool)
        needed = [role for role, column in self.task.inputs.items() if column.cell in (TEXT, WORDS, CHOICES)]
        for role in needed:
            empty |= np.fromiter((not text.strip() for text in self.texts[role]), dtype=bool, count=len(self))
        return empty

    # -- targets -------------------------------------------------------------------------------------------------------

    @cached_property
    def kind(self) -> str | None:
        """What is to be learnt: ``class``, ``set``, ``number``, ``tags``, ``spans``; None: something else, or nothing."""
        target = self.task.target
        return None if target is None else _KINDS.get(target.cell)

    @cached_property
    def targets(self) -> list[Any]:
        """[N] what is right, so that equal labels are equal: a name, a sorted tuple of names, a number, a tuple of tags; None
        where there is none, or none that can be read."""
        if self.kind is None or self.task.target is None or not all(self._has(self.task.target)):
            return [None] * len(self)
        found: list[Any] = []
        for dataset in self.splits.values():
            found += _targets(dataset, self.task.target, self.kind, self.task.names)
        return found

    @cached_property
    def classes(self) -> Ints:
        """[N]: the number of each row's class among :attr:`class_names`; -1: none. Of a task with one label a row."""
        number = {name: at for at, name in enumerate(self.class_names)}
        return np.array([-1 if name is None else number[name] for name in self.targets], dtype=np.int64)

    @cached_property
    def class_names(self) -> tuple[str, ...]:
        """The labels that occur, sorted."""
        return tuple(sorted({name for name in self.targets if name is not None})) if self.kind == "class" else ()

    @cached_property
    def unread(self) -> tuple[str, ...]:
        """Columns of the training data that the task does not read."""
        read = {
            FILE,
            LINE,
            *(name for column in self.task.columns().values() for name in (column.name, *column.columns)),
        }
        return tuple(name for name in next(iter(self.splits.values())).column_names if name not in read)

    def column(self, name: str) -> list[Any]:
        """[N] the cells of a column; None in splits that lack it."""
        return list(self._named(name))

    # -- inside --------------------------------------------------------------------------------------------------------

    def _has(self, column: Column) -> list[bool]:
        return [name in self.splits[self.names[0]].column_names for name in column.columns]

    def _cells(self, column: Column) -> Iterator[Any]:
        return self._named(column.name)

    def _named(self, name: str) -> Iterator[Any]:
        for dataset in self.splits.values():
            if name in dataset.column_names and len(dataset):
                yield from column_of(dataset, name).to_pylist()
            else:
                yield from [None] * len(dataset)


def _exact(cell: Any) -> str:
    return cell if isinstance(cell, str) else json.dumps(cell, sort_keys=True, default=str)


def _read(cell: Any) -> str:
    """The texts in a cell of any form, joined by a space."""
    if isinstance(cell, str):
        return cell
    if isinstance(cell, Mapping):
        try:
            return " ".join(CHOICES.read(cell))
        except Unfit:
            return " ".join(filter(None, map(_read, cell.values())))
    if isinstance(cell, Sequence):
        return " ".join(filter(None, map(_read, cell)))
    return ""


def _targets(dataset: Dataset, column: Column, kind: str, said: tuple[str, ...] | None) -> list[Any]:
    if not len(dataset):
        return []
    if column.parts:
        hot = [column_of(dataset, part).to_pylist() for part in column.parts]
        return [
            None
            if None in bits
            else tuple(sorted(n for n, bit in zip(column.parts, bits, strict=True) if _is_one(bit)))
            for bits in zip(*hot, strict=True)
        ]
    if column.name not in dataset.column_names:
        return [None] * len(dataset)
    cells = column_of(dataset, column.name).to_pylist()
    if kind == "number":
        return list(map(_number, cells))
    if kind == "spans":
        return list(cells)
    names = names_in_feature(dataset, column.name)
    if kind == "class":
        return [_name(cell, names or said) for cell in cells]
    if kind == "tags":
        return [None if cell is None else tuple(_name(tag, names or said) or "" for tag in cell) for cell in cells]
    return [_set(cell, column, names or said) for cell in cells]


def _is_one(bit: Any) -> bool:
    return key(str(bit)) in ("1", "True")


def _number(cell: Any) -> float | None:
    try:
        value = float(cell)
    except (TypeError, ValueError):
        return None
    return value if np.isfinite(value) else None


def _name(cell: Any, names: Sequence[str] | None) -> str | None:
    """A label's name by the rule of docs/labels.md: ``4.0`` is ``4``, and an id is a name where names are known."""
    try:
        written = spelt(cell)
    except (TypeError, ValueError):
        return None
    if written is None:
        return None
    name = key(written)
    if names and name not in names and name.isdecimal() and int(name) < len(names):
        return names[int(name)]
    return name


def _set(cell: Any, column: Column, names: Sequence[str] | None) -> tuple[str, ...] | None:
    if cell is None:
        return None
    if isinstance(cell, str):
        try:
            cell = parse_list(cell) if is_written_list(cell) else list(filter(str.strip, cell.split(column.separator)))
        except ValueError:
            return None
    if not isinstance(cell, Sequence):
        cell = [cell]
    found = [_name(label, None) for label in cell]
    if names and len(found) == len(names) and set(found) <= {"0", "1", "True", "False"} and column.form != "names":
        return tuple(sorted(name for name, bit in zip(names, found, strict=True) if bit in ("1", "True")))
    return tuple(sorted({named for label in cell if (named := _name(label, names)) is not None}))
