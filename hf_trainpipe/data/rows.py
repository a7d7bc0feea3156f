"""The rows of a split as a task's training half reads them: labels by the rule of docs/labels.md, errors with their place.

Shapes: N rows, C labels, W words of all rows.
"""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from hf_trainpipe.data.cell_checks import check_text, check_words, list_lengths, refuse_first, refuse_missing
from hf_trainpipe.data.columns import column_of
from hf_trainpipe.data.label_cells import LabelCells, Target, read_labels
from hf_trainpipe.data.label_ids import IGNORED, is_known, label_ids, position_line, vectors_of
from hf_trainpipe.data.label_notes import dominant_line, label_notes, number_notes
from hf_trainpipe.data.labels import resolve_labels
from hf_trainpipe.data.numbers import read_numbers
from hf_trainpipe.data.place import Place, error_at, place
from hf_trainpipe.data.span_forms import Span, UnreadableSpans, read_spans
from hf_trainpipe.data.spans import check_lost, span_lines, tags_of_spans
from hf_trainpipe.errors import DataError
from hf_trainpipe.runtime.tasks.columns import CLASSES, TEXT, WORDS, Column, Labels

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    import pyarrow as pa
    from datasets import Dataset

    from hf_trainpipe.runtime.tasks.base import Task
    from hf_trainpipe.runtime.tokens.encoder import Encoder
    from hf_trainpipe.runtime.tokens.features import Stream

_CHECKS: dict[Any, Callable[[Dataset, str, Column], Any]] = {TEXT: check_text, WORDS: check_words}
"""What is looked at in an input column, by what its cells hold."""


