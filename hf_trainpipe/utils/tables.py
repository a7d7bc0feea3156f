"""Plain text tables: aligned columns that fit the width of the terminal, without colours."""

from __future__ import annotations

import shutil
import unicodedata
from collections.abc import Iterable, Iterator, Sequence

WIDTH = 80
_NARROWEST = 6


def terminal_width() -> int:
    """Columns of the terminal, between 40 and 120; 80 where there is none."""
    return min(max(shutil.get_terminal_size((WIDTH, 24)).columns, 40), 120)


def table(head: Sequence[str], rows: Iterable[Sequence[str]], *, width: int | None = None) -> str:
    """A table as text. Columns of numbers are aligned right.

    >>> print(table(["metric", "value"], [["accuracy", "0.91"], ["mcc", "0.8"]]))
    metric    value
    accuracy   0.91
    mcc         0.8
    """
    return "\n".join(Table(head, width=width).lines([list(row) for row in rows]))


def facts(rows: Iterable[tuple[str, object]], *, width: int | None = None) -> str:
    """Names and values, a line each; long values are wrapped and indented.

    >>> print(facts([("python", "3.11"), ("devices", "cpu")]))
    python   3.11
    devices  cpu
    """
    import textwrap

    listed = [(name, str(value)) for name, value in rows]
    first = max((len(name) for name, _ in listed), default=0) + 2
    room = max((width or terminal_width()) - first, 20)
    lines = []
    for name, value in listed:
        parts = textwrap.wrap(value, room, break_long_words=False, break_on_hyphens=False) or [""]
        lines += [f"{name if number == 0 else '':<{first}}{part}".rstrip() for number, part in enumerate(parts)]
    return "\n".join(lines)


def html(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """The same table as HTML, for notebooks."""
    from html import escape

    def line(cells: Iterable[str], tag: str) -> str:
        return "<tr>" + "".join(f"<{tag}>{escape(cell)}</{tag}>" for cell in cells) + "</tr>"

    body = "".join(line(row, "td") for row in rows)
    return f"<table><thead>{line(head, 'th')}</thead><tbody>{body}</tbody></table>"


class Table:
    """A table printed in several parts; the first part sets the widths of the columns."""

    def __init__(self, head: Sequence[str], *, width: int | None = None) -> None:
        self.head = list(head)
        self.width = width or terminal_width()
        self._widths: list[int] = []
        self._numeric: list[bool] = []

    def lines(self, rows: Sequence[Sequence[str]]) -> Iterator[str]:
        """The lines of some rows, after the header the first time."""
        cells = [[_one_line(cell) for cell in row[: len(self.head)]] for row in rows]
        if not self._widths:
            columns = list(zip(*cells, strict=True)) or [() for _ in self.head]
            natural = [
                max([width_of(name), *map(width_of, column)]) for name, column in zip(self.head, columns, strict=True)
            ]
            self._widths = _fit(natural, self.width - 2 * (len(natural) - 1))
            self._numeric = [bool(column) and all(map(_is_number, column)) for column in columns]
            yield self._line(self.head)
        for row in cells:
            yield self._line(row)

    def _line(self, cells: Sequence[str]) -> str:
        return "  ".join(
            _pad(cut(cell, size), size, right=right)
            for cell, size, right in zip(cells, self._widths, self._numeric, strict=True)
        ).rstrip()


def _fit(natural: list[int], room: int) -> list[int]:
    """Shrink the widest columns until all fit."""
    widths = list(natural)
    while sum(widths) > room and max(widths) > _NARROWEST:
        widest = max(range(len(widths)), key=widths.__getitem__)
        second = max([size for size in widths if size < widths[widest]], default=_NARROWEST)
        share = max(1, min(widths[widest] - max(second, _NARROWEST), sum(widths) - room))
        widths[widest] -= share
    return widths


def _one_line(text: str) -> str:
    return "".join(c if c.isprintable() else " " for c in text)


def width_of(text: str) -> int:
    """Columns of a terminal: two for a wide character of East Asia, none for a combining mark."""
    if text.isascii():
        return len(text)
    return sum(0 if unicodedata.combining(c) else 2 if unicodedata.east_asian_width(c) in "WF" else 1 for c in text)


def cut(text: str, size: int) -> str:
    """The text, if it is at most ``size`` columns wide; else its beginning and an ellipsis."""
    if width_of(text) <= size:
        return text
    kept = text[: max(size - 1, 0)]
    while width_of(kept) > size - 1:
        kept = kept[:-1]
    return kept + "…"


def _pad(text: str, size: int, *, right: bool) -> str:
    space = " " * (size - width_of(text))
    return space + text if right else text + space


def _is_number(text: str) -> bool:
    try:
        float(text.replace(",", ""))
    except ValueError:
        return text in ("", "-")
    return True
