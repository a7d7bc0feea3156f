"""Runs that a verb begins: read when they are finished, continued, ended with all ranks, and by their beginner's death."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import psutil
import pytest

from hf_trainpipe.checkpoint.lock import is_locked
from hf_trainpipe.recipe.source import RecipeSource
from hf_trainpipe.studies.runs import Launch, read_end, run, start

FOREVER = ("--budget.epochs", "4000", "--budget.save-every", "5000", "--budget.evaluate-every", "5000")
BEGINNER = """
import sys
from pathlib import Path
from hf_trainpipe.recipe.source import RecipeSource
from hf_trainpipe.studies.runs import start
start(RecipeSource(Path("recipes.py").resolve(), "exact"), Path("begun"), fields=sys.argv[1:]).wait()
"""


def attempts(path: Path) -> list[str]:
    return [json.loads(file.read_text())["exit"] for file in sorted((path / "attempts").glob("*.json"))]


def until(condition, *, seconds: float = 120.0) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it never came"
        time.sleep(0.05)


@pytest.fixture
def exact(workshop, monkeypatch) -> RecipeSource:
    monkeypatch.chdir(workshop.folder)
    for name, value in workshop.environment({}).items():
        monkeypatch.setenv(name, value)
    return RecipeSource(workshop.folder / "recipes.py", "exact")


def test_a_run_that_was_ended_continues_and_one_that_is_finished_is_read(exact, tmp_path, monkeypatch) -> None:
    """It waits inside of a step until it was asked to end: however slow the machine, it is not finished by then."""
    asked = tmp_path / "asked"
    monkeypatch.setenv("WAIT_AT", "8")
    monkeypatch.setenv("WAIT_FOR", str(asked))
    source, fields = RecipeSource(exact.path, "recipe"), ("--budget.log-every", "1")

    def at_four(going) -> str | None:
        if len(going.points("train/loss")) < 4:
            return None
        threading.Timer(1.0, asked.touch).start()
        return "enough"

    ended = run(source, tmp_path / "ended", fields=fields, until=at_four)
    assert (ended.outcome, ended.code, ended.stopped_for) == ("interrupted", 75, "enough")
    assert "everything up to it is saved" in ended.message
    assert not is_locked(tmp_path / "ended/run.lock")
    complete = run(source, tmp_path / "ended", fields=fields)
    assert (complete.outcome, complete.code, complete.stopped_for) == ("complete", 0, None)
    assert complete.result is not None
    assert complete.result["steps"] == 26
    assert attempts(tmp_path / "ended") == ["interrupted", "complete"]
    again = run(source, tmp_path / "ended", fields=fields)
    assert again.result == complete.result
    assert len(attempts(tmp_path / "ended")) == 2  # nothing was started


def test_what_a_run_refuses_is_told_in_its_own_words(exact, tmp_path) -> None:
    ending = run(exact, tmp_path / "refused", fields=["--data.train", "nothing.csv"])
    assert (ending.outcome, ending.code, ending.result) == ("refused", 2, None)
    assert "nothing.csv" in ending.message
    assert ending.fix
    assert ending.error().exit_code == 2
    assert read_end(tmp_path / "refused") is None


def test_a_run_ends_when_its_beginner_is_killed_and_the_next_one_continues_it(exact, workshop) -> None:
    begun = workshop.folder / "begun"
    beginner = subprocess.Popen([sys.executable, "-c", BEGINNER, *FOREVER], env=workshop.environment({}))
    until(lambda: (begun / "ledger.jsonl").exists() and (begun / "ledger.jsonl").stat().st_size > 0)
    owner = psutil.Process(json.loads((begun / "run.lock").read_text())["pid"])
    beginner.kill()
    beginner.wait()
    going = start(exact, begun, fields=FOREVER)  # waits for the one that is about to end
    until(lambda: not owner.is_running() or owner.status() == psutil.STATUS_ZOMBIE)
    assert attempts(begun)[0] == "interrupted"
    until(lambda: len(attempts(begun)) == 2 and is_locked(begun / "run.lock"))
    os.kill(json.loads((begun / "run.lock").read_text())["pid"], signal.SIGKILL)
    ending = going.wait()
    assert (ending.outcome, ending.code) == ("killed", -9)


@pytest.mark.nightly
def test_all_ranks_end_when_one_hangs(exact, tmp_path, monkeypatch) -> None:
    """Rank 0 waits for ever inside of a step, and the other for it: neither can save."""
    monkeypatch.setenv("WAIT_AT", "3")
    monkeypatch.setenv("WAIT_FOR", str(tmp_path / "never"))
    source = RecipeSource(exact.path, "recipe")
    going = start(source, tmp_path / "hangs", launch=Launch(ranks=2), fields=["--budget.log-every", "1"])
    until(lambda: len(going.points("train/loss")) >= 1)
    assert going.poll() is None
    family = psutil.Process(going._process.pid).children(recursive=True)
    owner = psutil.Process(json.loads((tmp_path / "hangs/run.lock").read_text())["pid"])
    ending = going.stop("it hangs", grace=1.0)
    assert (ending.outcome, ending.stopped_for) == ("killed", "it hangs")
    assert not [
        process for process in (*family, owner) if process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    ]
    assert not is_locked(tmp_path / "hangs/run.lock")
