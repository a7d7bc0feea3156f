"""Short representations of recipes and results in notebooks."""

from __future__ import annotations

from pathlib import Path

import pandas
import pytest

from hf_trainpipe import Budget, Files, Frame, NormalizeSpace, Pretrained, Recipe, TextClassification
from hf_trainpipe.training.result import Result


def test_a_recipe_shows_what_was_chosen() -> None:
    recipe = Recipe(
        name="reviews",
        model=Pretrained("m"),
        data=Files(train="train.csv"),
        task=TextClassification("review"),
        preprocessing=(NormalizeSpace(),),
        budget=Budget(epochs=5),
    )
    assert repr(recipe) == (
        "Recipe(name='reviews', model=Pretrained(name='m'), data=Files(train='train.csv'), "
        "task=TextClassification(text='review'), preprocessing=(NormalizeSpace(),), budget=Budget(epochs=5))"
    )
    assert "budget = Budget(epochs=5)" in recipe._repr_html_()
    frame = Frame(train=pandas.DataFrame({"text": ["a", "<b>"], "label": [0, 1]}))
    of_frame = Recipe(name="x", model=Pretrained("m"), data=frame, task=TextClassification())
    assert "Frame(train=DataFrame(2 rows x 2))" in repr(of_frame)
    assert "<b>" not in of_frame._repr_html_()


@pytest.fixture
def result() -> Result:
    score = {"value": 0.75, "low": 0.5, "high": None, "n": 8}
    return Result(
        run_dir=Path("runs/x"),
        package=Path("runs/x/package"),
        select="f1",
        scores={"validation": {"accuracy": {"value": None}, "f1": score}},
        steps=1200,
        best_step=800,
        seconds=3.0,
        push={"state": "failed", "repo": "me/x"},
    )


def test_a_result_is_short_and_shows_the_next_step_in_python(result: Result) -> None:
    assert repr(result) == "Result('runs/x': validation f1 0.7500, weights of step 800 of 1,200)"
    assert "<td>0.7500</td><td>0.5000</td>" in result._repr_html_()
    assert 'next      hf_trainpipe.load("runs/x/package").predict(["a text"])' in result.summary()
    assert "`hf-trainpipe push runs/x --retry`" in result.summary()
