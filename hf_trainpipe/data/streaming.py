"""Training data that is not kept: read window by window, each window as exact as a whole data set.

A window is so many rows, one after the other as they are published; inside it the order is the keyed permutation of
:mod:`~hf_trainpipe.data.sampler`. After the last row comes the first again. Where a window begins is a shard and an
offset in it, so that an interrupted run goes on without reading what was before.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hf_trainpipe.errors import DataError

if TYPE_CHECKING:
    from datasets import Dataset, IterableDataset


@dataclass(frozen=True)
class Position:
    """Where a window begins, as JSON holds it."""

    passes: int
    """How often all rows were read before."""
    state: dict[str, Any] | None
    """The stream's own: shard and offset (``datasets.IterableDataset.state_dict``); None: before the first row."""

    def to_json(self) -> dict[str, Any]:
        return vars(self).copy()


BEGINNING = Position(0, None)


class TrainStream:
    """Reads rows of a stream from any position.

    Args:
        open: Opens the stream at its first row.
        shape: What is done to the rows of a window (columns renamed, values replaced).
    """

    def __init__(
        self, open: Callable[[], IterableDataset], *, shape: Callable[[Dataset], Dataset] = lambda rows: rows
    ) -> None:
        self._open = open
        self._shape = shape

    def read(self, position: Position, count: int) -> tuple[Dataset, Position]:
        """The next ``count`` rows, and where those after them begin.

        Raises:
            DataError: there are no rows at all.
        """
        from datasets import Dataset

        rows: list[Mapping[str, Any]] = []
        passes, state, features = position.passes, position.state, None
        while len(rows) < count:
            stream = self._open()
            features = stream.features
            if state is not None:
                stream.load_state_dict(state)
            before = len(rows)
            for row in stream:
                rows.append(row)
                if len(rows) == count:
                    break
            else:
                if len(rows) == before and state is None:
                    raise DataError("data.train: the stream gave no rows.", fix="Check the split's page.")
                passes, state = passes + 1, None
                continue
            state = stream.state_dict()
        return self._shape(Dataset.from_list([dict(row) for row in rows], features=features)), Position(passes, state)


class Windows:
    """The windows of a run, in a folder that all ranks see; the rank that comes first reads one, the others open it.

    Args:
        folder: Its place; a window that is over is removed.
        rows: Of a window. Window 0 is the training split as the recipe's data gives it.
    """

    def __init__(self, stream: TrainStream, folder: Path, *, rows: int) -> None:
        self.stream = stream
        self.folder = folder
        self.rows = rows
        self.number = 0
        self.start = BEGINNING

    def open(self, number: int) -> tuple[Dataset, Path]:
        """Rows of a window that comes later than the last one opened, and its folder."""
        from datasets import load_from_disk

        while True:
            place, after = self._there(self.number, self.start)
            if self.number == number:
                return load_from_disk(str(place / "rows")), place
            self._remove(self.number - 1)
            self.number, self.start = self.number + 1, after

    def _place(self, number: int) -> Path:
        return self.folder / f"window-{number:06d}"

    def _there(self, number: int, start: Position) -> tuple[Path, Position]:
        """The folder of a window, read if no rank has done so, and where the next one begins."""
        from filelock import FileLock

        place = self._place(number)
        self.folder.mkdir(parents=True, exist_ok=True)
        with FileLock(place.with_suffix(".lock")):
            known = _after(place)
            if known is None:
                rows, after = self.stream.read(start, self.rows)
                building = place.with_name(f".{place.name}.{os.getpid()}")
                for unfinished in (building, place):
                    shutil.rmtree(unfinished, ignore_errors=True)
                rows.save_to_disk(str(building / "rows"))
                written = json.dumps(after.to_json())
                (building / "next.json").write_text(written)
                building.rename(place)
                known = Position(**json.loads(written))  # the same to the rank that read the window and to the others
        return place, known

    def _remove(self, number: int) -> None:
        shutil.rmtree(self._place(number), ignore_errors=True)
        self._place(number).with_suffix(".lock").unlink(missing_ok=True)

    def to_json(self) -> dict[str, Any] | None:
        """Where the window that is open begins; None for window 0."""
        return {"window": self.number, **self.start.to_json()} if self.number else None

    def restore(self, state: Mapping[str, Any] | None) -> None:
        """Go to the window of :meth:`to_json`; nothing is read yet."""
        self.number, self.start = 0, BEGINNING
        if state is not None:
            self.number = int(state["window"])
            self.start = Position(int(state["passes"]), state["state"])


def _after(place: Path) -> Position | None:
    """Where the window after that of ``place`` begins; None where it was not read, or its file is damaged."""
    try:
        return Position(**json.loads((place / "next.json").read_text()))
    except (OSError, TypeError, ValueError):
        return None
