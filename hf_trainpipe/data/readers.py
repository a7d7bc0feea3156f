"""Read the files of a split into one table with the file and line of each row."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import get_args

import pyarrow as pa

from hf_trainpipe.data.annotations import flat_rows
from hf_trainpipe.data.place import FILE, LINE, Place, spell_place
from hf_trainpipe.data.readers_base import (
    COMPRESSIONS,
    Format,
    ReadOptions,
    Rows,
    empty_file,
    read_bytes,
    read_text,
    wrong_file,
)
from hf_trainpipe.data.readers_json import read_json, read_jsonl
from hf_trainpipe.data.readers_kinds import by_ending, kind_of
from hf_trainpipe.data.readers_lines import read_delimited, read_labelled_lines, read_plain
from hf_trainpipe.data.readers_tables import plain, to_table
from hf_trainpipe.data.readers_words import read_conll, read_conllu, read_spacy
from hf_trainpipe.errors import DataError, closest
from hf_trainpipe.utils.resources import base_folder

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
    kind = by_ending(path.suffix) or by_ending(ending)
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
    patterns: tuple[str, ...],
    *,
    root: Path | None,
    options: Callable[[Path, str], ReadOptions],
    first_files: int | None = None,
) -> pa.Table:
    """Read the files of a split in order into one table.

    Args:
        patterns: Paths or globs below ``root``; None: in the working directory or the recipe file's folder.
        options: From a path and its name for messages to the options for reading it.
        first_files: Read at most so many files; None: all.

    Returns:
        The columns of the files, and ``__file__`` and ``__line__``.

    Raises:
        DataError: with file and line where they are known.
    """
    tables = []
    for path, shown in expand(patterns, root)[:first_files]:
        settings = options(path, shown)
        if settings.format in ("parquet", "arrow"):
            tables.append(_read_arrow(path, shown=shown, options=settings))
            continue
        rows = flat_rows(READERS[settings.format](path, shown=shown, options=settings), shown)
        tables.append(_with_places(to_table(rows.columns, _place_of(rows, shown)), rows, shown))
    if len(tables) == 1:
        return tables[0]
    try:
        return pa.concat_tables(tables, promote_options="permissive")
    except (pa.ArrowInvalid, pa.ArrowTypeError) as error:
        raise DataError(
            f"{', '.join(patterns)}: columns of these files differ in type: {error}.",
            fix="Give all files of a split the same columns and types.",
        ) from None


def expand(patterns: tuple[str, ...], base: Path | None) -> list[tuple[Path, str]]:
    """Each file of a split with its name for messages, globs in sorted order."""
    found: list[tuple[Path, str]] = []
    for pattern in patterns:
        root = base_folder(pattern) if base is None else base
        path = root / Path(pattern).expanduser()
        if not any(mark in pattern for mark in "*?[") or path.exists():
            found.append((path, _spelled(pattern)))
            continue
        anchor = Path(path.anchor) if Path(pattern).is_absolute() else root
        inside = str(path.relative_to(anchor)) if Path(pattern).is_absolute() else pattern
        matches = sorted(match for match in anchor.glob(inside) if match.is_file())
        if not matches:
            raise wrong_file(pattern, f"no file in {str(root)!r} matches.", fix="Correct the pattern or data.root.")
        shown_root = None if Path(pattern).is_absolute() else root
        found.extend(
            (match, _spelled(str(match.relative_to(shown_root) if shown_root else match))) for match in matches
        )
    return found


def _spelled(name: str) -> str:
    """A file name as valid Unicode: names on disk may be any bytes."""
    return name.encode("utf-8", "backslashreplace").decode()


def _place_of(rows: Rows, shown: str) -> Callable[[int], Place]:
    return lambda row: spell_place(rows.files[row] if rows.files else shown, rows.lines[row])


def _with_places(table: pa.Table, rows: Rows, shown: str) -> pa.Table:
    files = pa.array(rows.files or [shown] * table.num_rows, pa.string())
    return table.append_column(FILE, files).append_column(LINE, pa.array(rows.lines, pa.int64()))


def _read_arrow(path: Path, *, shown: str, options: ReadOptions) -> pa.Table:
    """Read parquet, or Arrow's file or stream format."""
    import pyarrow.parquet as pq

    first_only = options.most is not None and path.suffix.lower() not in COMPRESSIONS
    data = read_bytes(path, shown=shown, most=options.most if first_only else None)
    source = pa.memory_map(str(path)) if first_only else pa.BufferReader(data)
    try:
        if options.format == "parquet" and first_only:
            table = pa.Table.from_batches([next(pq.ParquetFile(source).iter_batches(FIRST_ROWS))])
        elif options.format == "parquet":
            table = pq.read_table(source)
        else:
            try:
                table = pa.ipc.open_file(source).read_all()
            except pa.ArrowInvalid:
                source.seek(0)
                table = pa.ipc.open_stream(source).read_all()
            table = table.slice(0, FIRST_ROWS) if first_only else table
    except (pa.ArrowInvalid, OSError) as error:
        kind = kind_of(data, rows=True)
        found = f"something else: {str(error).splitlines()[0]}" if kind is None else f"{kind.found}."
        fix = "Check the file, or set data.format." if kind is None else kind.fix
        raise wrong_file(shown, f"expected {options.format}, found {found}", fix=fix) from None
    if table.num_rows == 0:
        raise empty_file(shown, "no rows")
    if repeated := sorted({name for name in table.column_names if table.column_names.count(name) > 1}):
        raise wrong_file(
            shown, f"the columns {', '.join(map(repr, repeated))} are repeated.", fix="Rename one of them."
        )
    table = plain(table, shown)
    table = table.drop_columns([name for name in (FILE, LINE, "__index_level_0__") if name in table.column_names])
    return _with_places(table, Rows(lines=list(range(1, table.num_rows + 1))), shown)


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
        text = read_text(file, shown=name, options=replace(options, most=None), rows_are_lines=False)
        rows.columns["text"].append(text.strip())
        rows.columns["label"].append(file.parent.name)
        rows.lines.append(1)
        rows.files.append(name)
    if not rows.lines:
        inside = sorted(entry.name for entry in path.iterdir())
        listed = ", ".join(inside[:8]) + (f" and {len(inside) - 8} more" if len(inside) > 8 else "")
        endings = [ending for name in inside if (ending := Path(name).suffix) in (*ENDINGS, *COMPRESSIONS)]
        example = f"*{endings[0] if endings else '.csv'}"
        raise wrong_file(
            shown,
            f"expected rows, found a folder without LABEL/*.txt in it; it holds {listed or 'nothing'}.",
            fix=f"Name a file in it, or a glob: '{shown.rstrip('/')}/{example}'.",
        )
    return rows


READERS: dict[Format, Callable[..., Rows]] = {
    "csv": read_delimited,
    "tsv": read_delimited,
    "jsonl": read_jsonl,
    "json": read_json,
    "conll": read_conll,
    "conllu": read_conllu,
    "spacy": read_spacy,
    "folder": _read_folder,
    "labelled-lines": read_labelled_lines,
    "txt": read_plain,
}
