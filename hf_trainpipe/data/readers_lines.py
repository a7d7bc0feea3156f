"""Readers of csv, tsv, plain lines and labelled lines: rows of a text, one after the other."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterator
from itertools import chain, islice
from typing import Any

from hf_trainpipe.data.readers_base import ReadOptions, RowAt, columns_of, empty_file, too_long, wrong_line
from hf_trainpipe.data.readers_text import numbered
from hf_trainpipe.errors import DataError
from hf_trainpipe.utils.brief import listed

SAMPLE = 200
"""Rows of which sizes are estimated."""
DELIMITERS = {"\t": "'\\t'", ";": "';'", ",": "','", "|": "'|'"}
_SEP = re.compile(r'"?sep=([^\r\n"])"?\r?\n', re.IGNORECASE)
"""The first line of some of Excel's exports: the delimiter."""
Cells = tuple[int, list[str]]
"""The line on which a row starts, from 1, and its fields."""


def read_delimited(blocks: Iterator[str], *, shown: str, options: ReadOptions) -> Iterator[RowAt]:
    """Rows of delimited fields. Every value stays text, "NA" and "" too.

    Handles Excel's exports: a first line ``sep=;``, empty columns without a name, and empty rows at the end.

    Raises:
        DataError: with file and line: a row with another number of fields than the header, an
            unclosed quote, a row over the size limit, a repeated column name, no rows.
    """
    if (found := _begun(blocks, shown, options)) is not None:
        names, first, rest = found
        yield from _by_name(names, first, chain((first,), rest), shown, options)


