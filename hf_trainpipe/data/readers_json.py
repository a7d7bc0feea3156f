"""Readers of JSON lines, and of JSON files that hold a list of objects or an object of columns."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from hf_trainpipe.data.readers_base import ReadOptions, RowAt, Rows, columns_of, empty_file, too_long, wrong_line
from hf_trainpipe.data.readers_text import numbered, read_text
from hf_trainpipe.utils.brief import listed

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from hf_trainpipe.errors import DataError

SPACE = " \t\r\n"
DEPTH = "the values are nested too deeply"


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """A JSON object; a repeated key is an error, since ``json`` silently keeps the last one."""
    made = dict(pairs)
    if len(made) < len(pairs):
        names = [name for name, _ in pairs]
        repeated = next(name for name in names if names.count(name) > 1)
        raise _RepeatedKey(f"the key {repeated!r} is repeated in an object")
    return made


class _RepeatedKey(ValueError):
    """An object with the same key twice."""


DECODER = json.JSONDecoder(object_pairs_hook=_object)


def read_jsonl(blocks: Iterator[str], *, shown: str, options: ReadOptions) -> Iterator[RowAt]:
    """An object a line, or with ``options.bare`` a text.

    Raises:
        DataError: with file and line: a line that does not parse, or is not an object.
    """
    for number, line in numbered(blocks):
        if not line or line.isspace():
            continue
        try:
            value = DECODER.decode(line)
        except (ValueError, RecursionError) as error:
            raise _broken(error, shown, number, line) from None
        if not (options.bare and isinstance(value, str)):
            _require_object(value, shown, number, f" {ONE_LIST}" if isinstance(value, list) else "")
        yield number, value


ONE_LIST = "A file that holds one list needs data.format='json', or a name that ends with .json."


def _broken(error: Exception, shown: str, line: int, text: str) -> DataError:
    """The error of a line that is not JSON."""
    if isinstance(error, json.JSONDecodeError):
        message = f"broken JSON: {error.msg} at column {error.colno}."
    else:
        message = f"broken JSON: {DEPTH if isinstance(error, RecursionError) else error}."
    hint = f" {ONE_LIST}" if text.lstrip()[:1] == "[" else ""
    return wrong_line(
        shown, line, message, fix=f'Correct the line; each line holds one object, such as {{"text": "..."}}.{hint}'
    )


def _require_object(value: Any, shown: str, line: int, hint: str = "") -> None:
    if not isinstance(value, dict):
        raise wrong_line(
            shown,
            line,
            f"expected an object, found {type(value).__name__}.",
            fix=f'Write {{"column": value, ...}}.{hint}',
        )


def read_json(path: Path, *, shown: str, options: ReadOptions) -> Rows:
    """Read a list of objects, an object whose key ``data`` holds one, or an object of columns.

    Columns are lists of one length, or objects with the same keys, as ``pandas.DataFrame.to_json`` writes them; with
    ``orient="split"`` its ``data`` are lists, whose names are in ``columns``.

    Raises:
        DataError: with file and line: broken JSON, rows that are not objects, or an
            object over the size limit.
    """
    text = read_text(path, shown=shown, options=options)
    scanner = _Scanner(text, shown)
    try:
        if scanner.peek() == "{":
            return _read_object(scanner, options)
        rows = _objects(*_read_list(scanner, options), shown)
        if scanner.peek():
            raise json.JSONDecodeError("Extra data", text, scanner.at)
        return rows
    except json.JSONDecodeError as error:
        if options.most is not None:  # an object of columns needs the whole file
            return read_json(path, shown=shown, options=replace(options, most=None))
        raise wrong_line(
            shown,
            error.lineno,
            f"broken JSON: {error.msg} at column {error.colno}.",
            fix="Correct the file; a file with one object a line needs data.format='jsonl'.",
        ) from None
    except (ValueError, RecursionError) as error:
        message = DEPTH if isinstance(error, RecursionError) else str(error)
        raise wrong_line(shown, scanner.line(), f"broken JSON: {message}.", fix="Correct the file.") from None


def _objects(lines: list[int], objects: list[Any], shown: str, names: list[str] | None = None) -> Rows:
    """The rows of a list of objects; ``names`` are the keys if they are lists."""
    if names is not None:
        objects = [
            dict(zip(names, value, strict=True)) if isinstance(value, list) and len(value) == len(names) else value
            for value in objects
        ]
    for line, value in zip(lines, objects, strict=True):
        _require_object(value, shown, line)
    if not objects:
        raise empty_file(shown, "an empty list")
    return Rows(columns=columns_of(objects), lines=lines)


class _Scanner:
    """A position in JSON text, to know the line of each object."""

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

    def items(self, closing: str) -> Iterator[int]:
        """The line of each item up to ``closing``; the caller reads the item."""
        first = True
        while self.peek() != closing:
            if not first:
                self.take(",")
                self.peek()
            first = False
            yield self.line()
        self.take(closing)


def _read_list(scanner: _Scanner, options: ReadOptions) -> tuple[list[int], list[Any]]:
    """The line and value of each item of a list; a preview ends in the middle of one."""
    scanner.take("[")
    lines, values = [], []
    try:
        for line in scanner.items("]"):
            start = scanner.at
            values.append(scanner.value())
            lines.append(line)
            if scanner.at - start > options.max_row_bytes:
                raise too_long(scanner.shown, line, scanner.at - start, options)
    except json.JSONDecodeError:
        if options.most is None or not values:
            raise
        scanner.at = len(scanner.text)
    return lines, values


def _read_object(scanner: _Scanner, options: ReadOptions) -> Rows:
    """An object with a list of objects under ``data``, or of columns."""
    columns: dict[str, list[Any]] = {}
    lines: list[int] = []
    index: list[str] | None = None
    rows: Rows | None = None
    names: list[str] | None = None
    is_table = True
    scanner.take("{")
    for _ in scanner.items("}"):
        key = scanner.value()
        scanner.take(":")
        opening = scanner.peek()
        if opening == "[":
            at, values = _read_list(scanner, options)
            if key == "data" and rows is None:
                rows = _objects(at, values, scanner.shown, names)
                if scanner.at == len(scanner.text) and options.most is not None:
                    break
                continue
            lines, columns[key] = lines or at, values
        else:
            value = scanner.value()
            if isinstance(value, dict) and value:
                index = index or list(value)
                is_table &= list(value) == index
                columns[key] = list(value.values())
            else:
                is_table, columns[key] = False, []
        if key == "columns" and columns[key] and all(isinstance(name, str) for name in columns[key]):
            names = columns[key]
    if rows is not None:
        return rows
    sizes = {len(column) for column in columns.values()}
    are_rows = len(columns) == 1 and any(isinstance(value, dict) for column in columns.values() for value in column)
    if scanner.peek() or not is_table or len(sizes) != 1 or 0 in sizes or are_rows:
        more = " and more after it" if scanner.peek() else ""
        raise wrong_line(
            scanner.shown,
            1,
            "expected a list of objects, such a list under 'data', or columns of one length; found an object with "
            f"{listed(columns, 8, quoted=True) or 'nothing'}{more}.",
            fix="Name a file that holds rows; a file with one object a line needs data.format='jsonl'.",
        )
    (count,) = sizes
    return Rows(columns=columns, lines=lines if len(lines) == count else [1] * count)
