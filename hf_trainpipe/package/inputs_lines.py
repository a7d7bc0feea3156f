"""Rows of a stream of csv, tsv, jsonl or plain lines, one after the other."""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Iterator
from typing import IO

from hf_trainpipe.data.readers_base import wrong_line
from hf_trainpipe.errors import DataError
from hf_trainpipe.package.records import LONGEST_LINE, Reading, Record

_MARKS = ((b"\xff\xfe", "utf-16"), (b"\xfe\xff", "utf-16"))
_WIDE = ("utf-16", "utf-32", "utf_16", "utf_32", "u16", "u32")
_SEP = re.compile(r'"?sep=(.)"?', re.IGNORECASE)
"""The first line of some of Excel's exports: the delimiter."""


def read_lines(stream: IO[bytes], reading: Reading, *, kind: str, name: str) -> Iterator[Record]:
    """The rows of a stream of csv, tsv, jsonl or txt; see :func:`read_records`."""
    lines = _lines(stream, name, encoding=reading.encoding)
    if kind == "txt":
        for number, line in lines:
            yield Record(number, value=line)
    elif kind == "jsonl":
        for number, line in lines:
            if line.strip():
                yield _from_json(line, name=name, number=number)
    else:
        yield from _delimited(lines, reading, kind=kind, name=name)


def _lines(stream: IO[bytes], name: str, *, encoding: str | None) -> Iterator[tuple[int, str]]:
    first = stream.readline(LONGEST_LINE + 1)
    marked = next((found for mark, found in _MARKS if first.startswith(mark)), None)
    chosen = encoding or marked or "utf-8"
    if chosen.lower().startswith(_WIDE):
        yield from _wide_lines(first, stream, name, encoding=chosen)
        return
    number, raw = 0, first
    if b"\n" not in first and b"\r" in first.rstrip(b"\r") and len(first) <= LONGEST_LINE:
        stream = io.BytesIO(first.replace(b"\r", b"\n"))  # the line ends of old Macs, and of Excel for them
        raw = stream.readline()
    while raw:
        number += 1
        if len(raw) > LONGEST_LINE:
            raise _long_line(name, number)
        try:
            text = raw.decode(chosen)
        except UnicodeDecodeError as error:
            raise wrong_line(
                name,
                number,
                f"byte {error.start + 1} is not {chosen.upper()} ({raw[error.start]:#04x}).",
                fix="Save the file as UTF-8, or name its encoding: --encoding cp1252.",
            ) from None
        except LookupError:
            raise DataError(f"--encoding: {chosen!r} is not an encoding.", fix="Name one, such as cp1252.") from None
        if number == 1:
            text = text.lstrip("\ufeff")
        yield number, text.removesuffix("\n").removesuffix("\r")
        raw = stream.readline(LONGEST_LINE + 1)


def _long_line(name: str, number: int) -> DataError:
    return wrong_line(name, number, f"the line is longer than {LONGEST_LINE:,} bytes.", fix="Split it.")


def _wide_lines(first: bytes, stream: IO[bytes], name: str, *, encoding: str) -> Iterator[tuple[int, str]]:
    """Lines of an encoding in which a line feed is more than a byte."""
    import codecs

    decoder = codecs.getincrementaldecoder(encoding)()
    rest, number, block = "", 0, first
    while True:
        try:
            rest += decoder.decode(block, final=not block)
        except UnicodeDecodeError as error:
            raise wrong_line(
                name,
                number + 1,
                f"bytes that are not {encoding.upper()} ({error.reason}).",
                fix="Save the file as UTF-8.",
            ) from None
        *whole, rest = rest.split("\n")
        for line in whole:
            number += 1
            yield number, (line.lstrip("\ufeff") if number == 1 else line).removesuffix("\r")
        if len(rest) > LONGEST_LINE:
            raise _long_line(name, number + 1)
        if not block:
            break
        block = stream.read(1 << 16)
    if rest:
        yield number + 1, rest.lstrip("\ufeff") if number == 0 else rest


