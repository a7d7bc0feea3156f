"""Spaces: typed, checked against the recipe before anything runs, read back as the same numbers."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import pytest

from hf_trainpipe import Budget, Files, Optim, Pretrained, Recipe, TextClassification
from hf_trainpipe.errors import RecipeError
from hf_trainpipe.recipe.source import RecipeSource
from hf_trainpipe.recipe_file import load, override
from hf_trainpipe.studies import Choice, Integer, LogUniform, Space, Uniform
from hf_trainpipe.studies.space import default_space, options_of, space_of

RECIPE = Recipe(
    name="tiny",
    model=Pretrained("model"),
    data=Files(train="train.csv"),
    task=TextClassification("text", label="label"),
)
FILE = """
from hf_trainpipe import Files, Pretrained, Recipe, TextClassification
from hf_trainpipe.studies import Choice, Integer, LogUniform, Space, Uniform

def recipe():
    return Recipe(name="tiny", model=Pretrained("model"), data=Files(train="train.csv"), task=TextClassification("text", label="label"))

def space():
    return {}
"""


@pytest.mark.parametrize(
    ("space", "said"),
    [
        ('Space({"optim.peak_lrr": LogUniform(1e-5, 1e-3)})', "the recipe has no field 'optim.peak_lrr'. Did you mean 'optim.peak_lr'?"),
        ('Space({"budget.examples_per_step": Uniform(8, 32)})', "expected a whole number, found '8.0'"),
        ('Space({"optim.warmup": Uniform(0.0, 1.5)})', "optim.warmup"),
        ('Space({"optim.schedule": Choice("linear", "cosin")})', "found 'cosin'. Did you mean 'cosine'?"),
        ('Space({"seed": Integer(1, 9)})', "seed is not searched: every trial has the recipe's"),
        ('Space({"data.train": Choice("a.csv", "b.csv")})', "data is not searched" ),
        ('Space({"optim.peak_lr": LogUniform(0.0, 1e-3)})', "LogUniform: expected a low above 0, found 0.0"),
        ('Space({"optim.peak_lr": LogUniform(1e-3, 1e-5)})', "a low below the high"),
        ('Space({"budget.epochs": Integer(1.5, 3)})', "Integer: expected whole numbers, found 1.5"),
        ('Space({"budget.epochs": 3})', "Space: budget.epochs: expected LogUniform, Uniform, Integer or Choice, found 3"),
        ('Space({"optim.warmup": Choice(0.1, 0.1)})', "Choice: expected different values"),
        ("{}", "expected a Space from space(), found dict"),
        ("Space({})", "there is nothing left to search"),
    ],
)  # fmt: skip
def test_what_does_not_fit_the_recipe_is_refused_before_anything_runs(tmp_path, space, said) -> None:
    file = tmp_path / "recipe.py"
    file.write_text(FILE.replace("return {}", f"return {space}"))
    recipe, source = load(str(file))
    with pytest.raises(RecipeError) as caught:
        space_of(recipe, source, function=None)
    assert said.replace("data is", "data.train is") in caught.value.message
    assert caught.value.fix


def test_a_field_of_the_command_line_is_fixed(tmp_path) -> None:
    file = tmp_path / "recipe.py"
    file.write_text(
        FILE.replace(
            "return {}", 'return Space({"optim.peak-lr": LogUniform(1e-5, 1e-3), "budget.epochs": Integer(1, 5)})'
        )
    )
    recipe, source = load(str(file))
    space, place = space_of(recipe, replace(source, overrides=("--budget.epochs", "2")), function=None)
    assert list(space.dimensions) == ["optim.peak_lr"]
    assert place == "space() in recipe.py"
    with pytest.raises(RecipeError, match="no function 'wide'"):
        space_of(recipe, source, function="wide")


def test_values_read_back_as_they_were() -> None:
    values = {"optim.peak_lr": 1e-5 / 3, "budget.epochs": 3, "model.dropout": None, "optim.betas": (0.9, 0.98),
              "optim.freeze_embeddings": True, "optim.schedule": "cosine"}  # fmt: skip
    recipe = override(RECIPE, options_of(values))
    assert recipe.optim == Optim(peak_lr=1e-5 / 3, betas=(0.9, 0.98), freeze_embeddings=True, schedule="cosine")
    assert (recipe.budget.epochs, recipe.model.dropout) == (3.0, None)


@pytest.mark.parametrize("budget", [Budget(epochs=3), Budget(epochs=0.5), Budget(max_steps=100)])
def test_the_usual_space_fits_and_holds_the_recipe_itself(budget) -> None:
    recipe = replace(RECIPE, budget=budget)
    source = RecipeSource(Path("recipe.json"), None)
    space, place = space_of(recipe, source, function=None)
    assert place == "the usual space"
    assert space == default_space(recipe)
    assert set(space.own_values(recipe)) == set(space.dimensions)  # so that the first trial is the recipe
    assert {"optim.peak_lr", "optim.warmup", "optim.weight_decay", "model.dropout"} <= set(space.dimensions)
    rate = space.dimensions["optim.peak_lr"]
    assert isinstance(rate, LogUniform)
    assert math.isclose(rate.high / rate.low, 25, rel_tol=0.1)


def test_own_values_outside_of_the_space_are_left_to_the_sampler() -> None:
    space = Space({"optim.peak_lr": LogUniform(1e-3, 1e-2), "budget.epochs": Integer(1, 5), "optim.warmup": Uniform(0.0, 0.2),
                   "optim.schedule": Choice("linear", "cosine")})  # fmt: skip
    assert space.own_values(RECIPE) == {"budget.epochs": 3.0, "optim.warmup": 0.06, "optim.schedule": "linear"}
