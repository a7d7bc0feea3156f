"""The manifest of shards, for people."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from hf_trainpipe.utils.tables import table

EXAMPLES = 3


def screen(found: Mapping[str, Any], folder: Path) -> str:
    """What was read, dropped and kept, and what to do next."""
    dropped: Mapping[str, int] = found["dropped"]["rows"]
    rows = [["read", f"{found['read']:,}", f"{len(found['sources']):,} files"]]
    rows += [["dropped", f"{count:,}", why + _first(folder, found, why)] for why, count in dropped.items()]
    for split, count in found["splits"].items():
        shards = [shard for shard in found["shards"] if shard["split"] == split]
        rows.append(
            [split, f"{count:,}", f"{len(shards)} shards, {sum(shard['size'] for shard in shards) / 2**20:,.1f} MiB"]
        )
    lines = [table(["", "rows", ""], rows), "", f"fingerprint  {found['fingerprint']}"]
    if dropped:
        lines.append(f"what was dropped, by file and line  {folder / found['dropped']['file']}")
    return "\n".join([*lines, f"next  data=Shards({str(folder)!r})"])


def _first(folder: Path, found: Mapping[str, Any], why: str) -> str:
    """Where the first rows lie that were dropped for a reason."""
    import pyarrow.parquet as pq

    places: list[str] = []
    for batch in pq.ParquetFile(folder / found["dropped"]["file"]).iter_batches(10_000):
        for row in batch.to_pylist():
            if row["why"] == why and len(places) < EXAMPLES:
                places.append(f"{row['file']}:{row['line']}")
        if len(places) == EXAMPLES:
            break
    return f": {', '.join(places)}" + (", ..." if dict(found["dropped"]["rows"])[why] > EXAMPLES else "")
