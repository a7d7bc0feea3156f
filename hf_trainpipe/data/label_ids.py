"""Which label each cell of a column means: by its name, by its place in an order, or as a vector of 0s and 1s.

docs/labels.md states the rule. Shapes: N rows, M labels of all rows, C labels.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from hf_trainpipe.data.columns import names_in_feature
from hf_trainpipe.data.place import error_at, place
from hf_trainpipe.data.spelling import FALSE, TRUE, fold, is_integer, key
from hf_trainpipe.errors import DataError, closest
from hf_trainpipe.runtime.tasks.columns import TAGS
from hf_trainpipe.runtime.tasks.tagging import IGNORED

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from hf_trainpipe.data.label_cells import LabelCells, Target
    from hf_trainpipe.runtime.tasks.columns import Labels

__all__ = [
    "IGNORED",
    "UNKNOWN",
    "by_name",
    "explain_unknown",
    "is_known",
    "label_ids",
    "listed",
    "position_line",
    "vectors_of",
    "vectors_without_names",
]

UNKNOWN = -(2**31)
"""The id of a cell that means no label."""
_BOOLEANS = {TRUE: "1", FALSE: "0"}
_SHOWN = 12


def label_ids(target: Target, labels: Labels, cells: LabelCells) -> np.ndarray:
    """int64[M]: the label that each cell means; of tags :data:`IGNORED` where a word is not scored.

    A cell means the name whose key is its own. Where no name is an integer and something gives the names an order
    (``task.names``, a ``ClassLabel``, a package), integers are positions in that order, from 0.

    Raises:
        DataError: a cell that means none, with its place; names and positions in one column; a ``ClassLabel``
            whose names do not fit the labels.
    """
    ids_of = {key(name): position for position, name in enumerate(labels.names)}
    feature = names_in_feature(cells.dataset, cells.column)
    order = _order(target, labels, feature, cells)
    has_integers = any(map(is_integer, ids_of))
    is_tags = target.column.cell is TAGS
    numbered: list[int] = []
    named: list[int] = []
    table = np.full(len(cells.values), UNKNOWN, dtype=np.int64)
    for at, (value, spelling) in enumerate(zip(cells.values, cells.spellings, strict=True)):
        of = key(spelling)
        if is_tags and of == str(IGNORED):
            table[at] = IGNORED
            continue
        is_id = feature is not None and not isinstance(value, str)
        if not is_id and (found := by_name(of, ids_of)) is not None:
            table[at] = found
            named.append(at)
            continue
        of = _BOOLEANS.get(of, of) if len(labels) == 2 else of
        if order is None or not is_integer(of) or (has_integers and not is_id):
            continue
        position = int(of) if len(of) < 10 else -1
        if 0 <= position < len(order):
            table[at] = ids_of.get(key(order[position]), UNKNOWN)
            numbered.append(at)
    if named and numbered:
        _refuse_mixed(cells, named, numbered)
    _refuse_unknown(cells, labels, table)
    ids: np.ndarray = table[cells.codes]
    return ids


def by_name(of: str, ids_of: Mapping[str, int]) -> int | None:
    if of not in ids_of and len(ids_of) == 2:
        # False is 0 and True is 1 in every library that writes files.
        if of in _BOOLEANS and set(ids_of) == {"0", "1"}:
            of = _BOOLEANS[of]
        elif of in ("0", "1") and set(ids_of) == set(_BOOLEANS):
            of = TRUE if of == "1" else FALSE
    return ids_of.get(of)


def _order(
    target: Target, labels: Labels, feature: tuple[str, ...] | None, cells: LabelCells
) -> tuple[str, ...] | None:
    """The names by which integers are positions; None where nothing says an order."""
    said = target.said
    if said is not None and not {key(name) for name in said} & {key(name) for name in labels.names}:
        raise DataError(
            f"task.names are {listed(said)}, and the labels to compare with are {listed(labels.names)}.",
            fix="Use the recipe that the labels came from, or correct task.names.",
        )
    names = said or (labels.names if labels.is_ordered else None)
    if feature is None:
        return names
    known = {key(name) for name in labels.names}
    if any(key(name) in known for name in feature):
        return feature
    where = place(cells.dataset, cells.split, 0)
    alike = {fold(name) for name in feature} & {fold(name) for name in labels.names}
    if said is None or len(feature) != len(said) or alike:
        raise error_at(
            where,
            f"column {cells.column!r}: its ids stand for {listed(feature)}, the labels are {listed(labels.names)}.",
            fix="Give task.names the names of the data in its spelling, or leave it out.",
        )
    return said


def position_line(target: Target, labels: Labels, cells: LabelCells) -> str | None:
    """Says where the integers of a column were read as places in an order that the recipe did not give; else None."""
    if target.said is not None or names_in_feature(cells.dataset, cells.column) is not None:
        return None
    integers = [spelling for spelling in cells.spellings if is_integer(key(spelling)) and key(spelling) != str(IGNORED)]
    if not integers or any(is_integer(key(name)) or key(name) in _BOOLEANS for name in labels.names):
        return None
    order = ", ".join(f"{position} {name}" for position, name in enumerate(labels.names[:_SHOWN]))
    more = f" and {len(labels) - _SHOWN} more" if len(labels) > _SHOWN else ""
    return f"{cells.split}: the numbers in column {cells.column!r} were read as the ids of the labels: {order}{more}"


def vectors_of(target: Target, labels: Labels, cells: LabelCells) -> np.ndarray | None:
    """uint8[N, C] where the rows are vectors of a 0 or 1 for each label; None where they list labels.

    They are vectors where every row holds as many 0s and 1s as there are labels. With two labels ``[0, 1]`` may be
    both; ``task.form``, the training data or a row that can only be a vector decides.

    Raises:
        DataError: vectors of another length than the labels, or rows that may be either.
    """
    form, hot = target.form, cells.hot()
    if form is None and labels.are_vectors:
        form = "vector"
    if form == "names":
        return None
    if hot is None and form is None:
        _refuse_ragged(cells, len(labels))
        return None
    if hot is None or (form == "vector" and hot.shape[1] != len(labels)):
        at = _first_wrong(cells, len(labels))
        raise error_at(
            place(cells.dataset, cells.split, at),
            f"column {cells.column!r}: expected {len(labels)} numbers 0 or 1, one a label, found "
            f"{cells.row(at)!r:.60}.",
            fix="Correct the row, or set task.form='names' if rows list labels.",
        )
    length = hot.shape[1]
    if form is None and not cells.is_surely_hot(hot):
        if length != len(labels) or labels.are_vectors is False:
            return None
        if labels.are_vectors is None and not (length == 1 and hot.any()):
            raise error_at(
                place(cells.dataset, cells.split, 0),
                f"column {cells.column!r}: with {length} label(s), rows such as "
                f"{cells.row(0)!r:.60} may list ids or be vectors of a 0 or 1 a label.",
                fix="Set task.form to 'vector' or 'names'.",
            )
    if length != len(labels):
        raise vectors_without_names(cells, length, f"but {len(labels)} labels: {listed(labels.names)}")
    order = _order(target, labels, names_in_feature(cells.dataset, cells.column), cells)
    positions = {key(name): position for position, name in enumerate(order or labels.names)}
    columns = np.array([positions.get(key(name), UNKNOWN) for name in labels.names])
    if (columns == UNKNOWN).any():
        raise error_at(
            place(cells.dataset, cells.split, 0),
            f"column {cells.column!r}: its vectors stand for {listed(order or ())}, the labels are {listed(labels.names)}.",
            fix="Give task.names the names of the data, in the order of the vectors.",
        )
    return np.ascontiguousarray(hot[:, columns])


def _refuse_ragged(cells: LabelCells, length: int) -> None:
    """Refuse rows of 0s and 1s that repeat one of them, as lists of ids do not, but are not equally long."""
    if not cells.spellings or not {key(spelling) for spelling in cells.spellings} <= {"0", "1", TRUE, FALSE}:
        return
    ones = np.bincount(cells.rows, weights=np.isin(cells.codes, cells.ones()), minlength=len(cells.counts))
    wrong = (ones > 1) | (cells.counts - ones > 1)
    if not wrong.any():
        return
    row = int(np.argmax(wrong & (cells.counts != length)))
    raise error_at(
        place(cells.dataset, cells.split, row),
        f"column {cells.column!r}: {cells.row(row)!r:.60} looks like a vector of a "
        f"0 or 1 a label, but there are {length} labels and the rows differ in length.",
        fix="Give every row a 0 or 1 for each of task.names; if the numbers are ids, set task.form='names'.",
    )


def _first_wrong(cells: LabelCells, length: int) -> int:
    wrong = cells.counts != length
    for position, spelling in enumerate(cells.spellings):
        if key(spelling) not in ("0", "1", TRUE, FALSE):
            wrong[cells.rows[cells.codes == position]] = True
    return int(np.argmax(wrong))


def vectors_without_names(cells: LabelCells, length: int, found: str) -> DataError:
    """The error of vectors that do not fit the names, or have none."""
    if length == 1:
        return error_at(
            place(cells.dataset, cells.split, 0),
            f"column {cells.column!r} holds a 0 or 1 a row, {found}.",
            fix=f"For the label {cells.column!r} alone set task.labels=({cells.column!r},); for two classes use "
            "TextClassification; for more labels name a column for each: task.labels=('a', 'b').",
        )
    return error_at(
        place(cells.dataset, cells.split, 0),
        f"column {cells.column!r} holds vectors of {length} numbers 0 or 1, {found}.",
        fix=f"Set task.names to the {length} names, in the order of the vectors (MultiLabelBinarizer.classes_); "
        "if the numbers are ids, set task.form='names'.",
    )


def _refuse_mixed(cells: LabelCells, named: list[int], numbered: list[int]) -> None:
    firsts = (min(named, key=cells.first_row), min(numbered, key=cells.first_row))
    earlier, later = sorted(firsts, key=cells.first_row)
    raise error_at(
        place(cells.dataset, cells.split, cells.first_row(later)),
        f"column {cells.column!r} mixes names and ids: {cells.values[later]!r} here, "
        f"{cells.values[earlier]!r} in {cells.place(earlier)}.",
        fix="Write all labels as names, or all as ids.",
    )


def _refuse_unknown(cells: LabelCells, labels: Labels, table: np.ndarray) -> None:
    unknown = np.flatnonzero(table == UNKNOWN)
    if not len(unknown):
        return
    at = min((int(position) for position in unknown), key=cells.first_row)
    message, fix = explain_unknown(cells.values[at], labels)
    raise error_at(
        place(cells.dataset, cells.split, cells.first_row(at)), f"column {cells.column!r}: {message}", fix=fix
    )


def listed(names: Sequence[str]) -> str:
    return ", ".join(names[:_SHOWN]) + (f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else "")


def explain_unknown(value: Any, labels: Labels) -> tuple[str, str]:
    """Message and fix for a cell that means no label."""
    names = listed(labels.names)
    if isinstance(value, int | float) or is_integer(key(str(value))):
        if any(is_integer(key(name)) for name in labels.names):
            return (
                f"unknown label {value}; expected one of {names}.",
                "Correct the label, or add it to task.names.",
            )
        if not labels.is_ordered:
            return (
                f"label {value} is an id, and nothing says in which order the labels {names} are.",
                "Set task.names to the labels in the order of their ids, from 0, or write names.",
            )
        fix = "Correct the label, or give task.names a name for each id, counted from 0."
        if str(value).strip() == "-1":
            fix = "-1 marks rows without a label: leave this split out of the recipe. " + fix
        return f"label {value} is out of range: expected an id from 0 to {len(labels) - 1} ({names}).", fix
    separators = [mark for mark in ";|" if mark in str(value)]
    hint = f" If {separators[0]!r} parts labels, set task.separator={separators[0]!r}." if separators else ""
    return (
        f"unknown label {value!r}; expected one of {names}.",
        f"Correct the label, or add it to task.names.{closest(str(value), labels.names)}{hint}",
    )


def is_known(target: Target, labels: Labels, cells: LabelCells, at: int) -> bool:
    """Whether one of the distinct values of a column is a label, by the rule of training."""
    alone = replace(
        cells,
        values=[cells.values[at]],
        spellings=[cells.spellings[at]],
        codes=np.zeros(1, dtype=np.int64),
        rows=np.array([cells.first_row(at)]),
    )
    try:
        label_ids(target, labels, alone)
    except DataError:
        return False
    return True
