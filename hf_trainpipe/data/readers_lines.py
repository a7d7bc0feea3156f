"""Readers of csv, tsv, plain lines and labelled lines."""

from __future__ import annotations

import csv
import io
import re
from pathlib import Path

from hf_trainpipe.data.readers_base import ReadOptions, Rows, empty_file, read_text, too_long, wrong_line

DELIMITERS = {"\t": "'\\t'", ";": "';'", ",": "','", "|": "'|'"}


def read_delimited(path: Path, *, shown: str, options: ReadOptions) -> Rows:
    """Read a file of delimited fields. Every value stays text, "NA" and "" too.

    Handles Excel's exports: a first line ``sep=;``, empty columns without a name, and empty rows at the end.

    Raises:
        DataError: with file and line: a row with another number of fields than the header, an
            unclosed quote, a row over the size limit, a repeated column name, no rows.
    """
    text = read_text(path, shown=shown, options=options)
    usual = "\t" if options.format == "tsv" else ","
    said = re.match(r'"?sep=([^\r\n"])"?\r?\n', text)
    if said:
        if options.delimiter not in (None, said[1]):
            raise wrong_line(
                shown,
                1,
                f"the file has {said[0].strip()!r}, the recipe data.delimiter={options.delimiter!r}.",
                fix="Leave data.delimiter out, or correct it.",
            )
        text = "\n" + text[said.end() :]  # keeps the line numbers
    delimiter = said[1] if said else options.delimiter or usual
    if options.quoting == "none":
        lines, records = _split_plainly(text, delimiter)
    else:
        lines, records = _split_quoted(text, delimiter, shown=shown, options=options)
    while len(records) > 1 and len(records[-1]) > 1 and not any(map(str.strip, records[-1])):
        del records[-1], lines[-1]
    if not records:
        raise empty_file(shown, "only blank lines")
    if options.delimiter is None and not said:
        _check_delimiter(lines, records, delimiter, shown=shown, options=options)
    names = _names(lines, records, shown=shown, options=options)
    if not records:
        raise empty_file(shown, f"only the header {', '.join(names)}")
    width = len(names)
    if set(map(len, records)) != {width}:
        if options.header is True and set(map(len, records)) == {len(records[0])} and len(records[0]) > width:
            beyond = [record[width:] for record in records]
            if not any(map(any, beyond)):  # columns without a name and without a value
                records = [record[:width] for record in records]
        _check_widths(lines, records, names, shown=shown, options=options)
        records = [record[:width] for record in records]
    _check_repeated(lines, records, names, shown=shown)
    columns = [list(column) for column in zip(*records, strict=True)]
    named = _without_empty(names, columns, shown=shown, line=lines[0])
    return Rows(columns=named, lines=lines)


def _check_delimiter(
    lines: list[int], records: list[list[str]], delimiter: str, *, shown: str, options: ReadOptions
) -> None:
    """Refuse a file of one column whose first rows another delimiter splits into equally many fields."""
    named = options.header if isinstance(options.header, tuple) else None
    if len(records[0]) != 1 or options.header is False or (named is not None and len(named) < 2):
        return
    for other, shown_as in DELIMITERS.items():
        first = [name.strip() for name in records[0][0].split(other)]
        rows = [delimiter.join(record) for record in records[1:6]]
        if other == delimiter or len(first) < 2 or not all(len(row.split(other)) >= len(first) for row in rows):
            continue
        found = f"separated by {shown_as}, it has {len(first)}: {', '.join(first[:8])}"
        raise wrong_line(
            shown,
            lines[0],
            f"expected fields separated by {DELIMITERS.get(delimiter, delimiter)}, found one field; {found:.200}.",
            fix=f"Set data.delimiter={shown_as}. If it is one column, set data.delimiter={DELIMITERS.get(delimiter)}.",
        )


def _check_repeated(lines: list[int], records: list[list[str]], names: tuple[str, ...], *, shown: str) -> None:
    """Refuse a repeated header (concatenated files), which would become an example."""
    header = list(names)
    if len(header) > 1 and header in records:
        raise wrong_line(
            shown,
            lines[records.index(header)],
            f"the row repeats the header ({', '.join(header)}).",
            fix="Several files were concatenated: remove the line."
            if records[0] != header
            else "Leave data.header out: the file names its columns itself.",
        )


def _without_empty(names: tuple[str, ...], columns: list[list[str]], *, shown: str, line: int) -> dict[str, list[str]]:
    """Columns by name, without empty unnamed ones; a single unnamed column (an index) is kept."""
    kept = [(name, column) for name, column in zip(names, columns, strict=True) if name or any(column)]
    unnamed = [n for n, (name, column) in enumerate(zip(names, columns, strict=True), 1) if not name and any(column)]
    if len(unnamed) > 1:
        raise wrong_line(
            shown,
            1 if line > 1 else line,
            f"the columns {' and '.join(map(str, unnamed))} have values and no name.",
            fix="Name them in the file; or, if its first line is no header, set data.header=('name', ...).",
        )
    return dict(kept)


