"""Loading recipes from files, and the error for each mistake."""

from __future__ import annotations

import json
import sys
from textwrap import dedent
from typing import TYPE_CHECKING

import pytest

from hf_trainpipe import Pretrained, Recipe, RecipeError, TrainpipeError
from hf_trainpipe.codec import to_json
from hf_trainpipe.recipe_file import RecipeSource, load, source_of

if TYPE_CHECKING:
    from pathlib import Path

GOOD = """
from __future__ import annotations
from dataclasses import dataclass
from hf_trainpipe import HubData, Optim, Pretrained, Recipe, TextClassification, Tracker, replace

@dataclass(frozen=True, kw_only=True)
class Beep(Tracker):
    volume: float = 0.5
    def start(self, run): raise NotImplementedError

def recipe() -> Recipe:
    return Recipe(
        name="x", model=Pretrained("m"), data=HubData("a/b"), task=TextClassification(), trackers=(Beep(),)
    )

def large() -> Recipe:
    return replace(recipe(), name="x-large", model=Pretrained("l"))

def helper():
    return 3

def needs(size) -> Recipe:
    return recipe()
"""


@pytest.fixture
def good(tmp_path: Path) -> Path:
    path = tmp_path / "sst2.py"
    path.write_text(GOOD)
    return path


def write(tmp_path: Path, body: str) -> Path:
    path = tmp_path / "broken.py"
    path.write_text(dedent(body))
    return path


def test_a_function_of_a_file(good: Path) -> None:
    recipe, source = load(str(good))
    assert isinstance(recipe, Recipe)
    assert (recipe.name, source) == ("x", RecipeSource(good, "recipe"))
    recipe, source = load(f"{good}:large")
    assert recipe.name == "x-large"
    assert recipe.model == Pretrained("l")
    assert source == RecipeSource(good, "large")
    assert str(source) == f"{good}:large"


def test_loading_leaves_no_cache_and_sees_changes(good: Path) -> None:
    load(str(good))
    good.write_text(GOOD.replace('name="x"', 'name="y"'))
    assert load(str(good))[0].name == "y"
    assert [file.name for file in good.parent.iterdir()] == ["sst2.py"]


def test_neighbours_can_be_imported_and_cannot_hide_libraries(tmp_path: Path) -> None:
    (tmp_path / "my_neighbour_module.py").write_text("NAME = 'from-neighbour'\n")
    (tmp_path / "colorsys.py").write_text("raise RuntimeError('hid the library')\n")
    path = tmp_path / "r.py"
    body = GOOD.replace("@dataclass", "import colorsys\nfrom my_neighbour_module import NAME\n\n@dataclass", 1)
    path.write_text(body.replace('"x"', "NAME", 1))
    before = list(sys.path)
    try:
        assert load(str(path))[0].name == "from-neighbour"
    finally:
        sys.path[:] = before
        sys.modules.pop("my_neighbour_module", None)


def test_a_recipe_as_json(good: Path, tmp_path: Path) -> None:
    recipe, _ = load(str(good))
    encoded = to_json(recipe)
    encoded["trackers"] = []
    path = tmp_path / "r.json"
    path.write_text(json.dumps(encoded))
    again, source = load(str(path))
    assert again.task == recipe.task
    assert source == RecipeSource(path, None)
    assert str(source) == str(path)

    encoded["task"]["labl"] = "x"
    path.write_text(json.dumps(encoded))
    with pytest.raises(RecipeError, match=r"r.json: task.labl: .* Did you mean 'label'"):
        load(str(path))
    path.write_text('{"kind": "Recipe",\n "name": }')
    with pytest.raises(RecipeError, match=r"r.json, line 2: not valid JSON"):
        load(str(path))
    path.write_bytes(b'{"kind": "\xff"}')
    with pytest.raises(RecipeError, match="not UTF-8"):
        load(str(path))
    with pytest.raises(RecipeError, match="a JSON file has no functions"):
        load(f"{path}:recipe")


