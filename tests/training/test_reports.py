"""The report of a real run, and runs held against each other."""

from __future__ import annotations

import json
import re
import shutil
from typing import TYPE_CHECKING

import numpy as np
import pytest

from hf_trainpipe import RunOptions, execute, replace
from hf_trainpipe.baselines.measure import measure
from hf_trainpipe.cli import run as cli
from hf_trainpipe.engine.evaluation import judge
from hf_trainpipe.errors import DataError
from hf_trainpipe.metrics import score
from hf_trainpipe.metrics.saved import load, save, taken
from hf_trainpipe.package.card_baselines import section
from hf_trainpipe.report import plots
from hf_trainpipe.report.comparison import compare
from hf_trainpipe.report.facts import read
from hf_trainpipe.report.page import write
from hf_trainpipe.report.sentences import headline
from hf_trainpipe.runtime.handler.predictor import Predictor
from hf_trainpipe.training.reporting import hold_against_baselines, keep_predictions
from hf_trainpipe.training.run import Run
from hf_trainpipe.training.setup import set_up
from hf_trainpipe.utils.atomic import sha256_file
from hf_trainpipe.watch.measure import measure as measure_texts
from hf_trainpipe.watch.profile import read_profile
from tests.serve.browser import browser

if TYPE_CHECKING:
    from pathlib import Path

    from hf_trainpipe import Recipe
    from tests.training.conftest import Done, Workshop


@pytest.fixture(scope="module")
def run(workshop: Workshop, whole: Done) -> Path:
    return workshop.folder / "whole"


@pytest.fixture
def copy(run: Path, tmp_path: Path) -> Path:
    return shutil.copytree(run, tmp_path / "copy", ignore=shutil.ignore_patterns("checkpoints", "*.safetensors"))


def test_a_run_leaves_its_report(run: Path, whole: Done) -> None:
    page = (run / "report.html").read_text()
    accuracy = whole.result["scores"]["validation"]["accuracy"]
    lead = re.search(r'<p class="lead">(.*?)</p>', page, re.DOTALL)
    assert lead is not None
    assert f"accuracy {accuracy['value']:.4f} on validation" in lead[1]
    assert f"between {accuracy['low']:.4f} and {accuracy['high']:.4f}" in lead[1]
    assert "Always answering" in lead[1]
    assert page.count("<svg") >= 6
    assert "http-equiv" in page
    assert not re.findall(r'(?:src|href)="(?!#)[^"]*"|url\((?!#)|@import', page)
    assert len(page) < 2_000_000
    for error in whole.result["report"]["validation"]["errors"][:5]:
        assert error["place"] in page
    assert whole.result["report"]["validation"]["rows"][0]["name"] in page
    assert "hf_trainpipe train recipes.py --run-dir whole" in page or "hf-trainpipe train recipes.py" in page


