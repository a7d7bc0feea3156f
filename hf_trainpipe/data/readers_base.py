"""Shared by all readers: options, rows, errors that name the line, and files as streams of bytes."""

from __future__ import annotations

import gzip
import io
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path
from typing import Any, Literal

from hf_trainpipe.data.place import error_at, spell_place
from hf_trainpipe.errors import DataError, closest
from hf_trainpipe.utils.brief import listed

Format = Literal[
    "csv",
    "tsv",
    "jsonl",
    "json",
    "parquet",
    "arrow",
    "conll",
    "conllu",
    "spacy",
    "folder",
    "xlsx",
    "labelled-lines",
    "txt",
    "paragraphs",
]
COMPRESSIONS = (".gz", ".zst")
ROWS: tuple[Format, ...] = ("csv", "tsv", "jsonl", "json", "parquet", "arrow")
"""Formats for which an HTML page is an error."""


@dataclass(frozen=True, kw_only=True)
class ReadOptions:
    """Options for reading the files of a split; the fields are those of ``Files``."""

    format: Format | None = None
    """None: by the suffix."""
    delimiter: str | None = None
    quoting: Literal["minimal", "none"] = "minimal"
    header: bool | tuple[str, ...] = True
    extra: Literal["error", "ignore"] = "error"
    words_column: int = 0
    tags_column: int = -1
    encoding: str = "utf-8"
    max_row_bytes: int = 1_000_000
    sheet: str | None = None
    most: int | None = None
    """Read only so many bytes, for a preview of a larger file; None: read all."""
    piece: int | None = None
    """Read lines from so many bytes at a time, for predictions in bounded memory, and a file without rows too; None: at once."""
    bare: bool = False
    """Whether a blank line of txt and a text alone in jsonl are rows, which then are no objects but texts."""


AS_FOUND = ReadOptions()
"""Everything follows from the file."""


@dataclass
class Rows:
    """Rows of one file: a list for each column, and the line (from 1) on which each row starts."""

    columns: dict[str, list[Any]] = field(default_factory=dict)
    lines: list[int] = field(default_factory=list)
    files: list[str] | None = None
    """The file of each row, if a path contains several files."""


RowAt = tuple[int, Any]
"""A row of a stream: the line on which it starts, from 1, and its cells by column; see also ``ReadOptions.bare``."""


def columns_of(rows: list[dict[str, Any]]) -> dict[str, list[Any]]:
    """Rows by column; what a row lacks is null."""
    names = dict.fromkeys(chain.from_iterable(rows))
    return {name: [row.get(name) for row in rows] for name in names}


def wrong_line(shown: str, line: int, message: str, *, fix: str) -> DataError:
    """A :class:`DataError` with file and line."""
    return error_at(spell_place(shown, line), message, fix=fix)


def wrong_file(shown: str, message: str, *, fix: str) -> DataError:
    """The same of a file as a whole."""
    return DataError(f"{shown}: {message}", fix=fix, file=shown)


def empty_file(shown: str, found: str = "an empty file") -> DataError:
    """The error of a file without rows."""
    return wrong_file(shown, f"expected rows, found {found}.", fix="Check how the file was made, or name another.")


def too_long(shown: str, line: int, size: int, options: ReadOptions) -> DataError:
    """The error of a row over the size limit."""
    return wrong_line(
        shown,
        line,
        f"expected a row of at most {options.max_row_bytes:,} bytes, found {size:,}.",
        fix="A missing line break or quote is likely. If the row is right, raise data.max_row_bytes.",
    )


@contextmanager
def opened(path: Path, *, shown: str) -> Iterator[Any]:
    """A file as a stream of bytes, decompressed if its suffix or first bytes are those of gzip or Zstandard.

    Raises:
        DataError: the file is missing, unreadable, or, while it is read, does not match its suffix.
    """
    import zstandard

    ending = path.suffix.lower()
    try:
        with path.open("rb") as stream:
            yield _unpacked(stream, ending)
    except FileNotFoundError:
        raise _missing(path, shown) from None
    except IsADirectoryError:
        raise wrong_file(
            shown,
            "expected a file, found a folder.",
            fix=f"Name a file in it, or a glob such as '{shown.rstrip('/')}/*.csv'.",
        ) from None
    except (EOFError, zlib.error, gzip.BadGzipFile, zstandard.ZstdError) as error:
        plain = " If it is not compressed, rename it." if ending in COMPRESSIONS else ""
        raise wrong_file(
            shown,
            f"expected a compressed file, found bytes that do not decompress: {str(error).rstrip('.')}.",
            fix=f"The file is truncated or does not match its suffix. Download it again.{plain}",
        ) from None
    except OSError as error:
        raise wrong_file(
            shown, f"cannot be read: {error.strerror}.", fix="Check that it is a file that you may read."
        ) from None


def _unpacked(stream: io.BufferedReader, ending: str) -> Any:
    head = stream.peek(4)[:4]
    if head[:3] == b"\x1f\x8b\x08" or (ending == ".gz" and head):
        return gzip.GzipFile(fileobj=stream)
    if head == b"\x28\xb5\x2f\xfd" or (ending == ".zst" and head):
        import zstandard

        return io.BufferedReader(zstandard.ZstdDecompressor().stream_reader(stream, read_across_frames=True))
    return stream


def read_bytes(path: Path, *, shown: str) -> bytes:
    """The content of a file, decompressed.

    Raises:
        DataError: as :func:`opened`; the file is empty.
    """
    with opened(path, shown=shown) as stream:
        data: bytes = stream.read()
    if not data:
        raise empty_file(shown)
    return data


def _missing(path: Path, shown: str) -> DataError:
    folder = path.parent
    if not folder.is_dir():
        return wrong_file(shown, f"expected a file, found no folder {str(folder)!r}.", fix="Correct the path.")
    there = sorted(entry.name for entry in folder.iterdir())
    return wrong_file(
        shown,
        f"no such file. The folder holds {listed(there) or 'nothing'}.",
        fix=f"Correct the file name.{closest(path.name, there)}",
    )
