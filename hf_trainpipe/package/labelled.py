"""A file with gold labels, read as training reads its data, and scored by a package.

Rows without an input or a label, and rows whose label the package does not have, are left out of the scores and told.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from hf_trainpipe.data.columns import column_of, is_text
from hf_trainpipe.data.label_cells import LabelCells, read_labels
from hf_trainpipe.data.label_ids import label_ids, vectors_of
from hf_trainpipe.data.place import FILE, LINE
from hf_trainpipe.data.sources_shape import translate
from hf_trainpipe.data.span_forms import Span, UnreadableSpans, read_spans
from hf_trainpipe.errors import DataError, closest
from hf_trainpipe.package.columns import Chooser, Known, words_of
from hf_trainpipe.package.inputs import format_of_input, read_whole
from hf_trainpipe.package.records import Reading
from hf_trainpipe.tasks.base import Labels
from hf_trainpipe.tasks.tagging import TokenClassification

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    import pyarrow as pa
    from datasets import Dataset

    from hf_trainpipe.recipe import Evaluation
    from hf_trainpipe.runtime.handler.predictor import Predictor
    from hf_trainpipe.tasks.base import ColumnKind, Task

__all__ = ["evaluate_table", "read_table", "task_without_recipe"]

_USUAL: dict[ColumnKind, tuple[str, ...]] = {
    "class": ("label",),
    "classes": ("labels",),
    "number": ("score", "label"),
    "tags": ("tags", "ner_tags"),
    "spans": ("spans", "entities"),
}
"""Names of label columns that are tried where the recipe's is not in the file."""


@dataclass
class _Left:
    """What is left out of the scores."""

    out: Counter[str] = field(default_factory=Counter)
    unknown: Counter[str] = field(default_factory=Counter)


def read_table(source: Any, reading: Reading) -> tuple[pa.Table, str]:
    """The rows of a file, a pandas frame, or a list of objects as a table, with the name that messages use.

    Raises:
        DataError: it cannot be read, with file and line where they are known.
    """
    from hf_trainpipe.data.readers_tables import frame_to_table

    if hasattr(source, "columns") and hasattr(source, "iloc"):
        return frame_to_table(source, "rows"), "the frame"
    if not isinstance(source, str | Path):
        import pandas

        return frame_to_table(pandas.DataFrame(list(source)), "rows"), "the rows"
    return read_whole(source, format_of_input(source, reading), reading), str(source)


def task_without_recipe(predictor: Predictor, known: Known) -> Task:
    """A task that gives such answers, for packages whose recipe has a class of its own or is not known."""
    from hf_trainpipe.tasks.classification import MultiLabelClassification, TextClassification
    from hf_trainpipe.tasks.regression import Regression

    decoder = predictor.decoder
    text, *pair = known.inputs or (("text", "text_pair") if predictor.info.inputs == "pair" else ("text",))
    second = pair[0] if pair else None
    if decoder.kind == "single_label":
        return TextClassification(text, text_pair=second)
    if decoder.kind == "multi_label":
        return MultiLabelClassification(text, text_pair=second)
    if decoder.kind == "regression":
        return Regression(text, text_pair=second)
    return TokenClassification(scheme=decoder.options.get("scheme"))


