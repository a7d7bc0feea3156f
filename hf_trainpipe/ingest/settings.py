"""What an ingest does, as a frozen choice; the rules that every engine follows."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from hf_trainpipe.data.sources import SPLITS, Files, Source, as_patterns
from hf_trainpipe.data.sources_sql import Sql
from hf_trainpipe.errors import RecipeError
from hf_trainpipe.recipe.settings import check_choice, check_positive

DROPPED: Mapping[int, str] = {
    16: "no text",
    17: "shorter than min_chars",
    18: "longer than max_chars",
    19: "a duplicate of an earlier row",
}
"""Why a row is left out, by its code; codes below are positions in ``SPLITS``."""
EMPTY, SHORT, LONG, DUPLICATE = DROPPED

ID, WHY, BY = "__id__", "__why__", "__by__"
"""Columns of staged rows: a number that orders all rows, the code of why one is left out, and its label or group."""
ROWS_OF_A_FILE = 1 << 36
"""The first rows of files are so far apart in :data:`ID`."""
GiB = 1 << 30


@dataclass(frozen=True, kw_only=True)
class Ingest:
    """Rows of a source, cleaned and cut into splits.

    A row is the same row on every machine: what is dropped and which split it goes to depends on its cells, the seed and the
    rows before it, never on an engine, the number of processes, or the order in which they end.
    """

    source: Source
    """``Files`` or ``Sql``. Its ``rename`` and ``columns`` are applied; ``validation`` and ``test`` are fractions, or files
    (queries) of their own, whose texts are then left out of the training rows. ``stratify``, ``group`` and ``seed`` say how
    fractions are cut."""
    texts: tuple[str, ...] = ("text",)
    """Columns of text that are cleaned."""
    space: Literal["one", "keep"] = "one"
    """``one``: white space of any kind becomes one space, none at the ends."""
    min_chars: int = 1
    """Shorter texts are dropped; characters are Unicode's."""
    max_chars: int | None = None
    """Longer texts are dropped; None: none is."""
    unique: tuple[str, ...] | None = None
    """Columns that make a row a duplicate of an earlier one if all are equal; None: ``texts``; (): no row is."""
    rows_per_shard: int | None = None
    """None: as many as take about 64 MiB."""
    engine: Literal["duckdb", "dask"] = "duckdb"
    """What finds duplicates and sorts; both give the same rows."""
    cluster: str | None = None
    """dask: the address of a scheduler, ``tcp://host:8786``, whose workers see the same folders; None: on this machine."""
    memory: int = GiB
    """Bytes that the whole ingest may take, about."""
    processes: int | None = None
    """Processes that read files; None: as many as processors, files and memory allow."""

    def __post_init__(self) -> None:
        if not isinstance(self.source, Files | Sql):
            raise RecipeError(
                f"ingest.source: expected Files or Sql, found {type(self.source).__name__}.",
                fix="Write what it holds to parquet, and name that: Files(train='rows/*.parquet').",
            )
        check_choice("ingest.space", self.space, ("one", "keep"))
        check_choice("ingest.engine", self.engine, ("duckdb", "dask"))
        check_positive("ingest.rows_per_shard", self.rows_per_shard)
        check_positive("ingest.processes", self.processes)
        if self.cluster is not None and self.engine != "dask":
            raise RecipeError("ingest.cluster: only Dask has one.", fix="Choose the engine dask.")
        if self.min_chars < 0 or (self.max_chars is not None and self.max_chars < max(1, self.min_chars)):
            raise RecipeError(
                f"ingest.min_chars, max_chars: expected 0 <= min <= max, found {self.min_chars} and {self.max_chars}.",
                fix="Choose other bounds.",
            )
        if self.memory < GiB // 2:
            raise RecipeError(
                f"ingest.memory: expected 512 MiB or more, found {self.memory / 2**20:.0f} MiB.",
                fix="Libraries alone take about 250 MiB.",
            )
        unused = [name for name in ("join", "lists", "values", "drop_missing") if getattr(self.source, name)]
        unused += ["cut"] if self.source.cut != "random" else []
        if unused:
            raise RecipeError(
                f"data.{unused[0]}: an ingest does not apply it.", fix="Set it where the shards are read: Shards(...)."
            )

    @property
    def unique_by(self) -> tuple[str, ...]:
        """The columns that make duplicates."""
        return self.texts if self.unique is None else self.unique

    @property
    def by(self) -> str | None:
        """The column of labels or groups that fractions are cut by."""
        return self.source.stratify or self.source.group

    def fractions(self) -> dict[str, float]:
        """The splits that are cut off the training rows."""
        return self.source.named_splits()[1]

    def given(self) -> list[tuple[str, tuple[str, ...]]]:
        """What is read, split by split: test first, so that the training rows lose what repeats it."""
        named = self.source.named_splits()[0]
        return [(split, as_patterns(named[split])) for split in reversed(SPLITS) if split in named]

    def told(self) -> dict[str, Any]:
        """What decides about the rows, for the manifest: no paths, engines or numbers of processes."""
        source = self.source
        return {
            "texts": list(self.texts), "space": self.space, "min_chars": self.min_chars, "max_chars": self.max_chars,
            "unique": list(self.unique_by), "fractions": self.fractions(), "stratify": source.stratify,
            "group": source.group, "seed": source.seed, "columns": list(source.columns), "rename": dict(source.rename),
            "rows_per_shard": self.rows_per_shard,
        }  # fmt: skip


def key_text(cells: tuple[str | None, ...]) -> str:
    """What is hashed of the cells that make a duplicate: two rows have the same one if all their cells are equal."""
    return "".join("n" if cell is None else f"s{len(cell)}:{cell}" for cell in cells)


def number_of(text: str) -> int:
    """The md5 of a text as DuckDB's ``md5_number`` has it: 128 bits, the first byte the lowest. No secret depends on it."""
    return int.from_bytes(hashlib.md5(text.encode(), usedforsecurity=False).digest(), "little")


def place_of(text: str, seed: int) -> int:
    """Where a text falls among 2**64 places: rows below a fraction of them are cut off."""
    return number_of(f"{seed}:{text}") >> 64
