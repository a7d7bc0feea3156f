"""The follower process, with trackers that a recipe file defines."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from hf_trainpipe.errors import RecipeError
from hf_trainpipe.sidecar import parent
from hf_trainpipe.tracking.base import describe, load_spec, read_spec
from hf_trainpipe.tracking.follower import Follower, sync
from hf_trainpipe.tracking.neptune import Neptune

from .conftest import finished, until

if TYPE_CHECKING:
    from .conftest import Place

SLACK_SECONDS = 10.0


def log(place: Place, steps: range, *, attempt: int = 1, truncate_to: int | None = None) -> int:
    with place.ledger(attempt, truncate_to) as ledger:
        for step in steps:
            ledger.log({"train/loss": 1 / (step + 1), "train/lr": step / 3}, step=step, epoch=step / 9)
            if step % 5 == 4:
                ledger.log({"validation/accuracy": step / 100}, step=step, epoch=step / 9)
        return ledger.offset


def test_every_point_arrives_once_and_by_step(place: Place) -> None:
    running = Follower(place.info(), [place.tracker("Writes", str(place.root / "sink"))], poll_s=0.05)
    log(place, range(20))
    assert finished(running) == []
    assert place.logged("sink") == place.points()
    rows = [row[:2] for row in place.lines("sink") if row[0] == "log"]
    assert rows == sorted(rows)
    assert place.lines("sink")[-1] == ["finish"]


def test_a_resumed_run_sends_nothing_twice(place: Place) -> None:
    tracker = place.tracker("Writes", str(place.root / "sink"))
    running = Follower(place.info(), [tracker], poll_s=0.05)
    offset = log(place, range(12))
    log(place, range(12, 17))
    until(lambda: len(place.logged("sink").get("train/lr", [])) == 17)
    log(place, range(12, 14), attempt=2, truncate_to=offset)  # while the old process still follows
    finished(running)
    running = Follower(place.info(attempt=2), [tracker], poll_s=0.05)
    log(place, range(14, 30), attempt=2)
    finished(running)
    assert place.logged("sink") == place.points()


def test_broken_trackers_touch_neither_the_run_nor_each_other(place: Place) -> None:
    trackers = [
        place.tracker("Sleeps"),
        place.tracker("Raises"),
        place.tracker("Writes", str(place.root / "late"), 5),
        place.tracker("Writes", str(place.root / "sink")),
    ]
    running = Follower(place.info(), trackers, poll_s=0.05, linger_s=1.0)
    log(place, range(10))
    until(lambda: place.logged("sink") == place.points())
    messages: list[str] = []

    def both_are_named() -> bool:
        messages.extend(running.messages())
        named = ("Raises: RuntimeError: no such server", "Writes: RuntimeError: the tracker is broken")
        return all(any(text in line for line in messages) for text in named)

    until(both_are_named)
    start = time.monotonic()
    assert running.finish(0.5) is False
    assert time.monotonic() - start < 0.5 + SLACK_SECONDS
    assert "track sync" in running.messages()[-1]
    (process,) = parent._running
    assert process.wait(30) == 3  # it ends by itself
    assert [step for step, _ in place.logged("late")["train/lr"]] == [0, 1, 2, 3, 4]

    (place.root / "late.mended").touch()
    spec = place.run / "tracking/trackers.json"
    content = json.loads(spec.read_text())
    content["trackers"][0]["kind"] = "Raises"  # a foreground sync of a tracker that hangs would hang
    spec.write_text(json.dumps(content))
    report = sync(place.run, tries=1)
    assert [tracker["error"] is None for tracker in report["trackers"]] == [False, False, True, True]
    assert [tracker["num_left"] for tracker in report["trackers"]] == [22, 22, 0, 0]
    assert not report["complete"]
    assert place.logged("late") == place.points()
    assert place.logged("sink") == place.points()


def test_files_are_uploaded_once_a_version(place: Place) -> None:
    tracker = place.tracker("Writes", str(place.root / "sink"))
    report = place.run / "report.html"
    outside = place.root / "notes.txt"
    report.write_text("first")
    outside.write_text("notes")
    for text in ("first", "first", "second!"):
        if report.read_text() != text:
            report.write_text(text)
        running = Follower(place.info(), [tracker], poll_s=0.05)
        running.artifact(report)
        running.artifact(outside)
        running.artifact(place.run / "absent.html")
        finished(running)
    uploads = [row[1:] for row in place.lines("sink") if row[0] == "artifact"]
    assert uploads == [
        [str(report), "first"],
        [str(outside), "notes"],
        [str(report), "second!"],
    ]


def test_it_ends_when_the_trainer_is_killed(place: Place) -> None:
    place.tracker("Writes", str(place.root / "sink"))
    trainer = f"""
