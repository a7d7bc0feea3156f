"""The ledger: every number of a run, one JSON line each. It is the source of truth; trackers are fed from it.

    {"step": 120, "epoch": 0.55, "name": "train/loss", "value": 0.4312, "attempt": 1, "time": 1767225600.1}

There is one point for each (name, step), and the steps of a name grow. ``time`` is in seconds since
the Unix epoch. JSON (RFC 8259) has no NaN or infinity: those values are the strings ``"NaN"``,
``"Infinity"`` and ``"-Infinity"``, which Python's ``float`` reads back.
"""

from __future__ import annotations

import contextlib
import json
import math
import os
import time as clock
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, BinaryIO, Self

from hf_trainpipe.errors import CheckpointError
from hf_trainpipe.utils.atomic import write_bytes

FINAL = "final/"
"""How the names of final scores begin."""


@dataclass(frozen=True, slots=True)
class Point:
    """One number of a run."""

    step: int
    epoch: float
    name: str
    value: float
    attempt: int
    time: float
    """Seconds since the Unix epoch."""

    def to_line(self) -> bytes:
        """One line of valid JSON, its newline included."""
        value = self.value if math.isfinite(self.value) else json.dumps(self.value)
        return json.dumps({**asdict(self), "value": value}, allow_nan=False).encode() + b"\n"

    @classmethod
    def from_line(cls, line: bytes) -> Self | None:
        """Read one line; None where it is not a whole, well-formed point."""
        row = parse_object(line) or {}
        try:
            return cls(**{name: kind(row[name]) for name, kind in _KINDS.items()})
        except (KeyError, TypeError, ValueError):
            return None


_KINDS: dict[str, type] = {"step": int, "epoch": float, "name": str, "value": float, "attempt": int, "time": float}


class Ledger:
    """The open ledger of a run, for its main process only.

    A full disk does not end a run here: lines that cannot be written wait in memory and are tried
    again at the next call. Only :meth:`flush` and :attr:`offset`, which a checkpoint relies on, raise.
    """

    def __init__(
        self, path: str | Path, *, attempt: int, truncate_to: int | None = None, last_step: int | None = None
    ) -> None:
        """Open a ledger for appending, and remove the lines that the run will repeat.

        Args:
            path: The file; it is created where it does not exist.
            attempt: Which attempt of the run writes, from 1.
            truncate_to: Bytes to keep: the ``offset`` that the checkpoint recorded, 0 where the run
                starts over, None to keep every whole line. A line torn by a crash is cut off in
                any case. The shorter file replaces the longer one by a rename, so a crash leaves
                one or the other.
            last_step: The step that the run continues after: points of later steps, and what follows them, are cut
                off whatever ``truncate_to`` says; None: not looked at.

        Raises:
            CheckpointError: the place is no file, or cannot be read or written.
        """
        self.path = path = Path(path)
        self.attempt = attempt
        self._pending = b""
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            content = path.read_bytes() if path.exists() else b""
            size = len(content) if truncate_to is None else max(0, truncate_to)
            keep, self._last_step = _kept(content[:size], last_step)
            if keep < len(content):
                write_bytes(path, content[:keep])
            self._file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
            self._size = os.fstat(self._file).st_size
        except OSError as error:
            raise CheckpointError(
                f"{path}: expected a file of the run's numbers, one a line; found that it cannot be used "
                f"({error.strerror or error}).",
                fix="Bring it back from a copy; or remove it: the run goes on without the numbers so far.",
                exit_code=2,
            ) from error

    def log(self, values: Mapping[str, float], *, step: int, epoch: float) -> None:
        """Append one line a value.

        Raises:
            ValueError: where a name already has a point at this step or a later one; nothing of
                the call is written then.
        """
        now = clock.time()
        points = [
            Point(int(step), float(epoch), name, float(value), self.attempt, now) for name, value in values.items()
        ]
        for point in points:
            last = self._last_step.get(point.name)
            if last is not None and point.step <= last:
                raise ValueError(
                    f"{point.name}: expected a step after {last}, found step {point.step}. "
                    "A metric has one point a step; log it once, and in the order of the steps."
                )
        for point in points:
            self._last_step[point.name] = point.step
        self._pending += b"".join(point.to_line() for point in points)
        with contextlib.suppress(OSError):  # kept in memory; the flush of the next checkpoint reports it
            self._write()

    @property
    def offset(self) -> int:
        """Bytes written so far, for ``truncate_to`` of a later attempt.

        Raises:
            OSError: pending lines cannot be written.
        """
        self._write()
        return self._size

    def flush(self) -> None:
        """Write pending lines, and return once they are on the device.

        Raises:
            OSError: where the file cannot be written.
        """
        self._write()
        os.fsync(self._file)

    def close(self) -> None:
        """Write pending lines, and close. Closing twice is fine."""
        if self._file < 0:
            return
        try:
            self._write()
        finally:
            os.close(self._file)
            self._file = -1

    def _write(self) -> None:
        """Write the pending lines whole, or not at all."""
        rest = memoryview(self._pending)
        try:
            while rest:
                rest = rest[os.write(self._file, rest) :]
        except OSError:
            os.ftruncate(self._file, self._size)
            raise
        self._size += len(self._pending)
        self._pending = b""


