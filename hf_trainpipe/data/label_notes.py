"""What a person should hear about the labels of the training data before the first step."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from hf_trainpipe.data.spelling import entity_types, fold, grouped, is_integer, key, number
from hf_trainpipe.errors import DataError
from hf_trainpipe.runtime.tasks.columns import CLASSES, SPANS, TAGS
from hf_trainpipe.utils.brief import listed

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import numpy as np
    import pyarrow as pa

    from hf_trainpipe.data.label_cells import LabelCells
    from hf_trainpipe.runtime.tasks.columns import Column, Labels

DOMINANT = 0.95
"""Share of the training rows from which one label is worth a warning."""

MISSING = frozenset({"nan", "NaN", "None", "null", "NULL", "<NA>", "#N/A"})
"""How programs spell that there is nothing, in files that cannot say it."""
_SHOWN = 8


def label_notes(
    column: Column, labels: Labels, counts: Mapping[str, int], cells: LabelCells | None, *, num_rows: int
) -> list[str]:
    """Warnings about the labels of the training split, a sentence each.

    Labels that differ in case or spelling alone, numbers spelt in two ways, labels that look like a missing value or
    like a number, and labels without an example.

    Args:
        counts: Examples (of tags words) of each label.
        cells: As they are written; None of character spans.

    Raises:
        DataError: no row has a label, or no word a tag but ``O``.
    """
    if not counts:
        return []
    of_words = column.cell in (TAGS, SPANS)
    if not any(count for name, count in counts.items() if column.cell is CLASSES or name != "O"):
        what = "label" if column.cell is CLASSES else "tag but 'O'"
        raise DataError(
            f"Column {column.name!r}: expected labels to learn, found no {what} in all {num_rows:,} training rows.",
            fix="Name the column that holds the labels, or check how the data was made.",
        )
    notes = _of_types(labels) if cells is None else _of_cells(cells)
    return notes + _without_examples(counts, is_tags=of_words)


def dominant_line(cells: pa.Array) -> str | None:
    """Says where one label is nearly all there is; else None."""
    counts = Counter(cells.to_pylist())
    label, count = counts.most_common(1)[0]
    if count / len(cells) < DOMINANT or len(counts) < 2:
        return None
    return f"train: {count / len(cells):.1%} of the rows have the label {label!r}; accuracy says little here"


def number_notes(name: str, numbers: np.ndarray, *, low: float | None, high: float | None) -> list[str]:
    """Warnings about the numbers of the training split.

    Args:
        low: Bounds of what is answered.
    """
    least, most = float(numbers.min()), float(numbers.max())
    if least == most:
        return [f"train: every number in column {name!r} is {least:g}; there is nothing to learn"]
    if (low is not None and least < low) or (high is not None and most > high):
        return [
            f"train: column {name!r} goes from {least:g} to {most:g}, and what the package answers is cut to "
            f"{'-inf' if low is None else f'{low:g}'} to {'inf' if high is None else f'{high:g}'}: see task.low and task.high"
        ]
    return []


def _of_types(labels: Labels) -> list[str]:
    alike = grouped(entity_types(labels), fold)
    return [
        f"train: the types {' and '.join(map(repr, found))} of spans differ in case or spelling alone"
        for _, found in sorted(alike.items())
        if len(found) > 1
    ]


def _of_cells(cells: LabelCells) -> list[str]:
    notes = []
    spellings = grouped(dict.fromkeys(cells.spellings), key)
    for of, found in spellings.items():
        if number(of) is not None and len(found) > 1:
            notes.append(f"train: {_placed(cells, found, cells.spellings)} are read as one label, {of!r}")
    doubtful = [found for found in grouped(spellings, fold).values() if len(found) > 1]
    notes += [
        f"train: the labels {_placed(cells, found, cells.keys)} differ in case or spelling alone and are {len(found)} classes; "
        "make them one with data.values, or in the data"
        for found in doubtful[:_SHOWN]
    ]
    if len(doubtful) > _SHOWN:
        notes.append(f"train: {len(doubtful) - _SHOWN} more groups of labels differ in case or spelling alone")
    for of, found in spellings.items():
        if of in MISSING:
            notes.append(
                f"train: {_placed(cells, found, cells.spellings)} is learnt as a label; if it means that there is none, remove it"
            )
    if any((value := number(of)) is not None and not is_integer(of) and value % 1 for of in spellings):
        notes.append(f"train: labels of column {cells.column.name!r} are numbers; to learn a number use Regression")
    elif len(spellings) > 20 and 2 * len(spellings) > len(cells.rows):
        notes.append(
            f"train: column {cells.column.name!r} has {len(spellings):,} labels for {len(cells.rows):,} examples: is it the label?"
        )
    return notes


def _placed(cells: LabelCells, found: Sequence[str], among: Sequence[str]) -> str:
    return " and ".join(f"{name!r} ({cells.place(among.index(name))})" for name in found[:3])


def _without_examples(counts: Mapping[str, int], *, is_tags: bool) -> list[str]:
    absent = [name for name, count in counts.items() if count == 0]
    if is_tags:
        # Types are completed with all their prefixes; only a type that never occurs is worth a word.
        there = {name.partition("-")[2] or name for name, count in counts.items() if count}
        absent = list(dict.fromkeys(name.partition("-")[2] or name for name in absent))
        absent = [name for name in absent if name not in there and name != "O"]
    if not absent:
        return []
    told = f"{len(absent)} of {len(counts)} labels ({listed(absent, _SHOWN)})"
    return [f"train: no example of {told}: they cannot be learnt"]


def label_lines(labels: Labels, counts: Mapping[str, int] | None = None, *, most: int = 20) -> list[str]:
    """The labels with their ids, and where known their examples, a label a line; the middle left out where many."""
    lines = [
        f"{position:>4}  {name}" + ("" if counts is None else f"  ({counts.get(name, 0):,})")
        for position, name in enumerate(labels.names)
    ]
    if len(lines) <= most:
        return lines
    half = most // 2
    return [*lines[:half], f"      ... {len(lines) - most:,} more", *lines[-half:]]
