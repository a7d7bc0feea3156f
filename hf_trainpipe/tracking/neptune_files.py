"""Offline runs of Neptune as runs of this project, so that any tracker can have them: ``track sync RUN --to mlflow``.

The client keeps a run as operations, ``.neptune/offline/run__ID__.../data-*.log``: JSON objects ``{"obj": operation,
"version": n}``, one after the other. Those of ``.neptune/async`` have the same form. What is made of a run is a folder with
``ledger.jsonl`` (its series of numbers), ``run.json`` (who it is, and its parameters as the recipe), ``neptune.json`` (every
other value, tag and series of texts) and ``files/`` (what was uploaded and is still there).
"""

from __future__ import annotations

import base64
import contextlib
import json
import math
import re
import shutil
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hf_trainpipe.errors import DataError
from hf_trainpipe.tracking.facts import last_of
from hf_trainpipe.tracking.ledger import Point
from hf_trainpipe.utils.atomic import write_bytes, write_json

KIND = "neptune"
OURS = "metrics/"
"""Where our own adapter puts the ledger's names."""
UID = "hf_trainpipe/uid"
"""Where it puts the id of our run: offline, the client does not write its ``custom_run_id``."""


@dataclass
class NeptuneRun:
    """What the operations of a run leave."""

    values: dict[str, Any] = field(default_factory=dict)
    tags: dict[str, list[str]] = field(default_factory=dict)
    numbers: dict[str, list[tuple[float | None, float, float]]] = field(default_factory=dict)
    """Series -> (step, value, time)."""
    texts: dict[str, list[tuple[float | None, str, float]]] = field(default_factory=dict)
    files: dict[str, bytes | Path | str] = field(default_factory=dict)
    """Field -> content, a file in the run's own folder, or where the file was: that is told, and not read."""

    @property
    def is_ours(self) -> bool:
        """Whether our adapter wrote it."""
        return any(name.startswith("recipe/") for name in self.values)

    @property
    def uid(self) -> str | None:
        """What the parts of a run have in common: each process that went on with it made a folder of its own."""
        return self.values.get(UID) or self.values.get("sys/custom_run_id")

    @property
    def begins(self) -> float:
        """The time of its first number: parts of a run are joined in this order."""
        return min((time for points in self.numbers.values() for _, _, time in points), default=math.inf)

    def apply(self, operation: dict[str, Any], folder: Path) -> None:
        """Do what the server would have done."""
        kind, name = operation["type"], "/".join(operation["path"])
        stores: tuple[dict[str, Any], ...] = (self.values, self.tags, self.numbers, self.texts, self.files)
        if kind.startswith("Assign"):
            self.values[name] = operation.get("value", operation.get("hash"))
        elif kind in ("LogFloats", "LogStrings"):
            series: Any = self.numbers if kind == "LogFloats" else self.texts
            series.setdefault(name, []).extend((p.get("step"), p["value"], float(p["ts"])) for p in operation["values"])
        elif kind == "AddStrings":
            self.tags[name] = sorted({*self.tags.get(name, ()), *operation["values"]})
        elif kind == "RemoveStrings":
            self.tags[name] = sorted({*self.tags.get(name, ())} - {*operation["values"]})
        elif kind == "UploadFileContent":
            self.files[_ending(name, operation)] = base64.b64decode(operation["file_content"])
        elif kind == "UploadFile":
            kept = operation.get("tmp_file_name")
            self.files[_ending(name, operation)] = (
                folder / "upload_path" / kept if kept else Path(operation["file_path"])
            )
        elif kind in ("DeleteAttribute", "ClearFloatLog", "ClearStringLog", "ClearStringSet", "ClearImageLog"):
            for store in stores:
                for found in [found for found in store if found == name or found.startswith(f"{name}/")]:
                    del store[found]


def import_runs(folder: Path, output: str | Path | None = None) -> dict[str, Any]:
    """Make runs of the offline Neptune runs in a folder; what was made before is brought up to date.

    Args:
        folder: A ``.neptune`` folder, one that holds it, or that of one run.
        output: Where the runs' folders go; None: ``runs``.

    Returns:
        ``runs``: of each its ``run`` (folder), ``name``, ``points``, ``left_out`` (points that repeat a step) and ``new``.

    Raises:
        DataError: There is no such run, or a folder is in the way.
    """
    found: dict[str, tuple[NeptuneRun, str]] = {}
    for place, made in sorted(((place, _read(place)) for place in _places(folder)), key=lambda part: part[1].begins):
        if not (made.numbers or made.texts or made.files) and all(name.startswith("sys/") for name in made.values):
            continue  # killed before it was told anything
        own = place.name.split("__")[1]
        uid = made.uid or own
        if uid in found:
            _join(found[uid][0], made)
        else:
            found[uid] = (made, own)
    if not found:
        raise DataError(
            f"{folder}: expected offline runs of Neptune, found no folder run__... with data-*.log.",
            fix="Name the .neptune folder that the training wrote, or a folder that holds it.",
        )
    root = Path(output) if output is not None else Path("runs")
    return {"runs": [_write(run, uid, own, root) for uid, (run, own) in found.items()]}


