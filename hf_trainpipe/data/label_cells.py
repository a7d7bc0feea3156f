"""The labels that the cells of a column hold, row by row, in whatever form they are written.

Shapes: N rows, M labels of all rows.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from hf_trainpipe.data.cell_checks import first_true, refuse_missing
from hf_trainpipe.data.columns import column_of, is_list, is_text
from hf_trainpipe.data.place import error_at, place
from hf_trainpipe.data.spelling import FALSE, TRUE, key, spelt
from hf_trainpipe.data.written_lists import is_written_list, parse_list
from hf_trainpipe.runtime.tasks.columns import CLASS, CLASSES, TAGS, Column

if TYPE_CHECKING:
    import pyarrow as pa
    from datasets import Dataset


OTHER_SEPARATORS = ";|\t"
_HOT = {"0": 0, "1": 1, FALSE: 0, TRUE: 1}


@dataclass(frozen=True)
class Target:
    """A column of labels, and how the recipe says that they are written."""

    column: Column
    said: tuple[str, ...] | None = None
    """Names that the recipe gives, in the order of their ids."""
    separator: str = ","
    form: str | None = None
    """Of sets: ``names`` or ``vector``; None: as it looks."""
    scheme: str | None = None
    """Of tags and spans: how entities are spelt; None: tags stand alone."""

    @property
    def name(self) -> str:
        return self.column.name


@dataclass(frozen=True)
class LabelCells:
    """The labels of a column as written, one after the other; cells without any have none."""

    dataset: Dataset
    split: str
    column: str
    rows: np.ndarray
    """int64[M]: the row of each label, ascending."""
    codes: np.ndarray
    """int64[M]: its position in ``values``."""
    values: list[Any]
    """The distinct labels, of type text, integer, float or boolean, in the order in which they first appear."""
    spellings: list[str]
    """Their spelling, without space around it."""
    counts: np.ndarray
    """int64[N]: how many each row has."""

    def first_row(self, position: int) -> int:
        """The first row that holds ``values[position]``."""
        return int(self._firsts[position])

    @cached_property
    def _firsts(self) -> np.ndarray:
        """int64[values]: the first row of each."""
        present, at = np.unique(self.codes, return_index=True)
        firsts = np.zeros(len(self.values), dtype=np.int64)
        firsts[present] = self.rows[at]
        return firsts

    def place(self, position: int) -> str:
        return place(self.dataset, self.split, self.first_row(position))

    def hot(self) -> np.ndarray | None:
        """uint8[N, L] where every row holds as many labels, and each is 0 or 1, as vectors do; else None."""
        keys = [key(spelling) for spelling in self.spellings]
        if not len(self.counts) or not self.counts[0] or (self.counts != self.counts[0]).any():
            return None
        if not set(keys) <= set(_HOT):
            return None
        table = np.array([_HOT[name] for name in keys], dtype=np.uint8)
        hot: np.ndarray = table[self.codes].reshape(len(self.counts), -1)
        return hot

    def row(self, row: int) -> Any:
        """What a row holds, for messages."""
        labels = [self.values[code] for code in self.codes[self.rows == row]]
        return (
            labels
            if self.column not in self.dataset.column_names
            else column_of(self.dataset, self.column)[row].as_py()
        )

    def ones(self) -> list[int]:
        """The positions in ``values`` of what is a 1."""
        return [position for position, name in enumerate(map(key, self.spellings)) if name in ("1", TRUE)]

    def is_surely_hot(self, hot: np.ndarray) -> bool:
        """Whether vectors are the only reading of 0s and 1s: ids are never fractions or booleans, nor repeated."""
        if any(isinstance(value, bool | float) or spelling not in ("0", "1") for value, spelling in self._pairs()):
            return True
        ones = hot.sum(axis=1)
        return bool(hot.shape[1] > 2 or (hot.shape[1] == 2 and (ones != 1).any()))

    def _pairs(self) -> zip[tuple[Any, str]]:
        return zip(self.values, self.spellings, strict=True)


def read_labels(target: Target, dataset: Dataset, split: str) -> LabelCells:
    """Read a column of labels: one a row, sets of them, or tags.

    Null cells have no labels; :class:`~hf_trainpipe.data.rows.Rows` refuses them.

    Raises:
        DataError: with the place: a cell of another form than the task expects or than the cells before it, a value
            that is no label, a list as text that does not parse, another separator than the task's.
    """
    import pyarrow as pa

    cell = target.column.cell
    if target.column.parts:
        return _of_columns(target.name, target.column.parts, dataset, split)
    cells = column_of(dataset, target.name)
    present = np.flatnonzero(~cells.is_null(nan_is_null=True).to_numpy(zero_copy_only=False))
    held = cells.take(present) if len(present) < len(cells) else cells
    row_counts = np.zeros(len(cells), dtype=np.int64)
    where = _Where(dataset, split, target.name, present)
    if is_list(cells.type):
        if cell is CLASS:
            where.refuse(
                0,
                f"expected one label, found {held[0].as_py()!r:.60}.",
                "For several labels use MultiLabelClassification, for a tag a word TokenClassification.",
            )
        flat, counts = _of_lists(held, where)
    elif pa.types.is_nested(cells.type) or cell is TAGS:
        if len(held):
            where.refuse(
                0,
                f"expected {_EXPECTED[cell]}, found {cells.type} ({held[0].as_py()!r:.60}).",
                _FIXES[cell],
            )
        flat, counts = pa.nulls(0), np.zeros(0, dtype=np.int64)
    elif cell is CLASSES and is_text(cells.type):
        flat, counts = _of_text(held, target.separator, target.said, where)
    else:
        flat, counts = held, np.ones(len(held), dtype=np.int64)
        if cell is CLASS and is_text(cells.type):
            _refuse_lists_as_classes(held, where)
    row_counts[present] = counts
    encoded = (flat.dictionary_decode() if pa.types.is_dictionary(flat.type) else flat).dictionary_encode()
    values = encoded.dictionary.to_pylist()
    codes = encoded.indices.to_numpy(zero_copy_only=False).astype(np.int64)
    if pa.types.is_float32(flat.type) or pa.types.is_float16(flat.type):
        # 0.1 in half the bits is another number; its own shortest spelling is what was meant.
        values = [float(str(value)) for value in encoded.dictionary.to_numpy(zero_copy_only=False)]
    rows = np.repeat(np.arange(len(cells)), row_counts)
    return LabelCells(
        dataset, split, target.name, rows, codes, values, _spellings(values, rows, codes, where), row_counts
    )


_EXPECTED = {CLASS: "one label", CLASSES: "a list of labels", TAGS: "a list of labels, one a word"}
_FIXES = {
    CLASS: "For several labels use MultiLabelClassification, for a tag a word TokenClassification.",
    CLASSES: "Write the labels as a list, or as text parted by task.separator.",
    TAGS: "Write the labels as a list; a csv file cannot hold one, but jsonl and parquet can.",
}


@dataclass(frozen=True)
class _Where:
    """Where the cells that are there come from."""

    dataset: Dataset
    split: str
    column: str
    present: np.ndarray

    def refuse(self, position: int, message: str, fix: str) -> None:
        self.refuse_row(int(self.present[position]), message, fix)

    def refuse_row(self, row: int, message: str, fix: str) -> None:
        raise error_at(place(self.dataset, self.split, row), f"column {self.column!r}: {message}", fix=fix)

    def place(self, position: int) -> str:
        return place(self.dataset, self.split, int(self.present[position]))


def _spellings(values: list[Any], rows: np.ndarray, codes: np.ndarray, where: _Where) -> list[str]:
    spellings = []
    for position, value in enumerate(values):
        fix = "Write labels as text or integers."
        try:
            spelling = spelt(value)
        except TypeError as error:
            problem = f"{error}."
        except ValueError as error:
            problem, fix = f"{error}.", "Write such ids as text, or as integers: in pandas astype('Int64'), not float."
        else:
            if spelling is not None:
                spellings.append(spelling)
                continue
            problem = "the label is empty." if isinstance(value, str) else "a label is missing (null or NaN)."
            fix = f"Fill it in, or drop such rows: data.drop_missing=({where.column!r},)."
        where.refuse_row(int(rows[np.argmax(codes == position)]), problem, fix)
    return spellings


def _of_columns(name: str, parts: tuple[str, ...], dataset: Dataset, split: str) -> LabelCells:
    """A label a column, as vectors of booleans."""
    hot = np.zeros((len(dataset), len(parts)), dtype=np.int64)
    for position, column in enumerate(parts):
        cells = column_of(dataset, column)
        refuse_missing(cells, dataset, split, column, "0 or 1")
        encoded = cells.dictionary_encode()
        table = np.array([_HOT.get(key(str(value)), -1) for value in encoded.dictionary.to_pylist()], dtype=np.int64)
        values = table[encoded.indices.to_numpy(zero_copy_only=False)]
        if (row := first_true(values < 0)) is not None:
            raise error_at(
                place(dataset, split, row),
                f"column {column!r}: expected 0 or 1, found {cells[row].as_py()!r:.60}.",
                fix="Correct the cell; -1 marks rows without labels, which must go.",
            )
        hot[:, position] = values
    counts = np.full(len(dataset), len(parts), dtype=np.int64)
    rows = np.repeat(np.arange(len(dataset)), len(parts))
    return LabelCells(dataset, split, name, rows, hot.ravel(), [False, True], [FALSE, TRUE], counts)


def _of_lists(cells: pa.Array, where: _Where) -> tuple[pa.Array, np.ndarray]:
    import pyarrow as pa
    import pyarrow.compute as pc

    flat = cells.flatten()
    counts = pc.list_value_length(cells).to_numpy(zero_copy_only=False).astype(np.int64)
    nulls = np.flatnonzero(flat.is_null(nan_is_null=True).to_numpy(zero_copy_only=False))
    if len(nulls):
        position = int(np.searchsorted(np.cumsum(counts), nulls[0], side="right"))
        raise error_at(
            place(where.dataset, where.split, int(where.present[position])),
            f"column {where.column!r} holds a null label.",
            fix="Correct the row.",
        )
    if pa.types.is_nested(flat.type):
        where.refuse(
            0, f"expected a list of labels, found {cells[0].as_py()!r:.60}.", "Write the labels of a row as one list."
        )
    return flat, counts


def _of_text(
    cells: pa.Array, separator: str, names: tuple[str, ...] | None, where: _Where
) -> tuple[pa.Array, np.ndarray]:
    """Cells of text: written lists, or labels between separators; never both in one column."""
    import pyarrow as pa

    encoded = cells.dictionary_encode()
    texts: list[str] = encoded.dictionary.to_pylist()
    codes = encoded.indices.to_numpy(zero_copy_only=False)
    written = [is_written_list(text) for text in texts]
    plain = [bool(text.strip()) and not is_list for text, is_list in zip(texts, written, strict=True)]
    if any(written) and any(plain):
        first = {
            flag: int(np.argmax(np.isin(codes, np.flatnonzero(kind)))) for flag, kind in ((1, written), (0, plain))
        }
        later, earlier = max(first.values()), min(first.values())
        where.refuse(
            later,
            f"lists written as text and plain labels are mixed: {cells[later].as_py()!r:.60} here, "
            f"{cells[earlier].as_py()!r:.60} in {where.place(earlier)}.",
            "Write all cells of the column in one form.",
        )
    parts: list[list[str]] = []
    for position, text in enumerate(texts):
        if written[position]:
            try:
                parts.append(parse_list(text))
            except ValueError as error:
                where.refuse(
                    int(np.argmax(codes == position)),
                    f"{text!r:.60} looks like a list of labels, but {error}.",
                    'Write lists as JSON does, ["a", "b"], or labels parted by task.separator.',
                )
        else:
            parts.append([part for part in text.split(separator) if part.strip()])
    if not any(written):
        _check_separator(texts, codes, separator, names, where)
    counts = np.array([len(found) for found in parts], dtype=np.int64)[codes]
    return pa.array([label for code in codes for label in parts[code]], pa.string()), counts


def _check_separator(
    texts: list[str], codes: np.ndarray, separator: str, names: tuple[str, ...] | None, where: _Where
) -> None:
    """Refuse a column in which another separator does what the task's should do."""
    if names is not None or any(separator in text for text in texts):
        return
    for other in OTHER_SEPARATORS:
        holding = [position for position, text in enumerate(texts) if other in text.strip()]
        if other != separator and holding:
            row = int(np.argmax(codes == holding[0]))
            where.refuse(
                row,
                f"no cell holds the separator {separator!r}, and {texts[holding[0]]!r:.60} holds {other!r}.",
                f"Set task.separator={other!r}; if {other!r} belongs to a label, write lists, or name all labels in "
                "task.names.",
            )


def _refuse_lists_as_classes(cells: pa.Array, where: _Where) -> None:
    encoded = cells.dictionary_encode()
    texts = [text for text in encoded.dictionary.to_pylist() if text.strip()]
    if texts and all(text.strip()[0] == "[" and is_written_list(text) for text in texts):
        where.refuse(
            0,
            f"expected one label, found a list written as text: {cells[0].as_py()!r:.60}.",
            "For several labels use MultiLabelClassification; for one write it without brackets.",
        )
