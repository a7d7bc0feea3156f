"""The labels that the cells of a column hold, row by row, in whatever form they are written.

Shapes: N rows, M labels of all rows.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from hf_trainpipe.data.cells import Cells
from hf_trainpipe.data.columns import is_list, is_text, names_in_feature
from hf_trainpipe.data.spelling import FALSE, TRUE, key, spelt
from hf_trainpipe.data.written_lists import is_written_list, parse_list
from hf_trainpipe.runtime.tasks.columns import CLASS, CLASSES, TAGS, Column

if TYPE_CHECKING:
    import pyarrow as pa
    from datasets import Dataset

    from hf_trainpipe.errors import DataError


OTHER_SEPARATORS = ";|\t"
_BITS = {"0": 0, "1": 1, FALSE: 0, TRUE: 1}
_FORMS = {
    CLASS: (
        "one label",
        "For several labels use MultiLabelClassification, for a tag a word TokenClassification.",
    ),
    CLASSES: ("a list of labels", "Write the labels as a list, or as text parted by task.separator."),
    TAGS: (
        "a list of labels, one a word",
        "Write the labels as a list; a csv file cannot hold one, but jsonl and parquet can.",
    ),
}
"""What a cell should be, and what to do where it is not."""


@dataclass(frozen=True)
class LabelCells:
    """The labels of a column as written, one after the other; cells without any have none."""

    column: Column
    raw: Cells
    """Of all rows, as they are."""
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

    @cached_property
    def feature(self) -> tuple[str, ...] | None:
        """The names of a ``ClassLabel``."""
        return names_in_feature(self.raw.dataset, self.column.name)

    @cached_property
    def keys(self) -> list[str]:
        """By what the values are compared."""
        return [key(spelling) for spelling in self.spellings]

    @cached_property
    def firsts(self) -> np.ndarray:
        """int64[values]: the first row of each."""
        present, at = np.unique(self.codes, return_index=True)
        firsts = np.zeros(len(self.values), dtype=np.int64)
        firsts[present] = self.rows[at]
        return firsts

    @cached_property
    def bits(self) -> np.ndarray:
        """int64[values]: the 0 or 1 that each is in a vector; -1 of what is neither."""
        return np.array([_BITS.get(of, -1) for of in self.keys], dtype=np.int64)

    def place(self, position: int) -> str:
        """Of the first row that holds ``values[position]``."""
        return self.raw.place(self.firsts[position])

    def error(self, position: int, message: str, *, fix: str) -> DataError:
        """The error of the first row that holds ``values[position]``, to be raised."""
        return self.raw.error(self.firsts[position], message, fix=fix)

    def hot(self) -> np.ndarray | None:
        """uint8[N, L] where every row holds as many labels, and each is 0 or 1, as vectors do; else None."""
        length = self.counts[0] if len(self.counts) else 0
        if not length or (self.counts != length).any() or (self.bits < 0).any():
            return None
        hot: np.ndarray = self.bits.astype(np.uint8)[self.codes].reshape(len(self.counts), -1)
        return hot

    def row(self, row: int) -> Any:
        """What a row holds, for messages."""
        if self.column.parts:
            return [self.values[code] for code in self.codes[self.rows == row]]
        return self.raw.array[row].as_py()

    def is_surely_hot(self, hot: np.ndarray) -> bool:
        """Whether vectors are the only reading of 0s and 1s: ids are never fractions or booleans, nor repeated."""
        if any(isinstance(value, bool | float) for value in self.values) or {*self.spellings} - {"0", "1"}:
            return True
        ones = hot.sum(axis=1)
        return bool(hot.shape[1] > 2 or (hot.shape[1] == 2 and (ones != 1).any()))


def read_labels(column: Column, dataset: Dataset, split: str, *, said: tuple[str, ...] | None = None) -> LabelCells:
    """Read a column of labels: one a row, sets of them, or tags.

    Null cells have no labels; :class:`~hf_trainpipe.data.rows.Rows` refuses them.

    Args:
        said: Names that the recipe gives, in the order of their ids.

    Raises:
        DataError: with the place: a cell of another form than the task expects or than the cells before it, a value
            that is no label, a list as text that does not parse, another separator than the task's.
    """
    import pyarrow as pa

    cells = Cells(dataset, split, column.name)
    if column.parts:
        return _of_columns(column, cells)
    cell, held = column.cell, cells.held()
    kind = held.array.type
    several = np.flatnonzero(held.lengths != 1) if is_list(kind) and cell is CLASS else np.zeros(0, dtype=np.int64)
    if is_list(kind) and not len(several):  # also one label, as annotation tools export it
        flat, counts = _of_lists(held), held.lengths
    elif pa.types.is_nested(kind) or cell is TAGS:
        if len(held.array):
            expected, fix = _FORMS[cell]
            at = int(several[0]) if len(several) else 0
            raise held.error(at, f"expected {expected}, found {kind} ({held.array[at].as_py()!r:.60}).", fix=fix)
        flat, counts = pa.nulls(0), np.zeros(0, dtype=np.int64)
    elif cell is CLASSES and is_text(kind):
        flat, counts = _of_text(held, column.separator, said)
    else:
        flat, counts = held.array, np.ones(len(held.array), dtype=np.int64)
        if cell is CLASS and is_text(kind):
            _refuse_lists_as_classes(held)
    row_counts = np.zeros(len(dataset), dtype=np.int64)
    row_counts[slice(None) if held.rows is None else held.rows] = counts
    encoded = (flat.dictionary_decode() if pa.types.is_dictionary(flat.type) else flat).dictionary_encode()
    values = encoded.dictionary.to_pylist()
    codes = encoded.indices.to_numpy(zero_copy_only=False).astype(np.int64)
    if pa.types.is_float32(flat.type) or pa.types.is_float16(flat.type):
        # 0.1 in half the bits is another number; its own shortest spelling is what was meant.
        values = [float(str(value)) for value in encoded.dictionary.to_numpy(zero_copy_only=False)]
    rows = np.repeat(np.arange(len(dataset)), row_counts)
    return LabelCells(column, cells, rows, codes, values, _spellings(values, rows, codes, cells), row_counts)


def _spellings(values: list[Any], rows: np.ndarray, codes: np.ndarray, cells: Cells) -> list[str]:
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
            fix = cells.fill_or_drop
        raise cells.error(int(rows[np.argmax(codes == position)]), problem, fix=fix)
    return spellings


def _of_columns(column: Column, cells: Cells) -> LabelCells:
    """A label a column, as vectors of booleans."""
    hot = np.stack([_bits_of(replace(cells, name=part)) for part in column.parts], axis=1)
    counts = np.full(len(hot), hot.shape[1], dtype=np.int64)
    rows = np.repeat(np.arange(len(hot)), hot.shape[1])
    return LabelCells(column, cells, rows, hot.ravel(), [False, True], [FALSE, TRUE], counts)


def _bits_of(cells: Cells) -> np.ndarray:
    """int64[N]: the 0s and 1s of a column."""
    cells.refuse_missing("0 or 1")
    encoded = cells.array.dictionary_encode()
    table = np.array([_BITS.get(key(str(value)), -1) for value in encoded.dictionary.to_pylist()], dtype=np.int64)
    bits: np.ndarray = table[encoded.indices.to_numpy(zero_copy_only=False)]
    cells.refuse_first(
        bits < 0,
        lambda at: f"expected 0 or 1, found {cells.array[at].as_py()!r:.60}.",
        fix="Correct the cell; -1 marks rows without labels, which must go.",
    )
    return bits


def _of_lists(cells: Cells) -> pa.Array:
    import pyarrow as pa

    flat = cells.array.flatten()
    cells.refuse_item(flat.is_null(nan_is_null=True), "expected labels, found a null.")
    if pa.types.is_nested(flat.type):
        found = f"{cells.array[0].as_py()!r:.60}"
        raise cells.error(0, f"expected a list of labels, found {found}.", fix="Write the labels of a row as one list.")
    return flat


def _of_text(cells: Cells, separator: str, names: tuple[str, ...] | None) -> tuple[pa.Array, np.ndarray]:
    """Cells of text: written lists, or labels between separators; never both in one column."""
    import pyarrow as pa

    encoded = cells.array.dictionary_encode()
    texts: list[str] = encoded.dictionary.to_pylist()
    codes = encoded.indices.to_numpy(zero_copy_only=False)
    firsts: list[int] = np.unique(codes, return_index=True)[1].tolist()
    written = [is_written_list(text) for text in texts]
    plain = [bool(text.strip()) and not is_written for text, is_written in zip(texts, written, strict=True)]
    if any(written) and any(plain):
        earlier, later = sorted(firsts[kind.index(True)] for kind in (written, plain))
        raise cells.error(
            later,
            f"lists written as text and plain labels are mixed: {cells.array[later].as_py()!r:.60} here, "
            f"{cells.array[earlier].as_py()!r:.60} in {cells.place(earlier)}.",
            fix="Write all cells of the column in one form.",
        )
    parts: list[list[str]] = []
    for text, is_written, first in zip(texts, written, firsts, strict=True):
        try:
            parts.append(parse_list(text) if is_written else [part for part in text.split(separator) if part.strip()])
        except ValueError as error:
            raise cells.error(
                first,
                f"{text!r:.60} looks like a list of labels, but {error}.",
                fix='Write lists as JSON does, ["a", "b"], or labels parted by task.separator.',
            ) from None
    if not any(written) and names is None and not any(separator in text for text in texts):
        _refuse_other_separators(cells, texts, firsts, separator)
    counts = np.array([len(found) for found in parts], dtype=np.int64)[codes]
    return pa.array([label for code in codes for label in parts[code]], pa.string()), counts


def _refuse_other_separators(cells: Cells, texts: list[str], firsts: list[int], separator: str) -> None:
    """Refuse a column in which another separator does what the task's should do."""
    for other in OTHER_SEPARATORS.replace(separator, ""):
        for text, first in zip(texts, firsts, strict=True):
            if other in text.strip():
                raise cells.error(
                    first,
                    f"no cell holds the separator {separator!r}, and {text!r:.60} holds {other!r}.",
                    fix=f"Set task.separator={other!r}; if {other!r} belongs to a label, write lists, or name all "
                    "labels in task.names.",
                )


def _refuse_lists_as_classes(cells: Cells) -> None:
    texts = [text for text in cells.array.unique().to_pylist() if text.strip()]
    if texts and all(text.strip()[0] == "[" and is_written_list(text) for text in texts):
        raise cells.error(
            0,
            f"expected one label, found a list written as text: {cells.array[0].as_py()!r:.60}.",
            fix="For several labels use MultiLabelClassification; for one write it without brackets.",
        )
