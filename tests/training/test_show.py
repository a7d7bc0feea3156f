"""``show``: its output, and what it refuses before heavy imports."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from hf_trainpipe import Regression, RunOptions, Task, TextClassification, replace
from hf_trainpipe.cli import run
from hf_trainpipe.recipe_file import load
from hf_trainpipe.testing import tiny_model
from hf_trainpipe.training.setup import set_up
from hf_trainpipe.training.show import look

RECIPE = """
from hf_trainpipe import Files, HubData, Pretrained, Recipe, TextClassification, Tokens, replace

def recipe() -> Recipe:
    data = Files(train="train.csv", validation=0.25, root={root!r})
    return Recipe(name="x", model=Pretrained({model!r}), data=data, task=TextClassification(), tokens=Tokens(max_length=16))

def hub() -> Recipe:
    return replace(recipe(), data=HubData("someone/films"))
"""


@pytest.fixture
def written(tmp_path: Path) -> str:
    tiny_model(tmp_path / "model")
    (tmp_path / "train.csv").write_text("text,label\n" + "".join(f"x {n},{'ab'[n % 2]}\n" for n in range(40)))
    path = tmp_path / "r.py"
    path.write_text(RECIPE.format(root=str(tmp_path), model=str(tmp_path / "model")))
    return str(path)


def test_what_it_says(
    written: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("HF_TRAINPIPE_CACHE", str(tmp_path / "own"))
    assert run(["show", written, "--optim.precision", "fp32"]) == 0
    shown = capsys.readouterr().out
    assert "  train: 30 rows\n  validation: 10 rows\n" in shown
    assert "examples    30 for training" in shown
    assert "  labels: id, name (in train)\n     0  a  (15)\n     1  b  (15)\n" in shown
    assert run(["show", written, "--optim.precision", "fp32", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["labels"], sum(found["counts"].values())) == (["a", "b"], 30)
    assert (found["plan"]["num_examples"], found["rows"]["train"]["exact"], found["unchecked"]) == (30, True, [])
    assert run(["show", f"{written}:hub", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["plan"] is None
    assert "not in this machine's cache" in found["unchecked"][0]


@pytest.mark.parametrize("task", [TextClassification(), Regression(score="number")])
def test_training_derives_the_same_plan(
    written: str, task: Task, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_TRAINPIPE_CACHE", str(tmp_path / "own"))
    (tmp_path / "train.csv").write_text(
        "text,label,number\n" + "".join(f"x {n},{'ab'[n % 2]},{n}\n" for n in range(40))
    )
    recipe, source = load(written)
    recipe = replace(recipe, task=task)
    with set_up(recipe, RunOptions(source=source), run_dir=tmp_path / "run") as setup:
        encoded = {"flops_per_step": None, "num_tokens": None}  # known when the data is encoded
        assert None not in [getattr(setup.plan, name) for name in encoded]
        assert replace(setup.plan, **encoded) == look(recipe).plan


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--task.label", "lable"], "split 'train' has no column 'lable'. There are: text, label."),
        (["--evaluation.select", "acuracy"], "unknown metric 'acuracy'"),
        (["--evaluation.select", "accuracy", "--data.validation", "none"], "needs a validation split"),
        (["--task.names", "a", "c"], "train.csv, line 3: column 'label': unknown label 'b'"),
        (["--task.class-weights", "1", "2", "3"], "expected 2 numbers, one a label (a, b), found 3"),
        (["--model.name", "./nowhere"], "nowhere"),
    ],
)
def test_what_training_refuses(written: str, options: list[str], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["show", written, *options]) == 2
    assert said in capsys.readouterr().err


def test_it_refuses_before_torch_is_imported(written: str) -> None:
    code = (
        "import sys\nfrom hf_trainpipe.cli import run\n"
        f"code = run(['show', {written!r}, '--task.names', 'a', 'c'])\n"
        "print(code, {'torch', 'transformers'} & set(sys.modules))"
    )
    root = str(Path(__file__).parents[2])
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": root},
        check=False,
    )
    assert done.stdout == "2 set()\n"
