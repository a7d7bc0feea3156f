"""A student that learns from a teacher: a package of this project, or a model as transformers reads it."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import hf_trainpipe as h
from hf_trainpipe import Distil, Interrupted, RecipeError, RunOptions, execute
from hf_trainpipe.codec import from_json, to_json
from hf_trainpipe.recipe_file import override
from hf_trainpipe.training.distilling import Lessons
from hf_trainpipe.training.execute import repackage
from hf_trainpipe.training.run import Run
from hf_trainpipe.training.setup import set_up
from hf_trainpipe.training.show import look
from hf_trainpipe.training.signals import PlannedStop
from hf_trainpipe.training.teacher import Asked
from tests.hub.hub_server import Blob, Fault, Repository
from tests.training.distilled import cut, gradient, raw, student, untrained, write_inputs

ASK = """
import json, sys
import torch
from hf_trainpipe import Distil, RecipeError, TextClassification
from hf_trainpipe.training.teacher import find_teacher

task = TextClassification(names=("kind", "mean"))
for name in sys.argv[1:]:
    try:
        teacher = find_teacher(Distil(name))
        teacher.check(task, task.label_names)
        asked = teacher.loaded(task, device=torch.device("cpu")).logits({"text": ["a <b>fine</b> film"]})
        print(json.dumps([teacher.identity, asked[:, teacher.outputs(task)].tolist()]))
    except RecipeError as error:
        print(json.dumps(error.message))
"""
BRIEF = RunOptions(validation_only=True)
TASKS = {
    "classes": (h.TextClassification(), {"id2label": {0: "MEAN", 1: "other", 2: "kind"}}),
    "several": (h.MultiLabelClassification(), {"id2label": {0: "long", 1: "kind"}}),
    "number": (h.Regression(text_pair="pair"), {"num_labels": 1}),
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("distillation")
    write_inputs(folder)
    return folder


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TRAINPIPE_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("TRAINPIPE_ALLOW_CODE", raising=False)


def teaching(folder: Path) -> h.Recipe:
    """The recipe of the teacher."""
    return student(
        folder,
        task=h.TextClassification(names=("mean", "kind")),
        distil=Distil(str(folder / "first"), weight=1.0),
        name="teacher",
        model=h.Pretrained(str(folder / "large")),
        preprocessing=(h.StripHtml(),),
        tokens=h.Tokens(max_length=32),
    )


@pytest.fixture(scope="module")
def teacher(folder: Path) -> Path:
    """Of another architecture and length, behind preprocessing, with its labels in another order; it had a teacher, too."""
    first = untrained(folder, "first", id2label={0: "mean", 1: "kind"})
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HF_TRAINPIPE_CACHE", str(folder / "cache"))
        result = execute(teaching(folder), run_dir=folder / "teacher")
    shutil.rmtree(first)
    assert result.verified["passed"]
    return result.run_dir


def taught(recipe: h.Recipe, run_dir: Path) -> np.ndarray:
    """The teacher's logits of each training row, as a run has them."""
    with set_up(recipe, RunOptions(), run_dir=run_dir) as setup:
        features = Lessons(setup).added_to(setup.data.train).features
        return features.dense["teacher"][np.searchsorted(features.example, np.arange(features.num_examples))]


def test_a_package_reads_raw_texts_and_its_labels_go_by_name(folder, teacher, tmp_path) -> None:
    found = taught(student(folder, distil=Distil(str(teacher))), tmp_path / "run")
    predictor = h.load(teacher, device="cpu").predictor
    assert predictor.task.names == ("mean", "kind")
    expected = predictor.outputs([row["text"] for row in raw(folder)])["logits"][:, ::-1]
    np.testing.assert_allclose(found, expected, atol=1e-5)