def _from_json(line: str, *, name: str, number: int) -> Record:
    try:
        value = json.loads(line)
    except (ValueError, RecursionError) as error:
        what = f" ({error.msg} at character {error.pos + 1})" if isinstance(error, json.JSONDecodeError) else ""
        hint = " A file that holds one list is read with --format json." if number == 1 and line[:1] == "[" else ""
        raise wrong_line(
            name, number, f"not JSON{what}.", fix=f"Write one JSON object or string a line.{hint}"
        ) from None
    if isinstance(value, dict):
        return Record(number, fields=value)
    if isinstance(value, str):
        return Record(number, value=value)
    hint = " A file that holds one list is read with --format json." if number == 1 and isinstance(value, list) else ""
    raise wrong_line(
        name,
        number,
        f"expected an object or a string, found {line[:40]}.",
        fix=f'Write {{"text": ...}}, {{"text": ..., "text_pair": ...}} or {{"words": [...]}}.{hint}',
    )


def _delimited(lines: Iterator[tuple[int, str]], reading: Reading, *, kind: str, name: str) -> Iterator[Record]:
    delimiter = reading.delimiter or ("\t" if kind == "tsv" else ",")
    if len(delimiter) != 1:
        raise DataError(f"--delimiter: expected one character, found {delimiter!r}.", fix="Write --delimiter ';'.")
    last = [0]
    head: list[str] | None = None
    empty: list[Record] = []
    nameless = False
    before = csv.field_size_limit(LONGEST_LINE)  # it is global to the csv module, and 131,072 unless set
    try:
        first = next(lines, None)
        if first is not None and (said := _SEP.fullmatch(first[1])):
            delimiter = reading.delimiter or said[1]
            last[0], first = first[0], None

        def texts() -> Iterator[str]:
            if first is not None:
                last[0] = first[0]
                yield first[1] + "\n"
            for number, line in lines:
                last[0] = number
                yield line + "\n"

        if reading.quoting == "none":
            reader = csv.reader(texts(), delimiter=delimiter, quoting=csv.QUOTE_NONE)
        else:
            reader = csv.reader(texts(), delimiter=delimiter, strict=True)
        while True:
            start = last[0] + 1
            try:
                row = next(reader, None)
            except csv.Error as error:
                raise wrong_line(
                    name,
                    start,
                    f"{error}.",
                    fix="Close every quote; if quotes are part of the text, use --quoting none.",
                ) from None
            if row is None:
                return
            if not row:
                continue
            if head is None:
                head = _header(row, delimiter, name=name, number=start)
                continue
            if len(row) > len(head) and not any(row[len(head) :]):
                row = row[: len(head)]  # columns that Excel adds behind the last one
            if len(row) != len(head):
                raise wrong_line(
                    name,
                    start,
                    f"expected {len(head)} columns ({', '.join(head)}), found {len(row)}.",
                    fix="Quote values that hold the separator.",
                )
            nameless = nameless or any(cell and not column for column, cell in zip(head, row, strict=True))
            if nameless and head.count("") > 1:
                raise wrong_line(
                    name,
                    start,
                    "a column without a name has a value, and others have no name either.",
                    fix="Name the columns in the first line.",
                )
            record = Record(start, fields={k: cell for k, cell in zip(head, row, strict=True) if k or nameless})
            if len(head) > 1 and not any(map(str.strip, row)):
                empty.append(record)  # rows at the end of a sheet that nobody filled in are none
                continue
            yield from empty
            empty.clear()
            yield record
    finally:
        csv.field_size_limit(before)


def _header(row: list[str], delimiter: str, *, name: str, number: int) -> list[str]:
    head = [cell.strip() for cell in row]
    if len(head) == 1:
        other = next((mark for mark in (";", "\t", "|", ",") if mark != delimiter and mark in head[0]), None)
        if other is not None:
            raise wrong_line(
                name,
                number,
                f"one column {head[0]!r}, which looks like several separated by {other!r}.",
                fix=f"Name the delimiter: --delimiter {other!r}.",
            )
    repeated = sorted({cell for cell in head if cell and head.count(cell) > 1})
    if repeated:
        raise wrong_line(
            name, number, f"the header repeats {', '.join(map(repr, repeated))}.", fix="Rename the columns."
        )
    return head
