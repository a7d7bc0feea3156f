"""The rows of one file, read by the rules of all files and cleaned, as parquet that any engine reads."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from hf_trainpipe.data.place import FILE, LINE, spell_place
from hf_trainpipe.data.readers_lines import fitting
from hf_trainpipe.errors import DataError, closest
from hf_trainpipe.ingest.settings import BY, EMPTY, ID, LONG, ROWS_OF_A_FILE, SHORT, WHY, Ingest
from hf_trainpipe.utils.atomic import sha256_file, write_json
from hf_trainpipe.utils.brief import listed

if TYPE_CHECKING:
    import pyarrow as pa

    from hf_trainpipe.data.readers_base import ReadOptions

BATCH = 20_000
"""Rows that are cleaned at a time."""
SPACED = r"^ | $|  |[\t-\r\x1c-\x1f\x{85}\x{a0}\x{1680}\x{2000}-\x{200a}\x{2028}\x{2029}\x{202f}\x{205f}\x{3000}]"
"""Texts that ``str.split`` and one space between change, for RE2."""
PIECE = 4 << 20
"""Bytes of text that are read at a time."""


class Origin(NamedTuple):
    """A file that is read, or a table of a database."""

    number: int
    """Its position among all."""
    split: str
    shown: str
    path: Path | None
    """Where it lies here; None: a database."""
    options: ReadOptions | None
    query: str = ""


class Staged(NamedTuple):
    """What is known of a file whose rows are staged."""

    file: str
    split: str
    rows: int
    size: int
    mtime: int
    sha256: str | None
    data_bytes: int
    """Bytes of its cells in memory."""


def identity(origin: Origin) -> tuple[int, int]:
    """Size and time of change of a file; a database has none."""
    if origin.path is None:
        return 0, 0
    facts = origin.path.stat()
    return facts.st_size, facts.st_mtime_ns


def stage(origin: Origin, settings: Ingest, folder: Path) -> Staged:
    """Write the rows of a file into ``folder/NUMBER.parquet``; the record beside it is written last.

    Raises:
        DataError: with file and line.
    """
    import pyarrow.parquet as pq

    path = folder / f"{origin.number:06d}.parquet"
    size, mtime = identity(origin)
    rows = data_bytes = 0
    writer = None
    try:
        for table in read(origin, settings):
            clean = cleaned(table, settings, origin, first=rows)
            rows += clean.num_rows
            data_bytes += clean.nbytes
            if writer is None:
                schema = clean.schema
                writer = pq.ParquetWriter(
                    path, schema, compression="lz4", use_dictionary=[BY, WHY], write_statistics=False
                )
            elif clean.schema != schema:  # of JSON: a column that came later, or was null so far
                schema, writer = _wider(path, writer, schema, clean.schema, origin.shown)
            writer.write_table(_as(clean, schema))
    finally:
        if writer is not None:
            writer.close()
    sha256 = None if origin.path is None else sha256_file(origin.path)
    staged = Staged(origin.shown, origin.split, rows, size, mtime, sha256, data_bytes)
    write_json(folder / f"{origin.number:06d}.json", staged._asdict(), durable=False)
    return staged


def _wider(path: Path, writer: Any, old: pa.Schema, new: pa.Schema, shown: str) -> tuple[pa.Schema, Any]:
    """A writer with the columns of both, which holds what was written so far."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    schema = unified([old, new], [shown])
    writer.close()
    before = path.with_suffix(".narrow")
    path.replace(before)
    wider = pq.ParquetWriter(path, schema, compression="lz4", use_dictionary=[BY, WHY], write_statistics=False)
    for batch in pq.ParquetFile(before).iter_batches(BATCH):
        wider.write_table(_as(pa.Table.from_batches([batch]), schema))
    before.unlink()
    return schema, wider


def unified(schemas: Sequence[pa.Schema], files: Sequence[str]) -> pa.Schema:
    """One schema for several files.

    Raises:
        DataError: a column has types that do not go together.
    """
    import pyarrow as pa

    try:
        return pa.unify_schemas(schemas, promote_options="permissive")
    except (pa.ArrowInvalid, pa.ArrowTypeError) as error:
        raise DataError(
            f"{listed(files, 3)}: columns differ in type: {error}.",
            fix="Give all files the same columns and types.",
        ) from None