@pytest.mark.parametrize(
    ("spelled", "message", "fix"),
    [
        ("sst3.py", "there is no such recipe file. Did you mean '{}/sst2.py'?", "{}/sst2.py"),
        ("nowhere/sst2.py", "no folder {}/nowhere", "existing"),
        ("", "is a folder, not a recipe file", "{}/sst2.py"),
        ("notes.txt", "expected a recipe in a .py or .json file, found '.txt'", "recipe file"),
        (
            "sst2.py:lagre",
            "has no function 'lagre' that returns a recipe. Did you mean 'large'?",
            "sst2.py:recipe",
        ),
        ("sst2.py:Beep", "has no function 'Beep'", "sst2.py:large"),
        ("sst2.py:helper", "expected a Recipe from helper(), found int", "return Recipe"),
        ("sst2.py:needs", "takes no arguments, found size", "default"),
        ("sst2.py:2nd", "'2nd' is not the name of a function", "sst2.py"),
        ("sst2.py:", "'' is not the name of a function", "sst2.py"),
    ],
)
def test_wrong_names(good: Path, spelled: str, message: str, fix: str) -> None:
    folder = good.parent
    (folder / "notes.txt").write_text("")
    with pytest.raises(RecipeError) as caught:
        load(f"{folder}/{spelled}" if spelled else str(folder))
    assert message.format(folder) in caught.value.message
    assert fix.format(folder) in caught.value.fix


def test_functions_that_return_recipes_are_listed(good: Path) -> None:
    good.write_text(GOOD.replace("def recipe()", "def small()").replace("recipe()", "small()"))
    with pytest.raises(RecipeError) as caught:
        load(str(good))
    assert caught.value.fix.splitlines()[1:] == [f"{good}:small", f"{good}:large", f"{good}:needs"]
    good.write_text("x = 1\n")
    with pytest.raises(RecipeError, match="has no function 'recipe'") as caught:
        load(str(good))
    assert "def recipe() -> Recipe" in caught.value.fix


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ("x = 1\ndef recipe(:\n    pass\n", "broken.py, line 2: invalid syntax.\n\n  def recipe(:"),
        ("def recipe():\n  x = 1\n    y = 2\n", "broken.py, line 3: unexpected indent."),
        (
            "import no_such_module\n",
            "broken.py, line 1: ModuleNotFoundError: No module named 'no_such_module'",
        ),
        (
            "from hf_trainpipe import TextClasification\n",
            "broken.py, line 1: ImportError: cannot import name 'TextClasification'",
        ),
        ("def recipe():\n    return 1 / 0\n", "broken.py, line 2: ZeroDivisionError: division by zero"),
        (
            "from hf_trainpipe import Optim\ndef recipe():\n    return Optim(peek_lr=1.0)\n",
            "broken.py, line 3: Optim has no field 'peek_lr'. Did you mean 'peak_lr'?",
        ),
        (
            "from hf_trainpipe import Optim\n\nBAD = Optim(warmup=3.0)\n",
            "broken.py, line 3: optim.warmup: expected a number in [0, 1), found 3.0.",
        ),
    ],
)
def test_mistakes_in_the_file(tmp_path: Path, body: str, message: str) -> None:
    path = write(tmp_path, body)
    with pytest.raises(RecipeError) as caught:
        load(str(path))
    assert message in caught.value.message
    assert caught.value.fix


PART = """
from hf_trainpipe import (Budget, Evaluation, Files, HubData, NormalizeSpace, Optim, Pretrained, Recipe,
                          TextClassification, Tokens, replace)
def recipe():
    return {}
"""
WITH = "Recipe(name='x', model=Pretrained('m'), data=Files(train='t.csv'), task=TextClassification(), {})"