def evaluate_table(
    predictor: Predictor,
    table: pa.Table,
    *,
    name: str,
    task: Task,
    evaluation: Evaluation,
    known: Known,
    asked: tuple[str, ...] = (),
    label: str | None = None,
    values: Mapping[str, Mapping[str, str]] | None = None,
    seed: int = 0,
    progress: Callable[[int], None] = lambda _: None,
) -> dict[str, Any]:
    """Score a package on the rows of a table.

    Args:
        name: What messages call the table.
        known: The recipe's columns; ``asked`` and ``label`` choose others.
        values: What the recipe makes of values (``data.values``).
        progress: Called with the number of rows that are done.

    Returns:
        ``{"rows", "n", "columns", "label", "left_out": {reason: rows}, "unknown_labels": {label: rows}, "scores"}``;
        scores as of :func:`.scoring.evaluate`.

    Raises:
        DataError: a column is missing, a label cannot be read, or no row is left.
    """
    from datasets import Dataset

    from hf_trainpipe.package.scoring import score_rows
    from hf_trainpipe.tasks.classification import MultiLabelClassification

    there = {column: None for column in table.column_names if column not in (FILE, LINE)}
    sources = Chooser(predictor.info.inputs, known, asked, name=name).sources(there)
    used = [column for source in sources for column in source]
    inputs = [_joined(table, source) for source in sources]
    if predictor.info.inputs == "words":
        inputs = [_as_words(inputs[0])]
    free = [column for column in there if column not in used]
    task = _fitted(task, inputs[0])
    if label is not None and isinstance(task, MultiLabelClassification):
        task = replace(task, labels=label, names=task.label_names())
    if parts := task.target().parts:
        target = _all_of(parts, free, name=name)
    else:
        target = _target(task, inputs[0], free, known, label, name=name)
    gold = {
        column: translate(table[column], (values or {}).get(old) or (values or {}).get(column) or {})
        for column, old in ({part: part for part in parts} or {target: task.target().name}).items()
    }
    task = _renamed(task, [source[0] if len(source) == 1 else None for source in sources], target)
    names = [column.name for column in task.inputs()]
    columns = {**dict(zip(names, inputs, strict=True)), **dict(zip(task.target().columns, gold.values(), strict=True))}
    columns |= {column: table[column] for column in (FILE, LINE) if column in table.column_names}
    import pyarrow as pa

    left = _Left()
    dataset = Dataset(pa.table(columns))
    dataset = _complete(dataset, task, names, left)
    dataset = _known(dataset, task, Labels(tuple(predictor.decoder.labels)), left, name=name)
    if len(dataset) == 0:
        raise DataError(
            f"{name}: none of its {table.num_rows:,} rows can be scored: {_told(left)}.",
            fix="Check the columns: --column NAME holds the text, --label NAME what is right.",
        )
    result = score_rows(predictor, dataset, task=task, evaluation=evaluation, seed=seed, split=name, progress=progress)
    if longer := len(dataset) - result["n"]:
        left.out["longer than the package takes"] += longer
    return {
        "rows": table.num_rows,
        "n": result["n"],
        "columns": used,
        "label": target,
        "left_out": dict(left.out),
        "unknown_labels": dict(left.unknown.most_common()),
        "scores": result["scores"],
    }


def _told(left: _Left) -> str:
    return ", ".join(f"{count:,} {reason}" for reason, count in left.out.items()) + (
        f" ({', '.join(map(repr, list(left.unknown)[:8]))})" if left.unknown else ""
    )


def _joined(table: pa.Table, source: Sequence[str]) -> Any:
    import pyarrow as pa

    if len(source) == 1:
        return table[source[0]]
    rows = zip(*(table[column].to_pylist() for column in source), strict=True)
    return pa.array([" ".join(str(cell) for cell in cells if cell) for cells in rows], pa.string())


def _as_words(cells: Any) -> Any:
    """Lists of words, also those that a csv spells; a column of texts as it is."""
    import pyarrow as pa

    if not is_text(cells.type):
        return cells
    read = [words_of(cell) for cell in cells.to_pylist()]
    if not all(cell is None or isinstance(cell, dict) for cell in read):
        return cells
    return pa.array([None if cell is None else cell["words"] for cell in read], pa.list_(pa.string()))


def _fitted(task: Task, first: Any) -> Task:
    """The task, of tags in the form that the file has: words with tags, or texts with spans."""
    if not isinstance(task, TokenClassification):
        return task
    if is_text(first.type):
        return replace(task, text=task.text or "text", spans=task.spans or "spans")
    return replace(task, text=None, spans=None)


def _renamed(task: Task, inputs: Sequence[str | None], target: str) -> Task:
    """The task over the file's own names, so that messages have them; as it was where its fields do not name columns."""
    olds = [column.name for column in task.inputs()]
    wanted = [new or old for old, new in zip(olds, inputs, strict=True)]
    names = {**dict(zip(olds, wanted, strict=True)), task.target().name: target}
    said = {item.name: getattr(task, item.name) for item in fields(task)}  # type: ignore[arg-type]
    changed = {name: names[value] for name, value in said.items() if isinstance(value, str) and value in names}
    renamed = replace(task, **changed)  # type: ignore[type-var]
    fits = [column.name for column in renamed.inputs()] == wanted and renamed.target().name == target
    return renamed if fits else task


