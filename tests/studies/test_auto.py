"""A file to a package within a budget: what is dealt, what is tried, and that a second call goes on."""

from __future__ import annotations

import json

import numpy as np
import pandas
import pytest

from hf_trainpipe import Files, Pretrained, Recipe, Regression, TextClassification, TokenClassification, replace
from hf_trainpipe.audit.guess import guess
from hf_trainpipe.cli import run as cli
from hf_trainpipe.data import chosen_rows
from hf_trainpipe.recipe.source import RecipeSource
from hf_trainpipe.recipe_file import load, override
from hf_trainpipe.runtime.handler.predictor import Predictor
from hf_trainpipe.runtime.tasks.base import Task
from hf_trainpipe.studies import auto, runs
from hf_trainpipe.studies import auto_study as module
from hf_trainpipe.studies.auto_recipe import dealt, fitting, recipe_of
from hf_trainpipe.studies.halving import FEWEST, RESERVE, rungs
from hf_trainpipe.studies.pool import Pool
from hf_trainpipe.studies.written import as_python
from hf_trainpipe.testing import tiny_rows
from hf_trainpipe.tracking.console import Console


def test_rungs_fit_the_budget() -> None:
    for seconds in (30.0, 120.0, 600.0, 3600.0, 1e6):
        found = rungs(seconds=seconds, start=15.0, step=0.1, end=0.0, full=2000, candidates=6)
        assert sum(rung.candidates * (15.0 + 0.1 * rung.steps) for rung in found) <= RESERVE * seconds
        assert [rung.steps for rung in found] == sorted(rung.steps for rung in found)
        assert not found or found[-1].candidates == 1
        assert all(FEWEST <= rung.steps <= 2000 for rung in found)
    assert [(rung.candidates, rung.steps) for rung in found] == [(6, 74), (3, 222), (2, 666), (1, 2000)]
    short = rungs(seconds=300.0, start=15.0, step=0.1, end=0.0, full=2000, candidates=6)
    assert [(rung.candidates, rung.steps) for rung in short] == [(2, 333), (1, 1000)], (
        "half as long, beside another candidate"
    )
    assert rungs(seconds=60.0, start=15.0, step=0.1, end=0.0, full=2000, candidates=6)[0].candidates == 1
    assert rungs(seconds=16.0, start=15.0, step=0.1, end=0.0, full=2000, candidates=6) == []


@pytest.mark.parametrize(
    ("task", "candidates"),
    [
        (TextClassification("a", label="y"), module.TEXTS),
        (TextClassification("a", text_pair="b", label="y"), module.COMPARED),
        (Regression("a", text_pair="b", score="y"), module.SIMILAR),
        (TokenClassification("words", tags="tags"), module.OTHERS),
    ],
)
def test_candidates_go_by_the_task(task: Task, candidates: tuple[tuple[str, ...], ...], tmp_path) -> None:
    first = Recipe(name="auto", model=Pretrained("unused"), data=Files(train="a.csv"), task=task)
    study = module.Study(
        recipe=first, source=RecipeSource(tmp_path / "first.py", "recipe"), folder=tmp_path, budget=60.0
    )
    assert study.portfolio is candidates
    takes = {str(override(first, fields)) for fields in candidates}
    assert len(takes) == len(candidates)
    assert "--model.head" not in candidates[study.quickest]


def test_clusters_stay_whole_and_given_splits_too(workshop, tmp_path, monkeypatch) -> None:
    monkeypatch.setenv("HF_TRAINPIPE_CACHE", str(tmp_path / "cache"))
    rows = tiny_rows(120)
    twins = [{**row, "text": row["text"].upper() + "!"} for row in rows[:40]]
    pandas.DataFrame([*rows, *twins]).to_csv(tmp_path / "train.csv", index=False)
    pandas.DataFrame(rows[30:50]).to_csv(tmp_path / "test.csv", index=False)
    found = guess([str(tmp_path / "train.csv"), str(tmp_path / "test.csv")])
    pool = Pool.of(recipe_of(found, str(workshop.folder)), ["train", "test"])
    choice, told = dealt(pool, seed=17)
    at = dict(zip(pool.names, pool.starts.tolist(), strict=False))
    clusters = {
        name: {int(pool.duplicates[at[split] + row]) for split, numbers in parts for row in numbers}
        for name, parts in choice.items()
    }
    assert set(choice) == {"train", "validation", "test"}
    assert not clusters["train"] & (clusters["validation"] | clusters["test"])
    assert not clusters["validation"] & clusters["test"]
    assert sum(len(numbers) for _, numbers in choice["test"]) == 20
    assert "rows of train repeat rows of other splits and are left out" in told[0]


def test_a_recipe_as_python_is_the_recipe(workshop, tmp_path) -> None:
    recipe = recipe_of(guess([str(workshop.folder / "train.csv")]), "m")
    path = tmp_path / "written.py"
    path.write_text(as_python(recipe, about='With """quotes""" and a back\\slash.'))
    assert load(str(path))[0] == recipe
    other = Recipe(
        name="a'b",
        model=recipe.model,
        data=Files(train="x.csv", rename={"a": "text"}, values={"label": {"0": "no"}}),
        task=TextClassification("text", class_weights=(1.0, 2.5)),
    )
    path.write_text(as_python(other, about="Short."))
    assert load(str(path))[0] == other