class Tail:
    """Follows a file of JSON lines that grows, and that a shorter one may replace."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.rewinds = 0
        """How often it started again, because another file had replaced this one."""
        self._file: BinaryIO | None = None

    def read(self, *, num_lines: int = 1000) -> list[bytes]:
        """The next whole lines, at most ``num_lines``; from the first one where the file was replaced."""
        try:
            found = os.stat(self.path)
        except FileNotFoundError:
            return []
        if self._file is not None:
            held = os.fstat(self._file.fileno())
            if held.st_ino != found.st_ino or held.st_dev != found.st_dev or found.st_size < self._file.tell():
                self.rewind()
        if self._file is None:
            self._file = open(self.path, "rb")  # noqa: SIM115  held while it is followed
        lines: list[bytes] = []
        while len(lines) < num_lines:
            start = self._file.tell()
            line = self._file.readline()
            if not line.endswith(b"\n"):
                self._file.seek(start)
                break
            lines.append(line)
        return lines

    def rewind(self) -> None:
        """Start again from the first line at the next read; until then, no file is open."""
        if self._file is not None:
            self._file.close()
            self._file = None
            self.rewinds += 1


def read(path: str | Path) -> Iterator[Point]:
    """Every point of a ledger, in the order in which they were logged. A missing file has none."""
    try:
        with open(path, "rb") as lines:
            for line in lines:
                point = Point.from_line(line)
                if point is not None:
                    yield point
    except FileNotFoundError:
        return


def series(path: str | Path, name: str) -> list[tuple[int, float]]:
    """The points of one metric: ``[(step, value), ...]``, by step."""
    return [(point.step, point.value) for point in read(path) if point.name == name]


def parse_object(line: bytes) -> dict[str, Any] | None:
    """A JSON object that fills a whole line, or None."""
    if not line.endswith(b"\n"):
        return None
    try:
        row = json.loads(line)
    except ValueError:
        return None
    return row if isinstance(row, dict) else None


def _kept(lines: bytes, last_step: int | None) -> tuple[int, dict[str, int]]:
    """Bytes up to the end of the last point to keep, and the last step of each name up to there.

    With a ``last_step``, nothing is kept from the first point on that comes after that checkpoint: of a later step, one
    that repeats an earlier one, or a final score.
    """
    seen: dict[str, int] = {}
    end = kept = 0
    for line in lines.splitlines(keepends=True):
        end += len(line)
        point = Point.from_line(line)
        if point is None:
            continue
        repeats = point.step <= seen.get(point.name, -1)
        if last_step is not None and (point.step > last_step or repeats or point.name.startswith(FINAL)):
            break
        seen[point.name], kept = point.step, end
    return kept, seen
