"""What a run's directory says of the run, read once for a page."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hf_trainpipe.baselines.beside import FILE
from hf_trainpipe.checkpoint.lock import is_locked
from hf_trainpipe.errors import DataError
from hf_trainpipe.metrics.base import finishes_of
from hf_trainpipe.metrics.saved import Predicted, folder_of, load
from hf_trainpipe.package.layout import MANIFEST
from hf_trainpipe.report.forecast import read as read_forecast
from hf_trainpipe.runtime.errors import SchemaError
from hf_trainpipe.runtime.tasks.base import Task
from hf_trainpipe.runtime.tasks.registry import task_from_json
from hf_trainpipe.tracking.ledger import Point
from hf_trainpipe.tracking.ledger import read as read_ledger
from hf_trainpipe.utils.atomic import read_json_object
from hf_trainpipe.utils.attempts import read_attempts

SLICES, BEHAVIOUR = "slices.json", "behave.json"
"""In a run's folder, by split: what ``to_json`` gives of what was found of slices, and under small changes."""
_FIX = "Bring it back from a copy."


@dataclass(frozen=True, kw_only=True)
class Facts:
    """A run, complete or not."""

    path: Path
    document: Mapping[str, Any]
    """run.json"""
    result: Mapping[str, Any]
    """result.json; empty before the end."""
    attempts: Mapping[int, Mapping[str, Any]]
    """What is recorded of each, by number."""
    manifest: Mapping[str, Any]
    """The package's trainpipe.json; empty where there is none."""
    points: Mapping[str, list[Point]]
    """The ledger by name, by step."""
    baselines: Mapping[str, Any] = field(default_factory=dict)
    """baselines.json; empty where simpler models were not held against it."""
    forecast: Mapping[str, Any] = field(default_factory=dict)
    """forecast.json; empty where none was made before the run."""
    slices: Mapping[str, Any] = field(default_factory=dict)
    """slices.json; empty where none were looked for."""
    behaviour: Mapping[str, Any] = field(default_factory=dict)
    """behave.json; empty where no inputs were changed."""
    predicted: Mapping[str, Predicted]
    """Of each evaluated split what was predicted of every row, where the run recorded it."""
    task: Task | None = None
    """The package's; None where there is none, or it is a class of its recipe file."""
    state: str
    """``complete``, ``running``, or how the newest attempt ended: ``interrupted``, ``failed``, ``killed``."""

    @property
    def name(self) -> str:
        return str(self.document.get("name") or self.path.name)

    @property
    def select(self) -> str:
        """The metric that chooses the best model."""
        chosen = self.result.get("select") or (self.document.get("recipe") or {}).get("evaluation", {}).get("select")
        evaluated = [name.partition("/")[2] for name in self.points if name.startswith("validation/")]
        return str(chosen or next((name for name in evaluated if name != "loss"), "loss"))

    @property
    def step(self) -> int:
        """The last step that was logged."""
        return max((points[-1].step for points in self.points.values()), default=0)

    @property
    def plan(self) -> list[str]:
        """The plan of the newest attempt that recorded one."""
        found = [list(one["plan"]) for _, one in sorted(self.attempts.items()) if one.get("plan")]
        return found[-1] if found else []

    def series(self, name: str) -> list[tuple[int, float]]:
        """The points of one number, by step."""
        return [(point.step, point.value) for point in self.points.get(name, ())]

    @property
    def shown_from(self) -> int | None:
        """The step from which overfitting is shown, by the last evaluation; None: not shown, or not looked for."""
        shown, looked = self.points.get("overfitting/shown_from"), self.points.get("train/sample_loss")
        return int(shown[-1].value) if shown and looked and shown[-1].step == looked[-1].step else None

    def begins(self) -> list[int]:
        """The first step that each later attempt logged."""
        first: dict[int, int] = {}
        for points in self.points.values():
            for point in points:
                first[point.attempt] = min(point.step, first.get(point.attempt, point.step))
        return [first[number] for number in sorted(first)[1:]]


def read(path: Path) -> Facts:
    """Read a run's directory.

    Raises:
        DataError: it is none, or what it recorded of its predictions is damaged.
        CheckpointError: run.json or result.json is damaged.
    """
    if not (path / "run.json").is_file():
        raise DataError(
            f"{path} is not a run: it has no run.json.", fix="Name the folder of a run, such as runs/reviews."
        )
    document = read_json_object(path / "run.json", needs={}, fix=_FIX)
    result = _optional(path / "result.json")
    manifest = _optional(path / "package" / MANIFEST)
    attempts = read_attempts(path)
    points: dict[str, list[Point]] = {}
    for point in read_ledger(path / "ledger.jsonl"):
        points.setdefault(point.name, []).append(point)
    task = _task(manifest)
    finishes = finishes_of(task.metrics() if task is not None else ())  # without the task its own metrics are left out
    predicted = {file.stem: load(file, finishes=finishes) for file in sorted(folder_of(path).glob("*.npz"))}
    ending = attempts[max(attempts)].get("exit") if attempts else None
    state = "running" if is_locked(path / "run.lock") else str(ending or "killed")
    return Facts(
        path=path,
        document=document,
        result=result,
        attempts=attempts,
        manifest=manifest,
        points=points,
        baselines=_optional(path / FILE),
        forecast=read_forecast(path) or {},
        slices=_optional(path / SLICES),
        behaviour=_optional(path / BEHAVIOUR),
        predicted={name: predicted[name] for name in ("validation", "test") if name in predicted},
        task=task,
        state="complete" if result else state,
    )


def _optional(file: Path) -> dict[str, Any]:
    return read_json_object(file, needs={}, fix=_FIX) if file.is_file() else {}


def _task(manifest: Mapping[str, Any]) -> Task | None:
    try:
        return task_from_json(manifest["task"]) if manifest.get("task") else None
    except SchemaError:  # of code that is not here
        return None