@pytest.mark.parametrize("kind", ["classes", "several", "number"])
def test_a_model_of_transformers_teaches_every_task(folder, tmp_path, kind) -> None:
    task, config = TASKS[kind]
    place = untrained(folder, f"as-{kind}", **config)
    recipe = student(folder, task=task, distil=Distil(str(place), weight=0.75))
    found = taught(recipe, tmp_path / "logits")
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    model = AutoModelForSequenceClassification.from_pretrained(place).eval()
    tokenizer = AutoTokenizer.from_pretrained(place)
    texts = [(row["text"], row["pair"]) if kind == "number" else (row["text"],) for row in raw(folder)]
    with torch.no_grad():
        plain = [model(**tokenizer(*one, return_tensors="pt", truncation=True)).logits[0] for one in texts]
    order = {"classes": [2, 0], "several": [1, 0], "number": [0]}[kind]
    np.testing.assert_allclose(found, torch.stack(plain)[:, order].numpy(), atol=1e-5)
    loss, found, _ = gradient(recipe, tmp_path / "run")
    assert loss > 0
    assert all(bool(one.isfinite().all()) for one in found.values())


def test_the_loss_of_a_step_is_the_plain_one_however_it_is_cut(folder, tmp_path) -> None:
    from torch.nn import functional

    untrained(folder, "head", id2label={0: "mean", 1: "kind"})
    recipe = cut(folder, piece=None)
    loss, whole, _ = gradient(recipe, tmp_path / "whole")
    pieces, found, number = gradient(cut(folder, piece=7), tmp_path / "cut")
    assert number > 4
    assert pieces == pytest.approx(loss, abs=1e-6)
    largest = max(float(one.abs().max()) for one in whole.values())
    assert largest > 1e-3
    assert all(float((found[name] - one).abs().max()) <= 1e-6 * max(1.0, largest) for name, one in whole.items())
    with set_up(recipe, RunOptions(), run_dir=tmp_path / "plain") as setup:
        run = Run(setup)
        texts, names = [row["text"] for row in raw(folder)], run.task.names
        assert names is not None
        tokens = run.tokenizer(texts, return_tensors="pt", padding=True)
        logits = run.bare.eval()(**tokens).logits
        seen = torch.from_numpy(taught(recipe, tmp_path / "asked"))
    gold = torch.tensor([names.index(row["label"]) for row in raw(folder)])
    soft = functional.kl_div((logits / 3).log_softmax(-1), (seen / 3).softmax(-1), reduction="batchmean") * 9
    plain = 0.3 * soft + 0.7 * functional.cross_entropy(logits, gold)
    assert loss == pytest.approx(plain.item(), abs=1e-6)


