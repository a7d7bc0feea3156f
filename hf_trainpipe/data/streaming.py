"""Streamed training data, read window by window instead of downloaded.

A window is a fixed number of consecutive rows, shuffled by the permutation of :mod:`~hf_trainpipe.data.sampler`. After
the last row comes the first again. A checkpoint holds the shard and offset of its window, so that a resumed run does
not read earlier rows again.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hf_trainpipe.errors import DataError
from hf_trainpipe.utils.atomic import new_folder

if TYPE_CHECKING:
    from datasets import Dataset, IterableDataset


@dataclass(frozen=True)
class Position:
    """The start of a window, as saved in JSON."""

    passes: int
    """Completed passes over all rows."""
    state: dict[str, Any] | None
    """Shard and offset (``datasets.IterableDataset.state_dict``); None: the first row."""

    def to_json(self) -> dict[str, Any]:
        return vars(self).copy()


BEGINNING = Position(0, None)


class TrainStream:
    """Reads rows of a stream from any position.

    Args:
        open: Opens the stream at its first row.
        shape: Applied to the rows of a window (renames columns, replaces values).
    """

    def __init__(
        self, open: Callable[[], IterableDataset], *, shape: Callable[[Dataset], Dataset] = lambda rows: rows
    ) -> None:
        self._open = open
        self._shape = shape

    def read(self, position: Position, count: int) -> tuple[Dataset, Position]:
        """The next ``count`` rows, and the position after them.

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
    """The windows of a run, in a folder shared by all ranks: the first rank reads a window, the others open it.

    Args:
        folder: The shared folder; finished windows are removed.
        rows: Rows of a window. Window 0 is the training split of the recipe's data.
    """

    def __init__(self, stream: TrainStream, folder: Path, *, rows: int) -> None:
        self.stream = stream
        self.folder = folder
        self.rows = rows
        self.number = 0
        self.start = BEGINNING

    def open(self, number: int) -> tuple[Dataset, Path]:
        """The rows and folder of a window; windows are opened in order."""
        from datasets import load_from_disk

        while True:
            place, after = self._ensure_read(self.number, self.start)
            if self.number == number:
                return load_from_disk(str(place / "rows")), place
            self._remove(self.number - 1)
            self.number, self.start = self.number + 1, after

    def _folder_of(self, number: int) -> Path:
        return self.folder / f"window-{number:06d}"

    def _ensure_read(self, number: int, start: Position) -> tuple[Path, Position]:
        """The folder of a window, which is read now if no rank has read it, and the start of the next one."""
        from filelock import FileLock

        place = self._folder_of(number)
        self.folder.mkdir(parents=True, exist_ok=True)
        with FileLock(place.with_suffix(".lock")):
            known = _next_position(place)
            if known is None:
                rows, after = self.stream.read(start, self.rows)
                written = json.dumps(after.to_json())
                with new_folder(place) as building:
                    rows.save_to_disk(str(building / "rows"))
                    (building / "next.json").write_text(written)
                known = Position(**json.loads(written))  # through JSON, as the other ranks read it
        return place, known

    def _remove(self, number: int) -> None:
        shutil.rmtree(self._folder_of(number), ignore_errors=True)
        self._folder_of(number).with_suffix(".lock").unlink(missing_ok=True)

    def to_json(self) -> dict[str, Any] | None:
        """The start of the open window; None for window 0."""
        return {"window": self.number, **self.start.to_json()} if self.number else None

    def restore(self, state: Mapping[str, Any] | None) -> None:
        """Set the window from :meth:`to_json`, without reading it yet."""
        self.number, self.start = 0, BEGINNING
        if state is not None:
            self.number = int(state["window"])
            self.start = Position(int(state["passes"]), state["state"])


def _next_position(place: Path) -> Position | None:
    """The start of the window after ``place``; None if that was not read yet or its file is damaged."""
    try:
        return Position(**json.loads((place / "next.json").read_text()))
    except (OSError, TypeError, ValueError):
        return None
