"""Which label each cell of a column means: by its name, by its place in an order, or as a vector of 0s and 1s.

docs/labels.md states the rule. Shapes: N rows, M labels of all rows, C labels.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from hf_trainpipe.data.spelling import FALSE, TRUE, fold, is_integer, key
from hf_trainpipe.errors import DataError, closest
from hf_trainpipe.runtime.tasks.columns import TAGS
from hf_trainpipe.runtime.tasks.tagging import IGNORED
from hf_trainpipe.utils.brief import listed

if TYPE_CHECKING:
    from collections.abc import Mapping

    from hf_trainpipe.data.label_cells import LabelCells
    from hf_trainpipe.runtime.tasks.columns import Labels

UNKNOWN = -(2**31)
"""The id of a cell that means no label."""
_BOOLEANS = {TRUE: "1", FALSE: "0"}


class Meanings(NamedTuple):
    """What the distinct values of a column mean."""

    ids: np.ndarray
    """int64[values]: the label; of tags :data:`IGNORED` where a word is not scored; :data:`UNKNOWN`."""
    named: list[int]
    """Those that are names."""
    numbered: list[int]
    """Those that are positions."""


def label_ids(labels: Labels, cells: LabelCells) -> np.ndarray:
    """int64[M]: the label that each cell means; of tags :data:`IGNORED` where a word is not scored.

    A cell means the name whose key is its own. Where no name is an integer and something gives the names an order
    (``task.names``, a ``ClassLabel``, a package), integers are positions in that order, from 0.

    Raises:
        DataError: a cell that means none, with its place; names and positions in one column; a ``ClassLabel``
            whose names do not fit the labels.
    """
    table, named, numbered = meanings(labels, cells)
    if named and numbered:
        earlier, later = sorted((named[0], numbered[0]))
        raise cells.error(
            later,
            f"names and ids are mixed: {cells.values[later]!r} here, {cells.values[earlier]!r} in "
            f"{cells.place(earlier)}.",
            fix="Write all labels as names, or all as ids.",
        )
    if len(unknown := np.flatnonzero(table == UNKNOWN)):
        message, fix = explain_unknown(cells.values[unknown[0]], labels)
        raise cells.error(unknown[0], message, fix=fix)
    ids: np.ndarray = table[cells.codes]
    return ids


def meanings(labels: Labels, cells: LabelCells) -> Meanings:
    """What :func:`label_ids` goes by.

    Raises:
        DataError: a ``ClassLabel`` whose names do not fit the labels.
    """
    ids_of = {key(name): position for position, name in enumerate(labels.names)}
    feature, order = cells.feature, _order(labels, cells)
    has_integers = any(map(is_integer, ids_of))
    found = Meanings(np.full(len(cells.values), UNKNOWN, dtype=np.int64), [], [])
    for at, (value, of) in enumerate(zip(cells.values, cells.keys, strict=True)):
        if cells.column.cell is TAGS and of == str(IGNORED):
            found.ids[at] = IGNORED
            continue
        is_id = feature is not None and not isinstance(value, str)
        if not is_id and (meant := _by_name(of, ids_of)) is not None:
            found.ids[at] = meant
            found.named.append(at)
            continue
        of = _BOOLEANS.get(of, of) if len(labels) == 2 else of
        if order is None or not is_integer(of) or (has_integers and not is_id):
            continue
        position = int(of) if len(of) < 10 else -1
        if 0 <= position < len(order):
            found.ids[at] = ids_of.get(key(order[position]), UNKNOWN)
            found.numbered.append(at)
    return found


def _by_name(of: str, ids_of: Mapping[str, int]) -> int | None:
    if of not in ids_of and len(ids_of) == 2:
        # False is 0 and True is 1 in every library that writes files.
        if of in _BOOLEANS and set(ids_of) == {"0", "1"}:
            of = _BOOLEANS[of]
        elif of in ("0", "1") and set(ids_of) == set(_BOOLEANS):
            of = TRUE if of == "1" else FALSE
    return ids_of.get(of)


def _order(labels: Labels, cells: LabelCells) -> tuple[str, ...] | None:
    """The names by which integers are positions; None where nothing says an order."""
    said, feature, known = labels.said, cells.feature, {key(name) for name in labels.names}
    if said is not None and not {key(name) for name in said} & known:
        raise DataError(
            f"task.names are {listed(said)}, and the labels to compare with are {listed(labels.names)}.",
            fix="Use the recipe that the labels came from, or correct task.names.",
        )
    if feature is None:
        return said or (labels.names if labels.is_ordered else None)
    if any(key(name) in known for name in feature):
        return feature
    alike = {fold(name) for name in feature} & {fold(name) for name in labels.names}
    if said is None or len(feature) != len(said) or alike:
        raise cells.raw.error(
            0,
            f"its ids stand for {listed(feature)}, the labels are {listed(labels.names)}.",
            fix="Give task.names the names of the data in its spelling, or leave it out.",
        )
    return said


def position_line(labels: Labels, cells: LabelCells) -> str | None:
    """Says where the integers of a column were read as places in an order that the recipe did not give; else None."""
    column, split = cells.column.name, cells.raw.split
    if labels.said is not None or cells.feature is not None:
        return None
    if not any(is_integer(of) and of != str(IGNORED) for of in cells.keys):
        return None
    if any(is_integer(key(name)) or key(name) in _BOOLEANS for name in labels.names):
        return None
    order = listed([f"{position} {name}" for position, name in enumerate(labels.names)])
    return f"{split}: the numbers in column {column!r} were read as the ids of the labels: {order}"


def vectors_of(labels: Labels, cells: LabelCells) -> np.ndarray | None:
    """uint8[N, C] where the rows are vectors of a 0 or 1 for each label; None where they list labels.

    They are vectors where every row holds as many 0s and 1s as there are labels. With two labels ``[0, 1]`` may be
    both; ``task.form``, the training data or a row that can only be a vector decides.

    Raises:
        DataError: vectors of another length than the labels, or rows that may be either.
    """
    form, hot = cells.column.form, cells.hot()
    if form is None and labels.are_vectors:
        form = "vector"
    if form == "names":
        return None
    if hot is None and form is None:
        _refuse_ragged(cells, len(labels))
        return None
    if hot is None or (form == "vector" and hot.shape[1] != len(labels)):
        wrong = cells.counts != len(labels)
        wrong[cells.rows[cells.bits[cells.codes] < 0]] = True
        at = int(np.argmax(wrong))
        raise cells.raw.error(
            at,
            f"expected {len(labels)} numbers 0 or 1, one a label, found {cells.row(at)!r:.60}.",
            fix="Correct the row, or set task.form='names' if rows list labels.",
        )
    length = hot.shape[1]
    if form is None and not cells.is_surely_hot(hot):
        if length != len(labels) or labels.are_vectors is False:
            return None
        if labels.are_vectors is None and not (length == 1 and hot.any()):
            raise cells.raw.error(
                0,
                f"with {length} label(s), rows such as {cells.row(0)!r:.60} may list ids or be vectors of a 0 or 1 a "
                "label.",
                fix="Set task.form to 'vector' or 'names'.",
            )
    if length != len(labels):
        raise vectors_without_names(cells, length, f"but {len(labels)} labels: {listed(labels.names)}")
    order = _order(labels, cells)
    positions = {key(name): position for position, name in enumerate(order or labels.names)}
    columns = np.array([positions.get(key(name), UNKNOWN) for name in labels.names])
    if (columns == UNKNOWN).any():
        raise cells.raw.error(
            0,
            f"its vectors stand for {listed(order or ())}, the labels are {listed(labels.names)}.",
            fix="Give task.names the names of the data, in the order of the vectors.",
        )
    return np.ascontiguousarray(hot[:, columns])


def _refuse_ragged(cells: LabelCells, length: int) -> None:
    """Refuse rows of 0s and 1s that repeat one of them, as lists of ids do not, but are not equally long."""
    if not len(cells.bits) or (cells.bits < 0).any():
        return
    ones = np.bincount(cells.rows, weights=cells.bits[cells.codes], minlength=len(cells.counts))
    wrong = (ones > 1) | (cells.counts - ones > 1)
    if not wrong.any():
        return
    row = int(np.argmax(wrong & (cells.counts != length)))
    raise cells.raw.error(
        row,
        f"{cells.row(row)!r:.60} looks like a vector of a 0 or 1 a label, but there are {length} labels and the rows "
        "differ in length.",
        fix="Give every row a 0 or 1 for each of task.names; if the numbers are ids, set task.form='names'.",
    )


def vectors_without_names(cells: LabelCells, length: int, found: str) -> DataError:
    """The error of vectors that do not fit the names, or have none."""
    name = cells.column.name
    if length == 1:
        return cells.raw.error(
            0,
            f"its rows hold a 0 or 1 each, {found}.",
            fix=f"For the label {name!r} alone set task.labels=({name!r},); for two classes use "
            "TextClassification; for more labels name a column for each: task.labels=('a', 'b').",
        )
    return cells.raw.error(
        0,
        f"its rows are vectors of {length} numbers 0 or 1, {found}.",
        fix=f"Set task.names to the {length} names, in the order of the vectors (MultiLabelBinarizer.classes_); "
        "if the numbers are ids, set task.form='names'.",
    )


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
