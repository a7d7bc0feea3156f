"""The rows of a split as a task's training half reads them: labels by the rule of docs/labels.md, errors with their place.

Shapes: N rows, C labels, W words of all rows.
"""

from __future__ import annotations

from functools import wraps
from typing import TYPE_CHECKING, Any

import numpy as np

from hf_trainpipe.data.cells import Cells, check_choices, check_text, check_words
from hf_trainpipe.data.label_cells import LabelCells, read_labels
from hf_trainpipe.data.label_ids import UNKNOWN, label_ids, meanings, position_line, vectors_of
from hf_trainpipe.data.label_notes import dominant_line, label_notes, number_notes
from hf_trainpipe.data.labels import resolve_labels
from hf_trainpipe.data.numbers import read_numbers
from hf_trainpipe.data.place import Place, error_at, place
from hf_trainpipe.data.span_forms import Span, UnreadableSpans, read_spans
from hf_trainpipe.data.spans import check_lost, span_lines, tags_of_spans
from hf_trainpipe.data.spelling import entity_types
from hf_trainpipe.errors import DataError
from hf_trainpipe.runtime.tasks.columns import CHOICES, CLASSES, SPANS, TEXT, WORDS, Column, Labels
from hf_trainpipe.runtime.tasks.tagging import IGNORED

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Mapping
    from typing import Concatenate, ParamSpec, TypeVar

    from datasets import Dataset

    from hf_trainpipe.runtime.tasks.base import Task
    from hf_trainpipe.runtime.tokens.encoder import Encoder
    from hf_trainpipe.runtime.tokens.features import Stream

    Found = TypeVar("Found")
    Options = ParamSpec("Options")
    Read = Callable[Concatenate["Rows", Column, Options], np.ndarray]

_CHECKS: dict[Any, Callable[[Cells], None]] = {TEXT: check_text, WORDS: check_words, CHOICES: check_choices}
"""What is looked at in an input column, by what its cells hold."""


