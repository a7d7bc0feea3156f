"""What all readers share: options, rows, and bytes to text with the place of what is wrong."""

from __future__ import annotations

import gzip
import zlib
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from hf_trainpipe.data.place import error_at, spell_place
from hf_trainpipe.errors import DataError, closest

if TYPE_CHECKING:
    from pathlib import Path

__all__ = [
    "COMPRESSIONS",
    "Format",
    "ReadOptions",
    "Rows",
    "empty_file",
    "read_bytes",
    "read_text",
    "wrong_line",
]

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


@dataclass(frozen=True, kw_only=True)
class ReadOptions:
    """How files of a split are read; the fields are those of ``Files``."""

    format: Format
    delimiter: str | None = None
    quoting: Literal["minimal", "none"] = "minimal"
    header: bool | tuple[str, ...] = True
    extra: Literal["error", "ignore"] = "error"
    words_column: int = 0
    tags_column: int = -1
    encoding: str = "utf-8"
    max_row_bytes: int = 1_000_000


@dataclass
class Rows:
    """Rows of one file: a list for each column, and the line (from 1) on which each row starts."""

    columns: dict[str, list[Any]] = field(default_factory=dict)
    lines: list[int] = field(default_factory=list)
    files: list[str] | None = None
    """The file of each row, where a path stands for many files."""


def wrong_line(shown: str, line: int, message: str, *, fix: str) -> DataError:
    """A :class:`DataError` that names file and line and carries both."""
    return error_at(spell_place(shown, line), message, fix=fix)


def empty_file(shown: str, found: str = "an empty file") -> DataError:
    """The error of a file without rows."""
    return DataError(
        f"{shown}: expected rows, found {found}.",
        fix="Check how the file was made, or name another.",
        file=shown,
    )


def read_bytes(path: Path, *, shown: str) -> bytes:
    """The content of a file, decompressed if its name ends with ``.gz`` or ``.zst``.

    Raises:
        DataError: the file is missing, unreadable, or not what its ending says.
    """
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        folder = path.parent
        if not folder.is_dir():
            raise DataError(
                f"{shown}: expected a file, found no folder {str(folder)!r}.",
                fix="Correct the path.",
                file=shown,
            ) from None
        there = sorted(entry.name for entry in folder.iterdir())
        listed = ", ".join(there[:12]) + (f" and {len(there) - 12} more" if len(there) > 12 else "")
        raise DataError(
            f"{shown}: no such file. The folder holds {listed or 'nothing'}.",
            fix=f"Correct the file name.{closest(path.name, there)}",
            file=shown,
        ) from None
    except OSError as error:
        raise DataError(
            f"{shown}: cannot be read: {error.strerror}.",
            fix="Check that it is a file that you may read.",
            file=shown,
        ) from None
    if path.suffix in COMPRESSIONS:
        data = _decompress(data, path.suffix, shown)
    if not data:
        raise empty_file(shown)
    return data


def _decompress(data: bytes, suffix: str, shown: str) -> bytes:
    if not data:
        raise empty_file(shown)
    if suffix == ".gz":
        try:
            return gzip.decompress(data)
        except (OSError, EOFError, zlib.error) as error:
            raise _broken_archive(shown, error) from None
    import zstandard

    try:
        with zstandard.ZstdDecompressor().stream_reader(data, read_across_frames=True) as reader:
            return bytes(reader.read())
    except zstandard.ZstdError as error:
        raise _broken_archive(shown, error) from None


def _broken_archive(shown: str, error: Exception) -> DataError:
    return DataError(
        f"{shown}: expected a compressed file, found bytes that do not decompress: {error}.",
        fix="The file is cut off or not what its ending says. Fetch it again, or rename it.",
        file=shown,
    )


def read_text(path: Path, *, shown: str, options: ReadOptions, rows_are_lines: bool = True) -> str:
    """The text of a file, without a byte order mark.

    Args:
        rows_are_lines: Also refuse a line longer than ``options.max_row_bytes``.

    Raises:
        DataError: bytes that are not text in ``options.encoding``, with byte offset and line.
    """
    data = read_bytes(path, shown=shown)
    if rows_are_lines and len(data) > options.max_row_bytes:
        _check_lines(data, shown=shown, options=options)
    try:
        text = data.decode(options.encoding)
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise wrong_line(
            shown,
            line,
            f"invalid {options.encoding}: byte 0x{data[error.start]:02x} at offset {error.start} ({error.reason}).",
            fix="Correct the byte, or name the encoding of the file, such as encoding='cp1252' or 'latin-1'.",
        ) from None
    except LookupError:
        raise DataError(
            f"data.encoding: {options.encoding!r} is not an encoding.",
            fix="Name one, such as 'utf-8' or 'cp1252'.",
        ) from None
    return text.removeprefix("\ufeff")


def _check_lines(data: bytes, *, shown: str, options: ReadOptions) -> None:
    lines = data.split(b"\n")
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
