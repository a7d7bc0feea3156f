from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
import time
from contextlib import closing
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import pytest

from hf_trainpipe.recipe import RunInfo
from hf_trainpipe.sidecar import parent
from hf_trainpipe.tracking.follower import Follower
from hf_trainpipe.tracking.ledger import Ledger, read

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

TRACKERS = """
import json, os, time
from dataclasses import dataclass
from pathlib import Path
from hf_trainpipe.recipe import Session, Tracker

class Lines(Session):
    def __init__(self, path, fails=0):
        self.path, self.fails = path, fails
    def write(self, row):
        with open(self.path, "a") as file:
            file.write(json.dumps(row) + chr(10))
    def log(self, values, *, step, time):
        if self.fails and step >= self.fails and not os.path.exists(self.path + ".mended"):
            raise RuntimeError("the tracker is broken")
        self.write(["log", step, values])
    def artifact(self, path):
        self.write(["artifact", str(path), path.read_text()])
    def finish(self):
        self.write(["finish"])

@dataclass(frozen=True)
class Writes(Tracker):
    path: str
    fails: int = 0
    def start(self, run):
        print("the token is", os.environ.get("SOME_API_TOKEN"))
        return Lines(self.path, self.fails)

@dataclass(frozen=True)
class Sleeps(Tracker):
    def start(self, run):
        time.sleep(3600)

@dataclass(frozen=True)
class Raises(Tracker):
    tags: tuple[str, ...] = ("a",)
    def start(self, run):
        raise RuntimeError("no such server")
"""


@dataclass
class Place:
    """A run's directory, and a recipe file with trackers of its own."""

    root: Path
    environment: dict[str, str] = field(default_factory=dict)

    @property
    def run(self) -> Path:
        return self.root / "run"

    def info(self, attempt: int = 1, **recipe: Any) -> RunInfo:
        return RunInfo("sst2", "b2d6a1c0-0000-4000-8000-000000000001", self.run, attempt, recipe)

    def is_resumable(self, *, checkpoint: int) -> None:
        """From here on, this is a run that may be resumed from a checkpoint."""
        (self.run / "run.json").write_text('{"fingerprints": {}}')
        (self.run / f"checkpoints/step-{checkpoint:08d}").mkdir(parents=True)

    def ledger(self, attempt: int = 1, truncate_to: int | None = None) -> closing[Ledger]:
        return closing(Ledger(self.run / "ledger.jsonl", attempt=attempt, truncate_to=truncate_to))

    def points(self) -> dict[str, list[tuple[int, float]]]:
        """The ledger: metric -> [(step, value)]."""
        found: dict[str, list[tuple[int, float]]] = {}
        for point in read(self.run / "ledger.jsonl"):
            found.setdefault(point.name, []).append((point.step, point.value))
        return found

    def tracker(self, name: str, *arguments: Any) -> Any:
        path = self.root / "recipe.py"
        path.write_text(TRACKERS)
        spec = importlib.util.spec_from_file_location("recipe_of_the_test", path)
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        sys.modules["recipe_of_the_test"] = module
        spec.loader.exec_module(module)
        return getattr(module, name)(*arguments)

    def lines(self, name: str) -> list[list[Any]]:
        """What the tracker Writes was told."""
        path = self.root / name
        return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []

    def logged(self, name: str) -> dict[str, list[tuple[int, float]]]:
        found: dict[str, list[tuple[int, float]]] = {}
        for kind, *rest in self.lines(name):
            if kind == "log":
                for metric, value in rest[1].items():
                    found.setdefault(metric, []).append((rest[0], value))
        return found


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Place]:
    for name in list(os.environ):
        if name.startswith("NEPTUNE_"):
            monkeypatch.delenv(name)
    found = Place(tmp_path)
    found.run.mkdir()
    before = list(parent._running)
    yield found
    for process in parent._running:
        if process not in before:
            try:
                process.wait(30)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
                raise
    parent._running[:] = before


def until(condition: Callable[[], bool], *, seconds: float = 60.0) -> None:
    """Wait for something to come true; the limit only ends a test that would hang."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not happen"
        time.sleep(0.02)


def finished(running: Follower, *, timeout: float = 60.0) -> list[str]:
    """Let everything arrive; return the messages."""
    assert running.finish(timeout), running.messages()
    return running.messages()