def _as(table: pa.Table, schema: pa.Schema) -> pa.Table:
    """A table with all columns of a schema, in its order and types."""
    import pyarrow as pa

    return pa.table(
        [
            table.column(field.name).cast(field.type)
            if field.name in table.column_names
            else pa.nulls(table.num_rows, field.type)
            for field in schema
        ],
        schema=schema,
    )


def read(origin: Origin, settings: Ingest) -> Iterator[pa.Table]:
    """The rows of a file, some at a time, with the line of each; renamed, and only the columns that are kept."""
    if origin.path is None:
        tables = settings.source.batches(origin.query, origin.split)  # type: ignore[attr-defined]
        tables = _numbered(tables)
    else:
        assert origin.options is not None
        tables = _of_file(origin.path, origin.shown, origin.options)
    for table in tables:
        yield _shaped(table, settings, origin)


def _numbered(tables: Iterator[pa.Table]) -> Iterator[pa.Table]:
    import pyarrow as pa

    first = 1
    for table in tables:
        yield table.append_column(LINE, pa.array(range(first, first + table.num_rows), pa.int64()))
        first += table.num_rows


def _of_file(path: Path, shown: str, options: ReadOptions) -> Iterator[pa.Table]:
    from dataclasses import replace

    import pyarrow as pa

    from hf_trainpipe.data.readers import LINE_READERS, arrow_batches, read_files
    from hf_trainpipe.data.readers_base import COMPRESSIONS, empty_file, opened
    from hf_trainpipe.data.readers_tables import plain
    from hf_trainpipe.ingest.delimited import delimited_tables, tables_of_lines

    if options.format in ("parquet", "arrow"):
        with opened(path, shown=shown) as stream:
            if not stream.peek(1):
                raise empty_file(shown)
            source = stream if path.suffix.lower() not in COMPRESSIONS else pa.BufferReader(stream.read())
            batches = arrow_batches(source, _rows_at_a_time(source, options), shown=shown, options=options)
            yield from _numbered(plain(pa.Table.from_batches([batch]), shown) for batch in batches)
    elif options.format in LINE_READERS:
        with opened(path, shown=shown) as stream:
            if not stream.peek(1):
                raise empty_file(shown)
            piecewise = replace(options, piece=PIECE)
            reader = delimited_tables if options.format in ("csv", "tsv") else tables_of_lines
            yield from reader(stream, shown=shown, options=piecewise, count=BATCH)
    else:
        table = read_files([(path, shown)], options=lambda _path, _shown: options)
        for start in range(0, table.num_rows, BATCH):
            yield table.slice(start, BATCH).drop_columns([FILE])