def test_a_file_becomes_a_package_and_a_second_call_goes_on(workshop, tmp_path, monkeypatch, capsys) -> None:
    for name, value in workshop.environment({}).items():
        monkeypatch.setenv(name, value)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(module, "TEXTS", module.TEXTS[:3])
    pandas.DataFrame(tiny_rows(150)).to_csv("rows.csv", index=False)
    model = workshop.folder / "model"
    command = ("auto", "rows.csv", "--model", str(model), "--study-dir", "made", "--budget", "10m", "--json")
    assert cli(list(command)) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["spent_seconds"] < 600
    assert {run["candidate"] for run in found["runs"]} == {0, 1, 2}
    assert all(run["outcome"] == "complete" for run in found["runs"])
    best = max(found["runs"], key=lambda run: run["score"])
    assert (tmp_path / "made/best").resolve() == tmp_path / "made" / best["run"]
    assert (tmp_path / "made/best/package/model.safetensors").is_file()
    packaged = {run["run"] for run in found["runs"] if (tmp_path / "made" / run["run"] / "package").exists()}
    assert {found["runs"][0]["run"], best["run"]} <= packaged < {run["run"] for run in found["runs"]}
    assert "the best baseline" in found["verdict"]
    assert len(found["baselines"]) > 2
    recipe, _ = load("made/recipe.py")
    recorded = json.loads((tmp_path / "made/best/run.json").read_text())["recipe"]
    assert recorded["budget"]["max_steps"] == recipe.budget.max_steps == best["steps"]
    assert cli(["train", "made/recipe.py", "--run-dir", "again", "--json"]) == 0
    assert (tmp_path / "again/package/model.safetensors").read_bytes() == (
        tmp_path / "made/best/package/model.safetensors"
    ).read_bytes()
    capsys.readouterr()
    assert cli(list(command)) == 0
    again = json.loads(capsys.readouterr().out)
    assert again["runs"] == found["runs"]
    assert np.isclose(again["spent_seconds"], found["spent_seconds"], atol=60)
    sizes = {
        name: sum(len(rows) for _, rows in parts)
        for name, parts in chosen_rows.read(tmp_path / "made/rows.json").items()
    }
    assert sum(sizes.values()) == 150
    pandas.DataFrame(tiny_rows(90)).to_csv("rows.csv", index=False)
    assert cli(list(command)) == 2
    assert "holds another study" in capsys.readouterr().err


def test_a_run_that_the_budget_ends_is_packaged_as_far_as_it_came_and_goes_on(workshop, tmp_path, monkeypatch) -> None:
    for name, value in workshop.environment({"HF_TRAINPIPE_CACHE": str(tmp_path / "cache")}).items():
        monkeypatch.setenv(name, value)
    monkeypatch.chdir(tmp_path)
    pandas.DataFrame(tiny_rows(150)).to_csv("rows.csv", index=False)
    whole = fitting(recipe_of(guess(["rows.csv"]), str(workshop.folder / "model")))
    whole = replace(whole, budget=replace(whole.budget, epochs=1000))
    rows, _ = dealt(Pool.of(whole, ["train"]), seed=whole.seed)
    study = auto._continued(whole, rows, tmp_path / "made", 600.0)
    run = tmp_path / "made/runs/2-120"
    evaluated = lambda: bool(runs.points(run, f"validation/{study.metric}"))  # noqa: E731
    with monkeypatch.context() as patched:
        patched.setattr(module.Study, "left", property(lambda _: -1.0 if evaluated() else 1.0))
        tried = auto._try(study, 1, 120, None, Console(0))
    assert (tried.outcome, tried.score is None) == (module.OUT_OF_TIME, False)
    auto._package(study, None, Console(0))
    assert (tmp_path / "made/best").resolve() == run
    assert Predictor.load(run / "package").predict(["good film"])
    assert study.is_packaged(tried)
    assert not (run / "result.json").exists()
    assert auto._try(study, 1, 120, None, Console(0)).outcome == "complete"
    assert runs.finished(run)["steps"] == 120  # type: ignore[index]


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("", "expected rows, found an empty file"),
        ("text,label\na film,good\n", "at least two labels"),
        ("text,label\na film,good\nb film,bad\n", "too few to keep some apart"),
        ("text\na film\nb film\n", "needs a column of labels"),
    ],
)
def test_too_little_is_one_screen(tmp_path, monkeypatch, capsys, content: str, said: str) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "rows.csv").write_text(content)
    assert cli(["auto", "rows.csv", "--study-dir", "made"]) == 2
    assert said in capsys.readouterr().err
    assert not (tmp_path / "made/runs").exists()


def test_a_budget_is_a_time(tmp_path, monkeypatch, capsys) -> None:
    monkeypatch.chdir(tmp_path)
    assert cli(["auto", "rows.csv", "--budget", "soon"]) == 2
    assert "auto: --budget: expected a time" in capsys.readouterr().err
