"""The rows of a file that is to be answered: every format that training reads, most of them as a stream."""

from __future__ import annotations

import csv
import gzip
import io
import json
import re
import sys
import zlib
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Literal, get_args

from hf_trainpipe.data.place import FILE, LINE, spell_place
from hf_trainpipe.data.readers_base import COMPRESSIONS, Format
from hf_trainpipe.errors import DataError, closest

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["Reading", "Record", "open_input", "read_records"]

_LONGEST_LINE = 16 << 20
"""Characters of a line; longer ones are refused before they fill the memory."""
_BATCH_ROWS = 1_000
_MARKS = ((b"\xff\xfe", "utf-16"), (b"\xfe\xff", "utf-16"))
_WIDE = ("utf-16", "utf-32", "utf_16", "utf_32", "u16", "u32")
_SEP = re.compile(r'"?sep=(.)"?', re.IGNORECASE)
"""The first line of some of Excel's exports: the delimiter."""


@dataclass(frozen=True, slots=True)
class Record:
    """One row. ``value`` is a whole line of text, or a bare JSON value; ``fields`` a row of named cells."""

    line: int
    """Where the row starts, from 1; of parquet and arrow the row."""
    value: Any = None
    fields: dict[str, Any] | None = None


@dataclass(frozen=True, kw_only=True)
class Reading:
    """How a file is read; what is None follows from the file."""

    format: Format | None = None
    delimiter: str | None = None
    encoding: str | None = None
    quoting: Literal["minimal", "none"] = "minimal"


def format_of_input(path: Path | str, reading: Reading) -> Format:
    """The format said, or that of the file's ending; standard input is lines of text.

    Raises:
        DataError: neither tells.
    """
    from hf_trainpipe.data.readers import format_of

    known = get_args(Format)
    if reading.format is not None:
        if reading.format not in known:
            raise DataError(
                f"--format: expected one of {', '.join(known)}, found {reading.format!r}.",
                fix=f"Choose one of them.{closest(reading.format, known)}",
            )
        return reading.format
    if str(path) == "-":
        return "txt"
    try:
        return format_of(Path(path), shown=str(path))
    except DataError as error:
        raise DataError(
            error.message, fix=f"Name the format with --format: {', '.join(known)}.", **error.data
        ) from None


@contextmanager
def open_input(path: Path | str) -> Iterator[IO[bytes]]:
    """Open a file, decompressing what ends with ``.gz`` or ``.zst`` as it is read; ``-`` is standard input.

    Raises:
        DataError: it cannot be read, or does not decompress.
    """
    if str(path) == "-":
        yield sys.stdin.buffer
        return
    path = Path(path)
    try:
        raw = path.open("rb")
    except OSError as error:
        raise DataError(f"{path}: {error.strerror}.", fix="Name a file that can be read.", file=str(path)) from None
    with raw:
        head = raw.peek(4)[:4]
        packed = ".gz" if head[:2] == b"\x1f\x8b" else ".zst" if head == b"\x28\xb5\x2f\xfd" else path.suffix.lower()
        if packed not in COMPRESSIONS:
            yield raw
            return
        import zstandard

        try:
            if packed == ".gz":
                with gzip.GzipFile(fileobj=raw) as unpacked:
                    yield unpacked  # type: ignore[misc]
            else:
                yield io.BufferedReader(zstandard.ZstdDecompressor().stream_reader(raw, read_across_frames=True))
        except (zlib.error, EOFError, gzip.BadGzipFile, zstandard.ZstdError) as error:
            raise DataError(
                f"{path}: expected a compressed file, found bytes that do not decompress: {error}.",
                fix="The file is cut off or not what its ending says. Fetch it again, or rename it.",
                file=str(path),
            ) from None


def read_records(path: Path | str, reading: Reading = Reading()) -> Iterator[Record]:
    """Yield the rows of a file, in order; csv, tsv, jsonl, txt, parquet and arrow in bounded memory.

    A blank line of a txt file is a row, with the value ``""``; of csv and jsonl it is none.

    Raises:
        DataError: with file and line.
    """
    kind = format_of_input(path, reading)
    name = str(path)
    if kind in ("csv", "tsv", "jsonl", "txt"):
        with open_input(path) as stream:
            yield from read_lines(stream, reading, kind=kind, name=name)
    elif kind in ("parquet", "arrow"):
        with open_input(path) as stream:
            yield from _batches(stream, kind, name=name)
    else:
        yield from _table(Path(path), kind, reading)


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