def test_the_profile_of_a_run_is_measured_while_it_is_scored(
    recipe: Recipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No second pass; the vectors are those of the package, which passes over the same texts once more."""
    twice = replace(recipe, data=replace(recipe.data, validation="train.csv"))
    with monkeypatch.context() as patch:
        patch.setattr("hf_trainpipe.watch.measure.vectors_of", None)
        result = execute(twice, run_dir=tmp_path / "run")
    profile, predictor = read_profile(result.package), Predictor.load(result.package)
    measured, _ = measure_texts(predictor, [row["text"] for row in twice.data.splits()["validation"]])
    found = profile.read(measured)["embeddings"]
    assert len(found) == 200
    nearest = [np.abs(found - text).max(axis=1).min() for text in profile.pool["embeddings"].astype(float)]
    assert max(nearest) < 2e-2  # as it is kept, in 16 bits


def test_weak_slices_of_a_run_need_no_weights(
    copy: Path, workshop: Workshop, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(workshop.folder)
    assert cli(["slices", str(copy), "--recipe", "recipes.py", "--least", "5"]) == 0
    shown = capsys.readouterr().out
    kept = json.loads((copy / "slices.json").read_text())["validation"]
    assert kept["rows"] == len(load(copy / "predictions" / "validation.npz"))
    assert f"accuracy {kept['score']:.4f}" in shown
    assert kept["source"] == "kept predictions"
    assert "Not shown to be worse" in (copy / "report.html").read_text() or not kept["slices"]
    assert "validation: accuracy" in (copy / "report.html").read_text()
    assert cli(["slices", str(copy), "--recipe", "recipes.py", "--split", "test"]) == 2
    assert "expected predictions of 'test', found 'validation'" in capsys.readouterr().err


def test_losses_without_dropout_are_taken_and_change_nothing(run: Path, workshop: Workshop) -> None:
    with_sample = workshop.ledger("whole")
    evaluated = {step for name, step in with_sample if name == "validation/loss"}
    assert {step for name, step in with_sample if name == "train/sample_loss"} == evaluated
    assert all(0 < value < 5 for (name, _), value in with_sample.items() if name == "train/sample_loss")
    assert "Overfitting is not shown." in (run / "report.html").read_text()
    done = workshop.train("recipes.py", "--run-dir", "plain", "--evaluation.train-sample", "0")
    assert done.code == 0, done.err
    plain = workshop.ledger("plain")
    timeless = {key: value for key, value in plain.items() if key[0] != "train/tokens_per_second"}
    assert all(with_sample[key] == value for key, value in timeless.items())
    assert not [name for name, _ in plain if "sample" in name or "overfitting" in name]
    assert workshop.weights("plain") == workshop.weights("whole")


def test_a_run_may_end_where_overfitting_is_shown(recipe: Recipe, tmp_path: Path) -> None:
    from hf_trainpipe.training.monitor import Evaluator, TrainingLog

    for stops in (True, False):
        asked = replace(recipe, budget=replace(recipe.budget, stop_on_overfitting=stops))
        with set_up(asked, RunOptions(), run_dir=tmp_path / str(stops)) as setup:
            run = Run(setup)
            with TrainingLog(run) as log:
                evaluator = Evaluator(run, log)
                assert not evaluator.stops_early
                for number in range(14):
                    rising = [0.5 + 0.1 * abs(number - 2) + 0.01 * block for block in range(10)]
                    run.state.gaps.add(number, rising, [0.1 + 0.01 * block for block in range(10)])
                assert run.state.gaps.shown_from == 2
                assert evaluator.stops_early is stops


def test_what_is_recorded_of_each_row_gives_the_scores(run: Path, whole: Done) -> None:
    kept = load(run / "predictions" / "validation.npz")
    for name, found in whole.result["scores"]["validation"].items():
        assert score(kept.predictions, [name])[name] == pytest.approx(found["value"])
    assert len(set(kept.rows.tolist())) > 50
    assert kept.lengths.min() > 2


def test_texts_are_masked_on_request(copy: Path, whole: Done) -> None:
    texts = [error["text"] for error in whole.result["report"]["validation"]["errors"]]
    assert any(text in write(copy).read_text() for text in texts)
    masked = write(copy, mask_texts=True).read_text()
    assert not any(text in masked for text in texts)
    assert "characters]" in masked


def test_a_run_is_told_beside_simpler_models(
    copy: Path, workshop: Workshop, recipe: Recipe, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:  # fmt: skip
    monkeypatch.chdir(workshop.folder)
    accuracy = read(copy).result["scores"]["validation"]["accuracy"]["value"]
    asked = ["baseline", str(copy), "--recipe", "recipes.py"]
    assert cli([*asked, "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    held, best = told["held"]["validation"], next(one for one in told["baselines"] if one["name"] == told["best"])
    assert held["model"] == pytest.approx(accuracy)
    assert held["difference"] == pytest.approx(accuracy - best["scores"]["validation"]["accuracy"]["value"])
    verdict = f"the best baseline, {best['title']} (accuracy"
    assert verdict in headline(read(copy))
    assert verdict in (copy / "report.html").read_text()
    card = (copy / "package/README.md").read_text()
    assert card.count("## Beside simpler models") == card.count(verdict) == 1
    assert card.index("## Scores") < card.index("## Beside simpler models") < card.index("## Limits")
    listed = json.loads((copy / "package/trainpipe.json").read_text())["files"]["README.md"]
    assert listed["sha256"] == sha256_file(copy / "package/README.md")
    monkeypatch.setattr("hf_trainpipe.baselines.measure.learn", None)  # what is kept is not learnt again
    assert cli(asked) == 0
    assert verdict in capsys.readouterr().out
    document = json.loads((copy / "run.json").read_text())
    document["fingerprints"]["data"] = "another"
    (copy / "run.json").write_text(json.dumps(document))
    assert cli(asked) == 2
    assert "no longer what it was trained on" in capsys.readouterr().err


def test_a_training_tells_of_the_baselines_that_are_kept(recipe: Recipe, tmp_path: Path) -> None:
    with set_up(recipe, RunOptions(), run_dir=tmp_path / "run") as setup:
        run = Run(setup)
        outputs = run.predict("validation", autocast=False)
        keep_predictions(run, {"validation": judge(outputs, run.data.splits["validation"].features, run.task)})
        assert hold_against_baselines(run) == {}
        found = measure(recipe, console=run.console)
        told = hold_against_baselines(run)
    assert [one["name"] for one in told["baselines"]] == ["majority", "words", "characters", "forest", "frozen"]
    assert [one["scores"] for one in told["baselines"]] == [dict(one.scores) for one in found.measured]
    held = told["held"]["validation"]
    assert held["model"] < 0.8 < held["baseline"]  # of a head that has not learnt
    assert held["beats"] is False
    assert held["p"] < 0.05
    assert "On validation it is worse than the best baseline" in section(told)
    assert json.loads((tmp_path / "run/baselines.json").read_text()) == told


def test_without_matplotlib_the_page_says_how_to_get_pictures(copy: Path, monkeypatch) -> None:
    monkeypatch.setattr(plots, "find_spec", lambda _: None)
    page = write(copy).read_text()
    assert "pip install &#39;hf-trainpipe[report]&#39;" in page
    assert "<svg" not in page
    assert "Confusion matrix" in page


def test_a_run_that_was_killed_has_a_report_too(copy: Path) -> None:
    (copy / "result.json").unlink()
    for file in (copy / "attempts").glob("*.json"):
        file.write_text(json.dumps({**json.loads(file.read_text()), "exit": None}))
    facts = read(copy)
    best = max(value for _, value in facts.series("validation/accuracy"))
    assert headline(facts).startswith("Not complete. It ended without a word, at step")
    assert f"is {best:.4f}, at step" in headline(facts)
    assert "<svg" in write(copy).read_text()


def test_pictures_are_files_on_request(copy: Path, tmp_path: Path) -> None:
    write(copy, plots_to=tmp_path / "plots")
    names = {file.name for file in (tmp_path / "plots").iterdir()}
    assert {"curve-loss.svg", "curve-loss.png", "validation-reliability.png"} <= names
    assert (tmp_path / "plots/curve-loss.png").read_bytes().startswith(b"\x89PNG")


def test_a_page_fits_a_phone_and_is_dark_where_asked(run: Path, tmp_path: Path) -> None:
    with browser(tmp_path / "profile", width=360, height=800, dark=True) as page:
        page.get((run / "report.html").as_uri())
        assert page.execute_script("return document.documentElement.scrollWidth") <= 360
        assert page.execute_script("return getComputedStyle(document.body).backgroundColor") == "rgb(20, 23, 27)"
        line = page.execute_script(
            "const drawn = [...document.querySelectorAll('svg path')].map(one => getComputedStyle(one).stroke);"
            "return drawn.includes('rgb(110, 168, 240)')"
        )
        assert line  # the lines are drawn in the colours of the dark page
        requests = page.execute_script("return performance.getEntriesByType('resource').length")
        assert requests == 0
        assert page.get_log("browser") == []


def test_equal_runs_show_no_difference_and_a_worse_one_does(run: Path, copy: Path) -> None:
    same = compare([read(run), read(copy)])
    assert same.verdict.startswith("No difference shown, in 3 scores")
    assert [one.difference for one in same.scores] == [0, 0, 0]
    kept = load(copy / "predictions/validation.npz")
    kept.predictions.outputs[:] = np.eye(2)[1 - kept.predictions.references]  # always wrong
    save(kept, copy / "predictions/validation.npz")
    worse = compare([read(run), read(copy)])
    accuracy = next(one for one in worse.scores if one.metric == "accuracy")
    assert accuracy.different
    assert accuracy.better is False
    assert accuracy.test == "McNemar"
    assert "copy is worse than whole in" in worse.verdict
    [rows] = worse.by_row
    wrong = (rows["only_first"] - rows["only_second"]) / rows["rows"]
    assert wrong == pytest.approx(-accuracy.difference)


def test_only_rows_that_both_scored_are_compared(run: Path, copy: Path) -> None:
    kept = load(copy / "predictions/validation.npz")
    order = np.random.default_rng(0).permutation(len(kept))[:50]
    save(taken(kept, order), copy / "predictions/validation.npz")
    found = compare([read(run), read(copy)])
    assert found.by_row[0]["rows"] == 50
    assert found.by_row[0]["only_first"] == found.by_row[0]["only_second"] == 0
    assert "validation: 50 rows are in both; 11 only in whole and 0 only in copy are left out." in found.notes
    gold = load(copy / "predictions/validation.npz")
    gold.predictions.references[:3] = 1 - gold.predictions.references[:3]
    save(gold, copy / "predictions/validation.npz")
    assert (
        "validation: 3 rows have other gold labels in copy and are left out." in compare([read(run), read(copy)]).notes
    )
    shutil.rmtree(copy / "predictions")
    found = compare([read(run), read(copy)])
    assert found.scores == []
    assert "recorded no predictions" in found.notes[0]
    with pytest.raises(DataError, match="two runs"):
        compare([read(run)])


def test_labels_in_another_order_are_the_same_labels(run: Path, copy: Path) -> None:
    kept = load(copy / "predictions/validation.npz")
    held = kept.predictions
    turned = replace(held, outputs=held.outputs[:, ::-1], references=1 - held.references, labels=held.labels[::-1])
    save(replace(kept, predictions=turned), copy / "predictions/validation.npz")
    found = compare([read(run), read(copy)])
    assert found.by_row[0]["rows"] == 61
    assert found.by_row[0]["only_first"] == found.by_row[0]["only_second"] == 0


def _noisy(run: Path, place: Path, *, seed: int, rate: float, noise: float) -> Path:
    """A copy of a run with another seed and rate, whose answers differ."""
    shutil.copytree(run, place, ignore=shutil.ignore_patterns("checkpoints", "*.safetensors"))
    document = json.loads((place / "run.json").read_text())
    document["recipe"] |= {"seed": seed, "optim": {**document["recipe"]["optim"], "peak_lr": rate}}
    (place / "run.json").write_text(json.dumps(document))
    kept = load(place / "predictions/validation.npz")
    gold = np.eye(2)[kept.predictions.references]
    drawn = np.random.default_rng(seed).normal(0, noise, gold.shape)
    save(
        replace(kept, predictions=replace(kept.predictions, outputs=gold + drawn)), place / "predictions/validation.npz"
    )
    return place


def test_seeds_of_settings_are_held_against_each_other(run: Path, tmp_path: Path, capsys) -> None:
    from hf_trainpipe.cli import run as command

    old = [str(_noisy(run, tmp_path / f"old-{n}", seed=n, rate=0.1, noise=2)) for n in (1, 2, 3)]
    new = [str(_noisy(run, tmp_path / f"new-{n}", seed=n + 10, rate=0.2, noise=0.3)) for n in (1, 2, 3)]
    page = tmp_path / "compared.html"
    assert command(["compare", *new, "--against", *old, "--margin", "0.5", "--html", str(page), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["sides"] == ["3 seeds of old", "3 seeds of new"]
    assert found["passed"] is found["gates"][0]["shown"] is True
    accuracy = found["scores"][0]
    assert (accuracy["test"], accuracy["better"], accuracy["order"]["bound"]) == ("hierarchical bootstrap", True, 0)
    assert [entry["field"] for entry in found["recipe"]] == ["optim.peak_lr"]
    assert "3 seeds of new is better than 3 seeds of old" in page.read_text()
    assert command(["compare", *old, "--against", *new, "--margin", "0.5"]) == 11
    assert "3 seeds of old is not shown to be no worse than 3 seeds of new by 0.005" in capsys.readouterr().out
    assert command(["compare", new[0], "--against", old[0], new[1]]) == 2
    assert "the seed alone, found others in optim.peak_lr" in capsys.readouterr().err


def test_a_margin_is_passed_only_where_that_is_shown(run: Path, tmp_path: Path, capsys) -> None:
    from hf_trainpipe.cli import run as command

    one, two = (str(_noisy(run, tmp_path / name, seed=1, rate=0.1, noise=0.5)) for name in ("one", "two"))
    assert (
        command(["compare", one, two, "--margin", "0.5", "--metric", "accuracy"]) == 11
    )  # the same answers, but 61 rows
    told = capsys.readouterr().out
    assert "No difference shown, in 3 scores" in told
    assert "two is not shown to be no worse than one by 0.005 in accuracy on validation: +0.0000" in told
    assert command(["compare", one, two, "--margin", "10"]) == 0
    assert command(["compare", one, two, "--margin", "1", "--metric", "rouge1"]) == 2
    assert "scores that both have on the same rows: accuracy" in capsys.readouterr().err
    assert command(["compare", one, "--planned", "20", "--json"]) == 0
    [planned] = json.loads(capsys.readouterr().out.splitlines()[-1])["planned"]
    assert (planned["rows"], planned["disagreement"]) == (61, 0.2)
    assert 0.15 < planned["smallest"] < 0.2


def test_a_run_chooses_its_calibration_on_validation(recipe: Recipe, tmp_path: Path, capsys) -> None:
    from hf_trainpipe import Calibration, execute
    from hf_trainpipe import load as load_package
    from hf_trainpipe.errors import ResumeMismatch
    from hf_trainpipe.training.execute import repackage
    from tests.kept_study import kept_study

    task = replace(recipe.task, calibration=Calibration(promise=0.6, costs={"negative": {"positive": 2.0}}))
    brief = replace(recipe, task=task, budget=replace(recipe.budget, max_steps=4))
    result = execute(brief, run_dir=tmp_path / "run")
    told = result.report["validation"]["calibration"]
    fitted = load_package(tmp_path / "run").predictor.task.calibration
    assert fitted.temperature == told["temperature"]
    assert fitted.least == told["kept"]["least"] == told["least"]
    assert {"cost", "answered", "right_if_answered"} <= set(result.scores["validation"])
    assert result.scores["validation"]["answered"]["value"] == pytest.approx(told["answered"])
    kept = load(tmp_path / "run/predictions/validation.npz").predictions
    assert kept.chosen is not None
    assert score(kept, ["accuracy"])["accuracy"] == pytest.approx(result.scores["validation"]["accuracy"]["value"])
    page, card = (tmp_path / "run/report.html").read_text(), (tmp_path / "run/package/README.md").read_text()
    assert "of exact probabilities" in page
    assert "## Calibration" in card
    assert told["gain"]["value"] == pytest.approx(told["gain"]["second"] - told["gain"]["first"])
    study = kept_study(tmp_path / "study", brief, right=0.8, boast=3.0)
    repackage(tmp_path / "run", recipe=brief, crossval=study)
    fitted = load_package(tmp_path / "run").predictor.task.calibration
    assert 2 < fitted.temperature < 6  # of answers that boast threefold
    told = json.loads((tmp_path / "run/result.json").read_text())["report"]["validation"]["calibration"]
    assert told["temperature"] == fitted.temperature
    assert "261 held-out rows" in told["on"]
    other = replace(brief, optim=replace(brief.optim, peak_lr=0.5))
    with pytest.raises(ResumeMismatch, match=r"optim\.peak_lr"):
        repackage(tmp_path / "run", recipe=brief, crossval=kept_study(tmp_path / "other", other, right=0.8))


def test_the_verbs(workshop: Workshop, run: Path, copy: Path) -> None:
    document = json.loads((copy / "run.json").read_text())
    document["recipe"]["seed"] = 18
    (copy / "run.json").write_text(json.dumps(document))
    page = copy / "compared.html"
    done = workshop.run(*_command("compare", str(run), str(copy), "--html", str(page), "--json"))
    assert done.code == 0, done.err
    found = json.loads(done.out)
    assert found["recipe"] == [{"field": "seed", "values": [17, 18]}]
    assert found["scores"][0]["p"] == 1.0
    assert "No difference shown" in page.read_text()
    done = workshop.run(*_command("report", str(copy)))
    assert done.out.strip() == str(copy / "report.html")
    done = workshop.run(*_command("report", str(workshop.folder)))
    assert done.code == 2
    assert "is not a run" in done.err


def _command(*arguments: str) -> list[str]:
    import sys

    return [sys.executable, "-m", "hf_trainpipe", *arguments]
