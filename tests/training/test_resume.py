"""Interrupted runs resume exactly: the same command again gives the same final bytes."""

from __future__ import annotations

import json

import pytest

TIMINGS = ("train/tokens_per_second",)


def comparable(points: dict) -> dict:
    return {key: value for key, value in points.items() if key[0] not in TIMINGS}


def test_killed_at_three_steps_ends_bit_identical(workshop, whole) -> None:
    for kill_at in ("3", "9", "8"):  # counted in each process: steps 3, 9 + 0, and after the resume of step 5
        done = workshop.train("recipes.py", "--run-dir", "killed", KILL_AT=kill_at)
        assert done.code == -9, done.err
    done = workshop.train("recipes.py", "--run-dir", "killed")
    assert done.code == 0, done.err
    assert "continuing after step" in done.err
    assert workshop.weights("killed") == workshop.weights("whole")
    assert comparable(workshop.ledger("killed")) == comparable(workshop.ledger("whole"))
    for name in ("model.safetensors", "optimizer.safetensors"):
        ours = (workshop.last_checkpoint("killed") / name).read_bytes()
        assert ours == (workshop.last_checkpoint("whole") / name).read_bytes()
    assert done.result["scores"] == whole.result["scores"]


def test_two_ranks_killed_end_bit_identical(workshop) -> None:
    done = workshop.train("recipes.py", "--run-dir", "pair", ranks=2)
    assert done.code == 0, done.err
    for kill_at, rank in (("7", "1"), ("8", "0")):
        done = workshop.train("recipes.py", "--run-dir", "pair-killed", ranks=2, KILL_AT=kill_at, KILL_RANK=rank)
        assert done.code != 0
    done = workshop.train("recipes.py", "--run-dir", "pair-killed", ranks=2)
    assert done.code == 0, done.err
    assert "continuing after step" in done.err
    assert workshop.weights("pair-killed") == workshop.weights("pair")
    assert comparable(workshop.ledger("pair-killed")) == comparable(workshop.ledger("pair"))


def test_sigterm_saves_exits_75_and_continues_exactly(workshop, whole) -> None:
    again = ["--optim.checkpoint-layers", "true"]  # other memory, the same gradient: to the weights it is the same run
    done = workshop.train("recipes.py", "--run-dir", "stopped", *again, KILL_AT="7", KILL_WITH="SIGTERM")
    assert done.code == 75, done.err
    assert "Continue with the same command" in done.err
    attempt = json.loads((workshop.folder / "stopped/attempts/0001.json").read_text())
    assert attempt["exit"] == "interrupted"
    done = workshop.train("recipes.py", "--run-dir", "stopped", *again, "--resume", "must")
    assert done.code == 0, done.err
    assert workshop.weights("stopped") == workshop.weights("whole")


def test_a_complete_run_is_not_run_again(workshop, whole) -> None:
    before = (workshop.folder / "whole/ledger.jsonl").read_bytes()
    done = workshop.train("recipes.py", "--run-dir", "whole")
    assert done.code == 0, done.err
    assert "this run is complete" in done.err
    assert done.result == whole.result
    assert (workshop.folder / "whole/ledger.jsonl").read_bytes() == before


@pytest.mark.parametrize(
    ("option", "line"),
    [
        (["--optim.peak-lr", "0.02"], "optim.peak_lr: 0.01 -> 0.02"),
        (["--seed", "18"], "seed: 17 -> 18"),
    ],
)
def test_a_changed_recipe_is_refused_by_field(workshop, whole, option, line) -> None:
    done = workshop.train("recipes.py", "--run-dir", "whole", *option)
    assert done.code == 2, done.err
    assert line in done.err
    assert "--extend" in done.err, "the run is complete"
    assert "Traceback" not in done.err


def test_resume_must_without_a_checkpoint_is_refused(workshop) -> None:
    done = workshop.train("recipes.py", "--run-dir", "nowhere", "--resume", "must")
    assert done.code == 3, done.err
    assert "none" in done.err
