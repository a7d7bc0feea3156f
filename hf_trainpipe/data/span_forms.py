"""The forms in which tools write character spans, read into one (docs/spans.md lists them)."""

from __future__ import annotations

import ast
import json
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from hf_trainpipe.errors import DataError

FORMS = (
    '{"start": 0, "end": 4, "label": "PER"}, with "labels": ["PER"], or with "start_offset" and "end_offset"; '
    '[0, 4, "PER"]; {"entities": [...]}; results of Label Studio; any of them as JSON text'
)
"""What an error tells of the forms."""
_STARTS = ("start", "start_offset")
_ENDS = ("end", "end_offset")
_LABELS = ("label", "labels", "entity_group")
_HOLDERS = ("entities", "spans", "result", "annotations", "completions")
"""Keys under which a cell keeps its list of spans."""
_DEEPEST = 6
_SHOWN = 160


class Span(NamedTuple):
    """A stretch of a text with its label."""

    start: int
    end: int
    """Exclusive, as in Python."""
    label: str
    said: str | None = None
    """The text that the span says it has, where it says so."""


class UnreadableSpans(DataError):
    """A cell that is none of :data:`FORMS`; whoever knows its place adds it."""


def read_spans(cell: Any, *, names: Sequence[str] | None = None) -> list[Span]:
    """The spans of one cell, in their order. A span with several labels comes once for each.

    Args:
        cell: A list of spans in any of the forms, a dictionary of equally long lists (``start``, ``end``,
            ``label``), or one of these as JSON or Python text.
        names: Of a ``ClassLabel``: integer labels are positions in it.

    Raises:
        UnreadableSpans: With what was found, and the forms that are read.
    """
    if isinstance(cell, str):
        cell = _parsed(cell)
    return _list(cell, names, 0)


def as_one_form(cells: Sequence[Any]) -> list[Any] | None:
    """Cells of a column that has no one type, such as ``[0, 4, "PER"]``, as dictionaries; None if these are no spans."""
    if not any(isinstance(cell, (list, tuple, Mapping)) and len(cell) for cell in cells):
        return None
    try:
        return [None if cell is None else [_written(span) for span in read_spans(cell)] for cell in cells]
    except UnreadableSpans:
        return None


def _written(span: Span) -> dict[str, Any]:
    written = {"start": span.start, "end": span.end, "label": span.label}
    return written if span.said is None else {**written, "text": span.said}


def _unreadable(found: Any, problem: str = "") -> UnreadableSpans:
    shown = repr(found)
    shown = shown if len(shown) <= _SHOWN else f"{shown[: _SHOWN - 4]} ..."
    return UnreadableSpans(
        f"expected spans, each with a start, an end and a label, found {shown}{problem}.",
        fix=f"Forms that are read, a list of them a row: {FORMS}. Positions count characters.",
    )


def _parsed(text: str) -> Any:
    """What JSON or Python text stands for; ``literal_eval`` reads constants and runs nothing."""
    if not text.strip():
        raise UnreadableSpans("expected spans, found an empty cell.", fix="Write [] where a text has none.")
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        pass
    try:
        return ast.literal_eval(text.strip())
    except (ValueError, SyntaxError, MemoryError, RecursionError, TypeError):
        raise _unreadable(text) from None


def _list(value: Any, names: Sequence[str] | None, depth: int) -> list[Span]:
    if depth > _DEEPEST:
        raise _unreadable(value)
    if isinstance(value, Mapping):
        holder = next((value[key] for key in _HOLDERS if isinstance(value.get(key), (list, tuple, Mapping))), None)
        if holder is not None:
            return _list(holder, names, depth + 1)
        value = _rows(value)
    if not isinstance(value, (list, tuple)):
        raise _unreadable(value)
    return [span for item in value for span in _item(item, names, depth)]


def _rows(value: Mapping[str, Any]) -> list[dict[str, Any]]:
    """``{"start": [...], "end": [...], "label": [...]}`` as a list of spans."""
    columns = {key: cells for key, cells in value.items() if cells is not None}
    if not columns or not all(isinstance(cells, (list, tuple)) for cells in columns.values()):
        raise _unreadable(value)
    if len({len(cells) for cells in columns.values()}) > 1:
        raise _unreadable(value, ", whose lists are not equally long")
    return [dict(zip(columns, cells, strict=True)) for cells in zip(*columns.values(), strict=True)]


def _item(item: Any, names: Sequence[str] | None, depth: int) -> list[Span]:
    said = None
    if isinstance(item, (list, tuple)):
        if len(item) != 3:
            raise _unreadable(item)
        start, end, label = item
    elif isinstance(item, Mapping):
        if any(isinstance(item.get(key), (list, tuple)) for key in ("result", "annotations", "completions")):
            return [] if item.get("was_cancelled") else _list(item, names, depth + 1)
        if item.get("type") == "relation":
            return []
        item = item["value"] if isinstance(item.get("value"), Mapping) else item
        start, end, label = (_first(item, keys) for keys in (_STARTS, _ENDS, _LABELS))
        said = item["text"] if isinstance(item.get("text"), str) else None
    else:
        raise _unreadable(item)
    first, after = _whole(start), _whole(end)
    if first is None or after is None:
        raise _unreadable(item, "" if start is None or end is None else ", whose start and end are not whole numbers")
    several = label if isinstance(label, (list, tuple)) else [label]
    spelt = [_label(one, names) for one in several]
    if not spelt or None in spelt:
        raise _unreadable(item, ", without a label")
    return [Span(first, after, one, said) for one in spelt if one is not None]


def _first(item: Mapping[str, Any], keys: Sequence[str]) -> Any:
    return next((item[key] for key in keys if item.get(key) is not None), None)


def _whole(value: Any) -> int | None:
    if isinstance(value, float) and value.is_integer():
        return int(value)
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def _label(value: Any, names: Sequence[str] | None) -> str | None:
    number = _whole(value)
    if number is not None:
        return names[number] if names is not None and 0 <= number < len(names) else str(number)
    return value.strip() or None if isinstance(value, str) else None
