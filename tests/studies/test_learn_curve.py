"""Learning curves from the command line; the decision for curves of several shapes."""

from __future__ import annotations

import json

import pytest

from hf_trainpipe import Evaluation, Frame, Pretrained, Recipe, TextClassification
from hf_trainpipe.cli import run as cli
from hf_trainpipe.data import chosen_rows
from hf_trainpipe.studies.conclusion import Point, Scale, concluded, decision
from hf_trainpipe.studies.subsets import Curve


@pytest.fixture
def typed(workshop, monkeypatch):
    """The verb as it is typed in the workshop."""
    monkeypatch.chdir(workshop.folder)
    for name, value in workshop.environment({}).items():
        monkeypatch.setenv(name, value)
    return lambda *arguments: cli(["learn-curve", *arguments, "--json"])


def test_subsets_are_nested_and_a_second_call_reads_what_is_there(typed, tmp_path, capsys) -> None:
    study = tmp_path / "study"
    command = ("recipes.py:exact", "--fractions", "0.25", "1", "--seeds", "1", "--study-dir", str(study))
    command += ("--budget.max-steps", "2")
    assert typed(*command) == 0
    found = json.loads(capsys.readouterr().out)
    small, large = (chosen_rows.read(study / f"rows/1-{part}.json") for part in ("0.25", "1"))
    parts = [set(rows["train"][0][1].tolist()) for rows in (small, large)]
    assert parts[0] < parts[1] == set(range(200))
    assert [(point["rows"], point["seed"]) for point in found["points"]] == [(len(parts[0]), 0), (200, 0)]
    assert found["on"] == "validation"
    assert found["scored"] == 61
    assert found["decision"] in (study / "learn_curve.html").read_text().replace("Stop", "stop").replace(" .", ".")
    assert typed(*command) == 0
    assert json.loads(capsys.readouterr().out) == found
    assert typed(*command, "--seed", "4") == 2
    assert "holds another study" in capsys.readouterr().err


def points(errors: dict[int, float], spread: float = 0.002) -> list[Point]:
    return [
        Point(rows=rows, seed=seed, score=1 - error + spread * (seed - 1), seconds=rows / 10)
        for rows, error in errors.items()
        for seed in range(3)
    ]


@pytest.fixture
def recipe() -> Recipe:
    import pandas

    frame = pandas.DataFrame({"text": ["a", "b"], "label": ["x", "y"]})
    task = TextClassification("text", label="label")
    return Recipe(name="r", model=Pretrained("m"), data=Frame(train=frame), task=task, evaluation=Evaluation())


def test_the_decision_says_what_labels_bring(recipe, tmp_path) -> None:
    told = {"scale": Scale(metric="accuracy", is_error=False), "curve": Curve(), "on": "test", "total": 2000}
    falls = {250: 0.40, 500: 0.30, 1000: 0.225, 2000: 0.17}
    found = concluded(recipe, tmp_path, points(falls), **told)
    assert "more rows for the next point" in found["decision"]
    assert 0.02 < found["gain"]["value"] < 0.06
    assert found["price"]["labels"] < 2000
    assert found["price"]["hours"] > found["price"]["hours_now"]
    flat = dict.fromkeys(falls, 0.2)
    assert "stop" in concluded(recipe, tmp_path, points(flat), **told)["decision"]
    unseen = {**found, "smallest_difference": 0.9, "price": {**found["price"], "labels_to_see": None}}
    assert "this test can see 90.0: stop" in decision(unseen)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--fractions", "1"), "expected two or more, ascending"),
        (("--fractions", "0.5", "0.2"), "found 0.5 0.2"),
        (("--seeds", "0"), "expected 1 or more"),
        (("--on", "test"), "expected test, found train, validation"),
        (("--data.validation", "none", "--evaluation.select", "none"), "needs a split to score on"),
        (("--fractions", "0.001", "1"), "too few for a curve"),
        (("--confidence", "2"), "in [0.5, 1)"),
        (("--data.train", "none.csv"), "none.csv"),
    ],
)
def test_wrong_options_are_one_screen(typed, tmp_path, capsys, options: tuple[str, ...], said: str) -> None:
    assert typed("recipes.py:exact", "--study-dir", str(tmp_path / "study"), *options) == 2
    assert said in capsys.readouterr().err
    assert not (tmp_path / "study").exists()