def _problem(message: str, *, name: str, number: int, fix: str) -> DataError:
    return DataError(f"{spell_place(name, number)}: {message}", fix=fix, file=name, line=number)


def _lines(stream: IO[bytes], name: str, *, encoding: str | None) -> Iterator[tuple[int, str]]:
    first = stream.readline(_LONGEST_LINE + 1)
    marked = next((found for mark, found in _MARKS if first.startswith(mark)), None)
    chosen = encoding or marked or "utf-8"
    if chosen.lower().startswith(_WIDE):
        yield from _wide_lines(first, stream, name, encoding=chosen)
        return
    number, raw = 0, first
    while raw:
        number += 1
        if len(raw) > _LONGEST_LINE:
            raise _long_line(name, number)
        try:
            text = raw.decode(chosen)
        except UnicodeDecodeError as error:
            raise _problem(
                f"byte {error.start + 1} is not {chosen.upper()} ({raw[error.start]:#04x}).",
                name=name,
                number=number,
                fix="Save the file as UTF-8, or name its encoding: --encoding cp1252.",
            ) from None
        except LookupError:
            raise DataError(f"--encoding: {chosen!r} is not an encoding.", fix="Name one, such as cp1252.") from None
        if number == 1:
            text = text.lstrip("\ufeff")
        yield number, text.removesuffix("\n").removesuffix("\r")
        raw = stream.readline(_LONGEST_LINE + 1)


def _long_line(name: str, number: int) -> DataError:
    return _problem(f"the line is longer than {_LONGEST_LINE:,} bytes.", name=name, number=number, fix="Split it.")


def _wide_lines(first: bytes, stream: IO[bytes], name: str, *, encoding: str) -> Iterator[tuple[int, str]]:
    """Lines of an encoding in which a line feed is more than a byte."""
    import codecs

    decoder = codecs.getincrementaldecoder(encoding)()
    rest, number, block = "", 0, first
    while True:
        try:
            rest += decoder.decode(block, final=not block)
        except UnicodeDecodeError as error:
            raise _problem(
                f"bytes that are not {encoding.upper()} ({error.reason}).",
                name=name,
                number=number + 1,
                fix="Save the file as UTF-8.",
            ) from None
        *whole, rest = rest.split("\n")
        for line in whole:
            number += 1
            yield number, (line.lstrip("\ufeff") if number == 1 else line).removesuffix("\r")
        if len(rest) > _LONGEST_LINE:
            raise _long_line(name, number + 1)
        if not block:
            break
        block = stream.read(1 << 16)
    if rest:
        yield number + 1, rest.lstrip("\ufeff") if number == 0 else rest


def _from_json(line: str, *, name: str, number: int) -> Record:
    try:
        value = json.loads(line)
    except (json.JSONDecodeError, RecursionError) as error:
        what = f" ({error.msg} at character {error.pos + 1})" if isinstance(error, json.JSONDecodeError) else ""
        hint = " A file that holds one list is read with --format json." if number == 1 and line[:1] == "[" else ""
        raise _problem(
            f"not JSON{what}.", name=name, number=number, fix=f"Write one JSON object or string a line.{hint}"
        ) from None
    if isinstance(value, dict):
        return Record(number, fields=value)
    if isinstance(value, str):
        return Record(number, value=value)
    hint = " A file that holds one list is read with --format json." if number == 1 and isinstance(value, list) else ""
    raise _problem(
        f"expected an object or a string, found {line[:40]}.",
        name=name,
        number=number,
        fix=f'Write {{"text": ...}}, {{"text": ..., "text_pair": ...}} or {{"words": [...]}}.{hint}',
    )


