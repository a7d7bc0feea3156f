"""Kept rows as shards, in the order in which they were read, and the list of those that were dropped."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from hf_trainpipe.data.place import FILE, LINE
from hf_trainpipe.data.shards import RowsDigest, Shard
from hf_trainpipe.data.sources import SPLITS
from hf_trainpipe.ingest.settings import BY, DROPPED, ID, WHY
from hf_trainpipe.ingest.stage import BATCH, Staged, _as, unified
from hf_trainpipe.utils.atomic import TEMPORARY, sha256_file

SHARD_BYTES, GROUP_BYTES = 64 << 20, 8 << 20
LISTED = "dropped.parquet"
OPTIONS: Mapping[str, Any] = {"compression": "zstd", "write_statistics": False, "use_dictionary": [FILE]}


class Shelf:
    """The shards of one split, written row group by row group, so that little waits in memory."""

    def __init__(self, folder: Path, split: str, schema: Any, *, rows_per_shard: int, rows_of_a_group: int) -> None:
        self.folder, self.split, self.schema = folder, split, schema
        self.rows_per_shard, self.rows_of_a_group = rows_per_shard, min(rows_of_a_group, rows_per_shard)
        self.shards: list[Shard] = []
        self._waiting: list[Any] = []
        self._count = 0
        self._writer: Any = None
        self._written = 0

    def add(self, table: Any) -> None:
        """Rows behind those that are there."""
        while table.num_rows:
            taken = min(table.num_rows, self._wanted() - self._count)
            self._waiting.append(table.slice(0, taken))
            self._count += taken
            table = table.slice(taken)
            if self._count == self._wanted():
                self._write()

    def close(self) -> list[Shard]:
        """Write what is left."""
        if self._waiting:
            self._write()
        if self._writer is not None:
            self._end()
        return self.shards

    def _wanted(self) -> int:
        """Rows of the next row group."""
        return min(self.rows_of_a_group, self.rows_per_shard - self._written)

    def _write(self) -> None:
        import pyarrow as pa
        import pyarrow.parquet as pq

        if self._writer is None:
            self._name = f"{self.split}-{len(self.shards):05d}.parquet"
            self._writer = pq.ParquetWriter(self.folder / f"{TEMPORARY}{self._name}", self.schema, **OPTIONS)
            self._digest = RowsDigest([name for name in self.schema.names if name not in (FILE, LINE)])
        rows = pa.concat_tables(self._waiting).combine_chunks()
        self._waiting, self._count = [], 0
        self._digest.update(rows)
        self._writer.write_table(rows, row_group_size=rows.num_rows)
        self._written += rows.num_rows
        if self._written == self.rows_per_shard:
            self._end()

    def _end(self) -> None:
        self._writer.close()
        temporary, path = self.folder / f"{TEMPORARY}{self._name}", self.folder / self._name
        size, sha256 = temporary.stat().st_size, sha256_file(temporary)
        temporary.replace(path)
        self.shards.append(Shard(path.name, self.split, self._written, size, sha256, self._digest.hexdigest()))
        self._writer, self._written = None, 0


def write(
    parts: Sequence[Path], staged: Sequence[Staged], codes: np.ndarray, folder: Path, *, rows_per_shard: int | None
) -> tuple[list[Shard], dict[str, str], dict[str, int], Shard]:
    """Write all shards, and the file and line of every row that was dropped.

    Returns:
        The shards, the columns with their types, how many rows were dropped for each reason, and their list.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    schema = unified([pq.read_schema(part) for part in parts], [one.file for one in staged])
    own = [field for field in schema if field.name not in (ID, WHY, BY, LINE)]
    total, data_bytes = sum(one.rows for one in staged), sum(one.data_bytes for one in staged)
    size = rows_per_shard or min(1_000_000, max(1_000, SHARD_BYTES * total // max(1, data_bytes) // 1_000 * 1_000))
    group = min(BATCH, max(100, GROUP_BYTES * total // max(1, data_bytes)))
    kept = pa.schema([*own, pa.field(FILE, pa.dictionary(pa.int32(), pa.string())), pa.field(LINE, pa.int64())])
    shelves = [Shelf(folder, split, kept, rows_per_shard=size, rows_of_a_group=group) for split in SPLITS]
    counts = dict.fromkeys(DROPPED.values(), 0)
    names = pa.array([one.file for one in staged], pa.string())
    listed = folder / f"{TEMPORARY}{LISTED}"
    told = pa.schema([("file", kept.field(FILE).type), ("line", pa.int64()), ("why", kept.field(FILE).type)])
    reasons = pa.array(list(DROPPED.values()), pa.string())
    start = 0
    with pq.ParquetWriter(listed, told, compression="zstd") as dropped:
        for number, part in enumerate(parts):
            for batch in pq.ParquetFile(part).iter_batches(group):
                table = _as(pa.Table.from_batches([batch]), schema)
                why = table.column(WHY).to_numpy()
                code = np.where(why > 0, why, codes[start : start + len(why)])
                start += len(why)
                origin = pa.DictionaryArray.from_arrays(pa.array(np.full(len(why), number, np.int32)), names)
                table = (
                    table.select([field.name for field in own])
                    .append_column(FILE, origin)
                    .append_column(LINE, batch[LINE])
                )
                table = table.cast(kept)
                for position, shelf in enumerate(shelves):
                    if (chosen := np.flatnonzero(code == position)).size:
                        shelf.add(table if chosen.size == len(code) else table.take(chosen))
                if (gone := np.flatnonzero(code >= min(DROPPED))).size:
                    at = np.searchsorted(list(DROPPED), code[gone]).astype(np.int32)
                    why_gone = pa.DictionaryArray.from_arrays(pa.array(at), reasons)
                    rows = table.select([FILE, LINE]).take(gone).append_column("why", why_gone)
                    dropped.write_table(rows.rename_columns(told.names).cast(told))
                    for position, count in zip(*np.unique(at, return_counts=True), strict=True):
                        counts[reasons[int(position)].as_py()] += int(count)
    shards = [shard for shelf in shelves for shard in shelf.close()]
    listed.replace(folder / LISTED)
    last = Shard(LISTED, "", sum(counts.values()), (folder / LISTED).stat().st_size, sha256_file(folder / LISTED), "")
    return shards, {field.name: str(field.type) for field in own}, counts, last
