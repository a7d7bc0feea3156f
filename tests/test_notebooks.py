"""The notebooks of docs/notebooks, executed in a kernel: with a tiny model here; scripts/notebooks runs them as they are."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import nbformat
import pytest
from nbclient import NotebookClient

from hf_trainpipe.testing import tiny_model

NOTEBOOKS = Path(__file__).parents[1] / "docs" / "notebooks"
pytestmark = pytest.mark.filterwarnings("default")  # of the kernel's client


def executed(name: str, folder: Path, **parameters: object) -> list[Any]:
    """The code cells of a notebook that ran in ``folder`` with other values in its cell of parameters."""
    notebook = nbformat.read(NOTEBOOKS / name, as_version=4)
    cells = [cell for cell in notebook.cells if cell.cell_type == "code"]
    (chosen,) = [cell for cell in cells if "parameters" in cell.metadata.get("tags", ())]
    assert set(parameters) <= set(re.findall(r"\w+(?=[\w, ]* = )", chosen.source)), "it has other parameters"
    chosen.source += "\n" + "\n".join(f"{name} = {value!r}" for name, value in parameters.items())
    NotebookClient(notebook, timeout=240, resources={"metadata": {"path": str(folder)}}).execute()
    return cells


def shown(cell: Any, kind: str) -> list[str]:
    return [output["data"][kind] for output in cell.outputs if kind in output.get("data", {})]


@pytest.mark.nightly
def test_train_and_look(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", str(NOTEBOOKS.parents[1]))
    monkeypatch.setenv("PYTHONWARNINGS", "ignore:IProgress not found")  # of tqdm, without ipywidgets
    monkeypatch.setenv("HF_TRAINPIPE_CACHE", str(tmp_path / "cache"))
    tiny_model(tmp_path / "model")
    cells = executed(
        "train-and-look.ipynb", tmp_path, model="model", max_length=32, steps=8, num_train=96, num_validation=24
    )
    of = {cell.source.splitlines()[-1]: cell for cell in cells}
    live, result = shown(of["result"], "text/html")
    assert "eval 8/8" in re.sub(" +", " ", live)
    assert "step 8/8" in live, "the line of the last step stays, in the same output"
    assert live.count("<pre") == 1
    assert "<td>validation</td><td>accuracy</td>" in result
    assert not [output for output in of["result"].outputs if output.output_type == "stream"], "all is in one output"
    assert "accuracy" in shown(of["run.scores"], "text/html")[0]
    (picture,) = shown(of['run.plot("train/loss", "validation/loss", "validation/accuracy")'], "image/png")
    assert len(picture) > 5000


@pytest.mark.parametrize("path", sorted(NOTEBOOKS.glob("*.ipynb")), ids=lambda path: path.name)
def test_a_notebook_opens_in_colab_and_shows_what_it_gave(path: Path) -> None:
    notebook = nbformat.read(path, as_version=4)
    nbformat.validate(notebook)
    assert f"/docs/notebooks/{path.name})" in notebook.cells[0].source
    assert "colab-badge.svg" in notebook.cells[0].source
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert sum(bool(cell.outputs) for cell in code) >= len(code) // 2, "scripts/notebooks executes and keeps them"
    assert not [output for cell in code for output in cell.outputs if output.output_type == "error"]
