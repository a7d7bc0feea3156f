"""Shared by all readers: options, rows, and decoding with errors that name the line."""

from __future__ import annotations

import codecs
import gzip
import io
import zlib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from hf_trainpipe.data.place import error_at, spell_place
from hf_trainpipe.data.readers_kinds import ARCHIVES, kind_of
from hf_trainpipe.errors import DataError, closest

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
    "labelled-lines",
    "txt",
]
COMPRESSIONS = (".gz", ".zst")
ROWS: tuple[Format, ...] = ("csv", "tsv", "jsonl", "json", "parquet", "arrow")
"""Formats for which an HTML page is an error."""
MARKS = (
    (codecs.BOM_UTF32_LE, "utf-32-le"),
    (codecs.BOM_UTF32_BE, "utf-32-be"),
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)
"""Byte order marks; longer ones first, since one is a prefix of another."""
PROBE = 4096
"""Bytes to inspect for a wrong encoding."""


@dataclass(frozen=True, kw_only=True)
class ReadOptions:
    """Options for reading the files of a split; the fields are those of ``Files``."""

    format: Format
    delimiter: str | None = None
    quoting: Literal["minimal", "none"] = "minimal"
    header: bool | tuple[str, ...] = True
    extra: Literal["error", "ignore"] = "error"
    words_column: int = 0
    tags_column: int = -1
    encoding: str = "utf-8"
    max_row_bytes: int = 1_000_000
    most: int | None = None
    """Read only so many bytes, for a preview of a larger file; None: read all."""


@dataclass
class Rows:
    """Rows of one file: a list for each column, and the line (from 1) on which each row starts."""

    columns: dict[str, list[Any]] = field(default_factory=dict)
    lines: list[int] = field(default_factory=list)
    files: list[str] | None = None
    """The file of each row, if a path contains several files."""


def wrong_line(shown: str, line: int, message: str, *, fix: str) -> DataError:
    """A :class:`DataError` with file and line."""
    return error_at(spell_place(shown, line), message, fix=fix)


def wrong_file(shown: str, message: str, *, fix: str) -> DataError:
    """The same of a file as a whole."""
    return DataError(f"{shown}: {message}", fix=fix, file=shown)


def empty_file(shown: str, found: str = "an empty file") -> DataError:
    """The error of a file without rows."""
    return wrong_file(shown, f"expected rows, found {found}.", fix="Check how the file was made, or name another.")


def unpacked(stream: Any, ending: str) -> Any:
    """What decompresses a buffered stream from its start, by its first bytes or its name's ending; None: it is plain."""
    head = stream.peek(4)[:4]
    if head[:3] == b"\x1f\x8b\x08" or (ending == ".gz" and head):
        return gzip.GzipFile(fileobj=stream)
    if head == b"\x28\xb5\x2f\xfd" or (ending == ".zst" and head):
        import zstandard

        return io.BufferedReader(zstandard.ZstdDecompressor().stream_reader(stream, read_across_frames=True))
    return None


def read_bytes(path: Path, *, shown: str, most: int | None = None) -> bytes:
    """The content of a file, decompressed if its suffix or first bytes are those of gzip or Zstandard.

    Args:
        most: Read at most so many bytes.

    Raises:
        DataError: the file is missing, unreadable, or does not match its suffix.
    """
    try:
        with path.open("rb") as stream:
            ending = path.suffix.lower()
            packed = unpacked(stream, ending)
            if packed is None:
                data = stream.read(-1 if most is None else most)
            else:
                data = _decompressed(packed, shown, most, ending)
    except FileNotFoundError:
        raise _missing(path, shown) from None
    except IsADirectoryError:
        raise wrong_file(
            shown,
            "expected a file, found a folder.",
            fix=f"Name a file in it, or a glob such as '{shown.rstrip('/')}/*.csv'.",
        ) from None
    except OSError as error:
        raise wrong_file(
            shown, f"cannot be read: {error.strerror}.", fix="Check that it is a file that you may read."
        ) from None
    if not data:
        raise empty_file(shown)
    return data


def _missing(path: Path, shown: str) -> DataError:
    folder = path.parent
    if not folder.is_dir():
        return wrong_file(shown, f"expected a file, found no folder {str(folder)!r}.", fix="Correct the path.")
    there = sorted(entry.name for entry in folder.iterdir())
    listed = ", ".join(there[:12]) + (f" and {len(there) - 12} more" if len(there) > 12 else "")
    return wrong_file(
        shown,
        f"no such file. The folder holds {listed or 'nothing'}.",
        fix=f"Correct the file name.{closest(path.name, there)}",
    )


def _decompressed(stream: Any, shown: str, most: int | None, ending: str) -> bytes:
    """The decompressed content, or its first bytes; a truncated file is refused if its end is read."""
    import zstandard

    try:
        return bytes(stream.read() if most is None else stream.read(most))
    except (EOFError, zlib.error, gzip.BadGzipFile, zstandard.ZstdError) as error:
        plain = " If it is not compressed, rename it." if ending in COMPRESSIONS else ""
        raise wrong_file(
            shown,
            f"expected a compressed file, found bytes that do not decompress: {str(error).rstrip('.')}.",
            fix=f"The file is truncated or does not match its suffix. Download it again.{plain}",
        ) from None


