"""Read the files of a split into one table with the file and line of each row."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import IO, Any, get_args

import pyarrow as pa

from hf_trainpipe.data.annotations import flat_rows
from hf_trainpipe.data.credentials import is_remote
from hf_trainpipe.data.place import FILE, LINE, spell_place
from hf_trainpipe.data.readers_base import (
    COMPRESSIONS,
    Format,
    ReadOptions,
    RowAt,
    Rows,
    columns_of,
    empty_file,
    opened,
    wrong_file,
)
from hf_trainpipe.data.readers_json import read_json, read_jsonl
from hf_trainpipe.data.readers_kinds import OTHER_ENDINGS, kind_of
from hf_trainpipe.data.readers_lines import read_delimited, read_labelled_lines, read_paragraphs, read_plain
from hf_trainpipe.data.readers_tables import plain, to_table
from hf_trainpipe.data.readers_text import read_text, text_blocks
from hf_trainpipe.data.readers_words import read_conll, read_conllu, read_spacy
from hf_trainpipe.data.readers_xlsx import read_xlsx
from hf_trainpipe.data.remote import expand_remote
from hf_trainpipe.errors import DataError, closest
from hf_trainpipe.utils.brief import first_line, listed
from hf_trainpipe.utils.resources import base_folder, is_pattern

FIRST_ROWS, FIRST_FILES = 1000, 200
"""Rows of a table and files of a text folder to read for a preview."""

ENDINGS: dict[str, Format] = {
    ".csv": "csv",
    ".tsv": "tsv",
    ".tab": "tsv",
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".json": "json",
    ".parquet": "parquet",
    ".arrow": "arrow",
    ".feather": "arrow",
    ".conll": "conll",
    ".bio": "conll",
    ".iob": "conll",
    ".conllu": "conllu",
    ".spacy": "spacy",
    ".xlsx": "xlsx",
    ".xlsm": "xlsx",
    ".txt": "txt",
}


def format_of(path: Path, *, shown: str) -> Format:
    """The format of a path, by its suffix; a folder is a text folder.

    Raises:
        DataError: an unknown suffix.
    """
    if path.is_dir():
        return "folder"
    name = path.with_suffix("") if path.suffix.lower() in COMPRESSIONS else path
    ending = name.suffix.lower()
    kind = OTHER_ENDINGS.get(path.suffix.lower()) or OTHER_ENDINGS.get(ending)
    if kind is not None:
        raise wrong_file(shown, f"expected a file of rows, found {kind.found}.", fix=kind.fix)
    if ending not in ENDINGS:
        raise wrong_file(
            shown,
            f"the suffix {ending!r} is of no known format.",
            fix=f"Set data.format to one of {', '.join(get_args(Format))}.{closest(ending, ENDINGS)}",
        )
    return ENDINGS[ending]


def read_split(
    patterns: tuple[str, ...], *, root: Path | None, options: Callable[[Path, str], ReadOptions]
) -> pa.Table:
    """Read the files of a split in order into one table, as :func:`read_files`.

    Args:
        patterns: Paths or globs below ``root``; None: in the working directory or the recipe file's folder.
    """
    return read_files(expand(patterns, root), options=options)


def read_files(files: Sequence[tuple[Path, str]], *, options: Callable[[Path, str], ReadOptions]) -> pa.Table:
    """Read files in order into one table.

    Args:
        files: As :func:`expand` gives them, at least one.
        options: From a path and its name for messages to the options for reading it.

    Returns:
        The columns of the files, and ``__file__`` and ``__line__``.

    Raises:
        DataError: with file and line where they are known.
    """
    tables = [_read_file(path, shown, options(path, shown)) for path, shown in files]
    if not any(table.num_rows for table in tables):  # parquet of several files may have some without rows
        raise empty_file(files[0][1], "no rows")
    if len(tables) == 1:
        return tables[0]
    try:
        return pa.concat_tables(tables, promote_options="permissive")
    except (pa.ArrowInvalid, pa.ArrowTypeError) as error:
        raise DataError(
            f"{listed([shown for _, shown in files], 3)}: columns of these files differ in type: {error}.",
            fix="Give all files of a split the same columns and types.",
        ) from None


def expand(patterns: tuple[str, ...], base: Path | None) -> list[tuple[Path, str]]:
    """Each file of a split with its name for messages, globs in sorted order; what lies elsewhere is fetched."""
    found: list[tuple[Path, str]] = []
    for pattern in patterns:
        if is_remote(pattern):
            found.extend(expand_remote(pattern))
            continue
        root = base_folder(pattern) if base is None else base
        named = Path(pattern).expanduser()
        if not is_pattern(pattern) or (root / named).exists():
            found.append((root / named, _spelled(pattern)))
            continue
        anchor = Path(named.anchor) if named.is_absolute() else root
        matches = sorted(match for match in anchor.glob(str(named.relative_to(named.anchor))) if match.is_file())
        if not matches:
            raise wrong_file(pattern, f"no file in {str(root)!r} matches.", fix="Correct the pattern or data.root.")
        names = (match if named.is_absolute() else match.relative_to(root) for match in matches)
        found.extend(zip(matches, (_spelled(str(name)) for name in names), strict=True))
    return found


def _spelled(name: str) -> str:
    """A file name as valid Unicode: names on disk may be any bytes."""
    return name.encode("utf-8", "backslashreplace").decode()


def _read_file(path: Path, shown: str, options: ReadOptions) -> pa.Table:
    if options.format in ("parquet", "arrow"):
        return _read_arrow(path, shown=shown, options=options)
    if options.format in LINE_READERS:
        with opened(path, shown=shown) as stream:
            found = list(read_lines(stream, shown=shown, options=options))
        if not found:
            raise empty_file(shown, "no words" if options.format in ("conll", "conllu") else "only blank lines")
        rows = Rows(columns_of([row for _, row in found]), [line for line, _ in found])
    else:
        rows = FILE_READERS[options.format](path, shown=shown, options=options)
    rows = flat_rows(rows, shown)
    files = rows.files or [shown] * len(rows.lines)
    return _with_places(to_table(rows.columns, lambda row: spell_place(files[row], rows.lines[row])), files, rows.lines)


def read_lines(stream: IO[bytes], *, shown: str, options: ReadOptions) -> Iterator[RowAt]:
    """The rows of a stream of csv, tsv, jsonl, conll, conllu, labelled lines or plain lines, as they are read."""
    return LINE_READERS[options.format](text_blocks(stream, shown=shown, options=options), shown=shown, options=options)


def _with_places(table: pa.Table, files: list[str], lines: list[int]) -> pa.Table:
    return table.append_column(FILE, pa.array(files, pa.string())).append_column(LINE, pa.array(lines, pa.int64()))


def _read_arrow(path: Path, *, shown: str, options: ReadOptions) -> pa.Table:
    """Read parquet, or Arrow's file or stream format."""
    first_only = options.most is not None and path.suffix.lower() not in COMPRESSIONS
    with opened(path, shown=shown) as stream:
        if not stream.peek(1):
            raise empty_file(shown)
        source = stream if first_only else pa.BufferReader(stream.read())
        batches = arrow_batches(source, FIRST_ROWS if first_only else 1 << 16, shown=shown, options=options)
        found = list(islice(batches, 1 if first_only else None))
    table = pa.Table.from_batches(found)
    return _with_places(plain(table, shown), [shown] * table.num_rows, list(range(1, table.num_rows + 1)))


