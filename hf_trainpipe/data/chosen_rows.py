"""Chosen rows of another source, by split and number: what ``train RECIPE --rows FILE`` makes of a recipe's data.

The file says, for each split of the run, which rows of which splits of the data it takes, counted from 0 in the order of
``data.splits()``::

    {"train": [["train", [0, 2, 3]], ["validation", [0]]], "test": [["train", [1, 4]]]}
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from hf_trainpipe.data.sources import SPLITS
from hf_trainpipe.errors import DataError, closest
from hf_trainpipe.recipe import Data
from hf_trainpipe.utils.atomic import sha256_file, write_bytes

if TYPE_CHECKING:
    from datasets import Dataset, DatasetDict

Choice = Mapping[str, Sequence[tuple[str, Sequence[int]]]]
"""Split of the run to its parts: a split of the data, and rows of it."""
EXAMPLE = '{"train": [["train", [0, 2, 3]]], "test": [["train", [1, 4]]]}'


@dataclass(frozen=True, kw_only=True)
class ChosenRows(Data):
    """Rows of another source, as a file chooses them. :meth:`of` makes one; ``train --rows FILE`` calls it.

    Rows keep their order in the file, and files and lines keep their names in messages. A run belongs to the content of the
    file: it may be moved, not changed.
    """

    source: Data
    """What the rows are chosen from."""
    rows_file: str
    """A JSON file: for each split of the run, the splits of the source and the numbers of the rows that it takes."""
    sha256: str
    """Of the file."""

    @classmethod
    def of(cls, source: Data, rows_file: str | Path) -> Self:
        """The rows of ``source`` that a file chooses.

        Raises:
            DataError: there is no such file, or it says something else.
        """
        read(Path(rows_file))
        return cls(source=source, rows_file=str(rows_file), sha256=sha256_file(Path(rows_file)))

    def splits(self) -> DatasetDict:
        """The splits that the file names, made of the source's rows.

        Raises:
            DataError: the file changed, or names rows that the source does not have.
        """
        from datasets import DatasetDict

        from hf_trainpipe.utils.resources import check_sha256, resolve

        path = resolve(self.rows_file)
        check_sha256(path, self.sha256)
        chosen = read(path)
        if self.source.stream() is not None:
            raise DataError(
                f"{path}: the data is streamed, and the rows of a stream have no numbers.",
                fix="Set data.streaming to false, or data.take to read so many rows.",
            )
        there = self.source.splits()
        return DatasetDict({split: _taken(there, parts, split=split, path=path) for split, parts in chosen.items()})

    def paths(self) -> tuple[Path, ...]:
        from hf_trainpipe.utils.resources import resolve

        return (*self.source.paths(), resolve(self.rows_file))

    def origin(self) -> Data:
        return self.source.origin()

    def describe(self) -> str:
        return f"{self.source.describe()}; of these, the rows that {Path(self.rows_file).name} chooses (sha256 {self.sha256[:12]})"


def write(path: Path, chosen: Choice) -> None:
    """Write a file of rows; the same choice gives the same bytes."""
    plain = {
        split: [[name, np.asarray(rows, dtype=np.int64).tolist()] for name, rows in chosen[split]]
        for split in SPLITS
        if split in chosen
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    write_bytes(path, json.dumps(plain).encode())


def read(path: Path) -> dict[str, list[tuple[str, np.ndarray]]]:
    """What a file of rows chooses: split of the run to parts, each a split of the data with int64 rows.

    Raises:
        DataError: it does not exist, is no JSON, has another form, or takes a row twice.
    """
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        known = [str(entry) for entry in path.parent.glob("*.json")] if path.parent.is_dir() else []
        raise DataError(
            f"{path}: there is no such file of rows.{closest(str(path), known)}",
            fix=f"Name a JSON file like {EXAMPLE}",
            file=str(path),
        ) from None
    except (OSError, ValueError) as error:
        raise DataError(
            f"{path}: expected rows by split as JSON, found: {error}.",
            fix=f"Write {EXAMPLE}",
            file=str(path),
            line=getattr(error, "lineno", None),
        ) from None
    if not isinstance(found, dict) or "train" not in found:
        names = ", ".join(found) if isinstance(found, dict) and found else type(found).__name__
        raise _wrong(path, f"an object with a list for 'train', found {names}")
    chosen: dict[str, list[tuple[str, np.ndarray]]] = {}
    for split, parts in found.items():
        if split not in SPLITS:
            raise _wrong(path, f"the splits {', '.join(SPLITS)}, found {split!r}")
        if not isinstance(parts, list):
            raise _wrong(path, f"a list of parts for {split!r}, found {parts!r:.60}")
        chosen[split] = [_part(part, split, path) for part in parts]
        if not any(len(rows) for _, rows in chosen[split]):
            raise _wrong(path, f"rows for {split!r}, found none")
    _check_once(chosen, path)
    return {split: chosen[split] for split in SPLITS if split in chosen}


def _part(part: Any, split: str, path: Path) -> tuple[str, np.ndarray]:
    match part:
        case [str(name), list(rows)] if all(type(row) is int and row >= 0 for row in rows):
            return name, np.asarray(rows, dtype=np.int64)
    raise _wrong(path, f'["a split of the data", [row numbers from 0]] for {split!r}, found {part!r:.60}')


def _check_once(chosen: Mapping[str, Sequence[tuple[str, np.ndarray]]], path: Path) -> None:
    """Refuse a row that is taken twice: the same text in training and test gives scores that are too good."""
    by_name: dict[str, list[tuple[str, np.ndarray]]] = {}
    for split, parts in chosen.items():
        for name, rows in parts:
            by_name.setdefault(name, []).append((split, rows))
    for name, taken in by_name.items():
        rows = np.concatenate([rows for _, rows in taken])
        unique, counts = np.unique(rows, return_counts=True)
        if len(unique) < len(rows):
            row = int(unique[counts > 1][0])
            takers = [split for split, rows in taken for _ in range(int((rows == row).sum()))]
            raise _wrong(path, f"each row once, found row {row} of {name!r} in {' and in '.join(takers)}")


def _wrong(path: Path, message: str) -> DataError:
    return DataError(f"{path}: expected {message}.", fix=f"Write {EXAMPLE}", file=str(path))


def _taken(there: DatasetDict, parts: Sequence[tuple[str, np.ndarray]], *, split: str, path: Path) -> Dataset:
    """The rows of one split of the run."""
    from datasets import concatenate_datasets

    found = []
    for name, rows in parts:
        if name not in there:
            raise DataError(
                f"{path}: {split!r} takes rows of {name!r}, and the data has {', '.join(there)}.{closest(name, there)}",
                fix="Choose rows of splits that the recipe's data has.",
                file=str(path),
            )
        if len(rows) and int(rows.max()) >= len(there[name]):
            raise DataError(
                f"{path}: {split!r} takes row {int(rows.max()):,} of {name!r}, which has {len(there[name]):,} rows (from 0).",
                fix="The file was made for other data. Choose rows again.",
                file=str(path),
            )
        if len(rows):
            found.append(there[name].select(rows))
    try:
        return found[0] if len(found) == 1 else concatenate_datasets(found)
    except ValueError as error:
        raise DataError(
            f"{path}: {split!r} joins rows of {' and '.join(name for name, _ in parts)}, whose columns differ: {error}",
            fix="Give the splits the same columns (data.rename, data.columns), or choose rows of one of them.",
            file=str(path),
        ) from error
