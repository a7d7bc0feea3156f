"""A folder of shards: parquet files with the rows of splits in order, and a manifest that is written last.

``manifest.json`` has the size and sha256 of every shard, a hash of its rows (the same whatever wrote the file), how many rows
were read and dropped, and a fingerprint of all of them.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa

from hf_trainpipe.data.columns import is_text
from hf_trainpipe.data.place import FILE
from hf_trainpipe.errors import CheckpointError, DataError, closest
from hf_trainpipe.utils.atomic import new_folder, read_json_object, sha256_file
from hf_trainpipe.utils.cache import cache_root

MANIFEST = "manifest.json"
FORMAT = 1
BATCH_ROWS = 10_000


class Shard(NamedTuple):
    """A file of a manifest."""

    file: str
    split: str
    rows: int
    size: int
    sha256: str
    """Of the file."""
    content: str
    """Of its rows: :class:`RowsDigest`."""


class RowsDigest:
    """sha256 over rows in order, column by column: the same however they are cut into batches and stored in a file."""

    def __init__(self, names: Sequence[str]) -> None:
        self._columns = {name: hashlib.sha256(name.encode()) for name in names}

    def update(self, table: pa.Table) -> None:
        """Add rows; a null is neither empty nor 0."""
        for name, digest in self._columns.items():
            for chunk in table.column(name).chunks:
                for part in _parts(chunk):
                    digest.update(part)

    def hexdigest(self) -> str:
        """Of all columns."""
        return hashlib.sha256(b"".join(digest.digest() for digest in self._columns.values())).hexdigest()


def _parts(cells: pa.Array) -> Iterator[Any]:
    """The bytes of cells: of text, for each its bytes and what ends it; of numbers whether it is null and its own; else JSON."""
    import pyarrow.compute as pc

    if pa.types.is_dictionary(cells.type):
        cells = cells.dictionary_decode()
    kind = cells.type
    if is_text(kind):
        # 0xFF and 0xFE are no bytes of UTF-8: they end a text, and stand for a null.
        ended = pc.binary_join_element_wise(
            cells.cast(pa.large_binary()), pa.scalar(b"", pa.large_binary()), pa.scalar(b"\xff", pa.large_binary()),
            null_handling="emit_null",
        )  # fmt: skip
        ended = pc.fill_null(ended, pa.scalar(b"\xfe", pa.large_binary()))
        _, offsets, data = ended.buffers()
        bounds = memoryview(offsets).cast("q")
        start, end = bounds[ended.offset], bounds[ended.offset + len(ended)]
        if end > start:
            yield memoryview(data)[start:end]
    elif pa.types.is_integer(kind) or pa.types.is_floating(kind):
        values = pc.fill_null(cells, 0).to_numpy(zero_copy_only=False)
        pairs = np.zeros(len(cells), dtype=[("is_null", np.bool_), ("value", values.dtype)])
        pairs["is_null"], pairs["value"] = cells.is_null().to_numpy(zero_copy_only=False), values
        yield pairs.tobytes()
    else:
        for value in cells.to_pylist():
            yield json.dumps(value, sort_keys=True, default=str).encode() + b"\n"


def fingerprint(columns: Mapping[str, str], shards: Sequence[Shard]) -> str:
    """What all rows of all splits are known by: names and types of columns, and the content of every shard in order."""
    told = [list(columns.items()), [[shard.split, shard.rows, shard.content] for shard in shards]]
    return hashlib.sha256(json.dumps(told).encode()).hexdigest()


def read_manifest(folder: Path) -> tuple[dict[str, Any], list[Shard]]:
    """The manifest of a folder and its shards.

    Raises:
        DataError: there is none, or it is of no form that this version knows.
    """
    path = folder / MANIFEST
    if not path.is_file():
        there = "an ingest that did not finish" if (folder / ".work").is_dir() else "no manifest.json"
        raise DataError(
            f"{folder}: expected a folder that ingest wrote, found {there}.",
            fix="Run hf-trainpipe ingest FILE --to FOLDER again; it continues.",
            file=str(folder),
        )
    needs = {"format": int, "fingerprint": str, "columns": dict, "splits": dict, "shards": list}
    fix = "Write the folder again with hf-trainpipe ingest."
    try:
        found = read_json_object(path, needs=needs, fix=fix)
        shards = [Shard(**item) for item in found["shards"]]
    except (CheckpointError, TypeError) as error:
        raise DataError(f"{path}: not a manifest: {error}", fix=fix, file=str(path)) from None
    if found["format"] != FORMAT:
        raise DataError(f"{path}: expected format {FORMAT}, found {found['format']}.", fix=fix, file=str(path))
    return found, shards


def check_shards(folder: Path, shards: Sequence[Shard]) -> None:
    """Compare shards with their manifest; a file that did not change since it was compared is not read again.

    Raises:
        DataError: one is missing or differs.
    """
    from hf_trainpipe.runtime.safety.stamps import Stamps

    folder = folder.resolve()
    stamps = Stamps(folder)
    for shard in shards:
        path = folder / shard.file
        fix = "Copy the folder again from where it was written, or write it again with hf-trainpipe ingest."
        if Path(shard.file).name != shard.file or not path.is_file():
            raise DataError(f"{path}: the manifest names it, and it is not there.", fix=fix, file=str(path))
        facts = path.stat()
        sha256 = stamps.known(shard.file, facts)
        if facts.st_size == shard.size and sha256 is None:
            sha256 = sha256_file(path)
            stamps.learn(shard.file, facts, sha256)
        if sha256 != shard.sha256:
            raise DataError(
                f"{path}: differs from its manifest: it was changed or is damaged.", fix=fix, file=str(path)
            )
    stamps.save()


def shards_of(shards: Sequence[Shard], split: str, *, field: str) -> list[Shard]:
    """The shards of a split.

    Raises:
        DataError: there is no such split; ``field`` names it.
    """
    known = list(dict.fromkeys(shard.split for shard in shards))
    if split not in known:
        raise DataError(
            f"{field}: the shards have no split {split!r}. There are: {', '.join(known)}.",
            fix=f"Name one of these, or a fraction of train such as 0.1.{closest(split, known)}",
        )
    return [shard for shard in shards if shard.split == split]


def batches(folder: Path, shards: Sequence[Shard]) -> Iterator[pa.RecordBatch]:
    """The rows of shards in order, with the file and line that each comes from."""
    import pyarrow.parquet as pq

    for shard in shards:
        for batch in pq.ParquetFile(folder / shard.file).iter_batches(BATCH_ROWS):
            file = batch.column(FILE)
            plain = file.dictionary_decode() if pa.types.is_dictionary(file.type) else file
            yield batch.set_column(batch.schema.get_field_index(FILE), FILE, plain)


def mapped(folder: Path, shards: Sequence[Shard], *, known_by: str) -> Path:
    """The rows of a split as one Arrow file in the machine's cache, which all ranks map into memory; written by the first.

    Args:
        known_by: The fingerprint of the folder.
    """
    from filelock import FileLock

    place = cache_root() / "shards" / f"{known_by[:32]}-{shards[0].split}"
    place.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(place.with_suffix(".lock")):
        if not place.is_dir():
            with new_folder(place) as building:
                rows = batches(folder, shards)
                first = next(rows)
                with (
                    pa.OSFile(str(building / "rows.arrow"), "wb") as file,
                    pa.ipc.new_stream(file, first.schema) as stream,
                ):
                    stream.write_batch(first)
                    for batch in rows:
                        stream.write_batch(batch)
    return place / "rows.arrow"