def arrow_batches(source: Any, count: int, *, shown: str, options: ReadOptions) -> Iterator[pa.RecordBatch]:
    """The rows of parquet, or of Arrow's file or stream format, up to ``count`` at a time, without columns of places; of a
    file without rows its columns.

    Raises:
        DataError: it is something else; columns have the same name.
    """
    import pyarrow.parquet as pq

    try:
        if options.format == "parquet":
            file = pq.ParquetFile(source)
            schema, batches = file.schema_arrow, file.iter_batches(count)
        else:
            try:
                file = pa.ipc.open_file(source)
                batches = map(file.get_batch, range(file.num_record_batches))
            except pa.ArrowInvalid:
                source.seek(0)
                file = batches = pa.ipc.open_stream(source)
            schema = file.schema
        if repeated := sorted({name for name in schema.names if schema.names.count(name) > 1}):
            raise wrong_file(
                shown, f"the columns {', '.join(map(repr, repeated))} are repeated.", fix="Rename one of them."
            )
        kept = [name for name in schema.names if name not in (FILE, LINE, "__index_level_0__")]
        is_empty = True
        for batch in batches:
            for start in range(0, batch.num_rows, count):
                is_empty = False
                yield batch.select(kept).slice(start, count)
        if is_empty:
            columns = schema.empty_table().select(kept)
            yield pa.RecordBatch.from_arrays(
                [column.combine_chunks() for column in columns.columns], schema=columns.schema
            )
    except (pa.ArrowInvalid, OSError) as error:
        source.seek(0)
        kind = kind_of(source.read(), rows=True)
        found = f"something else: {first_line(error)}" if kind is None else f"{kind.found}."
        fix = "Check the file, or set data.format." if kind is None else kind.fix
        raise wrong_file(shown, f"expected {options.format}, found {found}", fix=fix) from None