def _delimited(lines: Iterator[tuple[int, str]], reading: Reading, *, kind: str, name: str) -> Iterator[Record]:
    delimiter = reading.delimiter or ("\t" if kind == "tsv" else ",")
    if len(delimiter) != 1:
        raise DataError(f"--delimiter: expected one character, found {delimiter!r}.", fix="Write --delimiter ';'.")
    last = [0]
    head: list[str] | None = None
    before = csv.field_size_limit(_LONGEST_LINE)  # it is global to the csv module, and 131,072 unless set
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
                raise _problem(
                    f"{error}.",
                    name=name,
                    number=start,
                    fix="Close every quote; if quotes are part of the text, use --quoting none.",
                ) from None
            if row is None:
                return
            if not row:
                continue
            if head is None:
                head = _header(row, delimiter, name=name, number=start)
                continue
            if len(row) != len(head):
                raise _problem(
                    f"expected {len(head)} columns ({', '.join(head)}), found {len(row)}.",
                    name=name,
                    number=start,
                    fix="Quote values that hold the separator.",
                )
            yield Record(start, fields=dict(zip(head, row, strict=True)))
    finally:
        csv.field_size_limit(before)


def _header(row: list[str], delimiter: str, *, name: str, number: int) -> list[str]:
    head = [cell.strip() for cell in row]
    if len(head) == 1:
        other = next((mark for mark in (";", "\t", "|", ",") if mark != delimiter and mark in head[0]), None)
        if other is not None:
            raise _problem(
                f"one column {head[0]!r}, which looks like several that {other!r} parts.",
                name=name,
                number=number,
                fix=f"Name the delimiter: --delimiter {other!r}.",
            )
    repeated = sorted({cell for cell in head if head.count(cell) > 1})
    if repeated:
        raise _problem(
            f"the header repeats {', '.join(map(repr, repeated))}.", name=name, number=number, fix="Rename the columns."
        )
    return head


def _batches(stream: IO[bytes], kind: str, *, name: str) -> Iterator[Record]:
    """Rows of parquet or Arrow. A compressed file is decompressed whole: both formats end with their index."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    source: Any = stream if _is_plain(stream) else pa.BufferReader(stream.read())
    number = 0
    try:
        if kind == "parquet":
            batches = pq.ParquetFile(source).iter_batches(batch_size=_BATCH_ROWS)
        else:
            batches = _arrow_batches(source)
        for batch in batches:
            kept = [field for field in batch.schema.names if field not in (FILE, LINE, "__index_level_0__")]
            for row in batch.select(kept).to_pylist():
                number += 1
                yield Record(number, fields=row)
    except (pa.ArrowInvalid, OSError) as error:
        raise DataError(
            f"{name}: expected {kind}, found something else: {str(error).splitlines()[0]}",
            fix="Check the file, or name its format with --format.",
            file=name,
        ) from None


def _is_plain(stream: IO[bytes]) -> bool:
    return isinstance(stream, io.BufferedReader) and isinstance(stream.raw, io.FileIO) and stream.seekable()


def _arrow_batches(source: Any) -> Iterator[Any]:
    import pyarrow as pa

    try:
        opened = pa.ipc.open_file(source)
    except pa.ArrowInvalid:
        source.seek(0)
        for batch in pa.ipc.open_stream(source):
            yield from _cut(batch)
        return
    for position in range(opened.num_record_batches):
        yield from _cut(opened.get_batch(position))


def _cut(batch: Any) -> Iterator[Any]:
    for start in range(0, batch.num_rows, _BATCH_ROWS):
        yield batch.slice(start, _BATCH_ROWS)


def _table(path: Path, kind: Format, reading: Reading) -> Iterator[Record]:
    """Rows of the formats that are read whole: json, conll, conllu, spacy, folder, labelled-lines."""
    from hf_trainpipe.data.readers import read_split
    from hf_trainpipe.data.readers_base import ReadOptions

    options = ReadOptions(
        format=kind,
        delimiter=reading.delimiter,
        quoting=reading.quoting,
        encoding=reading.encoding or "utf-8",
        max_row_bytes=_LONGEST_LINE,
    )
    table = read_split((str(path),), root=Path(), options=lambda _path, _shown: options)
    for batch in table.to_batches(max_chunksize=_BATCH_ROWS):
        for row in batch.to_pylist():
            line = row.pop(LINE)
            row.pop(FILE)
            yield Record(line, fields=row)