import os, signal, sys, time
sys.path.insert(0, {str(place.root)!r})
from pathlib import Path
from hf_trainpipe.recipe import RunInfo
from hf_trainpipe.tracking.follower import Follower
from hf_trainpipe.tracking.ledger import Ledger
from recipe import Writes
run = RunInfo("sst2", "uid", Path({str(place.run)!r}), 1)
ledger = Ledger(run.directory / "ledger.jsonl", attempt=1)
running = Follower(run, [Writes({str(place.root / "sink")!r})], poll_s=0.05)
if os.fork() == 0:  # a worker that outlives the trainer holds its pipes open
    time.sleep(15)
    os._exit(0)
for step in range(50):
    ledger.log({{"train/loss": step / 7}}, step=step, epoch=0.0)
os.write(ledger._file, b'{{"step": 50, "na')
print(running.pid, flush=True)
os.kill(os.getpid(), signal.SIGKILL)
"""
    with subprocess.Popen(
        [sys.executable, "-c", trainer],
        stdout=subprocess.PIPE,
        cwd=Path.cwd(),
        text=True,
        start_new_session=True,
    ) as process:
        assert process.stdout is not None
        pid = int(process.stdout.readline())
        until(lambda: not is_running(pid))
        assert process.wait() == -signal.SIGKILL
        os.killpg(process.pid, signal.SIGKILL)  # the worker
    assert place.logged("sink") == {"train/loss": [(step, step / 7) for step in range(50)]}


def is_running(pid: int) -> bool:
    """Whether a process still runs; one that ended and waits for its parent does not."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0]
    except FileNotFoundError:
        return False
    return state != "Z"


def test_no_file_holds_a_secret(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOME_API_TOKEN", "hunter2-hunter2")
    running = Follower(place.info(), [place.tracker("Writes", str(place.root / "sink"))], poll_s=0.05)
    log(place, range(2))
    finished(running)
    texts = [path.read_text() for path in place.run.rglob("*") if path.is_file()]
    assert any("the token is ***" in text for text in texts)
    assert not any("hunter2" in text for text in texts)


def test_without_trackers_nothing_is_started(place: Place) -> None:
    running = Follower(place.info(), [])
    running.artifact(place.run / "report.html")
    assert running.pid is None
    assert running.messages() == []
    assert running.finish()
    with pytest.raises(RecipeError, match=r"found no tracking/trackers.json"):
        sync(place.run)


def test_a_process_that_dies_is_one_message(place: Place) -> None:
    running = Follower(place.info(), [place.tracker("Sleeps")])
    assert running.pid is not None
    os.kill(running.pid, signal.SIGKILL)
    log(place, range(3))
    assert running.finish() is False
    (message,) = running.messages()
    assert "not all sent" in message
    assert running.finish() is True


def test_a_tracker_is_described_and_found_again(place: Place) -> None:
    tracker = Neptune(project="team/project", tags=("a", "b"))
    assert load_spec(describe(tracker)) == tracker
    own = place.tracker("Raises", ("x",))
    spec = json.loads(json.dumps(describe(own)))
    assert spec == {"kind": "Raises", "settings": {"tags": ["x"]}, "file": str(place.root / "recipe.py")}
    assert load_spec(spec).tags == ("x",)
    with pytest.raises(RecipeError, match="found 'Neptun'") as caught:
        load_spec({"kind": "Neptun", "settings": {}})
    assert "Did you mean 'Neptune'?" in caught.value.fix
    (place.run / "tracking").mkdir()
    (place.run / "tracking/trackers.json").write_text("{}")
    with pytest.raises(RecipeError, match="expected the description"):
        read_spec(place.run)