@pytest.mark.parametrize(
    ("body", "message", "fix"),
    [
        ("Budget(epoch=3)", "Budget has no field 'epoch'. Did you mean 'epochs'?", "Budget takes: epochs, "),
        ("Optim(1e-5)", "Optim takes its fields by name: ", "peak_lr, warmup"),
        ("Files()", "Files needs 'train'.", "train (needed)"),
        ("TextClassification('text', 'label')", "TextClassification takes only text without its name", "label"),
        ("replace(" + WITH.format("") + ", nme='y')", "Recipe has no field 'nme'. Did you mean 'name'?", "name"),
        ("Recip(name='x')", "NameError: the name 'Recip' is not defined. Did you mean 'Recipe'?", "import"),
        ("exit()", "the recipe file ends the program", "__main__"),
        ("Budget(epochs='3')", "budget.epochs: expected a number, found '3'.", "epochs as a number"),
        (WITH.format("seed='a'"), "seed: expected a whole number, found 'a'.", "seed"),
        (WITH.format("hub='me/x'"), "hub: expected a Hub or none, found 'me/x'.", "hub"),
        (WITH.format("budget=Budget(max_steps=2.5)"), "budget.max_steps: expected a whole number or none", "max_steps"),
        (WITH.format("optim=Optim(betas=0.9)"), "optim.betas: expected 2 values", "betas"),
        (WITH.format("evaluation=Evaluation(select=3)"), "evaluation.select: expected text or none, found 3", "select"),
        (WITH.format("preprocessing=NormalizeSpace()"), "preprocessing: expected a list", "(NormalizeSpace(),)"),
        (WITH.replace("'t.csv'", "'t\\ud83d.csv'").format(""), "data.train: 't\\ud83d.csv' holds half of", "uncut"),
        (
            WITH.replace("TextClassification()", "TextClassification").format(""),
            "task: expected a Task, found <class",
            "Pass task=TextClassification(...).",
        ),
    ],
)
def test_wrong_arguments_list_the_right_ones(tmp_path: Path, body: str, message: str, fix: str) -> None:
    with pytest.raises(RecipeError) as caught:
        load(str(write(tmp_path, PART.format(body))))
    assert caught.value.message.partition("broken.py")[2].startswith((", line 5: ", ": "))
    assert message in caught.value.message
    assert fix in caught.value.fix
    assert str(caught.value).count("Did you mean") <= 1


def test_lists_and_whole_floats_pass_as_they_do_in_training(tmp_path: Path) -> None:
    body = (
        "import numpy as np\n"
        "from hf_trainpipe import Budget, Files, Pretrained, Recipe, TextClassification\n"
        "def recipe():\n"
        "    return Recipe(name='x', model=Pretrained('m'), data=Files(train=['a.csv'], join={'t': ['a', 'b']}),\n"
        "        task=TextClassification(names=['a', 'b']), budget=Budget(max_steps=np.int64(3), examples_per_step=8.0))\n"
    )
    recipe, _ = load(str(write(tmp_path, body)))
    assert recipe.budget.max_steps == 3


def test_main_without_its_guard_does_not_train_while_a_verb_loads_the_file(tmp_path: Path) -> None:
    path = tmp_path / "r.py"
    path.write_text(GOOD + "\nfrom hf_trainpipe import main\nmain(recipe)\n")
    assert load(str(path))[0].name == "x"


def test_a_misspelled_import_gets_a_suggestion(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match="Did you mean 'TextClassification'"):
        load(str(write(tmp_path, "from hf_trainpipe import TextClasification\n")))


def test_errors_keep_their_class_and_data(tmp_path: Path) -> None:
    body = """
    from hf_trainpipe import DataError
    def recipe():
        raise DataError("no column 'x'", fix="add it", column="x")
    """
    with pytest.raises(TrainpipeError, match="line 4: no column 'x'") as caught:
        load(str(write(tmp_path, body)))
    assert type(caught.value).__name__ == "DataError"
    assert caught.value.data == {"column": "x"}


def test_null_bytes_and_bad_encoding(tmp_path: Path) -> None:
    path = tmp_path / "broken.py"
    for content in (b"x = 1\0\n", b"x = '\xff'\n"):
        path.write_bytes(content)
        with pytest.raises(RecipeError, match=r"broken\.py"):
            load(str(path))


def test_the_file_of_a_function(good: Path) -> None:
    names: dict[str, object] = {"__file__": str(good)}
    exec(compile("def large():\n    pass\n", str(good), "exec"), names)
    assert source_of(names["large"]) == RecipeSource(good, "large")  # type: ignore[arg-type]
