"""The verb that makes shards of raw rows: ingest."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from hf_trainpipe.cli.asking_verbs import READING, reading
from hf_trainpipe.cli.parser import Argument, UsageError, busy, print_result, taken, verb

if TYPE_CHECKING:
    import argparse

_UNITS = {"K": 1 << 10, "M": 1 << 20, "G": 1 << 30}


@verb(
    "ingest",
    "raw rows to shards: cleaned, each text once, cut into splits; continues where it was killed",
    Argument(
        "FILE ...",
        "files or patterns (data/*.csv, s3://bucket/*.parquet, https://...) of any format; with --sql tables or queries",
        dest="files",
        nargs="+",
    ),
    Argument("--to FOLDER", "where shards and manifest.json are written", type=Path, required=True),
    Argument("--text NAME ...", "a column of text to clean; 'text' by default"),
    Argument("--validation F|FILE", "a fraction of the rows, or files that are that split"),
    Argument("--test F|FILE", "the same; texts of it are left out of the training rows"),
    Argument("--stratify NAME", "cut fractions of each label of this column"),
    Argument("--group NAME", "keep rows with the same value of this column in one split"),
    Argument("--seed N", "of the cut; 17 by default", type=int, default=17),
    Argument("--columns A,B,...", "keep these columns, beside those that are needed; all by default"),
    Argument("--rename OLD=NEW ...", "name a column of the files otherwise"),
    Argument("--keep-space", "leave white space in texts as it is"),
    Argument("--min-chars N", "drop shorter texts; 1 by default, 0 keeps empty ones", type=int, default=1),
    Argument("--max-chars N", "drop longer texts", type=int),
    Argument("--unique NAME ...", "columns that make a row a duplicate; those of --text by default"),
    Argument("--keep-duplicates", "drop no duplicates"),
    *READING[1:],
    Argument("--header A,B,...", "of files without a header line: the names of their columns"),
    Argument("--sheet NAME", "of workbooks: the sheet; the first by default"),
    Argument("--sql URL", "read a database: sqlite:///file.db, postgresql+psycopg://user:${PASSWORD}@host/name"),
    Argument("--engine duckdb|dask", "what finds duplicates; the rows are the same", default="duckdb"),
    Argument("--cluster ADDRESS", "of dask: a scheduler, tcp://host:8786, whose workers see the same folders"),
    Argument("--memory SIZE", "about what it may take: 1G by default, 512M or more", default="1G"),
    Argument("--processes N", "that read files; by processors and memory by default", type=int),
    Argument("--rows-per-shard N", "as many as take about 64 MiB by default", type=int),
    Argument("--replace", "write the folder again where it holds other rows"),
    "--json",
)
def ingest(arguments: argparse.Namespace) -> int:
    with busy("starting"):
        from hf_trainpipe.ingest.settings import Ingest
        from hf_trainpipe.ingest.shown import screen
        from hf_trainpipe.ingest.whole import ingest as make

    if arguments.keep_duplicates and arguments.unique:
        raise UsageError(
            "ingest: --unique and --keep-duplicates contradict each other.", fix="Leave one of the two out."
        )
    unique = () if arguments.keep_duplicates else tuple(arguments.unique) or None
    settings = Ingest(
        source=_source(arguments),
        texts=tuple(arguments.text) or ("text",),
        space="keep" if arguments.keep_space else "one",
        unique=unique,
        memory=_bytes(arguments.memory),
        **taken(arguments, "min_chars", "max_chars", "engine", "cluster", "processes", "rows_per_shard"),
    )
    found = make(settings, arguments.to, replace=arguments.replace, working=busy)
    print_result({**found, "folder": str(arguments.to)}, arguments, lambda _: screen(found, arguments.to))
    return 0


def _source(arguments: argparse.Namespace) -> Any:
    from hf_trainpipe.data.sources import Files
    from hf_trainpipe.data.sources_sql import Sql

    options: dict[str, Any] = {
        **{name: _fraction(getattr(arguments, name)) for name in ("validation", "test")},
        **taken(arguments, "stratify", "group", "seed"),
        "columns": _names(arguments.columns),
        "rename": dict(_renamed(said) for said in arguments.rename),
    }
    if arguments.sql is not None:
        if len(arguments.files) > 1:
            raise UsageError(
                "ingest: --sql reads one table or query.", fix="Join the tables in one query with ORDER BY."
            )
        return Sql(arguments.sql, train=arguments.files[0], **options)
    given: dict[str, Any] = {name: value for name, value in reading(arguments).items() if value is not None}
    if arguments.header:
        given["header"] = _names(arguments.header)
    return Files(train=tuple(arguments.files), sheet=arguments.sheet, **given, **options)


def _fraction(said: str | None) -> float | str | None:
    try:
        return None if said is None else float(said)
    except ValueError:
        return said


def _names(said: str | None) -> tuple[str, ...]:
    return tuple(name.strip() for name in said.split(",")) if said else ()


def _renamed(said: str) -> tuple[str, str]:
    old, sign, new = said.partition("=")
    if not (sign and old and new):
        raise UsageError(f"ingest: --rename {said}: expected OLD=NEW.", fix="Write --rename body=text.")
    return old, new


def _bytes(said: str) -> int:
    number, unit = said.rstrip("iB")[:-1], said.rstrip("iB")[-1:].upper()
    try:
        return int(float(number) * _UNITS[unit])
    except (KeyError, ValueError):
        raise UsageError(
            f"ingest: --memory: expected a size, found {said!r}.", fix="Write --memory 800M or 2G."
        ) from None
