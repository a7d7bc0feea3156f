"""Lines of text as tables, some rows at a time, by the readers of all files; csv without quotes in one go a block."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator
from itertools import chain, islice
from typing import IO, TYPE_CHECKING, Any

from hf_trainpipe.data.place import FILE, LINE, spell_place
from hf_trainpipe.data.readers_base import ReadOptions, Rows, columns_of, empty_file
from hf_trainpipe.data.readers_lines import SAMPLE, delimited_columns, fitting, read_delimited

if TYPE_CHECKING:
    import pyarrow as pa

FIRST = 200
"""Rows that go through the reader of all files, so that it tells what is wrong with a file."""
OTHERS = ("_input_hash", "_task_hash", "annotations", "completions", "paragraphs", FILE, LINE)
"""Columns of annotation tools, whose rows become others, and of saved data sets, which are left out."""


def tables_of_lines(stream: IO[bytes], *, shown: str, options: ReadOptions, count: int) -> Iterator[pa.Table]:
    """Rows of any format of lines, by its reader."""
    from hf_trainpipe.data.readers import read_lines

    rows = read_lines(stream, shown=shown, options=options)
    is_empty, most, count = True, count, min(count, SAMPLE)
    while found := list(islice(rows, count)):
        is_empty = False
        count = fitting(sum(len(str(row)) for _, row in found[:SAMPLE]) // len(found[:SAMPLE]), most)
        yield _table([line for line, _ in found], columns_of([row for _, row in found]), shown)
    if is_empty:
        raise empty_file(shown, "no rows")


def _table(lines: list[int], columns: dict[str, list[Any]], shown: str) -> pa.Table:
    import pyarrow as pa

    from hf_trainpipe.data.annotations import flat_rows
    from hf_trainpipe.data.readers_tables import to_table

    flat = flat_rows(Rows(columns, lines), shown)
    table = to_table(flat.columns, lambda row: spell_place(shown, flat.lines[row]))
    return table.append_column(LINE, pa.array(flat.lines, pa.int64()))


def delimited_tables(stream: IO[bytes], *, shown: str, options: ReadOptions, count: int) -> Iterator[pa.Table]:
    """csv and tsv. Up to the first quote a line is a row, which Arrow splits; from there rows go through the csv reader.

    Both give the same rows: a block goes through Arrow only if it has no quote, no carriage return, no blank line, does not repeat the
    header and does not end with a row that nobody filled in, and Arrow finds as many fields everywhere; if not, the reader of all files
    reads on, from the head of the file, and tells what is wrong with it.
    """
    from hf_trainpipe.data.readers_text import text_blocks

    blocks = text_blocks(stream, shown=shown, options=options)
    first = next(blocks, "") + next(blocks, "")  # the first block is short: it shows the encoding
    delimiter = options.delimiter or ("\t" if options.format == "tsv" else ",")
    head, rest = _head(first, delimiter, options)
    line = 1
    if head:
        start = list(read_delimited(iter((head,)), shown=shown, options=options))
        names, line = list(start[0][1]), head.count("\n") + 1
        if head.count(delimiter) == (1 + len(start)) * (len(names) - 1) and not {*OTHERS} & {*names}:
            yield _table([number for number, _ in start], columns_of([row for _, row in start]), shown)
            for block in chain((rest,) if rest else (), blocks):
                if (table := _split(block, names, delimiter, line)) is None:
                    # The head again, by which a reader judges, and as many lines as lie between: so lines have their numbers.
                    first = head + "\n" * (line - 1 - head.count("\n"))
                    blocks = chain((block,), blocks)
                    break
                yield from (table.slice(at, count) for at in range(0, table.num_rows, count))
                line += table.num_rows
            else:
                return
        else:
            line = 1
    is_empty = line == 1
    for lines, columns in delimited_columns(chain((first,), blocks), shown=shown, options=options, count=count):
        is_empty = False
        if (given := bisect_left(lines, line)) < len(lines):  # rows of the head were given
            yield _cells(lines[given:], {name: cells[given:] for name, cells in columns.items()}, shown)
    if is_empty:
        raise empty_file(shown, "no rows")


def _cells(lines: list[int], columns: dict[str, list[Any]], shown: str) -> pa.Table:
    """Cells of text; those of annotation tools, and what is no valid text, by the way of all files."""
    import pyarrow as pa
    import pyarrow.compute as pc

    try:
        table = pa.table({name: pa.array(cells, pa.string()) for name, cells in columns.items()})
    except (pa.ArrowException, UnicodeEncodeError):
        return _table(lines, columns, shown)
    if {*OTHERS} & {*columns} or any(pc.any(pc.starts_with(column, '{"choices"')).as_py() for column in table.columns):
        return _table(lines, columns, shown)
    return table.append_column(LINE, pa.array(lines, pa.int64()))


def _head(block: str, delimiter: str, options: ReadOptions) -> tuple[str, str]:
    """The header and the first rows of a block if they may be plain lines, else nothing; and the rest of the block."""
    end = -1
    for _ in range(FIRST):
        end = block.find("\n", end + 1)
        if end < 0:
            return "", block
    head = block[: end + 1]
    is_usual = options.quoting == "minimal" and options.header is True and delimiter.isascii()
    if not is_usual or "sep=" in head[:6].lower() or not _is_plain(head, delimiter):
        return "", block
    return head, block[end + 1 :]


def _is_plain(block: str, delimiter: str) -> bool:
    """Whether lines are rows: none is blank, and the last one is filled in."""
    if '"' in block or "\r" in block or block.startswith("\n") or "\n\n" in block:
        return False
    last = block.rstrip("\n").rpartition("\n")[2].split(delimiter)
    return len(last) == 1 or any(map(str.strip, last))


def _split(block: str, names: list[str], delimiter: str, line: int) -> pa.Table | None:
    """The rows of a block whose lines are rows; None: they may not be."""
    import pyarrow as pa
    from pyarrow import csv

    if not _is_plain(block, delimiter) or (len(names) > 1 and f"\n{delimiter.join(names)}\n" in f"\n{block}\n"):
        return None
    try:
        text = block.encode()
        table = csv.read_csv(
            pa.BufferReader(text),
            read_options=csv.ReadOptions(column_names=names, use_threads=False, block_size=len(text) + 1),
            parse_options=csv.ParseOptions(delimiter=delimiter, quote_char=False, ignore_empty_lines=False),
            convert_options=csv.ConvertOptions(
                column_types=dict.fromkeys(names, pa.string()), strings_can_be_null=False, check_utf8=False
            ),
        )
    except (pa.ArrowInvalid, UnicodeEncodeError):
        return None
    if table.num_rows != text.count(b"\n") + (not text.endswith(b"\n")):
        return None
    return table.append_column(LINE, pa.array(range(line, line + table.num_rows), pa.int64()))