class Rows:
    """Rows of a split.

    Args:
        dataset: The rows, with the columns that the task reads.
        split: Its name.
        encoder: What the rows are encoded with, for targets that are texts.
        others: The other splits of the data by name: labels that the data give are looked for there too.
        is_training: Whether warnings about labels are wanted.
    """

    def __init__(
        self,
        dataset: Dataset,
        split: str,
        *,
        encoder: Encoder | None = None,
        others: Mapping[str, Dataset] | None = None,
        is_training: bool = False,
    ) -> None:
        self.dataset = dataset
        self.split = split
        self.encoder = encoder
        self.report: dict[str, Any] = {}
        """``counts`` by label; ``positions``, a sentence, where numbers were read as ids in an order that the recipe does
        not give; of tags ``ignored`` words; of character spans what became of them (:mod:`.spans`)."""
        self._others = dict(others or {})
        self._is_training = is_training
        self._notes: list[str] = []
        self._late: list[str] = []
        self._most_lost = 1.0
        self._read: dict[Any, Any] = {}

    def __len__(self) -> int:
        return len(self.dataset)

    # -- anything -------------------------------------------------------------------------------------------------------

    def place(self, row: int) -> Place:
        """Where a row comes from, for messages."""
        return place(self.dataset, self.split, row)

    def refuse(self, row: int, message: str, *, fix: str) -> DataError:
        """The error of a row, to be raised."""
        return error_at(self.place(row), message, fix=fix)

    def note(self, line: str) -> None:
        """Warn of something in the training data."""
        if self._is_training:
            self._late.append(line)

    @property
    def notes(self) -> list[str]:
        """Warnings about the targets of the training split, a sentence each."""
        return [*self._notes, *self._late]

    def values(self, column: Column) -> list[Any]:
        """The cells of a column.

        Raises:
            DataError: one is missing.
        """
        refuse_missing(self._cells(column.name), self.dataset, self.split, column.name, column.cell.name)
        found: list[Any] = self._cells(column.name).to_pylist()
        return found

    def inputs(self, task: Task) -> dict[str, list[Any]]:
        """The columns that the model reads, by role, checked.

        Raises:
            DataError: a cell is missing, empty, or holds something else.
        """
        for column in task.inputs.values():
            check = _CHECKS.get(column.cell)
            if check is not None:
                check(self.dataset, self.split, column)
        return {role: self.values(column) for role, column in task.inputs.items()}

    def warnings(self, name: str | None = None) -> list[str]:
        """What became of character spans, a sentence each; ``name`` is what they call the split."""
        return span_lines(name or self.split, self.report)

    def check_lost(self) -> None:
        """Refuse a split of which more spans are lost than the task allows.

        Raises:
            DataError: as said.
        """
        check_lost(self.split, self.report, limit=self._most_lost)

    # -- labels ---------------------------------------------------------------------------------------------------------

    def class_names(self, column: Column, *, said: tuple[str, ...] | None) -> Labels:
        """The labels of a column with one a row: the recipe's names, else the data's.

        Raises:
            DataError: see :func:`.labels.resolve_labels`.
        """
        return self._labels(Target(column, said))

    def set_names(
        self, column: Column, *, said: tuple[str, ...] | None, separator: str = ",", form: str | None = None
    ) -> Labels:
        """As :meth:`class_names`, of a column with any number of labels a row."""
        return self._labels(Target(column, said, separator, form))

    def tag_names(self, column: Column, *, said: tuple[str, ...] | None, scheme: str | None) -> Labels:
        """As :meth:`class_names`, of a tag a word or of character spans; types of entities have all their prefixes."""
        return self._labels(Target(column, said, scheme=scheme))

    def class_ids(self, column: Column, labels: Labels) -> np.ndarray:
        """int64[N]: the label of each row.

        Raises:
            DataError: with the place of a row without a label, or with one that is not known.
        """
        return self._once("class", column, lambda: self._class_ids(Target(column, labels.said), labels))

    def _class_ids(self, target: Target, labels: Labels) -> np.ndarray:
        self._refuse_missing(target.column, "label")
        cells = read_labels(target, self.dataset, self.split)
        ids = label_ids(target, labels, cells)
        if self._is_training and (line := dominant_line(self.dataset, target.name)) is not None:
            self._notes.append(line)
        self._tell(target, labels, ids, cells)
        return ids

    def label_sets(
        self, column: Column, labels: Labels, *, separator: str = ",", form: str | None = None
    ) -> np.ndarray:
        """uint8[N, C]: a 0 or 1 for each label of each row.

        Raises:
            DataError: as :meth:`class_ids`.
        """
        target = Target(column, labels.said, separator, form)
        return self._once("sets", column, lambda: self._label_sets(target, labels))

    def _label_sets(self, target: Target, labels: Labels) -> np.ndarray:
        self._refuse_missing(target.column, "labels")
        cells = read_labels(target, self.dataset, self.split)
        hot, told = vectors_of(target, labels, cells), None
        if hot is None:
            told = position_line(target, labels, cells)
            hot = np.zeros((len(self), len(labels)), dtype=np.uint8)
            hot[cells.rows, label_ids(target, labels, cells)] = 1
        counts = dict(zip(labels, hot.sum(axis=0, dtype=np.int64).tolist(), strict=True))
        self._keep(target.column, labels, counts, cells, told)
        return hot

    def tags(self, column: Column, words: Column, labels: Labels) -> np.ndarray:
        """int32[W]: the tag of each word; -100 of those that are not scored.

        Raises:
            DataError: as :meth:`class_ids`; tags that are not one a word; a split in which nothing is scored.
        """
        return self._once("tags", column, lambda: self._tags(Target(column, labels.said), words, labels))

    def _tags(self, target: Target, words: Column, labels: Labels) -> np.ndarray:
        self._refuse_missing(target.column, "tags")
        cells = read_labels(target, self.dataset, self.split)
        ids = label_ids(target, labels, cells)
        word_counts = list_lengths(self._cells(words.name))
        refuse_first(
            cells.counts != word_counts,
            self.dataset,
            self.split,
            lambda row: (
                f"expected a tag for each of {word_counts[row]} {words.name!r}, found {cells.counts[row]} {target.name!r}."
            ),
            "Correct the row: words and tags must be equally many.",
        )
        if (ids == IGNORED).all():
            raise DataError(
                f"split {self.split!r}: every tag in column {target.name!r} is {IGNORED}, so that nothing is scored.",
                fix="Name the column that holds the tags, or leave this split out.",
            )
        self.report["ignored"] = int((ids == IGNORED).sum())
        self._tell(target, labels, ids, cells)
        return ids.astype(np.int32)

    def tags_of_spans(
        self,
        column: Column,
        text: Column,
        labels: Labels,
        *,
        scheme: str | None,
        places: Stream,
        most_lost: float = 1.0,
    ) -> np.ndarray:
        """int32[W]: the tag of each word, from character spans of the text.

        Args:
            places: Of the words, as the features have them.
            most_lost: The share of the spans that may be lost.

        Raises:
            DataError: with the place of a span that cannot be used.
        """
        encoder = self.encoder
        found = tags_of_spans(
            self.dataset,
            self.split,
            text=text.name,
            column=column.name,
            labels=labels,
            scheme=scheme or "BIO",
            places=places,
            clean=(lambda text: text) if encoder is None else lambda text: encoder.clean([text])[0],
        )
        self._most_lost = most_lost
        self.report.update(found.report)
        self._keep(column, labels, _counts(found.ids, labels), None, None)
        return found.ids

    def numbers(self, column: Column, *, low: float | None = None, high: float | None = None) -> np.ndarray:
        """float32[N]: the number of each row.

        Args:
            low: Bounds of what will be answered, for a warning.

        Raises:
            DataError: with the place of a cell that is no finite number.
        """
        return self._once("numbers", column, lambda: self._numbers(column.name, low, high))

    def _numbers(self, name: str, low: float | None, high: float | None) -> np.ndarray:
        numbers = read_numbers(self.dataset, self.split, name)
        if self._is_training:
            self._notes += number_notes(name, numbers, low=low, high=high)
        return numbers

    # -- what a labelled file holds that a package does not know --------------------------------------------------------

    def unknown_classes(self, column: Column, labels: Labels) -> list[tuple[int, str]]:
        """The row of each label, or tag of a word, that is not among ``labels``, and its spelling."""
        return self._unknown(Target(column, labels.said), labels)

    def unknown_in_sets(
        self, column: Column, labels: Labels, *, separator: str = ",", form: str | None = None
    ) -> list[tuple[int, str]]:
        """As :meth:`unknown_classes`, of a column with any number of labels a row."""
        return self._unknown(Target(column, labels.said, separator, form), labels)

    def unknown_types(self, column: Column, labels: Labels) -> list[tuple[int, str]]:
        """As :meth:`unknown_classes`, of a column of character spans."""
        types = {name.partition("-")[2] for name in labels if name != "O"}
        return [
            (row, span.label)
            for row, cell in enumerate(self._cells(column.name).to_pylist())
            for span in _readable_spans(cell)
            if span.label not in types
        ]

    def _unknown(self, target: Target, labels: Labels) -> list[tuple[int, str]]:
        cells = read_labels(target, self.dataset, self.split)
        if target.column.cell is CLASSES and vectors_of(target, labels, cells) is not None:
            return []
        unknown = [at for at in range(len(cells.values)) if not is_known(target, labels, cells, at)]
        at = np.flatnonzero(np.isin(cells.codes, unknown))
        return [(int(cells.rows[place]), cells.spellings[int(cells.codes[place])]) for place in at]

    # -- inside ---------------------------------------------------------------------------------------------------------

    @cached_property
    def _splits(self) -> dict[str, Dataset]:
        return {self.split: self.dataset, **{name: rows for name, rows in self._others.items() if name != self.split}}

    def _cells(self, name: str) -> pa.Array:
        return column_of(self.dataset, name)

    def _labels(self, target: Target) -> Labels:
        return resolve_labels(target, self._splits)

    def _once(self, what: str, column: Column, read: Callable[[], np.ndarray]) -> np.ndarray:
        if (what, column) not in self._read:
            self._read[what, column] = read()
        found: np.ndarray = self._read[what, column]
        return found

    def _refuse_missing(self, column: Column, what: str) -> None:
        for name in column.columns:
            refuse_missing(self._cells(name), self.dataset, self.split, name, what)

    def _tell(self, target: Target, labels: Labels, ids: np.ndarray, cells: LabelCells) -> None:
        self._keep(target.column, labels, _counts(ids, labels), cells, position_line(target, labels, cells))

    def _keep(
        self,
        column: Column,
        labels: Labels,
        counts: Mapping[str, int],
        cells: LabelCells | None,
        positions: str | None,
    ) -> None:
        self.report["counts"] = counts
        if positions is not None:
            self.report["positions"] = positions
        if self._is_training:
            self._notes += label_notes(column, labels, counts, cells, num_rows=len(self))


def _counts(ids: np.ndarray, labels: Labels) -> dict[str, int]:
    counted = np.bincount(ids[ids >= 0], minlength=len(labels))
    return {name: int(count) for name, count in zip(labels, counted, strict=True)}


def _readable_spans(cell: Any) -> list[Span]:
    """The spans of a cell; none where it cannot be read, which is refused with its place later."""
    try:
        return read_spans(cell)
    except UnreadableSpans:
        return []
