"""What the page shows: a row a run, and curves. Files are read again only when they change.

Runs are read by :mod:`hf_trainpipe.api.run` and :mod:`hf_trainpipe.tracking.ledger`. Only what lies inside the folder is
read: a run, or a file of it, that a link leads out of it is left out.
"""

from __future__ import annotations

import json
import math
import threading
import time
from collections import Counter, OrderedDict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from hf_trainpipe.api.run import Run, as_row, find_runs
from hf_trainpipe.checkpoint.lock import is_locked
from hf_trainpipe.errors import TrainpipeError
from hf_trainpipe.package.card import flatten
from hf_trainpipe.tracking.ledger import FINAL, Point, Tail
from hf_trainpipe.utils.attempts import read_attempts

REPORT = "report.html"
LEDGER = "ledger.jsonl"
_WATCHED = ("run.json", "result.json", LEDGER, "attempts", "checkpoints", "package", REPORT, "run.lock")
_MOST_POINTS = 400
"""Of a curve; of a longer one every second point is left out, or more."""
_FOLLOWED = 32
"""Ledgers that are held open at most."""


class Curves:
    """The numbers of a ledger, which may grow, or be replaced by a shorter one."""

    def __init__(self, path: Path) -> None:
        self._tail = Tail(path)
        self._rewinds = 0
        self._values: dict[str, dict[int, float]] = {}

    def read(self) -> dict[str, dict[int, float]]:
        """Name to step to value, as of now; final scores are left out."""
        while lines := self._tail.read():
            if self._tail.rewinds != self._rewinds:
                self._rewinds, self._values = self._tail.rewinds, {}
            for line in lines:
                point = Point.from_line(line)
                if point is not None and not point.name.startswith(FINAL):
                    self._values.setdefault(point.name, {})[point.step] = point.value
        return self._values

    def close(self) -> None:
        self._tail.rewind()


@dataclass(eq=False)
class Seen:
    """A run as it was when its files had a certain stamp."""

    run: Run
    stamp: tuple[object, ...]

    @cached_property
    def row(self) -> dict[str, Any]:
        """What ``hf-trainpipe runs`` tells of it."""
        return as_row(self.run)

    @cached_property
    def settings(self) -> dict[str, Any]:
        """The fields of its recipe."""
        try:
            recipe = self.run.document.get("recipe") or {}
        except TrainpipeError:
            return {}
        return {field: value for field, value in flatten(recipe) if field != "name"}

    @cached_property
    def history(self) -> list[str]:
        """Fields that a resume changed."""
        try:
            entries = self.run.document.get("history") or []
        except TrainpipeError:
            return []
        return list(dict.fromkeys(str(field) for entry in entries for field, *_ in entry["changes"]))

    @cached_property
    def spans(self) -> list[tuple[float, float | None]]:
        """When each attempt began and ended, in seconds since the epoch; None: it did not say."""
        found = []
        for _, facts in sorted(read_attempts(self.run.path).items()):
            begun, ended = facts.get("started"), facts.get("ended")
            if isinstance(begun, (int, float)):
                found.append((float(begun), float(ended) if isinstance(ended, (int, float)) else None))
        return found


