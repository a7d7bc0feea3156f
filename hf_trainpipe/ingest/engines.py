"""What an engine does: of rows that are kept so far, find the first of each text and where it falls; out of core.

An engine writes parquet with a row a kept row: ``id``, ``u`` (uint64, its place among 2**64) and ``b`` (uint64, its label).
Rows of a label lie together, by ``u`` and then ``id``, if fractions are cut by labels; else in any order.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from hf_trainpipe.errors import MissingExtra
from hf_trainpipe.ingest.settings import BY, ID, WHY, Ingest, key_text, number_of, place_of

OVERHEAD = 500 << 20
"""Bytes of memory that libraries and batches take beside an engine."""


def kept_by_duckdb(parts: Sequence[Path], settings: Ingest, folder: Path, temporary: Path) -> None:
    """On this machine: DuckDB spills to ``temporary`` what does not fit."""
    try:
        import duckdb
    except ImportError as error:
        raise MissingExtra(f"ingest needs DuckDB: {error}.", fix="pip install 'hf-trainpipe[ingest]'") from None
    limit = max(128 << 20, settings.memory - OVERHEAD)
    connection = duckdb.connect(str(temporary / "rows.duckdb"))
    try:
        connection.execute(f"SET memory_limit = '{limit >> 20}MiB'")
        connection.execute(f"SET temp_directory = {_quoted(str(temporary))}")
        connection.execute("SET preserve_insertion_order = false")
        connection.execute(f"SET threads = {max(1, min(4, limit // (128 << 20)))}")
        connection.execute("SET autoinstall_known_extensions = false")
        files = ", ".join(_quoted(str(part)) for part in parts)
        key = _key_of(settings.unique_by or settings.texts)
        by = f'"{BY}"'
        where = f"coalesce({by}, {key})" if settings.source.group else key
        rows = (
            f'SELECT "{ID}" AS id, md5_number({key}) AS k, '
            f"(md5_number('{settings.source.seed}:' || {where}) >> 64)::UBIGINT AS u, "
            f"(md5_number(coalesce({by}, '')) >> 64)::UBIGINT AS b "
            f'FROM read_parquet([{files}], union_by_name = true) WHERE "{WHY}" = 0'
        )
        first = "SELECT min(id) AS id, arg_min(u, id) AS u, arg_min(b, id) AS b FROM rows GROUP BY k"
        chosen = first if settings.unique_by else "SELECT id, u, b FROM rows"
        order = " ORDER BY b, u, id" if settings.source.stratify else ""
        target = _quoted(str(folder / "000000.parquet"))
        connection.execute(
            f"COPY (WITH rows AS ({rows}) {chosen}{order}) TO {target} (FORMAT parquet, ROW_GROUP_SIZE 100000)"
        )
    finally:
        connection.close()


def _key_of(names: Sequence[str]) -> str:
    """``key_text`` of columns, in SQL."""
    cells = [f'"{name.replace(chr(34), chr(34) * 2)}"' for name in names]
    parts = [
        f"CASE WHEN {c} IS NULL THEN 'n' ELSE 's' || length({c}::VARCHAR) || ':' || {c}::VARCHAR END" for c in cells
    ]
    return "(" + " || ".join(parts) + ")"


def _quoted(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"


def kept_by_dask(parts: Sequence[Path], settings: Ingest, folder: Path, client: Any) -> None:
    """On the workers of a cluster, which see the same folders: rows of a text meet in one partition."""
    import dask.dataframe as dd

    count = max(1, sum(part.stat().st_size for part in parts) // (64 << 20))
    rows = dd.from_map(keys, list(map(str, parts)), settings=settings, meta=keys(None, settings=settings))
    if settings.unique_by:
        rows = rows.shuffle("k0", npartitions=count)
    rows = rows.map_partitions(firsts, unique=bool(settings.unique_by), meta=rows._meta)
    if settings.source.stratify:
        rows = rows.shuffle("b", npartitions=count).map_partitions(ordered, meta=rows._meta)
    rows[["id", "u", "b"]].to_parquet(
        str(folder), write_index=False, compute=True, name_function="{:06d}.parquet".format
    )


def keys(path: str | None, *, settings: Ingest) -> Any:
    """The keys of staged rows, as a pandas frame; of no path the frame's columns alone."""
    import numpy as np
    import pandas as pd
    import pyarrow.compute as pc
    import pyarrow.parquet as pq

    if path is None:
        return pd.DataFrame(
            {name: np.zeros(0, np.int64 if name == "id" else np.uint64) for name in ("id", "k0", "k1", "u", "b")}
        )
    named = settings.unique_by or settings.texts
    table = pq.read_table(path, columns=[*dict.fromkeys((ID, WHY, BY, *named))])
    table = table.filter(pc.equal(table.column(WHY), 0))
    cells = [table.column(name).cast("string").to_pylist() for name in named]
    texts = list(map(key_text, zip(*cells, strict=True)))
    numbers = list(map(number_of, texts))
    by = table.column(BY).to_pylist()
    where = (
        [text if name is None else name for text, name in zip(texts, by, strict=True)]
        if settings.source.group
        else texts
    )
    seed, low = settings.source.seed, (1 << 64) - 1
    return pd.DataFrame(
        {
            "id": table.column(ID).to_numpy(),
            "k0": np.array([number & low for number in numbers], np.uint64),
            "k1": np.array([number >> 64 for number in numbers], np.uint64),
            "u": np.array([place_of(text, seed) for text in where], np.uint64),
            "b": np.array([number_of(name or "") >> 64 for name in by], np.uint64),
        }
    )


def firsts(rows: Any, *, unique: bool) -> Any:
    """The first row of each key."""
    return rows.sort_values(["k0", "k1", "id"]).drop_duplicates(["k0", "k1"]) if unique else rows


def ordered(rows: Any) -> Any:
    """Rows as the cut by labels needs them."""
    return rows.sort_values(["b", "u", "id"])
