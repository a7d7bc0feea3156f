"""The command line in a process of its own: output and imports."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.usefixtures("real_processes")
ROOT = Path(__file__).parents[1]
GOOD = """
from hf_trainpipe import HubData, Pretrained, Recipe, TextClassification, main

def recipe() -> Recipe:
    return Recipe(name="x", model=Pretrained("m"), data=HubData("a/b"), task=TextClassification())

if __name__ == "__main__":
    main(recipe)
"""


def call(*command: str, **env: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *command],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT), **env},
        check=False,
    )


def trainpipe(*arguments: str, **env: str) -> subprocess.CompletedProcess[str]:
    return call("-m", "hf_trainpipe", *arguments, **env)


def test_help_loads_nothing_heavy() -> None:
    done = call("-X", "importtime", "-m", "hf_trainpipe", "--help")
    assert done.returncode == 0
    assert "train" in done.stdout
    loaded = {line.rpartition("|")[2].strip() for line in done.stderr.splitlines()}
    heavy = {
        "torch",
        "numpy",
        "transformers",
        "datasets",
        "spacy",
        "neptune",
        "hf_trainpipe.recipe",
        "asyncio",
    }
    assert not heavy & loaded


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["trian"], "Did you mean 'train'?"),
        (["show", "{}/r.py", "--optim.peek-lr", "1e-5"], "Did you mean '--optim.peak-lr'?"),
        (["show", "{}/r.py", "--optim.peak-lr", "fast"], "--optim.peak-lr: expected a number, found 'fast'."),
        (["train", "{}/s.py"], "there is no such recipe file. Did you mean '{}/r.py'?"),
        (["train", "{}/syntax.py"], "syntax.py, line 2: "),
        (["train", "{}/r.py:large"], "has no function 'large' that returns a recipe"),
    ],
)
def test_mistakes(tmp_path: Path, arguments: list[str], message: str) -> None:
    (tmp_path / "r.py").write_text(GOOD)
    (tmp_path / "syntax.py").write_text("x = 1\ndef recipe(:\n")
    done = trainpipe(*(argument.format(tmp_path) for argument in arguments))
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr.startswith("error: ")
    assert message.format(tmp_path) in done.stderr
    assert "Traceback" not in done.stderr


def test_a_recipe_file_as_a_program(tmp_path: Path) -> None:
    path = tmp_path / "r.py"
    path.write_text(GOOD)
    done = call(str(path), "--sede", "3")
    assert done.returncode == 2
    assert "Did you mean '--seed'?" in done.stderr
    done = call(str(path), "--sede", "3", RANK="1")
    assert (done.returncode, done.stderr) == (2, "")


def test_a_reader_that_goes_away(tmp_path: Path) -> None:
    # The reader is gone before the first byte is written.
    command = f"(sleep 0.5; {sys.executable} -m hf_trainpipe --help; echo $? > {tmp_path}/code) | true"
    done = subprocess.run(
        ["bash", "-c", command],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        check=False,
    )
    assert done.stderr == ""
    assert (tmp_path / "code").read_text() == "141\n"
