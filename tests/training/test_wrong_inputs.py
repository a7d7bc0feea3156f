"""User errors: exit 2, no traceback, and a helpful message."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from hf_trainpipe.cli import run

APART = """
import os

from hf_trainpipe import Files, replace
from recipes import exact


def recipe():  # a machine with a file of its own
    rank = os.environ["RANK"].replace("0", "")
    return replace(exact(), data=Files(train=f"train{rank}.csv", validation="dev.csv"))
"""
PLAIN = ["recipes.py:exact", "--budget.max-steps", "1", "--run-dir", "wrong"]


def break_line(path: Path, number: int, line: bytes) -> None:
    lines = path.read_bytes().splitlines(keepends=True)
    lines[number - 1] = line + b"\n"
    path.write_bytes(b"".join(lines))


def typo_in_an_option(folder: Path) -> list[str]:
    return [*PLAIN, "--optim.peek-lr", "1e-4"]


def missing_column(folder: Path) -> list[str]:
    return [*PLAIN, "--task.label", "labell"]


def unknown_label(folder: Path) -> list[str]:
    break_line(folder / "train.csv", 12, b"a fine day,positiv")
    return [*PLAIN, "--task.names", "negative", "positive"]


def null_text_on_line_17(folder: Path) -> list[str]:
    break_line(folder / "train.csv", 17, b",positive")
    return PLAIN


def empty_file(folder: Path) -> list[str]:
    (folder / "train.csv").write_bytes(b"")
    return PLAIN


def bad_utf8_byte(folder: Path) -> list[str]:
    break_line(folder / "train.csv", 9, b"a caf\xe9,positive")
    return PLAIN


def metric_that_does_not_exist(folder: Path) -> list[str]:
    return [*PLAIN, "--evaluation.select", "acuracy"]


def spacy_pipeline_not_installed(folder: Path) -> list[str]:
    recipes = (folder / "recipes.py").read_text()
    recipes = recipes.replace("NormalizeSpace, ", "SpacySentences, ")
    recipes = recipes.replace("NormalizeSpace()", 'SpacySentences(pipeline="xx_not_here_sm", keep_first=1)')
    (folder / "recipes.py").write_text(recipes)
    return PLAIN


def model_folder_without_weights(folder: Path) -> list[str]:
    (folder / "model/model.safetensors").unlink()
    return PLAIN


def hub_id_without_network(folder: Path) -> list[str]:
    return [*PLAIN, "--model.name", "nobody/no-such-model"]


CASES = {
    typo_in_an_option: ["peek", "--optim.peak-lr"],
    missing_column: ["labell", "Did you mean 'label'?", "text"],
    unknown_label: ["train.csv", "line 12", "positiv", "Did you mean 'positive'?"],
    null_text_on_line_17: ["train.csv", "line 17"],
    empty_file: ["train.csv", "empty"],
    bad_utf8_byte: ["train.csv", "line 9", "0xe9"],
    metric_that_does_not_exist: ["acuracy", "Did you mean 'accuracy'?"],
    spacy_pipeline_not_installed: ["xx_not_here_sm", "spacy download xx_not_here_sm"],
    model_folder_without_weights: ["model", "weights"],
    hub_id_without_network: ["nobody/no-such-model", "network"],
}


@pytest.fixture
def folder(workshop, tmp_path, monkeypatch) -> Path:
    copy = tmp_path / "work"
    copy.mkdir()
    for name in ("model", "train.csv", "dev.csv", "recipes.py"):
        source = workshop.folder / name
        (shutil.copytree if source.is_dir() else shutil.copy)(source, copy / name)
    monkeypatch.chdir(copy)
    monkeypatch.setenv("HF_TRAINPIPE_CACHE", str(tmp_path / "cache"))
    return copy


@pytest.mark.parametrize("mistake", CASES, ids=lambda mistake: mistake.__name__)
def test_a_mistake_gets_one_screen(mistake, folder, capfd) -> None:
    code = run(["train", *mistake(folder)])
    shown = capfd.readouterr().err
    assert code == 2, shown
    assert "Traceback" not in shown
    assert len(shown.splitlines()) <= 24
    for words in CASES[mistake]:
        assert words in shown


def test_a_mistake_ends_a_real_process_with_exit_2(workshop) -> None:
    done = workshop.train("recipes.py:exact", "--task.label", "labell", "--run-dir", "never")
    assert (done.code, "Traceback" in done.err) == (2, False), done.err
    assert "Did you mean 'label'?" in done.err


@pytest.mark.nightly
def test_ranks_that_read_other_rows_do_not_train_together(workshop) -> None:
    (workshop.folder / "apart.py").write_text(APART)
    rows = (workshop.folder / "train.csv").read_text()
    (workshop.folder / "train1.csv").write_text(rows + "a fine day,positive\n")
    done = workshop.train("apart.py", "--run-dir", "apart", ranks=2)
    assert done.code in (1, 2), done.err  # of the launcher, or of a rank
    assert "Rank 1 (on " in done.err
    assert "data differ" in done.err
    assert not (workshop.folder / "apart/run.json").exists()
