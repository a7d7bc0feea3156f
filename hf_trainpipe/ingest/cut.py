"""Which split each kept row goes to, from what an engine found: a number of 8 bits a row, in the order of all rows."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from math import floor
from pathlib import Path
from typing import Any

import numpy as np

from hf_trainpipe.data.sources import SPLITS
from hf_trainpipe.ingest.settings import DUPLICATE, ROWS_OF_A_FILE, Ingest
from hf_trainpipe.ingest.stage import Staged

PLACES = 1 << 64
BATCH = 100_000


def cut(kept: Path, staged: Sequence[Staged], settings: Ingest, path: Path) -> np.ndarray:
    """uint8[rows of all files], mapped into memory: the position in ``SPLITS`` of rows that are kept, else DUPLICATE.

    Rows of files that are a split of their own stay in it. Of the others, those whose place is below a fraction of all
    places are cut off, test first: a row that is added or removed moves no other one. By labels the rows of each label with the
    lowest places are, to the nearest row.
    """
    starts = np.concatenate([[0], np.cumsum([one.rows for one in staged])]).astype(np.int64)
    own = np.array([SPLITS.index(one.split) for one in staged], dtype=np.uint8)
    codes = np.memmap(path, dtype=np.uint8, mode="w+", shape=(max(1, int(starts[-1])),))
    codes[:] = DUPLICATE
    shares = {name: settings.fractions()[name] for name in reversed(SPLITS) if name in settings.fractions()}
    counts = _counts(kept, own) if settings.source.stratify and shares else {}
    seen: dict[int, int] = {}
    for ids, places, labels in _rows(kept):
        files = ids // ROWS_OF_A_FILE
        code = own[files].copy()
        free = code == SPLITS.index("train")
        if counts:
            code[free] = _by_label(labels[free], counts, seen, shares)
        else:
            code[free] = _by_place(places[free], shares)
        codes[starts[files] + ids % ROWS_OF_A_FILE] = code
    return codes


def _rows(kept: Path) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    import pyarrow.parquet as pq

    for path in sorted(kept.glob("*.parquet")):
        for batch in pq.ParquetFile(path).iter_batches(BATCH, columns=["id", "u", "b"]):
            if batch.num_rows:
                yield tuple(column.to_numpy(zero_copy_only=False) for column in batch.columns)


def _by_place(places: np.ndarray, shares: Mapping[str, float]) -> np.ndarray:
    code = np.full(len(places), SPLITS.index("train"), dtype=np.uint8)
    low = 0.0
    for name, share in shares.items():
        bounds = [np.uint64(min(PLACES - 1, floor(edge * PLACES))) for edge in (low, low + share)]
        code[(places >= bounds[0]) & (places < bounds[1])] = SPLITS.index(name)
        low += share
    return code


def _counts(kept: Path, own: np.ndarray) -> dict[int, int]:
    """How many training rows each label has."""
    counts: dict[int, int] = {}
    for ids, _, labels in _rows(kept):
        free = own[ids // ROWS_OF_A_FILE] == SPLITS.index("train")
        for label, count in zip(*np.unique(labels[free], return_counts=True), strict=True):
            counts[int(label)] = counts.get(int(label), 0) + int(count)
    return counts


def _by_label(labels: np.ndarray, counts: Mapping[int, int], seen: dict[int, int], shares: Mapping[str, float]) -> Any:
    """Rows of a label come one after the other, by their places."""
    code = np.full(len(labels), SPLITS.index("train"), dtype=np.uint8)
    if not len(labels):
        return code
    edges = np.flatnonzero(np.diff(labels)) + 1
    for start, end in zip([0, *edges], [*edges, len(labels)], strict=True):
        label = int(labels[start])
        rank = seen.get(label, 0) + np.arange(end - start)
        seen[label] = seen.get(label, 0) + int(end - start)
        low, exact = 0, 0.0
        for name, share in shares.items():
            exact += share
            high = floor(counts[label] * exact + 0.5)
            code[start:end][(rank >= low) & (rank < high)] = SPLITS.index(name)
            low = high
    return code
