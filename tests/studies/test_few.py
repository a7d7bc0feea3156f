"""Few labels: what counts as few, which rows are kept, and how ways are held against each other."""

from __future__ import annotations

import json
import math

import numpy as np
import pandas
import pytest

from hf_trainpipe.audit.guess import guess
from hf_trainpipe.cli import run as cli
from hf_trainpipe.metrics.base import Predictions
from hf_trainpipe.recipe_file import load
from hf_trainpipe.studies import few
from hf_trainpipe.studies.auto_recipe import recipe_of
from hf_trainpipe.studies.folding import Folding
from hf_trainpipe.studies.pool import Pool
from hf_trainpipe.testing import tiny_rows


def pool_of(tmp_path, monkeypatch, model, **sizes: int) -> tuple:
    monkeypatch.setenv("HF_TRAINPIPE_CACHE", str(tmp_path / "cache"))
    files = []
    for seed, (name, size) in enumerate(sizes.items()):
        pandas.DataFrame(tiny_rows(size, seed=seed)).to_csv(tmp_path / f"{name}.csv", index=False)
        files.append(str(tmp_path / f"{name}.csv"))
    found = guess(files)
    recipe = recipe_of(found, str(model))
    return recipe, Pool.of(recipe, list(sizes))


@pytest.mark.parametrize(("rows", "is_few"), [(6, False), (8, True), (100, True), (104, False)])
def test_few_is_a_matter_of_rows_a_label(workshop, tmp_path, monkeypatch, rows: int, is_few: bool) -> None:
    _, pool = pool_of(tmp_path, monkeypatch, workshop.folder / "model", train=rows)
    assert few.is_few(pool) == is_few


@pytest.mark.parametrize("size", [few.ENOUGH - 1, few.ENOUGH])
def test_no_row_is_cut_off_and_too_few_rows_of_validation_are_learnt_from(
    workshop, tmp_path, monkeypatch, size
) -> None:
    _, pool = pool_of(tmp_path, monkeypatch, workshop.folder / "model", train=40, validation=size, test=20)
    choice, told = few.dealt(pool)
    counts = {name: {split: len(rows) for split, rows in parts} for name, parts in choice.items()}
    assert counts["test"] == {"test": 20}
    tested = pool.duplicates[-20:]
    learnt = ("train", "validation") if size < few.ENOUGH else ("train",)
    assert set(counts["train"]) == set(learnt)
    starts = dict(zip(pool.names, pool.starts.tolist(), strict=False))
    for split, rows in choice["train"]:
        clusters = pool.duplicates[starts[split] + np.asarray(rows)]
        assert not np.isin(clusters, tested).any(), "a row of test is not learnt from"
    assert ("validation" in counts) == (size >= few.ENOUGH)
    assert any("too few to choose by" in line for line in told) == (size < few.ENOUGH)


def answers(right: list[bool]) -> Predictions:
    references = np.arange(len(right)) % 2
    chosen = np.where(right, references, 1 - references)
    return Predictions(
        kind="single_label", outputs=np.eye(2, dtype=np.float32)[chosen], references=references, labels=("a", "b")
    )


def test_ways_are_held_against_the_plainest_and_luck_is_no_difference(workshop, tmp_path, monkeypatch) -> None:
    recipe, _ = pool_of(tmp_path, monkeypatch, workshop.folder / "model", train=8)
    plain = [place % 2 == 0 for place in range(40)]
    lucky = [*plain[:-1], True]
    sure = [True] * 40
    told = [
        few.Answered(number=number, predictions=answers(right))
        for number, right in enumerate((plain, lucky, sure, sure))
    ]
    held = few.hold(told, recipe)
    assert [one.verdict("accuracy") for one in held[1:]] == ["no difference shown", "better", "better"]
    assert held[0].against is None
    assert math.isnan(held[0].p)
    assert "0.5250" in held[1].told("accuracy")
    assert "no difference shown" in held[1].told("accuracy")
    assert few.best_of(held, recipe).number == 2, "of equal scores the plainer way"
    assert few.hold([told[2], told[0]], recipe)[1].verdict("accuracy") == "worse"


@pytest.mark.nightly
def test_a_file_with_few_labels_becomes_the_package_of_the_best_way(workshop, tmp_path, monkeypatch, capsys) -> None:
    for name, value in workshop.environment({}).items():
        monkeypatch.setenv(name, value)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(few, "WAYS", few.WAYS[:2])
    monkeypatch.setattr(few, "FOLDING", Folding(folds=2, splits=("train",)))
    pandas.DataFrame(tiny_rows(24)).to_csv("rows.csv", index=False)
    command = [
        "auto",
        "rows.csv",
        "--model",
        str(workshop.folder / "model"),
        "--study-dir",
        "made",
        "--budget",
        "20m",
        "--json",
    ]
    assert cli(command) == 0
    found = json.loads(capsys.readouterr().out)
    assert [way["way"] for way in found["ways"]] == [way.name for way in few.WAYS]
    assert found["ways"][1]["against_the_plainest"]["verdict"] in ("better", "worse", "no difference shown")
    best = max(range(2), key=lambda number: (found["ways"][number]["value"], -number))
    assert (tmp_path / "made/best").resolve() == tmp_path / f"made/runs/{best + 1}-0"
    assert f"of 2 ways, on rows held out: {few.WAYS[best].name}" in found["verdict"]
    assert (tmp_path / "made/best/package/model.safetensors").is_file()
    recipe, _ = load("made/recipe.py")
    assert (recipe.model.head, recipe.budget.max_steps) == (("probe", "contrastive")[best], 0)
    assert cli(command) == 0, "a second call reads what the first has done"
    assert json.loads(capsys.readouterr().out)["ways"] == found["ways"]