def test_rows_without_labels_count_for_the_distance_alone(folder, tmp_path) -> None:
    task, config = TASKS["classes"]
    rows = [{"text": row["text"]} for row in raw(folder)[:25]]
    (folder / "more.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    more = h.Files(train="more.jsonl", root=str(folder))
    distil = Distil(str(untrained(folder, "unsure", **config)), weight=0.25, unlabelled=more)
    recipe = student(folder, task=task, distil=distil)
    recipe = replace(recipe, budget=replace(recipe.budget, examples_per_step=65))
    assert from_json(to_json(recipe)) == recipe
    loss, _, _ = gradient(recipe, tmp_path / "both")
    known, _, _ = gradient(replace(recipe, distil=replace(distil, unlabelled=None)), tmp_path / "known")
    asked, _, _ = gradient(replace(recipe, distil=replace(distil, weight=1.0)), tmp_path / "asked")
    alone, _, _ = gradient(replace(recipe, distil=replace(distil, weight=1.0, unlabelled=None)), tmp_path / "alone")
    # 40 rows with a label, 25 without: the label counts for the first alone, the teacher for all
    assert loss * 65 == pytest.approx(known * 40 + 0.25 * (asked * 65 - alone * 40), rel=1e-5)


def test_rows_without_labels_are_in_the_plan_and_refused_beside_changed_texts(folder, teacher, tmp_path) -> None:
    more = h.Files(train="rows.jsonl", root=str(folder))
    recipe = student(folder, distil=Distil(str(teacher), unlabelled=more))
    with set_up(recipe, RunOptions(), run_dir=tmp_path / "run") as setup:
        assert (setup.plan.num_examples, len(setup.data.train)) == (80, 40)
    result = execute(recipe, run_dir=tmp_path / "run", options=BRIEF)
    assert result.scores["validation"]["accuracy"]["n"] == 40
    with pytest.raises(RecipeError, match=r"augmentation\[0\]: expected no changed texts with distil.unlabelled"):
        replace(recipe, augmentation=(h.Typos(share=0.5),))


def test_a_run_killed_while_the_teacher_answers_and_while_it_learns_ends_bit_identical(
    folder, teacher, tmp_path, monkeypatch, capfd
) -> None:
    monkeypatch.setattr("hf_trainpipe.training.distilling.PART", 16)
    recipe = student(
        folder,
        distil=Distil(str(teacher)),
        model=h.Pretrained(str(folder / "model")),
        augmentation=(h.WordDropout(share=0.3),),
    )
    answers, left = Asked.logits, iter([True, True, False])

    def mortal(self: Asked, inputs: Any) -> np.ndarray:
        if not next(left, True):
            raise KeyboardInterrupt
        return answers(self, inputs)

    with monkeypatch.context() as patch:
        patch.setattr(Asked, "logits", mortal)
        with pytest.raises(KeyboardInterrupt):
            execute(recipe, run_dir=tmp_path / "cut", options=BRIEF)
    capfd.readouterr()
    with pytest.raises(Interrupted):
        execute(recipe, run_dir=tmp_path / "cut", options=replace(BRIEF, planned_stop=PlannedStop(stop_at=3)))
    assert "asked the teacher about train: 8 rows; kept" in capfd.readouterr().err
    execute(recipe, run_dir=tmp_path / "cut", options=BRIEF)
    assert "asked the teacher" not in capfd.readouterr().err
    monkeypatch.setenv("HF_TRAINPIPE_CACHE", str(tmp_path / "another"))
    execute(recipe, run_dir=tmp_path / "whole", options=BRIEF)
    last = [max((tmp_path / run / "checkpoints").glob("step-*")) for run in ("whole", "cut")]
    assert last[0].name == last[1].name
    assert (last[0] / "model.safetensors").read_bytes() == (last[1] / "model.safetensors").read_bytes()


def test_a_package_says_its_teacher_and_needs_nothing_of_it(folder, teacher) -> None:
    assert not (folder / "first").exists()
    assert h.load(teacher, device="cpu").predict("a <b>fine</b> film")[0]["label"] in ("kind", "mean")
    card = (teacher / "package" / "README.md").read_text()
    assert f"distilled from `{folder / 'first'}` with weight 1 and temperature 2" in card
    assert "reads 40 examples once" in (teacher / "report.html").read_text()


def test_a_run_that_has_ended_needs_its_teacher_no_more(folder, teacher, tmp_path) -> None:
    run = shutil.copytree(teacher, tmp_path / "run")
    assert execute(teaching(folder), run_dir=run).steps == execute(teaching(folder), run_dir=teacher).steps
    (run / "package/README.md").unlink()
    assert (repackage(run, recipe=teaching(folder)) / "README.md").exists()
    weights = [(place / "package/model.safetensors").read_bytes() for place in (run, teacher)]
    assert weights[0] == weights[1]
    longer = replace(teaching(folder), budget=replace(teaching(folder).budget, max_steps=20))
    with pytest.raises(RecipeError, match=r"distil.teacher: .*first"):  # further steps would ask it
        execute(longer, run_dir=run, options=RunOptions(extend=True))


def test_the_plan_tells_the_teacher_and_its_cost(folder, teacher) -> None:
    recipe = student(folder, distil=Distil(str(teacher)))
    plan = look(recipe).plan
    assert plan is not None
    line = " ".join(" ".join(plan.lines()).split())
    assert f"{teacher}, 0.0 M parameters; reads 40 examples once" in line
    assert look(student(folder)).plan.teacher is None


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"task": h.Regression()}, r"for regression of text, as the task is; found .* for single_label of text"),
        ({"task": h.TextClassification(text_pair="pair")}, r"for single_label of text \+ text_pair, as the task is"),
        ({"task": h.TextClassification(label="pair")}, r"knows the labels 'negative', 'positive'; .* lacks"),
        ({"names": ("kind",)}, r"distil.names: expected a name for each of the teacher's 2 outputs, found 1"),
        ({"task": h.TokenClassification()}, r"distil: expected None for TokenClassification"),
        ({"teacher": "/nowhere/at/all"}, r"distil.teacher: /nowhere/at/all: expected a file or folder"),
        ({"weight": 0.0}, r"distil.weight: expected a share"),
        ({"temperature": -1.0}, r"distil.temperature: expected a positive number"),
    ],
)
def test_a_teacher_that_does_not_fit_is_refused_before_training(folder, teacher, tmp_path, changes, message) -> None:
    chosen = {"teacher": str(teacher), **changes}
    task = chosen.pop("task", None)
    with pytest.raises(RecipeError, match=message):
        look(student(folder, task=task, distil=Distil(**chosen)))
    if task is not None:
        with pytest.raises(RecipeError, match=message):
            execute(student(folder, task=task, distil=Distil(**chosen)), run_dir=tmp_path / "run")


