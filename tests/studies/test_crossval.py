"""A cross-validation from the command line: stopped inside a fold, continued, refused where it is another one."""

from __future__ import annotations

import json

import numpy as np
import pytest

from hf_trainpipe.cli import run as cli
from hf_trainpipe.data import chosen_rows
from hf_trainpipe.metrics import score
from hf_trainpipe.metrics.saved import load


@pytest.fixture
def typed(workshop, monkeypatch):
    """The verb as it is typed in the workshop."""
    monkeypatch.chdir(workshop.folder)
    for name, value in workshop.environment({}).items():
        monkeypatch.setenv(name, value)
    return lambda *arguments: cli(["crossval", *arguments, "--json"])


def test_every_row_is_held_out_once_and_a_second_call_continues(typed, workshop, tmp_path, capsys) -> None:
    study = tmp_path / "study"
    command = ("recipes.py:exact", "--folds", "2", "--study-dir", str(study), "--budget.max-steps", "2")
    assert typed(*command) == 0
    found = json.loads(capsys.readouterr().out)
    held = load(study / "out_of_fold.npz")
    assert len(held) == found["rows"] == 261
    assert len({*zip(held.numbers["split"].tolist(), held.numbers["row"].tolist(), strict=True)}) == 261
    assert np.isclose(score(held.predictions, ["accuracy"])["accuracy"], found["scores"]["accuracy"]["value"])
    by_fold = [run["scores"]["accuracy"] for run in found["runs"]]
    assert by_fold == found["scores"]["accuracy"]["folds"]
    rows = chosen_rows.read(study / "rows/1.json")
    tested = {(name, row) for name, numbers in rows["test"] for row in numbers.tolist()}
    first = held.numbers["fold"] == 1
    names = np.asarray(found["splits"])[held.numbers["split"][first]].tolist()
    assert tested == {*zip(names, held.numbers["row"][first].tolist(), strict=True)}
    (study / "crossval.json").unlink()
    store = (study / "out_of_fold.npz").read_bytes()
    assert typed(*command) == 0
    assert json.loads(capsys.readouterr().out) == found
    assert (study / "out_of_fold.npz").read_bytes() == store
    assert "held-out rows" in (study / "crossval.html").read_text()
    assert cli(["slices", str(study), "--least", "10", "--json"]) == 0
    sliced = json.loads(capsys.readouterr().out)
    assert (sliced["rows"], sliced["halved"], sliced["of"]) == (261, False, "all folds")
    assert np.isclose(sliced["score"], found["scores"]["accuracy"]["value"])
    assert sliced["slices"]
    assert cli(["audit", "recipes.py:exact", "--no-model", "--crossval", str(study), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["unchecked"] == []
    curve = (
        "--fractions",
        "0.5",
        "1",
        "--seeds",
        "1",
        "--budget.max-steps",
        "2",
        "--study-dir",
        str(tmp_path / "curve"),
        "--json",
    )
    assert cli(["learn-curve", "recipes.py:exact", "--crossval", str(study), *curve]) == 0
    half, whole = json.loads(capsys.readouterr().out)["points"]
    assert whole["rows"] == found["runs"][0]["rows"]["train"]
    assert whole["score"] == found["runs"][0]["scores"]["accuracy"]
    assert 0.4 < half["rows"] / whole["rows"] < 0.6
    assert cli(["package", str(study / "folds/1"), "--crossval", str(study)]) == 2
    assert "has the answers of another recipe" in capsys.readouterr().err
    assert cli(["slices", str(study), "dev.csv"]) == 2
    assert "is a cross-validation" in capsys.readouterr().err
    assert typed(*command, "--seed", "5") == 2
    assert "holds another study" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("", "one.csv: expected rows, found an empty file"),
        ("text,label\n", "found only the header"),
        ("text,label\na film,good\n", "at least two labels"),
        ("text,label\na film,good\nb film,bad\n", "5 folds need 5 rows at least, found 2"),
    ],
)
def test_too_little_data_is_one_screen(typed, workshop, tmp_path, capsys, content: str, said: str) -> None:
    (workshop.folder / "one.csv").write_text(content)
    fields = ("--data.train", "one.csv", "--data.validation", "none", "--evaluation.select", "none")
    assert typed("recipes.py:exact", "--study-dir", str(tmp_path / "study"), *fields) == 2
    assert said in capsys.readouterr().err
    assert not (tmp_path / "study").exists()


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--folds", "1"), "expected 2 or more"),
        (("--by", "time"), "--by time needs a column"),
        (("--time", "label", "--by", "grouped"), "--time belongs to --by time"),
        (("--group", "nothing"), "has no column 'nothing'"),
        (("--time", "text"), "expected a number or a date"),
        (("--splits", "tset"), "no split 'tset'"),
    ],
)
def test_wrong_options_are_one_screen(typed, tmp_path, capsys, options: tuple[str, ...], said: str) -> None:
    assert typed("recipes.py:exact", "--study-dir", str(tmp_path / "study"), *options) == 2
    assert said in capsys.readouterr().err
