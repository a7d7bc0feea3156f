"""Readers of JSON lines and of JSON files that hold a list of objects."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from hf_trainpipe.data.readers_base import ReadOptions, Rows, empty_file, read_text, too_long, wrong_line

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["read_json", "read_jsonl"]

SPACE = " \t\r\n"
DECODER = json.JSONDecoder()


def read_jsonl(path: Path, *, shown: str, options: ReadOptions) -> Rows:
    """Read an object a line. A key that a line lacks is null there.

    Raises:
        DataError: with file and line: a line that does not parse, or is not an object.
    """
    text = read_text(path, shown=shown, options=options)
    objects: list[dict[str, Any]] = []
    lines: list[int] = []
    for number, line in enumerate(text.split("\n"), 1):
        if not line or line.isspace():
            continue
        try:
            value = json.loads(line)
        except json.JSONDecodeError as error:
            hint = " A file that holds one list needs format='json'." if number == 1 and line[0] == "[" else ""
            raise wrong_line(
                shown,
                number,
                f"broken JSON: {error.msg} at column {error.colno}.",
                fix=f'Correct the line; each line holds one object, such as {{"text": "..."}}.{hint}',
            ) from None
        objects.append(_require_object(value, shown, number))
        lines.append(number)
    if not objects:
        raise empty_file(shown, "only blank lines")
    return Rows(columns=_columns(objects), lines=lines)


def _require_object(value: Any, shown: str, line: int) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise wrong_line(
            shown,
            line,
            f"expected an object, found {type(value).__name__}.",
            fix='Write {"column": value, ...}.',
        )
    return value


def _columns(objects: list[dict[str, Any]]) -> dict[str, list[Any]]:
    names = dict.fromkeys(name for row in objects for name in row)
    return {name: [row.get(name) for row in objects] for name in names}


def read_json(path: Path, *, shown: str, options: ReadOptions) -> Rows:
    """Read a list of objects, or an object whose key ``data`` holds one.

    Raises:
        DataError: with file and line: broken JSON, something else than objects, or an
            object over the size limit.
    """
    text = read_text(path, shown=shown, options=options, rows_are_lines=False)
    scanner = _Scanner(text, shown)
    try:
        scanner.enter_list()
        objects, lines = _read_objects(scanner, options)
    except json.JSONDecodeError as error:
        raise wrong_line(
            shown,
            error.lineno,
            f"broken JSON: {error.msg} at column {error.colno}.",
            fix="Correct the file; a file with one object a line needs format='jsonl'.",
        ) from None
    if not objects:
        raise empty_file(shown, "an empty list")
    return Rows(columns=_columns(objects), lines=lines)


class _Scanner:
    """A position in JSON text, so that each object's line is known."""

    def __init__(self, text: str, shown: str) -> None:
        self.text = text
        self.shown = shown
        self.at = 0
        self._counted = 0
        self._line = 1

    def peek(self) -> str:
        """The next character that is not space; ``""`` at the end."""
        while self.at < len(self.text) and self.text[self.at] in SPACE:
            self.at += 1
        return self.text[self.at : self.at + 1]

    def take(self, expected: str) -> None:
        if self.peek() != expected or not expected:
            raise json.JSONDecodeError(f"Expecting {expected!r}", self.text, self.at)
        self.at += 1

    def value(self) -> Any:
        self.peek()
        value, self.at = DECODER.raw_decode(self.text, self.at)
        return value

    def line(self) -> int:
        """The line of the position, from 1."""
        self._line += self.text.count("\n", self._counted, self.at)
        self._counted = self.at
        return self._line

    def enter_list(self) -> None:
        """Move behind the ``[`` of the list of rows."""
        if self.peek() == "{":
            self.take("{")
            while self.peek() != "}":
                key = self.value()
                self.take(":")
                if key == "data" and self.peek() == "[":
                    break
                self.value()
                if self.peek() == ",":
                    self.take(",")
            else:
                raise wrong_line(
                    self.shown,
                    1,
                    "expected a list of objects, or an object with such a list under 'data'.",
                    fix="Name a file that holds rows; a file with one object a line needs format='jsonl'.",
                )
        self.take("[")


def _read_objects(scanner: _Scanner, options: ReadOptions) -> tuple[list[dict[str, Any]], list[int]]:
    objects: list[dict[str, Any]] = []
    lines: list[int] = []
    while scanner.peek() != "]":
        if objects:
            scanner.take(",")
            scanner.peek()
        line, start = scanner.line(), scanner.at
        objects.append(_require_object(scanner.value(), scanner.shown, line))
        lines.append(line)
        if scanner.at - start > options.max_row_bytes:
            raise too_long(scanner.shown, line, scanner.at - start, options)
    return objects, lines