def delimited_columns(
    blocks: Iterator[str], *, shown: str, options: ReadOptions, count: int
) -> Iterator[tuple[list[int], dict[str, list[Any]]]]:
    """The same rows, so many at a time, by column, with the line of each: a third of the time for millions of them."""
    if (found := _begun(blocks, shown, options)) is None:
        return
    names, first, rest = found
    rows, most, count = chain((first,), rest), count, min(count, SAMPLE)
    unnamed, width = [cell for name, cell in zip(names, first[1], strict=False) if not name], len(names)
    is_plain = len(first[1]) == width and len(unnamed) < 2 and all(unnamed)  # an index at most, in use
    while batch := list(islice(rows, count)):
        cells = [fields for _, fields in batch]
        count = fitting(sum(sum(map(len, fields)) for fields in cells[:SAMPLE]) // len(cells[:SAMPLE]), most)
        if is_plain and set(map(len, cells)) == {width} and (width == 1 or names not in cells):
            yield [line for line, _ in batch], dict(zip(names, map(list, zip(*cells, strict=True)), strict=True))
        else:  # what is wrong is told row by row; columns without a name depend on all rows
            found_rows = list(_by_name(names, first, chain(batch, () if is_plain else rows), shown, options))
            yield [line for line, _ in found_rows], columns_of([row for _, row in found_rows])


def fitting(row_bytes: int, most: int) -> int:
    """How many rows of a size are read at a time: of long ones few, so that a batch takes some 8 MB."""
    return max(1, min(most, (8 << 20) // max(1, row_bytes)))


def _begun(blocks: Iterator[str], shown: str, options: ReadOptions) -> tuple[list[str], Cells, Iterator[Cells]] | None:
    """The names of the columns, the first row, and those after it; None: no rows."""
    first = next(blocks, "")
    said = _SEP.match(first)
    if said:
        if options.delimiter not in (None, said[1]):
            raise wrong_line(
                shown,
                1,
                f"the file has {said[0].strip()!r}, what was set is data.delimiter={options.delimiter!r}.",
                fix="Leave data.delimiter out, or correct it.",
            )
        first = "\n" + first[said.end() :]  # keeps the line numbers
    delimiter = said[1] if said else options.delimiter or ("\t" if options.format == "tsv" else ",")
    if len(delimiter) > 1 and options.quoting == "minimal":
        raise DataError(
            f"data.delimiter: expected one character, found {delimiter!r}.", fix="Write data.delimiter=';'."
        )
    split = _split_plainly if options.quoting == "none" else _split_quoted
    rows = _but_empty_end(split(chain((first,), blocks), delimiter, shown, options))
    if options.delimiter is None and not said:
        start = list(islice(rows, 6))
        _check_delimiter(start, delimiter, shown=shown, options=options)
        rows = chain(start, rows)
    first_row = next(rows, None)
    if first_row is None:
        return None
    if options.header is True:
        names = _header(first_row, shown)
        first_row = next(rows, None)
        if first_row is None:
            if options.piece is None:
                raise empty_file(shown, f"only the header {', '.join(names)}")
            return None
    else:
        names = list(options.header or (f"column{position}" for position in range(len(first_row[1]))))
    return names, first_row, rows


def _by_name(
    names: list[str], first: Cells, rows: Iterator[Cells], shown: str, options: ReadOptions
) -> Iterator[RowAt]:
    """Rows as objects. A column without a name is left out until it has a value; there may be one such, an index.

    Args:
        first: The first row of the file, which says how wide the others are.
    """
    width = wide = len(names)
    if options.header is True and not any(first[1][width:]):
        wide = max(width, len(first[1]))  # with columns without a name and without a value
    unnamed = [position for position, name in enumerate(names) if not name]
    used = {at for at, cell in enumerate(first[1][:width]) if cell and not names[at]}
    for line, cells in rows:
        if len(cells) != width or wide > width:
            _check_width(line, cells, names, wide, is_first=line == first[0], shown=shown, options=options)
            cells = cells[:width]
        if cells == names and width > 1:
            raise wrong_line(
                shown,
                line,
                f"the row repeats the header ({', '.join(names)}).",
                fix="Several files were concatenated: remove the line."
                if options.header is True
                else "Leave data.header out: the file names its columns itself.",
            )
        row = dict(zip(names, cells, strict=True))
        if unnamed:
            used.update(position for position in unnamed if cells[position])
            if len(used) > 1:
                raise wrong_line(
                    shown,
                    1,
                    f"the columns {' and '.join(str(position + 1) for position in sorted(used))} have values and no name.",
                    fix="Name them in the file. If its first line is no header, set data.header=('name', ...).",
                )
            if used:
                row[""] = cells[max(used)]
            else:
                del row[""]
        yield line, row


def _header(row: Cells, shown: str) -> list[str]:
    """The column names."""
    line, cells = row
    names = [cell.strip() for cell in cells]
    repeated = sorted({name for name in names if name and names.count(name) > 1})
    if repeated:
        raise wrong_line(
            shown,
            line,
            f"the header repeats {', '.join(map(repr, repeated))}.",
            fix="Rename the columns. If the file has no header line, give data.header=('name', ...).",
        )
    return names


def _check_delimiter(start: list[Cells], delimiter: str, *, shown: str, options: ReadOptions) -> None:
    """Refuse a file of one column whose first rows another delimiter splits into equally many fields."""
    named = options.header if isinstance(options.header, tuple) else None
    if not start or len(start[0][1]) != 1 or options.header is False or (named is not None and len(named) < 2):
        return
    (line, (header,)), rows = start[0], [delimiter.join(cells) for _, cells in start[1:]]
    for other, shown_as in DELIMITERS.items():
        names = [name.strip() for name in header.split(other)]
        if other == delimiter or len(names) < 2 or not all(len(row.split(other)) >= len(names) for row in rows):
            continue
        found = f"separated by {shown_as}, it has {len(names)}: {listed(names, 8)}"
        raise wrong_line(
            shown,
            line,
            f"expected fields separated by {DELIMITERS.get(delimiter, delimiter)}, found one field; {found:.200}.",
            fix=f"Set data.delimiter={shown_as}. If it is one column, set data.delimiter={DELIMITERS.get(delimiter)}.",
        )


def _check_width(
    line: int, cells: list[str], names: list[str], wide: int, *, is_first: bool, shown: str, options: ReadOptions
) -> None:
    """Refuse a row of another width, or with a value beyond the names, unless that is to be ignored."""
    found, width = len(cells), len(names)
    if (found == wide and not any(cells[width:])) or (found >= width and options.extra == "ignore"):
        return
    fix = "Quote a field that holds the delimiter, or correct the row."
    if found > width:
        fix += " To ignore further fields of all rows, set data.extra='ignore'."
    elif is_first and found == 1:
        fix += " The delimiter may be another one: set data.delimiter='\\t' or ';'."
    if options.quoting == "minimal" and any("\n" in field for field in cells):
        fix += " The row spans several lines: if quotes are part of the text, set data.quoting='none'."
    wide = width if found == wide else wide  # a value stands in a column without a name
    empty = f" and {wide - width} without a name" if wide > width else ""
    raise wrong_line(shown, line, f"expected {wide} fields ({', '.join(names)}{empty}), found {found}.", fix=fix)


def _split_plainly(blocks: Iterator[str], delimiter: str, shown: str, options: ReadOptions) -> Iterator[Cells]:
    """Rows without quoting (``csv.QUOTE_NONE``): each line is a row."""
    for number, raw in numbered(blocks):
        if line := raw.removesuffix("\r"):
            yield number, line.split(delimiter)


def _split_quoted(blocks: Iterator[str], delimiter: str, shown: str, options: ReadOptions) -> Iterator[Cells]:
    start = 1
    # The limit of a field is global to the csv module and 131,072 characters unless set.
    old_limit = csv.field_size_limit(max(options.max_row_bytes, 131_072))
    lines = chain.from_iterable(io.StringIO(block, newline="\n") for block in blocks)
    reader = csv.reader(lines, delimiter=delimiter, strict=True)
    try:
        for cells in reader:
            if cells:
                if reader.line_num > start and (size := sum(map(len, cells))) > options.max_row_bytes:
                    raise too_long(shown, start, size, options)
                yield start, cells
            start = reader.line_num + 1
    except csv.Error as error:
        if options.most is not None and start > 1:  # a preview ends inside quotes
            return
        fix = "Look for an unclosed quote. If quotes are part of the text, as in GLUE's tsv files, set data.quoting='none'."
        reason = str(error)
        if "new-line character" in reason:
            reason = "a carriage return between line feeds, outside quotes"
            fix = "Quote the field, or write all line ends as one kind (dos2unix, mac2unix)."
        raise wrong_line(shown, start, f"a row that does not parse: {reason}.", fix=fix) from None
    finally:
        csv.field_size_limit(old_limit)


def _but_empty_end(rows: Iterator[Cells]) -> Iterator[Cells]:
    """Rows without those at the end of a sheet that nobody filled in."""
    empty: list[Cells] = []
    for row in rows:
        if not row[1][-1].strip() and len(row[1]) > 1 and not any(map(str.strip, row[1])):
            empty.append(row)
        elif empty:
            yield from (*empty, row)
            empty.clear()
        else:
            yield row


def read_labelled_lines(blocks: Iterator[str], *, shown: str, options: ReadOptions) -> Iterator[RowAt]:
    """``label text`` lines as the columns ``label`` and ``text``."""
    for number, line in numbered(blocks):
        if not line.strip():
            continue
        parts = line.split(maxsplit=1)
        if len(parts) != 2:
            raise wrong_line(
                shown,
                number,
                f"expected a label, a space and a text, found {line.strip()!r}.",
                fix="Correct the line.",
            )
        yield number, {"label": parts[0], "text": parts[1].rstrip("\r")}


def read_plain(blocks: Iterator[str], *, shown: str, options: ReadOptions) -> Iterator[RowAt]:
    """Each line that is not blank as the column ``text``; see ``options.bare``."""
    for number, raw in numbered(blocks):
        line = raw.rstrip("\r")
        if options.bare:
            yield number, line
        elif line.strip():
            yield number, {"text": line}


def read_paragraphs(blocks: Iterator[str], *, shown: str, options: ReadOptions) -> Iterator[RowAt]:
    """Lines without a blank one among them as one text, the column ``text``."""
    first, lines = 1, list[str]()
    for number, raw in chain(numbered(blocks), [(0, "")]):
        line = raw.rstrip("\r")
        if line.strip():
            first = first if lines else number
            lines.append(line)
        elif lines:
            yield first, {"text": "\n".join(lines)}
            lines = []