def _read_folder(path: Path, *, shown: str, options: ReadOptions) -> Rows:
    """Read ``folder/label/*.txt`` into ``text`` and ``label``, a row for each file. Hidden folders and files are skipped."""
    if not path.is_dir():
        raise wrong_file(shown, "expected a folder of label folders.", fix="Correct the path.")
    rows = Rows(columns={"text": [], "label": []}, files=[])
    assert rows.files is not None
    files = sorted(path.glob("*/*.txt")) + sorted(path.glob("*/*.txt.gz")) + sorted(path.glob("*/*.txt.zst"))
    files = [file for file in files if not file.name.startswith(".") and not file.parent.name.startswith(".")]
    if options.most is not None:
        files = files[:: max(1, len(files) // FIRST_FILES)]
    for file in files:
        name = _spelled(f"{shown.rstrip('/')}/{file.relative_to(path)}")
        text = read_text(file, shown=name, options=replace(options, most=None))
        rows.columns["text"].append(text.strip())
        rows.columns["label"].append(file.parent.name)
        rows.lines.append(1)
        rows.files.append(name)
    if not rows.lines:
        inside = sorted(entry.name for entry in path.iterdir())
        endings = [ending for name in inside if (ending := Path(name).suffix) in (*ENDINGS, *COMPRESSIONS)]
        example = f"*{endings[0] if endings else '.csv'}"
        raise wrong_file(
            shown,
            f"expected rows, found a folder without LABEL/*.txt in it; it holds {listed(inside, 8) or 'nothing'}.",
            fix=f"Name a file in it, or a glob: '{shown.rstrip('/')}/{example}'.",
        )
    return rows


LINE_READERS: dict[Format | None, Callable[..., Iterator[RowAt]]] = {
    "csv": read_delimited,
    "tsv": read_delimited,
    "jsonl": read_jsonl,
    "conll": read_conll,
    "conllu": read_conllu,
    "labelled-lines": read_labelled_lines,
    "txt": read_plain,
    "paragraphs": read_paragraphs,
}
"""Of formats that are read line by line."""
FILE_READERS: dict[Format | None, Callable[..., Rows]] = {
    "json": read_json,
    "spacy": read_spacy,
    "xlsx": read_xlsx,
    "folder": _read_folder,
}
