"""A search in real processes: killed and continued, its winner trained again from best.py, what changes refused."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time

import pytest

from hf_trainpipe.cli import run as cli
from hf_trainpipe.recipe_file import load
from hf_trainpipe.studies.proposals import propose
from hf_trainpipe.studies.space import space_of
from hf_trainpipe.studies.trials import TrialLedger

SEARCHED = """
from hf_trainpipe import replace
from hf_trainpipe.studies import LogUniform, Space
import recipes

def recipe():
    return replace(recipes.exact(), name="searched", data=replace(recipes.exact().data, test="dev.csv"))

def space():
    return Space({"optim.peak_lr": LogUniform(1e-4, 1e-1)})
"""
ASKED = (
    "searched.py",
    "--study-dir",
    "study",
    "--trials",
    "3",
    "--finalists",
    "1",
    "--seeds",
    "1",
    "--budget.max-steps",
    "8",
)


@pytest.fixture
def here(workshop, monkeypatch):
    monkeypatch.chdir(workshop.folder)
    (workshop.folder / "searched.py").write_text(SEARCHED)
    for name, value in workshop.environment({}).items():
        monkeypatch.setenv(name, value)
    return workshop.folder


def tune(workshop, *arguments: str):
    return workshop.run(sys.executable, "-m", "hf_trainpipe", "tune", *arguments)


def test_a_killed_search_goes_on_and_best_py_trains_the_winner_again(workshop, here, capsys) -> None:
    study = here / "study"
    process = start(workshop)
    end = time.monotonic() + 120
    while not (study / "trials/001/ledger.jsonl").exists():  # in the middle of the second trial
        assert time.monotonic() < end
        time.sleep(0.02)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    with (study / "trials.jsonl").open("ab") as ledger:
        ledger.write(b'{"event": "ended", "run": "trials/001", "num')
    done = tune(workshop, *ASKED, "--json")
    assert done.code == 0, done.err
    assert "continuing after 1 trials" in done.err

    lines = [json.loads(line) for line in (study / "trials.jsonl").read_text().splitlines()]
    runs = [line["run"] for line in lines if line["event"] == "began"]
    assert runs[:3] == ["trials/000", "trials/001", "trials/002"]
    assert len(runs) == len({*runs}) == 4
    recipe, source = load("searched.py")
    space, _ = space_of(recipe, source, function=None)
    with TrialLedger(study / "trials.jsonl") as ledger:
        trials = ledger.trials()
    began = {trial.number: trial.values for trial in trials}
    for trial in trials:  # each is what the ledger before it says, the killed one too
        asked = {"trials": trials[: trial.number], "began": began, "own": space.own_values(recipe)}
        assert propose(space, trial.number, seed=17, parallel=1, greater_is_better=True, **asked) == trial.values
        assert not (study / trial.run / "checkpoints").exists()
        result = json.loads((study / trial.run / "result.json").read_text())
        assert list(result["scores"]) == ["validation"]  # test was not looked at
        assert result["scores"]["validation"]["accuracy"]["value"] == trial.score

    found = done.result
    [finalist] = found["finalists"]
    assert finalist["search_score"] == max(trial.score for trial in trials)
    assert finalist["optimism"] == pytest.approx(finalist["search_score"] - finalist["mean"])
    assert found["scores"]["test"]["accuracy"]["n"] == 61
    assert (study / "tune.html").read_text().count("<svg") >= 1
    again = workshop.train("study/best.py", "--run-dir", "again")
    assert again.code == 0, again.err
    winner = study / found["winner"]["run"] / "package/model.safetensors"
    assert (here / "again/package/model.safetensors").read_bytes() == winner.read_bytes()
    assert again.result["scores"]["test"] == found["scores"]["test"]

    for changed, said in (
        (("--optim.weight-decay", "0.1"), "optim.weight_decay: 0.01 -> 0.1"),
        (("--study-seed", "5"), "seed: 17 -> 5"),
        (("--parallel", "2"), "parallel: 1 -> 2"),
    ):
        assert cli(["tune", *ASKED, *changed]) == 2
        assert said in capsys.readouterr().err
    (here / "searched.py").write_text(SEARCHED.replace("1e-1", "1e-2"))
    assert cli(["tune", *ASKED]) == 2
    assert "space.optim.peak_lr: 'LogUniform(low=0.0001, high=0.1)'" in capsys.readouterr().err


def start(workshop) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "hf_trainpipe", "tune", *ASKED]
    nowhere = subprocess.DEVNULL
    return subprocess.Popen(command, cwd=workshop.folder, env=workshop.environment({}), stdout=nowhere, stderr=nowhere)


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        ("", "odd.csv: expected rows, found an empty file."),
        ("text,label\n", "odd.csv: expected rows, found only the header text, label."),
        ("text,label\na,x\nb,x\n", "expected at least two labels in the training data, found only 'x'."),
        ("text,label\na,x\n", "expected at least two labels in the training data, found only 'x'."),
    ],
    ids=["empty", "no rows", "one class", "one row"],
)
def test_data_that_train_refuses_are_one_screen_before_anything_runs(here, rows, said, capsys) -> None:
    (here / "odd.csv").write_text(rows)
    assert cli(["tune", "searched.py", "--study-dir", "odd", "--data.train", "odd.csv", "--trials", "2"]) == 2
    shown = capsys.readouterr().err
    assert said in shown
    assert "Traceback" not in shown
    assert not (here / "odd").exists()


def test_without_validation_there_is_nothing_to_choose_by(here, capsys) -> None:
    assert (
        cli(["tune", "searched.py", "--study-dir", "none", "--data.validation", "none", "--evaluation.select", "none"])
        == 2
    )
    assert "expected a validation split to choose by" in capsys.readouterr().err
    assert not (here / "none").exists()