class RunTable:
    """The runs of a folder.

    Args:
        folder: A folder of runs, or one run.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._root = folder.resolve()
        self._seen: dict[str, Seen] = {}
        self._curves: OrderedDict[str, Curves] = OrderedDict()
        self._lock = threading.Lock()

    def rows(self) -> list[dict[str, Any]]:
        """One object a run, the newest first: what ``runs --json`` has of it, with its times, and the settings in which the
        runs differ."""
        with self._lock:
            seen = self._look()
            varied = _varied([one.settings for one in seen.values()])
            return [self._row(name, one, varied) for name, one in seen.items()]

    def curves(self, names: list[str]) -> dict[str, dict[str, list[list[float | None]]]]:
        """Run to number to points ``[step, value]``; of runs that there are."""
        with self._lock:
            seen = self._look()
            return {name: _points(self._numbers(name, seen[name].run)) for name in names if name in seen}

    def report(self, name: str) -> bytes | None:
        """The report of a run, if it has one."""
        with self._lock:
            run = self._look().get(name)
        if run is None or not self._holds(file := run.run.path / REPORT):
            return None
        try:
            return file.read_bytes()
        except OSError:
            return None

    def close(self) -> None:
        """Let go of the ledgers; what is asked for later is opened again."""
        with self._lock:
            while self._curves:
                self._curves.popitem()[1].close()

    def _look(self) -> dict[str, Seen]:
        """The runs that are there now; of those that did not change, what was read before."""
        found: dict[str, Seen] = {}
        for run in find_runs(self.folder):
            if not self._is_ours(run.path):
                continue
            name, stamp = run.path.resolve().name, tuple(_stamp(run.path))
            known = self._seen.get(name)
            found[name] = known if known is not None and known.stamp == stamp else Seen(run, stamp)
        for name in set(self._curves) - set(found):
            self._curves.pop(name).close()
        self._seen = found
        return found

    def _is_ours(self, place: Path) -> bool:
        """Whether a run lies inside the folder with all that is read of it."""
        files = ("run.json", "result.json", LEDGER, "attempts", "checkpoints")
        return self._inside(place) and all(self._inside(file) for name in files if (file := place / name).is_symlink())

    def _inside(self, path: Path) -> bool:
        return path.resolve().is_relative_to(self._root)

    def _holds(self, file: Path) -> bool:
        return file.is_file() and not file.is_symlink() and self._inside(file)

    def _row(self, name: str, seen: Seen, varied: Mapping[str, str]) -> dict[str, Any]:
        now, spans = time.time(), seen.spans
        row = {**seen.row, "run": name}
        is_running = row["state"] == "running"
        last = now if is_running else _changed(seen.run.path / LEDGER)
        seconds = sum(max(0.0, (last if end is None else end) - begun) for begun, end in spans)
        settings = {field: seen.settings.get(field) for field in varied}
        row |= {
            "started": spans[0][0] if spans else None,
            "seconds": round(seconds),
            "settings": settings,
            "changed": [field for field, value in settings.items() if _spelt(value) != varied[field]],
            "history": seen.history,
            "report": self._holds(seen.run.path / REPORT),
            "latest": None,
        }
        if row["score"] is None and row["state"] != "damaged":
            row["latest"] = _latest(self._numbers(name, seen.run))
            if is_running and row["latest"] is not None:
                row["step"] = max(row["step"], row["latest"]["last_step"])
        return row

    def _numbers(self, name: str, run: Run) -> dict[str, dict[int, float]]:
        if name not in self._curves:
            self._curves[name] = Curves(run.path / LEDGER)
            if len(self._curves) > _FOLLOWED:
                self._curves.popitem(last=False)[1].close()
        self._curves.move_to_end(name)
        try:
            return self._curves[name].read()
        except OSError:
            return {}


def _stamp(run: Path) -> Iterator[object]:
    yield is_locked(run / "run.lock")
    for name in _WATCHED:
        try:
            found = (run / name).stat()
        except OSError:
            yield None
        else:
            yield found.st_ino, found.st_mtime_ns, found.st_size


def _changed(file: Path) -> float:
    try:
        return file.stat().st_mtime
    except OSError:
        return 0.0


def _varied(settings: list[dict[str, Any]]) -> dict[str, str]:
    """Fields in which recipes differ, and the value that most of them have."""
    fields = dict.fromkeys(field for one in settings for field in one)
    counts = {field: Counter(_spelt(one.get(field)) for one in settings if one) for field in fields}
    return {field: count.most_common(1)[0][0] for field, count in counts.items() if len(count) > 1}


def _spelt(value: Any) -> str:
    return json.dumps(value, sort_keys=True, default=str)


def _latest(numbers: Mapping[str, Mapping[int, float]]) -> dict[str, Any] | None:
    """The newest score of a run without final ones, and its last step."""
    last = max((max(points) for points in numbers.values()), default=None)
    if last is None:
        return None
    scored = [name for name in numbers if name.startswith("validation/") and name != "validation/loss"]
    name = scored[0] if scored else "train/loss"
    points = numbers.get(name) or {last: math.nan}
    value = points[max(points)]
    return {
        "name": name,
        "step": max(points),
        "value": value if math.isfinite(value) else None,
        "last_step": last,
    }


def _points(numbers: Mapping[str, Mapping[int, float]]) -> dict[str, list[list[float | None]]]:
    found: dict[str, list[list[float | None]]] = {}
    for name, points in numbers.items():
        steps = sorted(points)
        every = -(-len(steps) // _MOST_POINTS)
        kept = steps[::every]
        if kept[-1] != steps[-1]:
            kept.append(steps[-1])
        found[name] = [[step, points[step] if math.isfinite(points[step]) else None] for step in kept]
    return found
