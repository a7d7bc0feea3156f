"""Signals under a launcher: all ranks save at the same step, exit 75, no process is left."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

ONE = ["--cpu", "--num_processes", "1", "--num_machines", "1", "--mixed_precision", "no", "--dynamo_backend", "no"]
LONG = ["--budget.epochs", "400", "--budget.save-every", "5000", "--budget.evaluate-every", "5000"]


def until(condition, *, seconds: float = 120.0) -> None:
    """Wait for a condition; fails only after a long timeout."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it never came"
        time.sleep(0.1)


def attempt(run: Path) -> dict:
    return json.loads((run / "attempts/0001.json").read_text())


@pytest.fixture
def started(workshop, request):
    processes = []

    def start(*command: str, **environment: str) -> subprocess.Popen:
        process = subprocess.Popen(
            command,
            cwd=workshop.folder,
            env=workshop.environment(environment),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        processes.append(process)
        return process

    yield start
    for process in processes:
        process.kill()
        process.wait()


@pytest.mark.nightly
def test_sigterm_to_the_launch_verb(workshop, started) -> None:
    run = workshop.folder / "launched"
    train = ["-m", "hf_trainpipe", "train", "recipes.py", "--run-dir", "launched", *LONG]
    process = started(sys.executable, "-m", "hf_trainpipe", "launch", *ONE, *train)
    until(lambda: (run / "ledger.jsonl").exists() and (run / "ledger.jsonl").stat().st_size > 0)
    family = psutil.Process(process.pid).children(recursive=True)
    process.send_signal(signal.SIGTERM)
    assert process.wait(timeout=120) == 75
    assert attempt(run)["exit"] == "interrupted"
    assert list((run / "checkpoints").glob("step-*/MANIFEST.json"))
    assert not [child for child in family if child.is_running() and child.status() != psutil.STATUS_ZOMBIE]


def test_a_signal_to_one_of_two_ranks_stops_both_at_one_step(workshop, started) -> None:
    launch = [sys.executable, "-m", "hf_trainpipe", "launch", "--cpu", "--num_processes", "2"]
    launch += ["--num_machines", "1", "--mixed_precision", "no", "--dynamo_backend", "no"]
    train = ["-m", "hf_trainpipe", "train", "recipes.py", "--run-dir", "both"]
    environment = {"KILL_AT": "4", "KILL_RANK": "1", "KILL_WITH": "SIGTERM"}
    process = started(*launch, *train, **environment)
    assert process.wait(timeout=240) == 75
    run = workshop.folder / "both"
    assert (attempt(run)["exit"], attempt(run)["world_size"]) == ("interrupted", 2)
    steps = [int(folder.name.removeprefix("step-")) for folder in (run / "checkpoints").glob("step-*")]
    assert max(steps) in (4, 5)  # the step of the signal, or the one that had begun


def test_a_worker_whose_launcher_is_killed_saves_and_ends(workshop, started) -> None:
    run = workshop.folder / "orphan"
    train = ["-m", "hf_trainpipe", "train", "recipes.py", "--run-dir", "orphan", *LONG]
    process = started(sys.executable, "-m", "accelerate.commands.launch", *ONE, *train)
    until(lambda: (run / "ledger.jsonl").exists() and (run / "ledger.jsonl").stat().st_size > 0)
    owner = json.loads((run / "run.lock").read_text())["pid"]
    os.kill(process.pid, signal.SIGKILL)
    until(lambda: attempt(run)["exit"] == "interrupted")
    until(lambda: not psutil.pid_exists(owner))
    assert list((run / "checkpoints").glob("step-*/MANIFEST.json"))