def _target(task: Task, first: Any, free: list[str], known: Known, asked: str | None, *, name: str) -> str:
    """The column with the gold labels."""
    fitted = _fitted(task, first).target()
    usual = [name for name in (known.target, fitted.name) if name]
    back = {new: old for old, new in known.rename.items()}
    if asked is not None:
        candidates = [asked]
    else:
        candidates = [*usual, *(back[column] for column in usual if column in back), *_USUAL[fitted.kind]]
    if isinstance(task, TokenClassification) and (task.spans is None) != (fitted.kind == "tags") and asked is None:
        candidates = list(_USUAL[fitted.kind])  # the recipe's column holds the other form
    found = next((column for column in candidates if column in free), None)
    if found is not None:
        return found
    hint = next((said for column in candidates if (said := closest(column, free))), "")
    raise DataError(
        f"{name}: expected {fitted.kind} in the column {candidates[0]!r}, found the columns "
        f"{', '.join(map(repr, free)) or 'none'} beside the input.{hint}",
        fix="Name the column that holds what is right: --label NAME.",
    )


def _all_of(parts: tuple[str, ...], free: list[str], *, name: str) -> str:
    """What a label in each of several columns is called, where the file has all of them."""
    for part in parts:
        if part not in free:
            raise DataError(
                f"{name}: expected a column of 0s and 1s for each of {', '.join(parts)}, found no {part!r} among "
                f"{', '.join(map(repr, free)) or 'none'} beside the input.{closest(part, free)}",
                fix="Rename the column, or name one that holds lists of labels: --label NAME.",
            )
    return ", ".join(parts)


def _complete(dataset: Dataset, task: Task, names: Sequence[str], left: _Left) -> Dataset:
    """The rows that have every input and a label."""
    target = task.target()
    keep = np.ones(len(dataset), dtype=bool)
    labelled = ((column, "without a label") for column in target.columns)
    for column, what in (*((name, "without an input") for name in names), *labelled):
        blank = what == "without an input" or target.kind in ("class", "number")
        cells = column_of(dataset, column).to_pylist()
        missing = np.fromiter((_is_missing(cell, blank=blank) for cell in cells), dtype=bool, count=len(cells))
        if count := int((missing & keep).sum()):
            left.out[what] += count
        keep &= ~missing
    return dataset if keep.all() else dataset.select(np.flatnonzero(keep))


def _is_missing(cell: Any, *, blank: bool) -> bool:
    if cell is None or cell != cell:
        return True
    return blank and ((isinstance(cell, str) and not cell.strip()) or cell == [])


def _known(dataset: Dataset, task: Task, labels: Labels, left: _Left, *, name: str) -> Dataset:
    """The rows whose labels the package has."""
    if task.target().kind == "number" or len(dataset) == 0:
        return dataset
    rows, spelled = _unknown(dataset, task, labels, name=name)
    if not len(rows):
        return dataset
    left.unknown.update(spelled)
    left.out["with a label that the package does not have"] += len(set(rows))
    keep = np.ones(len(dataset), dtype=bool)
    keep[rows] = False
    return dataset.select(np.flatnonzero(keep))


def _unknown(dataset: Dataset, task: Task, labels: Labels, *, name: str) -> tuple[list[int], list[str]]:
    """The row of each label that the package does not have, and its spelling."""
    if task.target().kind == "spans":
        types = {name.partition("-")[2] for name in labels.names if name != "O"}
        found = [
            (row, span.label)
            for row, cell in enumerate(column_of(dataset, task.target().name).to_pylist())
            for span in _readable_spans(cell)
            if span.label not in types
        ]
        return [row for row, _ in found], [name for _, name in found]
    cells = read_labels(task, dataset, name)
    if task.target().kind == "classes" and vectors_of(task, labels, cells) is not None:
        return [], []
    unknown = [at for at in range(len(cells.values)) if not _is_known(task, labels, cells, at)]
    at = np.flatnonzero(np.isin(cells.codes, unknown))
    return cells.rows[at].tolist(), [cells.spellings[int(code)] for code in cells.codes[at]]


def _is_known(task: Task, labels: Labels, cells: LabelCells, at: int) -> bool:
    """Whether one of the distinct values of a column is a label, by the rule of training."""
    alone = replace(
        cells,
        values=[cells.values[at]],
        spellings=[cells.spellings[at]],
        codes=np.zeros(1, dtype=np.int64),
        rows=np.array([cells.first_row(at)]),
    )
    try:
        label_ids(task, labels, alone)
    except DataError:
        return False
    return True


def _readable_spans(cell: Any) -> list[Span]:
    """The spans of a cell; none where it cannot be read, which is refused with its place later."""
    try:
        return read_spans(cell)
    except UnreadableSpans:
        return []
