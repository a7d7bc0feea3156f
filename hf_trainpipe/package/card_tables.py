"""Tables and the training curve of a model card, in Markdown that every viewer shows."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

_CURVE_ROWS = 12
_BLOCKS = "\u2581\u2582\u2583\u2584\u2585\u2586\u2587\u2588"


def is_number(value: object) -> bool:
    """Whether a value is a finite number."""
    return isinstance(value, (int, float)) and math.isfinite(value)


def cell(value: object) -> str:
    """A value as the text of a table's cell."""
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return text.replace("\\", "\\\\").replace("|", "\\|").replace("\n", " ").replace("<", "&lt;")


def table(head: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """A table of Markdown: a head, and rows of as many values."""
    lines = [f"| {' | '.join(head)} |", f"|{' --- |' * len(head)}"]
    lines += [f"| {' | '.join(cell(value) for value in row)} |" for row in rows]
    return "\n".join(lines)


def curve(found: Mapping[str, Sequence[Sequence[float]]]) -> str:
    """Each series as a line of blocks, for the eye, and a dozen rows of numbers."""
    series = {
        name: {int(step): float(value) for step, value in pairs if is_number(value)} for name, pairs in found.items()
    }
    series = {name: points for name, points in series.items() if points}
    if not series:
        return ""
    width = max(map(len, series))
    drawn = [
        f"{name:<{width}}  {_sparkline(list(points.values()))}  {next(iter(points.values())):.4g} to "
        f"{list(points.values())[-1]:.4g}"
        for name, points in series.items()
    ]
    steps = _spread(sorted({step for points in series.values() for step in points}), _CURVE_ROWS)
    steps = sorted({*steps, *(step for points in series.values() if len(points) <= _CURVE_ROWS for step in points)})
    rows = [(step, *(f"{points[step]:.4f}" if step in points else "" for points in series.values())) for step in steps]
    return "```\n" + "\n".join(drawn) + "\n```\n\n" + table(("step", *series), rows)


def _spread(items: Sequence[Any], count: int) -> list[Any]:
    """At most ``count`` items at even distances, the first and the last among them."""
    if len(items) <= count:
        return list(items)
    return [items[round(position * (len(items) - 1) / (count - 1))] for position in range(count)]


def _sparkline(values: Sequence[float]) -> str:
    """Up to 40 values as blocks of eight heights.

    >>> _sparkline([3.0, 2.0, 1.0, 1.5])
    '\u2588\u2585\u2581\u2583'
    """
    shown = _spread(values, 40)
    low, high = min(shown), max(shown)
    return "".join(_BLOCKS[round((value - low) / ((high - low) or 1.0) * (len(_BLOCKS) - 1))] for value in shown)
