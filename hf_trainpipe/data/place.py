"""The file and line of a row, for error messages."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hf_trainpipe.errors import DataError

if TYPE_CHECKING:
    from datasets import Dataset

FILE = "__file__"
"""Column of datasets made from files: the path as written in the recipe."""
LINE = "__line__"
"""Column of datasets made from files: the line, from 1, on which the row starts."""

ROW_FORMATS = (".parquet", ".arrow", ".spacy", ".xlsx", ".xlsm")
"""Files that have rows but no lines."""


class Place(str):
    """Text for messages, with ``file`` and ``line`` where known."""

    __slots__ = ("file", "line")

    file: str | None
    line: int | None

    def __new__(cls, text: str, file: str | None = None, line: int | None = None) -> Place:
        self = super().__new__(cls, text)
        self.file = file
        self.line = line
        return self


def spell_place(file: str, line: int) -> Place:
    """The place of a line of a file.

    >>> spell_place("train.csv", 17), spell_place("train.parquet", 17)
    ('train.csv, line 17', 'train.parquet, row 17')
    """
    unit = "row" if file.endswith(ROW_FORMATS) else "line"
    return Place(f"{file}, {unit} {line}", file, line)


def place(dataset: Dataset, split: str, row: int) -> Place:
    """The place of a row: ``train.csv, line 17``, or ``row 16 of split 'train'`` (counted from 0)."""
    if FILE in dataset.column_names and LINE in dataset.column_names:
        cells = dataset.select_columns([FILE, LINE]).with_format(None)[int(row)]
        return spell_place(cells[FILE], cells[LINE])
    return Place(f"row {row} of split {split!r}")


def error_at(where: Place, message: str, *, fix: str) -> DataError:
    """A :class:`DataError` at a place, with its ``file`` and ``line``."""
    return DataError(f"{where}: {message}", fix=fix, file=where.file, line=where.line)
