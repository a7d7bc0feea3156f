"""The rows of a log: which of them an earlier call has read, and what the package is asked by each."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

from hf_trainpipe.data.credentials import is_remote, shown_address
from hf_trainpipe.data.place import spell_place
from hf_trainpipe.data.readers_base import ReadOptions
from hf_trainpipe.package.columns import Chooser, known_columns, parse_asked
from hf_trainpipe.package.inputs import Record, read_records
from hf_trainpipe.package.layout import read_manifest

CHUNK = 1_000
"""Rows that are read at a time."""


class Log:
    """A file of rows, here or elsewhere, or standard input, whose rows are counted and hashed as they are read.

    Args:
        path: The file, or its address; ``-`` is standard input.
        package: Whose columns its rows have.
        logs: ``{"rows", "sha256"}`` of what was read before: a file that begins with such rows has grown since.

    Raises:
        DataError: it cannot be read, or lacks the columns.
    """

    def __init__(
        self,
        path: Path | str,
        package: Path,
        *,
        column: Sequence[str],
        reading: ReadOptions,
        logs: Sequence[Mapping[str, Any]],
    ) -> None:
        is_elsewhere = is_remote(str(path))
        self.name = shown_address(str(path)) if is_elsewhere else str(path)
        self.is_repeatable = is_elsewhere or Path(path).is_file()
        """Whether it can be read again: standard input and pipes cannot."""
        known = known_columns(read_manifest(package))
        self._chooser = Chooser(known, parse_asked(column, known), name=self.name)
        self._digest = hashlib.sha256()
        self.rows = 0
        self.known = self._count_known(path, reading, logs)
        """Rows that were read before."""
        self._records = read_records(path, reading)
        for record in islice(self._records, self.known):
            if not self.rows:
                self._input(record)  # the first row decides about the columns
            self._add(record)

    def chunks(self) -> Iterator[list[tuple[str, Any]]]:
        """The rows that are new, as their places and what the package is asked by each."""
        while chunk := list(islice(self._records, CHUNK)):
            inputs = [self._input(record) for record in chunk]
            for record in chunk:
                self._add(record)
            places = [str(spell_place(self.name, record.line)) for record in chunk]
            yield list(zip(places, inputs, strict=True))

    def told(self) -> dict[str, Any]:
        """What a later call knows these rows by."""
        return {"name": Path(self.name).name, "rows": self.rows, "sha256": self._digest.hexdigest()}

    def _input(self, record: Record) -> Any:
        chooser = self._chooser
        return chooser.input_of(record.fields) if record.fields is not None else chooser.line(record.value)

    def _add(self, record: Record) -> None:
        self.rows += 1
        self._digest.update(_spelt(record))

    def _count_known(self, path: Path | str, reading: ReadOptions, logs: Sequence[Mapping[str, Any]]) -> int:
        if not logs or not self.is_repeatable:
            return 0
        before: dict[int, set[str]] = {}
        for one in logs:
            before.setdefault(int(one["rows"]), set()).add(str(one["sha256"]))
        digest, found = hashlib.sha256(), 0
        for rows, record in enumerate(islice(read_records(path, reading), max(before)), 1):
            digest.update(_spelt(record))
            if rows in before and digest.hexdigest() in before[rows]:
                found = rows
        return found


def _spelt(record: Record) -> bytes:
    value = record.fields if record.fields is not None else record.value
    return json.dumps(value, ensure_ascii=False, default=str).encode("utf-8", "surrogatepass") + b"\n"
