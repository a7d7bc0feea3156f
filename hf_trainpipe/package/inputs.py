"""Rows of a file to predict: every format that training reads, most of them as a stream."""

from __future__ import annotations

import gzip
import io
import re
import sys
import zlib
from contextlib import contextmanager
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, get_args

from hf_trainpipe.data.place import FILE, LINE
from hf_trainpipe.data.readers_base import Format, unpacked, wrong_file
from hf_trainpipe.data.readers_kinds import kind_of
from hf_trainpipe.errors import DataError, closest
from hf_trainpipe.package.inputs_lines import read_lines
from hf_trainpipe.package.records import LONGEST_LINE, Reading, Record

if TYPE_CHECKING:
    from collections.abc import Iterator

    import pyarrow as pa

_BATCH_ROWS = 1_000
_HEAD = 1 << 16


def format_of_input(path: Path | str, reading: Reading) -> Format:
    """The given format, or that of the file's suffix; standard input is lines of text.

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
        choose = f"Name the format with --format: {', '.join(known)}."
        fix = choose if "data.format" in error.fix else error.fix  # of a workbook it says what to do with it
        raise DataError(error.message, fix=fix, **error.data) from None


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
        raise wrong_file(str(path), f"{error.strerror}.", fix="Name a file that can be read.") from None
    with raw:
        packed = unpacked(raw, path.suffix.lower())
        if packed is None:
            yield raw
            return
        import zstandard

        try:
            yield packed
        except (zlib.error, EOFError, gzip.BadGzipFile, zstandard.ZstdError) as error:
            raise wrong_file(
                str(path),
                f"expected a compressed file, found bytes that do not decompress: {error}.",
                fix="The file is truncated or does not match its suffix. Download it again, or rename it.",
            ) from None


def read_records(path: Path | str, reading: Reading | None = None) -> Iterator[Record]:
    """Yield the rows of a file, in order; csv, tsv, jsonl, txt, parquet and arrow in bounded memory.

    A blank line of a txt file is a row, with the value ``""``; of csv and jsonl it is none.

    Raises:
        DataError: with file and line.
    """
    reading = reading or Reading()
    kind = format_of_input(path, reading)
    name = str(path)
    if kind in ("csv", "tsv", "jsonl", "txt"):
        with open_input(path) as stream:
            _refuse_other_kinds(stream, kind, name=name)
            yield from read_lines(stream, reading, kind=kind, name=name)
    elif kind in ("parquet", "arrow"):
        with open_input(path) as stream:
            yield from _batches(stream, kind, name=name)
    else:
        yield from _table(Path(path), kind, reading)


def _refuse_other_kinds(stream: Any, kind: str, *, name: str) -> None:
    """Refuse files that are not rows of text: a workbook, an HTML page, an archive, parquet with another suffix."""
    peek = getattr(stream, "peek", None)
    found = kind_of(peek(_HEAD)[:_HEAD], rows=kind != "txt") if peek is not None else None
    if found is not None:
        raise wrong_file(name, f"expected {kind}, found {found.found}.", fix=found.fix)


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
        raise wrong_file(
            name,
            f"expected {kind}, found something else: {str(error).splitlines()[0]}",
            fix="Check the file, or name its format with --format.",
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
    table = read_whole(path, kind, reading)
    for batch in table.to_batches(max_chunksize=_BATCH_ROWS):
        for row in batch.to_pylist():
            line = row.pop(LINE)
            row.pop(FILE)
            yield Record(line, fields=row)


def read_whole(path: Path | str, kind: Format, reading: Reading) -> pa.Table:
    """A file as training reads it, whole, with ``__file__`` and ``__line__``.

    Raises:
        DataError: with file and line; what it tells to set are options of a verb.
    """
    from hf_trainpipe.data.readers import read_split
    from hf_trainpipe.data.readers_base import ReadOptions

    options = ReadOptions(
        format=kind,
        delimiter=reading.delimiter,
        quoting=reading.quoting,
        encoding=reading.encoding or "utf-8",
        max_row_bytes=LONGEST_LINE,
    )
    try:
        return read_split((str(path),), root=Path(), options=lambda _path, _shown: options)
    except DataError as error:
        fix = re.sub(r"\bdata\.(format|delimiter|quoting|encoding)=", r"--\1 ", error.fix)
        raise DataError(error.message, fix=fix, **error.data) from None
