"""The run that ``retrain`` begins: its command, its data, and what a second call may change. The run itself is not begun here
(scripts/loop does)."""

from __future__ import annotations

import csv
from argparse import Namespace
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from hf_trainpipe.cli import run
from hf_trainpipe.cli.asking_verbs import named_recipe
from hf_trainpipe.errors import ResumeMismatch, TrainpipeError
from hf_trainpipe.promotion import retrain as module
from hf_trainpipe.promotion.alias import Record, open_alias
from hf_trainpipe.promotion.retrain import Labels, folder_of, retrain
from hf_trainpipe.recipe_file import load
from hf_trainpipe.studies.runs import Ending
from tests.package.conftest import write_package
from tests.promotion.test_merge import table, texts

RECIPE = """
from hf_trainpipe import Files, Hub, Pretrained, Recipe, Scratch, TextClassification, replace

def recipe():
    return Recipe(name="r", model=Pretrained("m", tokenizer="t"), data=Files(train="train.csv", test="test.csv"),
                  task=TextClassification("text", label="label"), hub=Hub("user/r"))

def scratch():
    return replace(recipe(), model=Scratch("gpt2"))
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "recipe.py").write_text(RECIPE)
    table(tmp_path / "train.csv", texts("old", 40))
    table(tmp_path / "test.csv", texts("test", 20))
    table(tmp_path / "new.csv", [*texts("new", 30), *texts("test", 2), ("old message number 2 about topic 703", "b")])
    return tmp_path


@pytest.fixture
def begun(monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """What runs were begun with; each is interrupted at once."""
    commands: list[list[str]] = []

    def interrupted(source: Any, run_dir: Path, *, fields: Any, options: Any, launch: Any) -> Ending:
        commands.append([*source.arguments, *fields, *options])
        return Ending(run_dir=run_dir, outcome="interrupted", code=75, message="stopped")

    monkeypatch.setattr(module.runs, "run", interrupted)
    return commands


def interrupts(act: Callable[[], object]) -> None:
    with pytest.raises(TrainpipeError, match="stopped") as caught:
        act()
    assert caught.value.exit_code == 75


def test_the_run_trains_on_old_and_new_rows_and_tests_on_the_frozen_ones(folder: Path, begun: list[list[str]]) -> None:
    recipe, source = load("recipe.py")
    labels = Labels(files=(Path("new.csv"),))
    interrupts(lambda: retrain(recipe, source, Path("run"), labels=labels))
    interrupts(lambda: retrain(recipe, source, Path("run"), labels=labels))
    assert begun[0] == begun[1], "a second call continues"
    assert begun[0][1:3] == ["--hub", "none"], "a challenger is not published"
    given = dict(zip(begun[0][3::2], begun[0][4::2], strict=True))
    chosen, _ = named_recipe(
        Namespace(
            load=None, recipe="recipe.py", fields=[], own_options=(), added=given["--added"], rows=given["--rows"]
        )
    )
    splits = chosen.data.splits()
    old, new = splits["train"]["text"][:40], splits["train"]["text"][40:]
    assert old == [text for text, _ in texts("old", 40)]
    assert new
    assert set(new) < {text for text, _ in texts("new", 30)}
    assert splits["test"].to_dict() == recipe.data.splits()["test"].to_dict()
    with (folder / "run" / "merge" / "conflicts.csv").open() as stream:
        assert [(row["label"], row["where"], row["other"]) for row in csv.DictReader(stream)] == [("b", "train", "a")]
    table(folder / "new.csv", texts("other", 30))
    assert folder_of(recipe, labels) != folder_of(recipe, Labels(files=(Path("test.csv"),)))
    with pytest.raises(ResumeMismatch, match="labels: ") as caught:
        retrain(recipe, source, Path("run"), labels=labels)
    assert "--run-dir OTHER" in caught.value.fix


def test_a_run_that_goes_on_keeps_what_it_began_with_whoever_holds_the_alias(
    folder: Path, begun: list[list[str]]
) -> None:
    recipe, source = load("recipe.py")
    alias = open_alias("alias")
    for seed in (0, 1):
        held = alias.take(write_package(folder / str(seed), seed=seed), source=str(seed))
        alias.append(lambda log, held=held: Record(number=0, kind="promoted", package=held, over=log.turn or None))  # type: ignore[misc]
        interrupts(lambda: retrain(recipe, source, Path("run"), labels=Labels(files=(Path("new.csv"),)), begin="alias"))
    assert begun[0] == begun[1]
    assert begun[0][3:] == [
        "--model.name", str(folder / alias.read().records[0].package.reference / "package").replace(str(folder), str(folder / "alias")),
        "--model.tokenizer", "none", *begun[0][7:],
    ]  # fmt: skip


def test_mistakes_are_told_before_anything_is_merged(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["retrain", "recipe.py"]) == 2
    assert "retrain: expected new labels." in capsys.readouterr().err
    assert run(["retrain", "recipe.py", "--labels", "new.csv", "--hold-out", "1"]) == 2
    assert "expected a share in [0, 1), found 1" in capsys.readouterr().err
    assert run(["retrain", "recipe.py:scratch", "--labels", "new.csv", "--from", "runs/x"]) == 2
    assert "expected a recipe that begins with a pretrained model, found Scratch" in capsys.readouterr().err
    assert run(["retrain", "recipe.py", "--labels", "nwe.csv"]) == 2
    assert "Did you mean 'new.csv'?" in capsys.readouterr().err
