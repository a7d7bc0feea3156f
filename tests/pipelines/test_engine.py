"""Pipelines over a real run: killed in each stage and continued, by this engine or another; an orphan and a retry."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from hf_trainpipe.pipelines.record import read_begun, read_record
from hf_trainpipe.utils.atomic import sha256_file
from tests.training.conftest import Done, Workshop

FILE = """
from hf_trainpipe.pipelines import Evaluate, Pipeline, Train, Verb, Verify


def pipeline() -> Pipeline:
    return Pipeline(
        "tiny",
        stages=(
            Train("recipes.py"),
            Evaluate("train", recipe="recipes.py"),
            Verify("train"),
            Verb("never", command=("doctor",), after=("verify",), runs_if={"evaluate": (10,)}),
        ),
    )
"""


@pytest.fixture(scope="module")
def place(workshop: Workshop) -> Path:
    (workshop.folder / "pipeline.py").write_text(FILE)
    return workshop.folder / "runs/tiny"


def command(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "hf_trainpipe", "pipeline", *arguments]


def wait_for(what: Callable[[], object], seconds: float = 300.0) -> None:
    until = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < until, "it did not come"
        time.sleep(0.01)


def weights(run: Path) -> str:
    return sha256_file(run / "package/model.safetensors")


def test_killed_in_each_stage_and_continued_it_ends_with_the_same_weights(
    workshop: Workshop, whole: Done, place: Path, tmp_path: Path
) -> None:
    # The engine dies while the verb of the first stage trains, which then has to save and end by itself.
    surroundings = workshop.environment({"WAIT_AT": "12", "WAIT_FOR": str(tmp_path / "go")})
    engine = subprocess.Popen(command("run", "pipeline.py"), cwd=workshop.folder, env=surroundings)
    wait_for(lambda: (place / "train/checkpoints/step-00000010").is_dir())
    trainer = read_begun(place / "train")["child"]
    assert isinstance(trainer, int)
    engine.kill()
    engine.wait()
    # Another engine starts the stage again while the orphan still trains: never two of them.
    second = subprocess.Popen(
        command("stage", "pipeline.py", "train"),
        cwd=workshop.folder,
        env=workshop.environment({}),
        stderr=subprocess.PIPE,
        text=True,
    )
    assert second.stderr is not None
    assert any("waits: process" in line for line in second.stderr)
    assert read_begun(place / "train")["child"] == trainer
    (tmp_path / "go").touch()
    _, said = second.communicate(timeout=300)
    assert second.returncode == 0, said
    assert not psutil.pid_exists(trainer)
    assert weights(place / "train") == weights(workshop.folder / "whole")
    attempts = sorted(path.name for path in (place / "train/attempts").iterdir())
    assert len(attempts) == 2

    # The next stages are killed as they begin; a third engine ends them.
    for stage in ("evaluate", "verify"):
        one = subprocess.Popen(
            command("stage", "pipeline.py", stage), cwd=workshop.folder, env=workshop.environment({})
        )
        wait_for(lambda stage=stage: "child" in read_begun(place / stage))
        one.send_signal(signal.SIGKILL)
        one.wait()
        assert read_record(place / stage) is None
    done = workshop.run(*command("run", "pipeline.py", "--parallel", "2", "--json"))
    assert done.code == 0, done.err
    told = json.loads(done.out)["stages"]
    assert {name: row["outcome"] for name, row in told.items()} == {
        "train": "done", "evaluate": "done", "verify": "done", "never": "left out"
    }  # fmt: skip
    assert "train    | as recorded" in done.err
    assert json.loads((place / "evaluate/answer.json").read_text())["split"] == "validation"
    record = read_record(place / "train")
    assert record is not None
    assert record.attempts == 2
    assert weights(place / "train") == weights(workshop.folder / "whole")
