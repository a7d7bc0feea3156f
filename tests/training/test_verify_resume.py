"""verify-resume: a copy of a real run is killed, resumed and compared."""

from __future__ import annotations

import json
import shutil
import sys

import pytest

from hf_trainpipe.cli import run as cli
from hf_trainpipe.package.layout import read_manifest
from hf_trainpipe.training.verify_resume import start_of_copy


@pytest.mark.nightly
def test_two_ranks_verify_before_packaging_and_the_package_tells(workshop) -> None:
    run = workshop.folder / "verified"
    done = workshop.train("recipes.py", "--run-dir", run.name, "--verify-resume", ranks=2)
    assert done.code == 0, done.err
    assert "bit-identical at step 26" in done.err
    proof = json.loads((run / "resume-proof.json").read_text())
    assert proof["identical"], proof
    assert proof["from_step"] < proof["killed_after"] < proof["compared_at"] == 26
    assert (proof["ranks"], proof["device"]) == (2, "cpu")
    assert read_manifest(run / "package")["resumed"] == proof
    card = (run / "package/README.md").read_text()
    assert f"killed with SIGKILL after step {proof['killed_after']}" in card
    assert "was the same, bit for bit" in card
    assert not (run / "verify-resume").exists()
    assert len(list((run / "attempts").glob("*.json"))) == 1


@pytest.fixture(scope="module")
def finished(workshop, whole):
    """A copy of the run that many tests share: one more file is written into it."""
    return shutil.copytree(workshop.folder / "whole", workshop.folder / "finished")


def test_a_finished_run_is_verified_and_nothing_else_of_it_changes(workshop, finished) -> None:
    before = {path: path.read_bytes() for path in finished.rglob("*") if path.is_file() and path.name != "run.lock"}
    verb = ("verify-resume", finished.name, "--recipe", "recipes.py", "--json")
    done = workshop.run(sys.executable, "-m", "hf_trainpipe", *verb)
    assert done.code == 0, done.err
    assert (done.result["identical"], done.result["from_step"], done.result["compared_at"]) == (True, 0, 26)
    after = {path: path.read_bytes() for path in finished.rglob("*") if path.is_file() and path.name != "run.lock"}
    assert json.loads(after.pop(finished / "resume-proof.json")) == done.result
    assert after == before


@pytest.mark.parametrize(
    ("options", "gone", "code", "expected"),
    [
        ((), None, 2, "Mortal is a class of the recipe file"),
        (("--recipe", "recipes.py", "--optim.peak-lr", "1e-3"), None, 2, "optim.peak_lr: 0.01 -> 0.001"),
        (("--recipe", "recipes.py"), "checkpoints", 3, "the last checkpoint (step 26) is gone"),
        (("--recipe", "recipes.py"), "result.json", 2, "expected a finished run"),
    ],
)
def test_what_cannot_be_verified_is_one_screen(
    workshop, finished, options, gone, code, expected, monkeypatch, capsys
) -> None:
    monkeypatch.chdir(workshop.folder)
    if gone is not None:
        shutil.move(finished / gone, finished / "elsewhere")
    assert cli(["verify-resume", finished.name, *options]) == code
    assert expected in capsys.readouterr().err
    if gone is not None:
        shutil.move(finished / "elsewhere", finished / gone)


def test_a_package_is_no_run_and_stays_as_it_is(workshop, finished, monkeypatch, capsys) -> None:
    monkeypatch.chdir(workshop.folder)
    before = sorted((finished / "package").iterdir())
    assert cli(["verify-resume", f"{finished.name}/package", "--recipe", "recipes.py"]) == 2
    assert "expected a finished run, found no run.json" in capsys.readouterr().err
    assert sorted((finished / "package").iterdir()) == before


@pytest.mark.nightly
def test_a_run_that_is_not_reproducible_is_reported(workshop) -> None:
    """The losses of this task depend on the process id."""
    file = workshop.folder / "fickle.py"
    file.write_text(
        (workshop.folder / "recipes.py").read_text().replace(
            "        return super().loss_sum(model, batch)",
            "        return super().loss_sum(model, batch) * (1.0 + os.getpid() % 1009 / 1e4)",
        )
    )  # fmt: skip
    done = workshop.train("fickle.py", "--run-dir", "fickle", "--verify-resume", "--budget.max-steps", "12")
    assert done.code == 0, done.err
    assert "differs at step 12 in model.safetensors" in done.err
    assert not read_manifest(workshop.folder / "fickle/package")["resumed"]["identical"]
    assert "differed in model.safetensors" in (workshop.folder / "fickle/package/README.md").read_text()


def test_the_copy_is_short_where_runs_are_long() -> None:
    assert start_of_copy([500, 1000, 1500], 1500) == 1000
    assert start_of_copy([500, 1499, 1500], 1500) == 500
    assert start_of_copy([1499, 1500], 1500) == 1499
    assert start_of_copy([1500], 1500) == 0
    assert start_of_copy([5, 10, 13, 26], 26) == 13
    assert start_of_copy([25, 26], 26) == 0
