"""The store of out-of-fold predictions, and the verbs that read it: who is refused, and what wrong labels and unsure rows come to."""

from __future__ import annotations

import json
import random
from pathlib import Path

import numpy as np
import pytest

from hf_trainpipe import Files, Pretrained, Recipe, TextClassification, replace
from hf_trainpipe.audit.whole import audit
from hf_trainpipe.cli import run as cli
from hf_trainpipe.codec import to_json
from hf_trainpipe.errors import DataError, ResumeMismatch, TrainpipeError
from hf_trainpipe.metrics.saved import load, save
from hf_trainpipe.out_of_fold import RESULT, STORE, OutOfFold
from hf_trainpipe.package.unsure_held_out import wrong_when_unsure
from hf_trainpipe.testing import tiny_rows, write_rows
from tests.kept_study import kept_study

FLIP = {"positive": "negative", "negative": "positive"}


@pytest.fixture
def recipe(tmp_path: Path) -> Recipe:
    for name, count, seed in (("train", 300, 1), ("dev", 100, 2)):
        write_rows(tmp_path / f"{name}.csv", tiny_rows(count, seed=seed))
    data = Files(train="train.csv", validation="dev.csv", root=str(tmp_path))
    return Recipe(name="x", model=Pretrained("not/here"), data=data, task=TextClassification("text", label="label"))


def test_wrong_labels_by_the_models_own_answers(recipe: Recipe, tmp_path: Path) -> None:
    """Labels that were wrong in the data as they were dealt: the answers are right nine times in ten, whatever the label says."""
    rows = {name: tiny_rows(count, seed=seed) for name, count, seed in (("train", 300, 1), ("dev", 100, 2))}
    study = kept_study(tmp_path / "study", recipe, right=0.95)
    drawn, flipped = random.Random(0), set()
    for split, name in (("train", "train"), ("validation", "dev")):
        for at in drawn.sample(range(len(rows[name])), len(rows[name]) // 25):
            rows[name][at]["label"] = FLIP[rows[name][at]["label"]]
            flipped.add((split, at))
        write_rows(tmp_path / f"{name}.csv", rows[name])
    found = audit(recipe.task, recipe.data.splits(), learns=False, crossval=OutOfFold.read(study)).suspects
    assert found is not None
    assert found.splits == ("train", "validation")
    assert found.between is not None
    assert found.between[0] < found.precision < found.between[1]
    [told] = found.findings()
    assert "by the recipe's own models" in told.line
    ranked = [(one["split"], one["row"]) in flipped for one in told.facts["ranked"]]
    assert len(ranked) == 20
    assert sum(ranked) >= 0.3 * len(flipped)  # one answer in twenty is wrong by itself, and stands among them
    assert abs(np.mean(ranked) - found.found / found.planted) < 0.3


def test_who_is_refused(recipe: Recipe, tmp_path: Path, capsys) -> None:
    study = kept_study(tmp_path / "study", recipe, right=0.8)
    kept = OutOfFold.read(study)
    assert len(kept.rows(recipe.data.splits(), recipe.task)) == 400
    splits = dict(recipe.data.splits())
    others = splits["train"].select([*range(1, 300), 0])
    with pytest.raises(
        DataError, match=r"300 of 300 rows of split 'train' are others now, the first at train\.csv, line 3"
    ):
        kept.rows({**splits, "train": others}, recipe.task)
    with pytest.raises(DataError, match="split 'validation' had 100 rows or more"):
        kept.rows({"train": splits["train"]}, recipe.task)
    kept.check_recipe(to_json(replace(recipe, name="y", seed=3)), whose="y")
    with pytest.raises(ResumeMismatch, match=r"optim\.peak_lr"):
        kept.check_recipe(to_json(replace(recipe, optim=replace(recipe.optim, peak_lr=1.0))), whose="y")
    with pytest.raises(DataError, match="'negative'"):
        kept.logits(recipe.task.changed({"names": ("a", "b")}))
    document = json.loads((study / RESULT).read_text())
    for content, said in (
        ({**document, "out_of_fold": None}, "expected answers of single rows"),
        (None, "found 0 of 3 folds complete"),
    ):
        (study / RESULT).unlink() if content is None else (study / RESULT).write_text(json.dumps(content))
        with pytest.raises(TrainpipeError, match=said):
            OutOfFold.read(study)
    with pytest.raises(DataError, match="found no study"):
        OutOfFold.read(tmp_path)
    assert cli(["audit", str(tmp_path / "train.csv"), "--crossval", str(study)]) == 2
    assert "--crossval belongs to a recipe" in capsys.readouterr().err


def test_logits_are_told_as_they_were_before_a_temperature(recipe: Recipe, tmp_path: Path) -> None:
    study = kept_study(tmp_path / "study", recipe, right=0.8)
    document = json.loads((study / RESULT).read_text())
    before = OutOfFold.read(study).raw().predictions.outputs
    (study / RESULT).write_text(json.dumps({**document, "temperatures": [1.0, 2.0, 4.0]}))
    kept = OutOfFold.read(study)
    by = np.array([1.0, 2.0, 4.0])[kept.first().numbers["fold"] - 1]
    assert np.allclose(kept.raw().predictions.outputs, before * by[:, None])


def test_what_to_expect_of_unsure_rows(recipe: Recipe, tmp_path: Path) -> None:
    study = kept_study(tmp_path / "study", recipe, right=0.8)
    held = load(study / STORE)
    outputs = held.predictions.outputs.copy()
    outputs[:40] *= 0.01  # nobody knows
    save(replace(held, predictions=replace(held.predictions, outputs=outputs)), study / STORE)
    task = recipe.task.changed({"names": ("negative", "positive")})
    told = wrong_when_unsure(OutOfFold.read(study), task, least=0.9)
    assert told["unsure"]["rows"] == 40
    assert told["all"]["rows"] == 400
    assert told["all"]["low"] < told["all"]["value"] < told["all"]["high"]
    none = wrong_when_unsure(OutOfFold.read(study), task, least=1.1)
    assert none["unsure"] == {"rows": 0, "wrong": 0}