def _split_plainly(text: str, delimiter: str) -> tuple[list[int], list[list[str]]]:
    """Rows without quoting (``csv.QUOTE_NONE``): each line is a row."""
    numbered = [(number, line.removesuffix("\r")) for number, line in enumerate(text.split("\n"), 1)]
    kept = [(number, line) for number, line in numbered if line]
    return [number for number, _ in kept], [line.split(delimiter) for _, line in kept]


def _split_quoted(text: str, delimiter: str, *, shown: str, options: ReadOptions) -> tuple[list[int], list[list[str]]]:
    lines: list[int] = []
    records: list[list[str]] = []
    start = 1
    # The limit of a field is global to the csv module and 131,072 characters unless set.
    old_limit = csv.field_size_limit(max(options.max_row_bytes, 131_072))
    reader = csv.reader(io.StringIO(text, newline="\n"), delimiter=delimiter, strict=True)
    try:
        for record in reader:
            if record:
                lines.append(start)
                records.append(record)
                if reader.line_num > start and (size := sum(map(len, record))) > options.max_row_bytes:
                    raise too_long(shown, start, size, options)
            start = reader.line_num + 1
    except csv.Error as error:
        if options.most is not None and records:  # a preview ends inside quotes
            return lines, records
        hint = " If quotes are part of the text, as in GLUE's tsv files, set quoting='none'."
        fix = f"Look for an unclosed quote.{hint}"
        reason = str(error)
        if "new-line character" in reason:
            reason = "a carriage return between line feeds, outside quotes"
            fix = "Quote the field, or write all line ends as one kind (dos2unix, mac2unix)."
        raise wrong_line(shown, start, f"a row that does not parse: {reason}.", fix=fix) from None
    finally:
        csv.field_size_limit(old_limit)
    return lines, records


def _names(lines: list[int], records: list[list[str]], *, shown: str, options: ReadOptions) -> tuple[str, ...]:
    """The column names; removes the header row, if any, from the records."""
    if isinstance(options.header, tuple):
        return options.header
    if not options.header:
        return tuple(f"column{position}" for position in range(len(records[0])))
    line, record = lines.pop(0), records.pop(0)
    names = tuple(name.strip() for name in record)
    repeated = sorted({name for name in names if name and names.count(name) > 1})
    if repeated:
        raise wrong_line(
            shown,
            line,
            f"the header repeats {', '.join(map(repr, repeated))}.",
            fix="Rename the columns, or, if the file has no header line, give header=('name', ...).",
        )
    return names


def _check_widths(
    lines: list[int], records: list[list[str]], names: tuple[str, ...], *, shown: str, options: ReadOptions
) -> None:
    width = len(names)
    for position, (line, record) in enumerate(zip(lines, records, strict=True)):
        found = len(record)
        if found == width or (found > width and options.extra == "ignore"):
            continue
        fix = "Quote a field that holds the delimiter, or correct the row."
        if found > width:
            fix += " To ignore further fields of all rows, set extra='ignore'."
        elif position == 0 and found == 1:
            fix += " The delimiter may be another one: set data.delimiter='\\t' or ';'."
        if options.quoting == "minimal" and any("\n" in field for field in record):
            fix += " The row spans several lines: if quotes are part of the text, set quoting='none'."
        raise wrong_line(shown, line, f"expected {width} fields ({', '.join(names)}), found {found}.", fix=fix)


def read_labelled_lines(path: Path, *, shown: str, options: ReadOptions) -> Rows:
    """Read ``label text`` lines into the columns ``label`` and ``text``."""
    text = read_text(path, shown=shown, options=options)
    rows = Rows(columns={"label": [], "text": []})
    for number, line in enumerate(text.split("\n"), 1):
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
        rows.columns["label"].append(parts[0])
        rows.columns["text"].append(parts[1].rstrip("\r"))
        rows.lines.append(number)
    if not rows.lines:
        raise empty_file(shown, "only blank lines")
    return rows


def read_plain(path: Path, *, shown: str, options: ReadOptions) -> Rows:
    """Read each line that is not blank into the column ``text``."""
    text = read_text(path, shown=shown, options=options)
    kept = [(number, line.rstrip("\r")) for number, line in enumerate(text.split("\n"), 1) if line.strip()]
    if not kept:
        raise empty_file(shown, "only blank lines")
    return Rows(columns={"text": [line for _, line in kept]}, lines=[number for number, _ in kept])
