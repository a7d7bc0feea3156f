"""A run on chosen rows, stopped, continued after its file moved, and evaluated from its package."""

from __future__ import annotations

import json

import pytest

from hf_trainpipe.cli import run as cli
from hf_trainpipe.data import chosen_rows
from hf_trainpipe.metrics.saved import load


def test_a_run_on_chosen_rows_goes_on_and_its_package_scores_the_same(
    workshop, tmp_path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("HF_TRAINPIPE_CACHE", str(workshop.folder / "cache"))
    monkeypatch.chdir(workshop.folder)
    first, moved = tmp_path / "rows.json", tmp_path / "moved.json"
    chosen = {
        "train": [("train", range(40, 200))],
        "validation": [("validation", range(61))],
        "test": [("train", range(40))],
    }
    chosen_rows.write(first, chosen)
    train = ["train", "recipes.py:exact", "--run-dir", str(tmp_path / "run"), "--json", "--rows"]
    assert cli([*train, str(first), "--planned-stop", "stop:8"]) == 75
    first.rename(moved)
    capsys.readouterr()
    assert cli([*train, str(moved)]) == 0
    scored = json.loads(capsys.readouterr().out.splitlines()[-1])["scores"]
    assert {split: scores["accuracy"]["n"] for split, scores in scored.items()} == {"validation": 61, "test": 40}
    assert len(load(tmp_path / "run/predictions/test.npz")) == 40
    assert "the rows that moved.json chooses" in (tmp_path / "run/package/README.md").read_text()
    assert cli(["evaluate", str(tmp_path / "run"), "--split", "test", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["scores"]["accuracy"] == scored["test"]["accuracy"]
    chosen_rows.write(first, {**chosen, "test": [("train", range(30))]})
    assert cli([*train, str(first)]) == 2
    assert "data.sha256" in capsys.readouterr().err