def test_a_head_that_nobody_trained_does_not_teach(folder, tmp_path, capfd) -> None:
    with pytest.raises(RecipeError, match=r"distil.teacher: .*large.* has no trained head for the task"):
        execute(student(folder, distil=Distil(str(folder / "large"), names=("kind", "mean"))), run_dir=tmp_path / "run")
    assert "MISSING" not in capfd.readouterr().err


@pytest.mark.nightly
def test_a_teacher_on_the_hub_is_the_one_of_its_commit(folder, teacher, hub, tmp_path) -> None:
    plain = untrained(folder, "on-hub", id2label={0: "mean", 1: "kind"})
    commits = {}
    for name, place in (("org/package", teacher / "package"), ("org/plain", plain), ("org/closed", plain)):
        files = {
            path.relative_to(place).as_posix(): Blob(path.read_bytes(), lfs=path.suffix == ".safetensors")
            for path in place.rglob("*")
            if path.is_file()
        }
        hub.repositories[name] = Repository(private=False)
        commits[name] = hub.repositories[name].commit("main", files, "first")
    hub.faults.append(Fault("*", "org/closed/resolve/.*/trainpipe.json", status=403, times=99))
    names = [*hub.repositories, str(teacher), str(plain)]
    surroundings = {**os.environ, **hub.environment(tmp_path / "home")}
    done = subprocess.run(
        [sys.executable, "-c", ASK, *names], env=surroundings, capture_output=True, text=True, check=True
    )
    package, plainly, closed, local, local_plain = map(json.loads, done.stdout.splitlines())
    assert [package[0], plainly[0]] == [commits["org/package"], f"{commits['org/plain']} as transformers"]
    assert [package[1], plainly[1]] == [local[1], local_plain[1]]
    assert closed.startswith("distil.teacher: 'org/closed' cannot be loaded from the Hub: ")


def test_code_of_a_teacher_needs_consent(folder, teacher, tmp_path) -> None:
    package = tmp_path / "package"
    shutil.copytree(teacher / "package", package)
    manifest = json.loads((package / "trainpipe.json").read_text())
    manifest["code"] = {"file": "recipe.py", "sha256": "0" * 64}
    (package / "trainpipe.json").write_text(json.dumps(manifest))
    with pytest.raises(RecipeError, match=r"brings code of its own \(recipe.py\), which was not run"):
        look(student(folder, distil=Distil(str(package))))


def test_a_changed_teacher_is_no_resume(folder, teacher, tmp_path) -> None:
    recipe = student(folder, distil=Distil(str(teacher)))
    with pytest.raises(Interrupted):
        execute(recipe, run_dir=tmp_path / "run", options=replace(BRIEF, planned_stop=PlannedStop(stop_at=2)))
    place = untrained(folder, "another", id2label={0: "kind", 1: "mean"})
    with pytest.raises(h.ResumeMismatch, match=r"fingerprints.teacher"):
        execute(replace(recipe, distil=Distil(str(place))), run_dir=tmp_path / "run", options=BRIEF)


def test_options_set_it_and_json_keeps_it(folder) -> None:
    recipe = student(folder)
    assert "distil" not in to_json(recipe)
    chosen = override(recipe, ["--distil.teacher", "runs/big", "--distil.weight", "0.7"])
    assert chosen.distil == Distil("runs/big", weight=0.7)
    assert from_json(to_json(chosen)) == chosen
    assert override(chosen, ["--distil", "none"]) == recipe