def _once(read: Read[Options]) -> Read[Options]:
    """A method that reads a column when it is first asked for it."""

    @wraps(read)
    def known(self: Rows, column: Column, /, *args: Options.args, **options: Options.kwargs) -> np.ndarray:
        return self.once((read.__name__, column), lambda: read(self, column, *args, **options))

    return known


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
        self.notes: list[str] = []
        """Warnings about the targets of the training split, a sentence each."""
        self._others = dict(others or {})
        self._is_training = is_training
        self._most_lost = 1.0
        self._read: dict[Any, Any] = {}

    def __len__(self) -> int:
        return len(self.dataset)

    @property
    def is_training(self) -> bool:
        """Whether these are the rows that a run begins to train on; of a stream the first window."""
        return self._is_training

    # -- anything -------------------------------------------------------------------------------------------------------

    def once(self, key: Hashable, read: Callable[[], Found]) -> Found:
        """What ``read`` gives, which is called when the key is first asked for: a task checks its targets, then takes them."""
        if key not in self._read:
            self._read[key] = read()
        found: Found = self._read[key]
        return found

    def place(self, row: int) -> Place:
        """Where a row comes from, for messages."""
        return place(self.dataset, self.split, row)

    def refuse(self, row: int, message: str, *, fix: str) -> DataError:
        """The error of a row, to be raised."""
        return error_at(self.place(row), message, fix=fix)

    def note(self, line: str) -> None:
        """Warn of something in the training data."""
        if self._is_training:
            self.notes.append(line)

    def values(self, column: Column) -> list[Any]:
        """The cells of a column.

        Raises:
            DataError: one is missing.
        """
        cells = self._cells(column.name)
        cells.refuse_missing(column.cell.name)
        found: list[Any] = cells.array.to_pylist()
        return found

    def inputs(self, task: Task) -> dict[str, list[Any]]:
        """The columns that the model reads, by role, checked.

        Raises:
            DataError: a cell is missing, empty, or holds something else.
        """
        for column in task.inputs.values():
            if (check := _CHECKS.get(column.cell)) is not None:
                check(self._cells(column.name))
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

    def labels(self, column: Column, *, said: tuple[str, ...] | None, scheme: str | None = None) -> Labels:
        """The labels of a column: the recipe's names, else the data's.

        Args:
            scheme: Of tags and character spans: how entities are spelt. Types of entities have all their prefixes.

        Raises:
            DataError: see :func:`.labels.resolve_labels`.
        """
        return resolve_labels(column, {**self._others, self.split: self.dataset}, said=said, scheme=scheme)

    @_once
    def class_ids(self, column: Column, labels: Labels) -> np.ndarray:
        """int64[N]: the label of each row.

        Raises:
            DataError: with the place of a row without a label, or with one that is not known.
        """
        cells = self._labels_of(column, labels, "a label")
        ids = label_ids(labels, cells)
        if self._is_training and (line := dominant_line(cells.raw.array)) is not None:
            self.notes.append(line)
        self._keep(column, labels, _counts(ids, labels), cells, position_line(labels, cells))
        return ids

    @_once
    def label_sets(self, column: Column, labels: Labels) -> np.ndarray:
        """uint8[N, C]: a 0 or 1 for each label of each row.

        Raises:
            DataError: as :meth:`class_ids`.
        """
        cells = self._labels_of(column, labels, "labels")
        hot, told = vectors_of(labels, cells), None
        if hot is None:
            told = position_line(labels, cells)
            hot = np.zeros((len(self), len(labels)), dtype=np.uint8)
            hot[cells.rows, label_ids(labels, cells)] = 1
        counts = dict(zip(labels, hot.sum(axis=0, dtype=np.int64).tolist(), strict=True))
        self._keep(column, labels, counts, cells, told)
        return hot

    @_once
    def tags(self, column: Column, words: Column, labels: Labels) -> np.ndarray:
        """int32[W]: the tag of each word; -100 of those that are not scored.

        Raises:
            DataError: as :meth:`class_ids`; tags that are not one a word; a split in which nothing is scored.
        """
        cells = self._labels_of(column, labels, "tags")
        ids = label_ids(labels, cells)
        word_counts = self._cells(words.name).lengths
        cells.raw.refuse_first(
            cells.counts != word_counts,
            lambda row: f"expected a tag for each of {word_counts[row]} {words.name!r}, found {cells.counts[row]}.",
            fix="Correct the row: words and tags must be equally many.",
        )
        if (ids == IGNORED).all():
            raise DataError(
                f"split {self.split!r}: every tag in column {column.name!r} is {IGNORED}, so that nothing is scored.",
                fix="Name the column that holds the tags, or leave this split out.",
            )
        self.report["ignored"] = int((ids == IGNORED).sum())
        self._keep(column, labels, _counts(ids, labels), cells, position_line(labels, cells))
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
        ids, report = tags_of_spans(
            self._cells(column.name),
            self._cells(text.name).array.to_pylist(),
            labels,
            scheme=scheme or "BIO",
            places=places,
            clean=(lambda text: text) if encoder is None else lambda text: encoder.clean([text])[0],
        )
        self._most_lost = most_lost
        self.report.update(report)
        self._keep(column, labels, _counts(ids, labels), None, None)
        return ids

    @_once
    def numbers(self, column: Column, *, low: float | None = None, high: float | None = None) -> np.ndarray:
        """float32[N]: the number of each row.

        Args:
            low: Bounds of what will be answered, for a warning.

        Raises:
            DataError: with the place of a cell that is no finite number.
        """
        numbers = read_numbers(self._cells(column.name))
        if self._is_training:
            self.notes += number_notes(column.name, numbers, low=low, high=high)
        return numbers

    def unknown(self, column: Column, labels: Labels) -> list[tuple[int, str]]:
        """What a labelled file holds that a package does not know: the row of each label, tag of a word or type of a
        character span that is not among ``labels``, and its spelling."""
        if column.cell is SPANS:
            types = entity_types(labels)
            spans = map(_readable_spans, self._cells(column.name).array.to_pylist())
            return [(row, span.label) for row, found in enumerate(spans) for span in found if span.label not in types]
        cells = read_labels(column, self.dataset, self.split, said=labels.said)
        if column.cell is CLASSES and vectors_of(labels, cells) is not None:
            return []
        try:
            is_unknown = meanings(labels, cells).ids == UNKNOWN
        except DataError:
            is_unknown = np.ones(len(cells.values), dtype=bool)
        at = np.flatnonzero(is_unknown[cells.codes])
        return [(int(cells.rows[place]), cells.spellings[int(cells.codes[place])]) for place in at]

    # -- inside ---------------------------------------------------------------------------------------------------------

    def _cells(self, name: str) -> Cells:
        return Cells(self.dataset, self.split, name)

    def _labels_of(self, column: Column, labels: Labels, what: str) -> LabelCells:
        for name in column.columns:
            self._cells(name).refuse_missing(what)
        return read_labels(column, self.dataset, self.split, said=labels.said)

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
            self.notes += label_notes(column, labels, counts, cells, num_rows=len(self))


def _counts(ids: np.ndarray, labels: Labels) -> dict[str, int]:
    counted = np.bincount(ids[ids >= 0], minlength=len(labels))
    return {name: int(count) for name, count in zip(labels, counted, strict=True)}


def _readable_spans(cell: Any) -> list[Span]:
    """The spans of a cell; none where it cannot be read, which is refused with its place later."""
    try:
        return read_spans(cell)
    except UnreadableSpans:
        return []
