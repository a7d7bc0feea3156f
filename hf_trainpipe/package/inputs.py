"""Rows of a file to predict: every format that training reads, most of them as a stream."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

from hf_trainpipe.data.credentials import is_remote, refuse_secrets, shown_address
from hf_trainpipe.data.place import FILE, LINE
from hf_trainpipe.data.readers_base import AS_FOUND, Format, ReadOptions, opened, wrong_file
from hf_trainpipe.errors import DataError, closest

if TYPE_CHECKING:
    import pyarrow as pa

LONGEST_ROW = 16 << 20
"""Bytes of a row; longer ones are refused."""
_BATCH_ROWS = 1_000
_PIECE = 1 << 20
"""Bytes to read at a time."""


@dataclass(frozen=True, slots=True)
class Record:
    """One row. ``value`` is a whole line of text, or a bare JSON value; ``fields`` a row of named cells."""

    line: int
    """Where the row starts, from 1; of parquet and arrow the row."""
    value: Any = None
    fields: dict[str, Any] | None = None


def read_records(path: Path | str, reading: ReadOptions = AS_FOUND) -> Iterator[Record]:
    """Yield the rows of a file, in order; all formats but json, spaCy and folders in bounded memory.

    A blank line of a txt file is a row, with the value ``""``; of csv and jsonl it is none.

    Raises:
        DataError: with file and line; what it tells to set are options of a verb.
    """
    from hf_trainpipe.data.readers import LINE_READERS, arrow_batches, read_lines

    with _options_of_verbs():
        place, name = located(path)
        options = _options(place, name, reading, piece=_PIECE, bare=True)
        is_table = options.format in ("parquet", "arrow")
        if not is_table and options.format not in LINE_READERS:
            yield from _records(_whole(path, place, name, reading).to_batches(max_chunksize=_BATCH_ROWS))
            return
        with nullcontext(sys.stdin.buffer) if name == "-" else opened(place, shown=name) as stream:
            if is_table:
                import pyarrow as pa

                # A compressed file, or a pipe, is read whole: both formats end with their index.
                source = stream if hasattr(stream, "raw") and stream.seekable() else pa.BufferReader(stream.read())
                yield from _records(arrow_batches(source, _BATCH_ROWS, shown=name, options=options))
                return
            for line, row in read_lines(stream, shown=name, options=options):
                yield Record(line, value=row) if isinstance(row, str) else Record(line, fields=row)


def read_whole(path: Path | str, reading: ReadOptions = AS_FOUND) -> pa.Table:
    """A file as training reads it, whole, with ``__file__`` and ``__line__``.

    Raises:
        DataError: as :func:`read_records`.
    """
    with _options_of_verbs():
        return _whole(path, *located(path), reading)


def _whole(path: Path | str, place: Path, name: str, reading: ReadOptions) -> pa.Table:
    """A file that was located, or the files of a pattern on this machine."""
    from hf_trainpipe.data.readers import expand, read_files

    options = _options(place, name, reading)
    files = [(place, name)] if is_remote(str(path)) else expand((str(path),), Path())
    return read_files(files, options=lambda _path, _shown: options)


def located(path: Path | str) -> tuple[Path, str]:
    """Where a file lies on this machine, and its name for messages; one that lies elsewhere is fetched.

    Raises:
        DataError: it cannot be fetched, or an address names several.
        RecipeError: an address holds a secret.
    """
    from hf_trainpipe.data.remote import expand_remote

    if not is_remote(str(path)):
        return Path(path), str(path)
    refuse_secrets("the file", str(path))
    found = expand_remote(str(path))
    if len(found) > 1:
        raise wrong_file(shown_address(str(path)), f"expected one file, found {len(found)}.", fix="Name one of them.")
    return found[0]


def _records(batches: Iterator[pa.RecordBatch]) -> Iterator[Record]:
    for number, row in enumerate((row for batch in batches for row in batch.to_pylist()), 1):
        row.pop(FILE, None)
        yield Record(row.pop(LINE, number), fields=row)


def _options(path: Path, name: str, reading: ReadOptions, **more: Any) -> ReadOptions:
    """How a file is read: as was said, else by its suffix; standard input is lines of text."""
    from hf_trainpipe.data.readers import format_of

    known = get_args(Format)
    if reading.format is not None and reading.format not in known:
        raise DataError(
            f"--format: expected one of {', '.join(known)}, found {reading.format!r}.",
            fix=f"Choose one of them.{closest(reading.format, known)}",
        )
    kind = reading.format or ("txt" if name == "-" else format_of(path, shown=name))
    return replace(reading, format=kind, encoding=reading.encoding or "utf-8", max_row_bytes=LONGEST_ROW, **more)


@contextmanager
def _options_of_verbs() -> Iterator[None]:
    """Errors of readers name options as verbs have them: ``--delimiter ';'`` for ``data.delimiter=';'``."""
    try:
        yield
    except DataError as error:
        message, fix = (
            re.sub(r"\bdata\.(format|delimiter|quoting|encoding)(=?)", lambda at: f"--{at[1]}{' ' * len(at[2])}", text)
            for text in (error.message, error.fix)
        )
        sentences = re.split(r"(?<=\.) (?=[A-Z])", fix)
        kept = [said for said in sentences if not re.search(r"\bdata\.(header|extra|max_row_bytes)\b", said)]
        raise DataError(message, fix=" ".join(kept), **error.data) from None
