"""The text of files in blocks of whole lines, whatever its encoding, with errors that name the line."""

from __future__ import annotations

import codecs
from collections.abc import Iterator
from itertools import chain
from pathlib import Path
from typing import IO, Any

from hf_trainpipe.data.readers_base import (
    ROWS,
    ReadOptions,
    empty_file,
    opened,
    too_long,
    wrong_file,
    wrong_line,
)
from hf_trainpipe.data.readers_kinds import ARCHIVES, kind_of
from hf_trainpipe.errors import DataError

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


def text_blocks(stream: IO[bytes], *, shown: str, options: ReadOptions, rows_are_lines: bool = True) -> Iterator[str]:
    """The text of a stream without byte order marks: all of it, or with ``options.piece`` in blocks of whole lines.

    A byte order mark overrides ``options.encoding`` (https://encoding.spec.whatwg.org/#decode).
    With ``options.most`` the text ends with a complete line.

    Args:
        rows_are_lines: Also refuse a line longer than ``options.max_row_bytes``, and treat carriage returns as line
            ends in a file without line feeds.

    Raises:
        DataError: bytes that are not text in the encoding, with byte offset and line; a file of another kind.
    """
    line, rest = 1, ""
    for text in _decoded(_pieces(stream, shown, options), shown, options):
        if len(rest) > options.max_row_bytes and rows_are_lines:
            raise too_long(shown, line, len(rest.encode("utf-8", "surrogatepass")), options)
        end = text.rfind("\n") + 1
        if end == 0:
            rest += text
            continue
        block, rest = _unmarked(rest + text[:end]), text[end:]
        if rows_are_lines:
            _check_lines(block, line, shown, options)
        yield block
        line += block.count("\n")
    rest = _unmarked(rest)
    if not rest or (options.most is not None and line > 1):
        return
    if rest.endswith("\0"):
        count = len(rest) - len(rest.rstrip("\0"))
        raise wrong_line(
            shown, line, f"the file ends with {count:,} NUL bytes.", fix="Writing it was interrupted: make it again."
        )
    if rows_are_lines:
        if line == 1 and "\r" in rest.rstrip("\r"):
            rest = rest.replace("\r", "\n")
        _check_lines(rest, line, shown, options)
    yield rest


def _unmarked(text: str) -> str:
    """Without byte order marks, also inside a file, where several were concatenated."""
    return text.lstrip("\ufeff").replace("\n\ufeff", "\n") if "\ufeff" in text else text


def read_text(path: Path, *, shown: str, options: ReadOptions) -> str:
    """The whole text of a file whose rows are not lines; see :func:`text_blocks`."""
    with opened(path, shown=shown) as stream:
        return "".join(text_blocks(stream, shown=shown, options=options, rows_are_lines=False))


def numbered(blocks: Iterator[str]) -> Iterator[tuple[int, str]]:
    """Each line with its number, from 1, and without its line feed."""
    start = 1
    for block in blocks:
        lines = block.removesuffix("\n").split("\n")
        yield from enumerate(lines, start)
        start += len(lines)


def _pieces(stream: Any, shown: str, options: ReadOptions) -> Iterator[bytes]:
    """The bytes of a stream; files of another kind are refused by the first ones."""
    head = stream.peek(PROBE)
    if not head and options.piece is None:
        raise empty_file(shown)
    if head.startswith(ARCHIVES):  # the list of its files is at the end
        head = stream.read()
    kind = kind_of(head, rows=options.format in ROWS and options.header is True)
    if kind is not None:
        raise wrong_file(shown, f"expected {options.format}, found {kind.found}.", fix=kind.fix)
    if options.piece is None:
        yield stream.read(-1 if options.most is None else options.most)
    else:
        first = stream.readline(options.piece)  # of a pipe too, what shows the encoding is there at once
        yield first + stream.read1(max(0, min(len(head), options.piece) - len(first)))
        yield from iter(lambda: stream.read1(options.piece), b"")


def _decoded(pieces: Iterator[bytes], shown: str, options: ReadOptions) -> Iterator[str]:
    """The text of each piece; no last one of a text that is cut, possibly in the middle of a character."""
    decoder, size, line = None, 0, 1
    for piece in chain(pieces, (b"",) if options.most is None else ()):
        if decoder is None:
            encoding = next((name for mark, name in MARKS if piece.startswith(mark)), options.encoding)
            decoder = _decoder(encoding)
        size += len(piece)
        try:
            text = decoder.decode(piece, final=not piece)
        except UnicodeDecodeError as error:
            data, at = error.object, error.start
            raise wrong_line(
                shown,
                line + data[:at].decode(encoding, "replace").count("\n"),
                f"invalid {encoding}: byte 0x{data[at]:02x} at offset {size - len(data) + at} ({error.reason}).",
                fix=_other_encoding(data, at),
            ) from None
        start = text[:PROBE] if size == len(piece) else ""
        if start.count("\0") * 4 > len(start) and (wide := _wide(piece)):
            raise wrong_file(
                shown,
                f"every second byte is 0: it looks like {wide} without a byte order mark.",
                fix=f"Set data.encoding={wide!r}, or save the file as UTF-8.",
            )
        if text:
            yield text
            line += text.count("\n")


def _decoder(encoding: str) -> codecs.IncrementalDecoder:
    try:
        "a".encode(encoding)  # refuses what is an encoding, but not of text
        return codecs.getincrementaldecoder(encoding)()
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


def _check_lines(block: str, first: int, shown: str, options: ReadOptions) -> None:
    lines = block.split("\n")
    if len(max(lines, key=len)) * 4 <= options.max_row_bytes:
        return
    for line, text in enumerate(lines, first):
        if (size := len(text.encode("utf-8", "surrogatepass"))) > options.max_row_bytes:
            raise too_long(shown, line, size, options)