def read_text(path: Path, *, shown: str, options: ReadOptions, rows_are_lines: bool = True) -> str:
    """The text of a file, without byte order marks.

    A byte order mark overrides ``options.encoding`` (https://encoding.spec.whatwg.org/#decode).
    With ``options.most`` the text ends with a complete line.

    Args:
        rows_are_lines: Also refuse a line longer than ``options.max_row_bytes``, and treat carriage returns as line
            ends in a file without line feeds.

    Raises:
        DataError: bytes that are not text in the encoding, with byte offset and line; a file of another kind.
    """
    data = read_bytes(path, shown=shown, most=options.most)
    if options.most is not None and data.startswith(ARCHIVES):  # the list of its files is at the end
        data = read_bytes(path, shown=shown)
    kind = kind_of(data, rows=options.format in ROWS and options.header is True)
    if kind is not None:
        raise wrong_file(shown, f"expected {options.format}, found {kind.found}.", fix=kind.fix)
    encoding = next((name for mark, name in MARKS if data.startswith(mark)), options.encoding)
    text = _decode(data, encoding, shown=shown, cut=options.most is not None)
    if "\ufeff" in text:  # also inside a file, where several were concatenated
        text = text.lstrip("\ufeff").replace("\n\ufeff", "\n")
    if options.most is not None:
        text = text[: text.rfind("\n") + 1] or text
    if text[:PROBE].count("\0") * 4 > len(text[:PROBE]) and (wide := _wide(data)):
        raise wrong_file(
            shown,
            f"every second byte is 0: it looks like {wide} without a byte order mark.",
            fix=f"Set data.encoding={wide!r}, or save the file as UTF-8.",
        )
    if text.endswith("\0"):
        count = len(text) - len(text.rstrip("\0"))
        line = text.count("\n") + 1
        raise wrong_line(
            shown, line, f"the file ends with {count:,} NUL bytes.", fix="Writing it was interrupted: make it again."
        )
    if rows_are_lines:
        if "\n" not in text and "\r" in text.rstrip("\r"):
            text = text.replace("\r", "\n")
        if len(data) > options.max_row_bytes:
            _check_lines(text, shown=shown, options=options)
    return text


def _decode(data: bytes, encoding: str, *, shown: str, cut: bool) -> str:
    try:
        if cut:  # possibly in the middle of a character
            return codecs.getincrementaldecoder(encoding)().decode(data)
        return data.decode(encoding)
    except UnicodeDecodeError as error:
        if encoding in ("utf-8", "utf8", "UTF-8"):
            line = data.count(b"\n", 0, error.start) + 1
        else:
            line = data[: error.start].decode(encoding, "replace").count("\n") + 1
        raise wrong_line(
            shown,
            line,
            f"invalid {encoding}: byte 0x{data[error.start]:02x} at offset {error.start} ({error.reason}).",
            fix=_other_encoding(data, error.start),
        ) from None
    except (LookupError, UnicodeError, ValueError):
        raise DataError(
            f"data.encoding: {encoding!r} is not an encoding.",
            fix="Name one, such as 'utf-8' or 'cp1252'.",
        ) from None


def _other_encoding(data: bytes, at: int) -> str:
    """A fix for undecodable bytes: the encoding that reads them, if it can be guessed."""
    if wide := _wide(data):
        return f"Every second byte is often 0, as in {wide}: set data.encoding={wide!r}, or save the file as UTF-8."
    if data[at] == 0xED and 0xA0 <= (data[at + 1 : at + 2] or b"\0")[0] <= 0xBF:
        return "It is half of an emoji or the like, written by a program that cuts texts: correct or remove it."
    start, end = max(data.rfind(b"\n", 0, at) + 1, at - 20), data.find(b"\n", at)
    sample = data[start : min(end if end >= 0 else len(data), at + 20)].rstrip(b"\r")
    read = sample.decode("cp1252", "replace")
    return (
        f"Correct the byte, save the file as UTF-8, or set data.encoding: 'cp1252' (Excel's in Western Europe and "
        f"America) reads {read!r} there."
    )


def _wide(data: bytes) -> str | None:
    """The UTF-16 variant that matches the zero bytes, or None."""
    even, odd = data[0:PROBE:2].count(0), data[1:PROBE:2].count(0)
    if max(even, odd) * 20 < len(data[:PROBE]) or min(even, odd) * 10 > max(even, odd):
        return None
    return "utf-16-le" if odd > even else "utf-16-be"


def _check_lines(text: str, *, shown: str, options: ReadOptions) -> None:
    lines = text.encode("utf-8", "surrogatepass").split(b"\n")
    if max(map(len, lines)) <= options.max_row_bytes:
        return
    line, size = next((n, len(line)) for n, line in enumerate(lines, 1) if len(line) > options.max_row_bytes)
    raise too_long(shown, line, size, options)


def too_long(shown: str, line: int, size: int, options: ReadOptions) -> DataError:
    """The error of a row over the size limit."""
    return wrong_line(
        shown,
        line,
        f"expected a row of at most {options.max_row_bytes:,} bytes, found {size:,}.",
        fix="A missing line break or quote is likely. If the row is right, raise data.max_row_bytes.",
    )
