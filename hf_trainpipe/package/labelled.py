"""Score a package on a file with gold labels, which is read as in training.

Rows without an input or a label, or with an unknown label, are not scored; they are counted in the result.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from hf_trainpipe.data.columns import is_text
from hf_trainpipe.data.place import FILE, LINE
from hf_trainpipe.data.readers_base import ReadOptions
from hf_trainpipe.data.rows import Rows
from hf_trainpipe.data.sources_shape import missing_in, translate
from hf_trainpipe.errors import DataError, closest
from hf_trainpipe.package.columns import Chooser, Known, Listed, joined, words_of
from hf_trainpipe.package.inputs import read_whole
from hf_trainpipe.runtime.tasks.columns import TEXT, WORDS
from hf_trainpipe.utils.brief import listed

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from datasets import Dataset

    from hf_trainpipe.recipe import Evaluation
    from hf_trainpipe.runtime.handler.predictor import Predictor
    from hf_trainpipe.runtime.tasks.base import Task
    from hf_trainpipe.runtime.tasks.columns import Column

__all__ = ["LabelledRows", "evaluate_table", "labelled", "read_table"]

_ROW = "__row__"


@dataclass
class _Left:
    """Rows that are not scored."""

    out: Counter[str] = field(default_factory=Counter)
    unknown: Counter[str] = field(default_factory=Counter)


def read_table(source: Any, reading: ReadOptions) -> tuple[pa.Table, str]:
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
    return read_whole(source, reading), str(source)


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
    model: Any = None,
    progress: Callable[[int], None] = lambda _: None,
) -> dict[str, Any]:
    """Score a package on the rows of a table.

    Args:
        name: What messages call the table.
        known: The recipe's columns; ``asked`` and ``label`` choose others.
        values: What the recipe makes of values (``data.values``).
        model: The recipe's, for scores that compare with it.
        progress: Called with the number of rows that are done.

    Returns:
        ``{"rows", "n", "columns", "label", "left_out": {reason: rows}, "unknown_labels": {label: rows}, "scores"}``;
        scores as of :func:`.scoring.score`.

    Raises:
        DataError: a column is missing, a label cannot be read, or no row is left.
    """
    from hf_trainpipe.package.scoring import score_rows

    rows = labelled(predictor, table, name=name, task=task, known=known, asked=asked, label=label, values=values)
    result = score_rows(
        predictor,
        rows.dataset,
        task=rows.task,
        evaluation=evaluation,
        seed=seed,
        split=name,
        model=model,
        progress=progress,
    )
    if longer := result["longer"]:
        rows.left_out["longer than the package takes"] += longer
    return {
        "rows": table.num_rows,
        "n": result["n"],
        "columns": list(rows.columns),
        "label": rows.label,
        "left_out": dict(rows.left_out),
        "unknown_labels": dict(rows.unknown.most_common()),
        "scores": result["scores"],
    }


@dataclass(frozen=True, kw_only=True)
class LabelledRows:
    """Rows of a table that can be scored, as a task reads them."""

    dataset: Dataset
    """The columns of the task, and the places of the rows."""
    positions: NDArray[np.int64]
    """Which rows of the table these are."""
    task: Task
    """Over the names of these columns."""
    columns: tuple[str, ...]
    """Of the table, that are the input."""
    label: str | None
    """The column of gold labels."""
    left_out: Counter[str]
    """The other rows, by reason."""
    unknown: Counter[str]
    """Labels that the package does not have."""


def labelled(
    predictor: Predictor,
    table: pa.Table,
    *,
    name: str,
    task: Task,
    known: Known,
    asked: tuple[str, ...] = (),
    label: str | None = None,
    values: Mapping[str, Mapping[str, str]] | None = None,
) -> LabelledRows:
    """The rows of a table that can be scored; arguments and errors as of :func:`evaluate_table`."""
    from datasets import Dataset

    from hf_trainpipe.package.scoring import task_for

    task = task_for(predictor, task, name=name)
    there = {column: None for column in table.column_names if column not in (FILE, LINE)}
    sources = Chooser(known, asked, name=name).sources(there)
    used = [column for source in sources for column in source]
    inputs = [_joined(table, source) for source in sources]
    fitted = task
    forms = task.schema().inputs
    if len(forms) > 1 and known.is_one and any(WORDS in form.values() for form in forms):  # a tagger's: texts, or words
        inputs = [_as_words(inputs[0])]
        wanted = TEXT if is_text(inputs[0].type) else WORDS
        fitted = task.over(next(role for form in forms for role, cell in form.items() if cell == wanted))
    free = [column for column in there if column not in used]
    found, gold, called = None, [], {}
    if fitted.target is not None and task.target is not None:
        is_other_form = fitted.target.cell != task.target.cell
        if label is not None and fitted.target.parts:
            fitted = fitted.renamed_target(label)
        target = fitted.target
        assert target is not None
        if target.parts:
            found = _all_of(target.parts, free, name=name)
        else:
            found = _target(target, free, known, label, is_other_form=is_other_form, name=name)
        values = values or {}
        gold = [
            translate(table[column], values.get(old) or values.get(column) or {})
            for column, old in zip(target.parts or (found,), target.parts or (target.name,), strict=True)
        ]
        called = {target.name: found}
    elif label is not None:
        raise DataError(
            f"--label: this package is scored without gold labels, found {label!r}.", fix="Leave --label out."
        )
    names = {
        column.name: source[0]
        for column, source in zip(fitted.inputs.values(), sources, strict=True)
        if len(source) == 1
    }
    task = fitted.renamed({**names, **called})
    of_task = [column.name for column in task.inputs.values()] + [*(task.target.columns if task.target else ())]
    columns = dict(zip(of_task, [*inputs, *gold], strict=True))
    columns |= {column: table[column] for column in (FILE, LINE) if column in table.column_names}
    columns[_ROW] = pa.array(np.arange(table.num_rows))
    left = _Left()
    dataset = Dataset(pa.table(columns))
    dataset = _complete(dataset, task, left)
    dataset = _known(dataset, task, left, name=name)
    if len(dataset) == 0:
        raise DataError(
            f"{name}: none of its {table.num_rows:,} rows can be scored: {_told(left)}.",
            fix="Check the columns: --column NAME is the text, --label NAME the gold label.",
        )
    positions = np.asarray(dataset[_ROW], dtype=np.int64)
    return LabelledRows(
        dataset=dataset.remove_columns(_ROW),
        positions=positions,
        task=task,
        columns=tuple(used),
        label=found,
        left_out=left.out,
        unknown=left.unknown,
    )


def _told(left: _Left) -> str:
    return ", ".join(f"{count:,} {reason}" for reason, count in left.out.items()) + (
        f" ({listed(left.unknown, 8, quoted=True)})" if left.unknown else ""
    )


def _joined(table: pa.Table, source: tuple[str, ...]) -> Any:
    if len(source) == 1:
        return table[source[0]]
    rows = zip(*(table[column].to_pylist() for column in source), strict=True)
    kind = pa.list_(pa.string()) if isinstance(source, Listed) else pa.string()
    return pa.array([joined(cells, source) for cells in rows], kind)


def _as_words(cells: Any) -> Any:
    """Lists of words, also written as text in a csv; a column of texts stays as it is."""
    if not is_text(cells.type):
        return cells
    read = [words_of(cell) for cell in cells.to_pylist()]
    if not all(cell is None or isinstance(cell, dict) for cell in read):
        return cells
    return pa.array([None if cell is None else cell["words"] for cell in read], pa.list_(pa.string()))


def _target(column: Column, free: list[str], known: Known, asked: str | None, *, is_other_form: bool, name: str) -> str:
    """The column with the gold labels.

    Args:
        is_other_form: Whether the recipe's column holds another form than the file's inputs ask for.
    """
    usual = [name for name in (known.target, column.name) if name]
    back = {new: old for old, new in known.rename.items()}
    if asked is not None:
        candidates = [asked]
    elif is_other_form:
        candidates = list(column.usual)
    else:
        candidates = [*usual, *(back[name] for name in usual if name in back), *column.usual]
    found = next((name for name in candidates if name in free), None)
    if found is not None:
        return found
    hint = next((said for name in candidates if (said := closest(name, free))), "")
    raise DataError(
        f"{name}: expected {column.cell.name} in the column {candidates[0]!r}, found the columns "
        f"{', '.join(map(repr, free)) or 'none'} beside the input.{hint}",
        fix="Name the column of gold labels: --label NAME.",
    )


def _all_of(parts: tuple[str, ...], free: list[str], *, name: str) -> str:
    """What a label in each of several columns is called, where the file has all of them."""
    for part in parts:
        if part not in free:
            raise DataError(
                f"{name}: expected the columns {', '.join(parts)}, found no {part!r} among "
                f"{', '.join(map(repr, free)) or 'none'} beside the input.{closest(part, free)}",
                fix="Rename the column, or name one that holds lists of labels: --label NAME.",
            )
    return ", ".join(parts)


def _complete(dataset: Dataset, task: Task, left: _Left) -> Dataset:
    """Rows with all inputs and a label."""
    target = task.target
    keep = np.ones(len(dataset), dtype=bool)
    inputs = ((column.name, "without an input", column.cell.is_blank_missing) for column in task.inputs.values())
    labels = [(name, "without a label", target.cell.is_blank_missing) for name in target.columns] if target else []
    for name, what, blank in (*inputs, *labels):
        missing = missing_in(dataset, name, blank=blank)
        if count := int((missing & keep).sum()):
            left.out[what] += count
        keep &= ~missing
    return dataset if keep.all() else dataset.select(np.flatnonzero(keep))


def _known(dataset: Dataset, task: Task, left: _Left, *, name: str) -> Dataset:
    """Rows with labels that the package knows."""
    unknown = task.unknown_labels(Rows(dataset, name)) if len(dataset) else []
    if not unknown:
        return dataset
    rows = sorted({row for row, _ in unknown})
    left.unknown.update(spelled for _, spelled in unknown)
    left.out["with a label that the package does not have"] += len(rows)
    keep = np.ones(len(dataset), dtype=bool)
    keep[rows] = False
    return dataset.select(np.flatnonzero(keep))
