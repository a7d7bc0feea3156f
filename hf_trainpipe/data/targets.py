"""What is to be learnt, as numpy arrays; every row is checked, and errors name its place.

Shapes: N examples, C labels, W words of all examples.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from hf_trainpipe.data.columns import column_of
from hf_trainpipe.data.label_cells import read_labels
from hf_trainpipe.data.label_ids import IGNORED, label_ids, position_line, vectors_of
from hf_trainpipe.data.labels import resolve_labels
from hf_trainpipe.data.place import error_at, place
from hf_trainpipe.data.spans import tags_of_spans
from hf_trainpipe.data.targets_checks import (
    check_text,
    check_words,
    list_lengths,
    refuse_first,
    refuse_missing,
)
from hf_trainpipe.errors import DataError
from hf_trainpipe.runtime.text.words import WordSplitter, newest
from hf_trainpipe.tasks.base import ColumnKind, Labels, Task

if TYPE_CHECKING:
    from collections.abc import Sequence

    import pyarrow as pa
    from datasets import Dataset

    from hf_trainpipe.data.label_cells import LabelCells
    from hf_trainpipe.runtime.text.preprocessor import Preprocessor

_NUMBER = re.compile(
    r"[+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]+)?|[+-]?(?:inf|infinity)|nan", re.ASCII | re.IGNORECASE
)

__all__ = ["Targets", "build_targets", "resolve_labels"]


@dataclass(frozen=True)
class Targets:
    """Targets of a split.

    ``values`` is, by ``kind``: class int64[N]; classes uint8[N, C]; number float32[N]; tags int32[W],
    -100 where a word is not scored. Character spans have become tags.
    """

    kind: ColumnKind
    values: np.ndarray
    word_starts: np.ndarray | None = None
    """tags: int64[N + 1]; the words of example i are ``values[word_starts[i]:word_starts[i + 1]]``."""
    words: list[list[str]] | None = None
    """The preprocessed words that character spans became tags of; None for all other kinds."""
    report: dict[str, Any] = field(default_factory=dict)
    """``counts`` by label; ``positions``, a sentence, where numbers were read as ids in an order that the recipe does not
    give; of tags ``ignored`` words; of character spans what became of them (:mod:`.spans`)."""


def build_targets(
    task: Task,
    labels: Labels,
    dataset: Dataset,
    split: str,
    *,
    steps: Sequence[Preprocessor] = (),
    splitter: WordSplitter | None = None,
) -> Targets:
    """Check inputs and targets of a split, and turn the targets into arrays.

    Args:
        steps: The preprocessing, which decides the words that character spans become tags of.
        splitter: How texts with character spans are cut into words; None: the newest one of the task's name.

    Raises:
        DataError: with the place of the row: a missing or non-text input, a missing, unknown or
            out-of-range label, a number that is not finite, tags that are not one a word, spans
            outside the text; or a split in which nothing is scored.
    """
    for column in task.inputs():
        if column.kind == "words":
            check_words(dataset, split, column)
        else:
            check_text(dataset, split, column)
    target = task.target()
    if target.kind == "spans":
        return _build_spans(task, labels, dataset, split, steps, splitter)
    build = {
        "class": _build_class,
        "classes": _build_classes,
        "number": _build_number,
        "tags": _build_tags,
    }[target.kind]
    return build(task, labels, dataset, split)


def _counts(ids: np.ndarray, labels: Labels) -> dict[str, int]:
    counted = np.bincount(ids[ids >= 0], minlength=len(labels))
    return {name: int(count) for name, count in zip(labels.names, counted, strict=True)}


def _positions(task: Task, labels: Labels, cells: LabelCells) -> dict[str, str]:
    line = position_line(task, labels, cells)
    return {} if line is None else {"positions": line}


def _build_class(task: Task, labels: Labels, dataset: Dataset, split: str) -> Targets:
    name = task.target().name
    refuse_missing(column_of(dataset, name), dataset, split, name, "label")
    cells = read_labels(task, dataset, split)
    ids = label_ids(task, labels, cells)
    return Targets("class", ids, report={"counts": _counts(ids, labels), **_positions(task, labels, cells)})


def _build_classes(task: Task, labels: Labels, dataset: Dataset, split: str) -> Targets:
    for name in task.target().columns:
        refuse_missing(column_of(dataset, name), dataset, split, name, "labels")
    cells = read_labels(task, dataset, split)
    hot, told = vectors_of(task, labels, cells), {}
    if hot is None:
        told = _positions(task, labels, cells)
        hot = np.zeros((len(dataset), len(labels)), dtype=np.uint8)
        hot[cells.rows, label_ids(task, labels, cells)] = 1
    counts = dict(zip(labels.names, hot.sum(axis=0, dtype=np.int64).tolist(), strict=True))
    return Targets("classes", hot, report={"counts": counts, **told})


def _build_number(task: Task, labels: Labels, dataset: Dataset, split: str) -> Targets:
    import pyarrow as pa

    name = task.target().name
    cells = column_of(dataset, name)
    refuse_missing(cells, dataset, split, name, "number")
    if pa.types.is_nested(cells.type) or pa.types.is_boolean(cells.type):
        raise error_at(
            place(dataset, split, 0),
            f"column {name!r}: expected a number, found {cells[0].as_py()!r:.60}.",
            fix="Name a column of numbers.",
        )
    if pa.types.is_floating(cells.type) or pa.types.is_integer(cells.type):
        values = cells.to_numpy(zero_copy_only=False).astype(np.float64)
    else:
        values = _parse_numbers(cells, dataset, split, name)
    with np.errstate(over="ignore"):
        numbers = values.astype(np.float32)
    refuse_first(
        ~np.isfinite(numbers),
        dataset,
        split,
        lambda row: f"column {name!r}: expected a finite number, found {cells[row].as_py()}.",
        "Correct the number, or remove the row.",
    )
    report = {"low": float(numbers.min()), "high": float(numbers.max()), "mean": float(numbers.mean())}
    return Targets("number", numbers, report=report)


def _parse_numbers(cells: pa.Array, dataset: Dataset, split: str, name: str) -> np.ndarray:
    values = np.empty(len(cells), dtype=np.float64)
    for row, value in enumerate(cells.to_pylist()):
        text = str(value).strip()
        if _NUMBER.fullmatch(text) is None:
            found = f"found {text!r:.60}" if text else "found an empty cell"
            fix = _fix_of_number(text, name)
            raise error_at(place(dataset, split, row), f"column {name!r}: expected a number, {found}.", fix=fix)
        values[row] = float(text)
    return values


def _fix_of_number(text: str, name: str) -> str:
    if not text or text.lower() in ("na", "n/a", "#n/a", "none", "null", "-", "<na>"):
        return f"Remove the row; or leave such cells empty, and drop their rows: data.drop_missing=({name!r},)."
    if text.endswith("%"):
        return "Write all numbers without the sign: 0.5, or 50."
    return "Write numbers as 1234.5: a point before the decimals, and nothing between thousands."


def _build_tags(task: Task, labels: Labels, dataset: Dataset, split: str) -> Targets:
    name, words = task.target().name, task.inputs()[0].name
    refuse_missing(column_of(dataset, name), dataset, split, name, "tags")
    found = read_labels(task, dataset, split)
    counts, ids = found.counts, label_ids(task, labels, found)
    word_counts = list_lengths(column_of(dataset, words))
    refuse_first(
        counts != word_counts,
        dataset,
        split,
        lambda row: f"expected a tag for each of {word_counts[row]} {words!r}, found {counts[row]} {name!r}.",
        "Correct the row: words and tags must be equally many.",
    )
    if (ids == IGNORED).all():
        raise DataError(
            f"split {split!r}: every tag in column {name!r} is {IGNORED}, so that nothing is scored.",
            fix="Name the column that holds the tags, or leave this split out.",
        )
    starts = np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)
    report = {
        "counts": _counts(ids, labels),
        "ignored": int((ids == IGNORED).sum()),
        **_positions(task, labels, found),
    }
    return Targets("tags", ids.astype(np.int32), word_starts=starts, report=report)


def _build_spans(
    task: Task,
    labels: Labels,
    dataset: Dataset,
    split: str,
    steps: Sequence[Preprocessor],
    splitter: WordSplitter | None,
) -> Targets:
    found = tags_of_spans(
        dataset,
        split,
        text=task.inputs()[0].name,
        column=task.target().name,
        labels=labels,
        scheme=getattr(task, "scheme", None) or "BIO",
        splitter=splitter or WordSplitter(newest(getattr(task, "splitter", "regex"))),
        steps=steps,
    )
    report = {"counts": _counts(found.ids, labels), **found.report}
    return Targets("tags", found.ids, word_starts=found.word_starts, words=found.words, report=report)
