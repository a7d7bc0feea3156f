"""An encoder warmed up on pairs of rows: which pairs, their loss, and a run that is killed inside."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

import hf_trainpipe as h
from hf_trainpipe import RunOptions, execute
from hf_trainpipe.errors import RecipeError
from hf_trainpipe.runtime.tokens.features import Features
from hf_trainpipe.training import contrastive
from hf_trainpipe.training.contrastive import PAIRS, Pairs, contrast
from tests.tasks import contract

FOREIGN = Path(__file__).parents[1] / "tasks/foreign.py"


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("inputs")
    contract.write_inputs(folder)
    return folder


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TRAINPIPE_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("HF_TRAINPIPE_THREADS", "1")


def warmed(recipe: h.Recipe) -> h.Recipe:
    task = replace(recipe.task, pooling="mean")  # type: ignore[type-var]
    return replace(recipe, task=task, model=replace(recipe.model, head="contrastive"))


def rows(labels: Any, windows: list[int]) -> Any:
    """A training split as far as pairs read it."""
    features = Features(
        streams={},
        example=np.repeat(np.arange(len(windows), dtype=np.int32), windows),
        num_examples=len(windows),
        of_examples={"labels": np.asarray(labels)},
    )
    return SimpleNamespace(features=features, usable=np.flatnonzero(windows))


def test_pairs_are_of_one_label_and_a_function_of_seed_and_step() -> None:
    labels, windows = np.array([0, 0, 1, 2, 2, 2, 0]), [1, 2, 1, 1, 3, 1, 0]
    train = rows(labels, windows)
    drawn, share = Pairs(train, seed=3).of(5)
    example = train.features.example[drawn].reshape(PAIRS, 2)
    assert (labels[example[:, 0]] == labels[example[:, 1]]).all()
    assert ((example[:, 0] == example[:, 1]) == (labels[example[:, 0]] == 1)).all(), "a lone example is its own partner"
    assert 6 not in example, "it has no features"
    counts = np.bincount(labels[example[:, 0]])
    assert counts.max() - counts.min() <= 1, "labels come in turn, however many rows each has"
    of_rows = labels[train.features.example[drawn]]
    np.testing.assert_array_equal(share, of_rows[:, None] == of_rows[None])
    np.testing.assert_array_equal(drawn, Pairs(train, seed=3).of(5)[0])
    assert not np.array_equal(drawn, Pairs(train, seed=3).of(6)[0])
    assert not np.array_equal(drawn, Pairs(train, seed=4).of(5)[0])


def test_of_several_labels_a_row_is_no_stranger_to_one_that_shares_any() -> None:
    labels = np.array([[1, 1, 0], [0, 1, 0], [0, 0, 1], [0, 0, 1], [0, 0, 0]], dtype=np.float32)
    drawn, share = Pairs(rows(labels, [1] * 5), seed=0).of(0)
    assert 4 not in drawn, "a row without a label has no partner"
    np.testing.assert_array_equal(share, (labels[drawn] @ labels[drawn].T) > 0)
    assert share[0::2, 1::2].diagonal().all()


def test_the_loss_asks_for_the_partner_among_rows_of_other_labels() -> None:
    labels = torch.tensor([0, 0, 0, 0, 1, 1])
    together = torch.tensor([[1.0, 0.0], [1.0, 0.0], [1.0, 0.0], [1.0, 0.0], [0.0, 1.0], [0.0, 1.0]])
    shared = labels[:, None] == labels[None]
    near = float(contrast(together, shared))
    assert near == pytest.approx(float(np.log1p(2 * np.exp(-10)) * 4 + np.log1p(4 * np.exp(-10)) * 2) / 6, rel=1e-3)
    assert float(contrast(together.flip(1) * 3, shared)) == pytest.approx(near), "directions alone count"
    assert float(contrast(together[[0, 4, 2, 5, 1, 3]], shared)) > 1


def test_rows_of_one_label_alone_are_refused() -> None:
    with pytest.raises(RecipeError, match="of two labels or more, found 1"):
        Pairs(rows([1, 1], [1, 1]), seed=0)


def test_a_run_that_is_killed_inside_its_warm_up_ends_as_one_that_was_not(
    inputs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(contrastive, "RATE", 3e-3)  # so that random weights move
    trained = contract.train("classification", inputs, tmp_path / "run", FOREIGN, change=warmed)
    [entry] = (tmp_path / "cache/encoders").glob("*/entry.json")
    assert json.loads(entry.read_text())["pairs"][1] == contrastive.STEPS
    first, last = capsys.readouterr().err.partition("loss ")[2].split(";")[0].split(" -> ")
    assert float(last) < float(first) / 2, "rows of a label come together"
    shutil.rmtree(tmp_path / "cache/encoders")  # what is computed again is the same
    shutil.rmtree(tmp_path / "cache/heads")
    steps = iter(range(3))
    with monkeypatch.context() as patch:
        patch.setattr(contrastive, "contrast", lambda *given: contrast(*given) if next(steps) < 2 else 1 / 0)
        with pytest.raises(ZeroDivisionError):
            execute(trained.recipe, run_dir=tmp_path / "killed", options=RunOptions())
    assert not list((tmp_path / "cache/encoders").glob("*/entry.json"))
    contract.resumes_after_a_kill(trained, tmp_path / "killed", monkeypatch)


def test_a_step_in_several_micro_batches_has_the_same_gradient(
    inputs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = []
    for number, tokens in enumerate((4096, 60)):
        monkeypatch.setattr(contrastive, "_TOKENS", tokens)
        monkeypatch.setattr(contrastive, "STEPS", 2)
        monkeypatch.setenv("HF_TRAINPIPE_CACHE", str(tmp_path / f"cache-{number}"))
        recipe, _ = contract.recipe_of("classification", inputs, FOREIGN)
        recipe = warmed(recipe)
        recipe = replace(recipe, model=replace(recipe.model, dropout=0.0))
        with monkeypatch.context() as patch:
            patch.setattr("hf_trainpipe.training.execute.Trial.check", lambda *_: 1 / 0)  # the run has its model
            with pytest.raises(ZeroDivisionError):
                execute(recipe, run_dir=tmp_path / f"run-{number}", options=RunOptions())
        [folder] = (tmp_path / f"cache-{number}/encoders").glob("*/")
        found.append(contrastive._read(folder))
    assert found[0]
    for name, tensor in found[0].items():
        torch.testing.assert_close(tensor, found[1][name], atol=2e-6, rtol=1e-4)


def test_a_warm_up_without_pairs_is_refused(inputs: Path, tmp_path: Path) -> None:
    recipe, _ = contract.recipe_of("regression", inputs, FOREIGN)
    with pytest.raises(RecipeError, match=r"model\.head: 'contrastive' draws pairs .* a regression has numbers"):
        execute(warmed(recipe), run_dir=tmp_path / "run", options=RunOptions())