def last_steps(folder: Path, uid: str) -> dict[str, int]:
    """The last step of each of our series in the offline runs of a run's folder; those with another id do not count."""
    parts = (_read(place) for place in _places(folder / ".neptune"))
    return last_of(
        (name.removeprefix(OURS), None if step is None else int(step))
        for made in parts
        if made.uid in (uid, None)  # None: of an older version
        for name, points in made.numbers.items()
        for step, _, _ in points
    )


def _places(folder: Path) -> list[Path]:
    logs = sorted(folder.rglob("data-*.log"))
    places = [next((p for p in (log.parent, *log.parents) if p.name.startswith("run__")), None) for log in logs]
    return list(dict.fromkeys(place for place in places if place is not None))


def _read(place: Path) -> NeptuneRun:
    run = NeptuneRun()
    for operation, log in _operations(place):
        with contextlib.suppress(KeyError, TypeError, ValueError):  # of another version of the client: passed over
            run.apply(operation, log.parent)
    return run


def _operations(place: Path) -> Iterator[tuple[dict[str, Any], Path]]:
    """The operations of a run, in order; one that was cut off ends its file."""
    decoder = json.JSONDecoder()
    for log in sorted(place.rglob("data-*.log"), key=lambda log: (log.parent, int(re.sub(r"\D", "", log.stem) or 0))):
        text, position = log.read_text("utf-8", errors="replace"), 0
        while position < len(text):
            try:
                row, position = decoder.raw_decode(text, position)
            except ValueError:
                break
            if isinstance(row, dict) and isinstance(row.get("obj"), dict):
                yield row["obj"], log
            while position < len(text) and text[position].isspace():
                position += 1


def _join(run: NeptuneRun, later: NeptuneRun) -> None:
    """Two parts of one run: each start of a script makes a folder of its own."""
    for name, points in later.numbers.items():
        run.numbers.setdefault(name, []).extend(points)
    for name, texts in later.texts.items():
        run.texts.setdefault(name, []).extend(texts)
    run.values |= later.values
    run.tags |= later.tags
    run.files |= later.files


def _write(run: NeptuneRun, uid: str, own: str, root: Path) -> dict[str, Any]:
    name = str(run.values.get("sys/name") or own)
    spelt = re.sub(r"[^\w.-]+", "-", name).strip(".-") or KIND
    folder = root / f"{spelt}-{own[:8]}"
    is_new = not (folder / "run.json").exists()
    if not is_new and json.loads((folder / "run.json").read_bytes()).get("imported") != KIND:
        raise DataError(
            f"{folder}: a run that was trained here is in the way.", fix="Name another folder: --output runs-2"
        )
    points, left_out = _points(run)
    folder.mkdir(parents=True, exist_ok=True)
    parameters = run.values
    if run.is_ours:
        parameters = {key.removeprefix("recipe/"): v for key, v in parameters.items() if key.startswith("recipe/")}
    write_bytes(folder / "ledger.jsonl", b"".join(point.to_line() for point in points))
    elsewhere = {name: where for name, where in run.files.items() if isinstance(where, str)}
    others = {"values": run.values, "tags": run.tags, "texts": run.texts, "files": elsewhere}
    write_bytes(folder / "neptune.json", json.dumps(others, indent=1, default=str).encode() + b"\n")
    for file, content in run.files.items():
        target = folder.joinpath("files", *(part for part in file.split("/") if part.strip(".")))
        target.parent.mkdir(parents=True, exist_ok=True)
        if isinstance(content, bytes):
            target.write_bytes(content)
        elif (
            isinstance(content, Path)
            and content.is_file()
            and content.resolve().is_relative_to(content.parent.resolve())
        ):
            shutil.copyfile(content, target)
    recipe = {key: value for key, value in parameters.items() if not key.startswith("sys/")}
    write_json(folder / "run.json", {"imported": KIND, "name": name, "uid": uid, "recipe": _plain(recipe)})
    return {"run": str(folder), "name": name, "points": len(points), "left_out": left_out, "new": is_new}


def _points(run: NeptuneRun) -> tuple[list[Point], int]:
    """A ledger's points, and how many repeat a step. A series without whole steps is numbered from 0."""
    series = dict(run.numbers)
    attempts: dict[int, int] = {}
    if run.is_ours:
        series = {key.removeprefix(OURS): values for key, values in series.items()}
        attempts = {int(step or 0): int(value) for step, value, _ in series.pop("attempt", [])}
    points, left_out = [], 0
    for name, values in series.items():
        whole = all(step is not None and float(step).is_integer() and step >= 0 for step, _, _ in values)
        last = -1
        for position, (given, value, time) in enumerate(values):
            step = int(given) if whole and given is not None else position
            if step <= last:
                left_out += 1
                continue
            last = step
            points.append(Point(step, 0.0, name, float(value), attempts.get(step, 1), time))
    return sorted(points, key=lambda point: (point.step, point.time)), left_out


def _plain(values: dict[str, Any]) -> dict[str, Any]:
    return {key: None if isinstance(v, float) and not math.isfinite(v) else v for key, v in values.items()}


def _ending(name: str, operation: dict[str, Any]) -> str:
    ending = str(operation.get("ext") or "")
    return name if not ending or name.endswith(f".{ending}") else f"{name}.{ending}"