def _rows_at_a_time(source: Any, options: ReadOptions) -> int:
    """Rows of parquet that take some 8 MB; its readers tell what is wrong with it."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    if options.format != "parquet":
        return BATCH
    try:
        about = pq.ParquetFile(source).metadata
    except (pa.ArrowInvalid, OSError):
        return BATCH
    finally:
        source.seek(0)
    groups = [about.row_group(number).total_byte_size for number in range(about.num_row_groups)]
    return fitting(sum(groups) // max(1, about.num_rows), BATCH)


def _shaped(table: pa.Table, settings: Ingest, origin: Origin) -> pa.Table:
    source = settings.source
    names = [source.rename.get(name, name) for name in table.column_names]
    if repeated := [name for name in names if names.count(name) > 1]:
        raise DataError(
            f"{origin.shown}: data.rename makes two columns {repeated[0]!r}.",
            fix="Choose another name.",
            file=origin.shown,
        )
    table = table.rename_columns(names)
    wanted = list(dict.fromkeys((*settings.texts, *settings.unique_by, *source.columns)))
    wanted += [settings.by] if settings.by and settings.fractions() and origin.split == "train" else []
    for name in wanted:
        if name not in names:
            there = ", ".join(name for name in names if name != LINE)
            raise DataError(
                f"{origin.shown}: there is no column {name!r}. There are: {there}.",
                fix=f"Name columns that every file has.{closest(name, names)}",
                file=origin.shown,
            )
    if source.columns:
        kept = {*wanted, LINE}
        table = table.select([name for name in names if name in kept])
    return table


def cleaned(table: pa.Table, settings: Ingest, origin: Origin, *, first: int) -> pa.Table:
    """Rows with clean texts, and for each its number, why it is left out (0: it is not) and its label or group.

    Args:
        first: The number of the first row in its file.
    """
    import numpy as np
    import pyarrow as pa
    import pyarrow.compute as pc

    from hf_trainpipe.data.columns import is_text

    why = np.zeros(table.num_rows, dtype=np.uint8)
    for name in settings.texts:
        cells = table.column(name)
        if pa.types.is_dictionary(cells.type):
            cells = cells.cast(pa.string())
        if not is_text(cells.type) and not pa.types.is_null(cells.type):
            where = spell_place(origin.shown, table.column(LINE)[0].as_py()) if table.num_rows else origin.shown
            raise DataError(
                f"{where}: column {name!r}: expected text, found {cells.type}.",
                fix="Name a column of text with --text.",
                file=origin.shown,
            )
        cells = cells.cast(pa.string())
        if settings.space == "one":
            cells = one_space(cells.combine_chunks())
        chars = pc.fill_null(pc.utf8_length(cells), 0).to_numpy()
        empty = pc.fill_null(pc.utf8_length(pc.utf8_trim_whitespace(cells)), 0).to_numpy() == 0
        if settings.max_chars is not None:
            why[(why == 0) & (chars > settings.max_chars)] = LONG
        why[(why == 0) & (chars < settings.min_chars) & ~empty] = SHORT
        why[empty & (settings.min_chars > 0)] = EMPTY
        table = table.set_column(table.column_names.index(name), name, cells)
    for name in settings.unique_by:
        kind = table.schema.field(name).type
        if not (is_text(kind) or pa.types.is_integer(kind) or pa.types.is_boolean(kind) or pa.types.is_null(kind)):
            raise DataError(
                f"{origin.shown}: column {name!r}: duplicates go by text, whole numbers or booleans, found {kind}.",
                fix="Name other columns with --unique.",
                file=origin.shown,
            )
    number = origin.number * ROWS_OF_A_FILE + first
    table = table.append_column(ID, pa.array(np.arange(number, number + table.num_rows)))
    table = table.append_column(WHY, pa.array(why))
    by = _by(table, settings) if settings.by and settings.fractions() and origin.split == "train" else None
    return table.append_column(BY, pa.nulls(table.num_rows, pa.string()) if by is None else by)


def one_space(cells: pa.StringArray) -> pa.StringArray:
    """Texts whose words are one space apart; a null stays one.

    >>> import pyarrow
    >>> one_space(pyarrow.array([" a\u00a0 b", "a b", None])).to_pylist()
    ['a b', 'a b', None]
    """
    import pyarrow as pa
    import pyarrow.compute as pc

    wrong = pc.fill_null(pc.match_substring_regex(cells, SPACED), False)  # finding them costs less than splitting all
    found = [" ".join(cell.split()) for cell in cells.filter(wrong).to_pylist()]
    return pc.replace_with_mask(cells, wrong, pa.array(found, pa.string())) if found else cells


def _by(table: pa.Table, settings: Ingest) -> pa.Array:
    """Labels or groups as texts: cells that are one label by docs/labels.md have the same one."""
    import pyarrow as pa

    from hf_trainpipe.data.spelling import key, spelt

    assert settings.by is not None
    coded = table.column(settings.by).combine_chunks()
    coded = coded if pa.types.is_dictionary(coded.type) else coded.dictionary_encode()
    names = []
    for value in coded.dictionary.to_pylist():
        try:
            said = spelt(value)
        except (TypeError, ValueError):
            said = str(value)
        names.append(None if said is None else key(said))
    return pa.array(names, pa.string()).take(coded.indices)
