"""Finished runs: what may change, how they are extended, and damage to their files."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

import pytest
from safetensors.torch import load_file, save_file

from hf_trainpipe import (
    Budget,
    Evaluation,
    Files,
    Optim,
    Pretrained,
    Recipe,
    RunOptions,
    TextClassification,
    Tokens,
    execute,
    replace,
)
from hf_trainpipe.checkpoint import manifest as manifests
from hf_trainpipe.checkpoint.contract import Difference, remember
from hf_trainpipe.cli import run as cli
from hf_trainpipe.errors import CheckpointError, Interrupted, RecipeError, ResumeMismatch
from hf_trainpipe.runtime.handler.predictor import Predictor
from hf_trainpipe.tracking.ledger import series
from hf_trainpipe.training.execute import repackage
from hf_trainpipe.training.signals import PlannedStop
from hf_trainpipe.utils.atomic import sha256_file


@pytest.fixture(scope="module")
def recipe(workshop, tmp_path_factory) -> Recipe:
    return Recipe(
        name="finished",
        model=Pretrained(str(workshop.folder / "model")),
        data=Files(train="train.csv", validation="dev.csv", root=str(workshop.folder)),
        task=TextClassification("text", label="label"),
        tokens=Tokens(max_length=32),
        optim=Optim(peak_lr=1e-2, precision="fp32"),
        budget=Budget(max_steps=8, examples_per_step=16, log_every=1, save_every=3),
        evaluation=Evaluation(resamples=20),
    )


@pytest.fixture(autouse=True)
def _unverified(monkeypatch, tmp_path_factory) -> None:
    """The export gate has tests of its own; here it would be most of the time."""
    monkeypatch.setenv("HF_TRAINPIPE_CACHE", str(tmp_path_factory.getbasetemp() / "finished-cache"))
    monkeypatch.setattr("hf_trainpipe.training.export.verify", lambda *_, **__: {})


@pytest.fixture(scope="module")
def runs(recipe, tmp_path_factory) -> Path:
    """``complete``: eight steps; ``stopped``: the same, stopped after seven, checkpoints of steps 6 and 7."""
    folder = tmp_path_factory.mktemp("finished")
    with pytest.MonkeyPatch.context() as patched:
        patched.setenv("HF_TRAINPIPE_CACHE", str(tmp_path_factory.getbasetemp() / "finished-cache"))
        patched.setattr("hf_trainpipe.training.export.verify", lambda *_, **__: {})
        execute(recipe, run_dir=folder / "complete")
        with pytest.raises(Interrupted):
            execute(recipe, run_dir=folder / "stopped", options=RunOptions(planned_stop=PlannedStop(stop_at=7)))
    return folder


def copied(runs: Path, name: str, to: Path) -> Path:
    return shutil.copytree(runs / name, to / name)


def weights(run: Path) -> str:
    return sha256_file(run / "package" / "model.safetensors")


def with_budget(recipe: Recipe, **changes) -> Recipe:
    return replace(recipe, budget=replace(recipe.budget, **changes))


def test_a_finished_run_changes_by_no_option(recipe, runs, tmp_path) -> None:
    run = copied(runs, "complete", tmp_path)
    before = {path: path.read_bytes() for path in run.rglob("*") if path.is_file() and path.name != "run.lock"}
    other = replace(recipe, optim=Optim(peak_lr=1e-3, precision="fp32"))
    with pytest.raises(ResumeMismatch, match=r"complete.*\n.*optim.peak_lr: 0.01 -> 0.001") as refused:
        execute(other, run_dir=run, options=RunOptions(allow_change=frozenset({"optim.peak_lr"})))
    assert "--extend" in refused.value.fix
    assert "--run-dir OTHER" in refused.value.fix
    assert execute(recipe, run_dir=run).steps == 8, "the same command again tells the result"
    after = {path: path.read_bytes() for path in run.rglob("*") if path.is_file() and path.name != "run.lock"}
    assert after == before


def test_an_extension_goes_on_with_the_optimizer_at_the_longer_schedule(recipe, runs, tmp_path, capsys) -> None:
    run = copied(runs, "complete", tmp_path)
    longer = with_budget(recipe, max_steps=12)
    with pytest.raises(Interrupted):
        execute(longer, run_dir=run, options=RunOptions(extend=True, planned_stop=PlannedStop(stop_at=10)))
    said = capsys.readouterr().err
    assert "step 8 to 12: weights, optimizer state and order of the data go on" in said
    assert execute(longer, run_dir=run, options=RunOptions(extend=True)).steps == 12, "the same command continues it"
    rates = dict(series(run / "ledger.jsonl", "train/lr"))
    assert rates[8] == pytest.approx(1e-2 / 7), "8 steps, 1 of them warm-up"
    assert [rates[step] for step in (9, 12)] == pytest.approx([1e-2 * 4 / 11, 1e-2 / 11])
    assert f"{rates[9]:.3g} at step 9" in said

    whole = copied(runs, "complete", tmp_path / "whole")
    execute(longer, run_dir=whole, options=RunOptions(extend=True))
    assert weights(whole) == weights(run), "interrupted or not"
    history = json.loads((whole / "run.json").read_text())["history"]
    assert [(entry["from_step"], entry["extended"], entry["changes"]) for entry in history] == [
        (8, True, [["budget.max_steps", 8, 12]])
    ]
    assert "from step 9 on: `budget.max_steps` `8` to `12`" in (whole / "package" / "README.md").read_text()
    assert (whole / "result.earlier-1.json").exists()
    assert execute(longer, run_dir=whole, options=RunOptions(extend=True)).steps == 12, "and is complete again"


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"max_steps": 8, "save_every": 4}, "has taken 8 steps, and the budget ends after 8"),
        ({"max_steps": 12, "examples_per_step": 8}, "budget.examples_per_step: 16 -> 8"),
    ],
)
def test_an_extension_that_is_none_is_refused_and_changes_nothing(recipe, runs, tmp_path, changes, expected) -> None:
    run = copied(runs, "complete", tmp_path)
    before = (run / "run.json").read_bytes()
    with pytest.raises((RecipeError, ResumeMismatch), match=expected):
        execute(with_budget(recipe, **changes), run_dir=run, options=RunOptions(extend=True))
    assert (run / "run.json").read_bytes() == before
    assert (run / "result.json").exists()


def test_the_card_tells_what_changed_on_the_way(recipe, runs, tmp_path) -> None:
    run = copied(runs, "stopped", tmp_path)
    changed = replace(recipe, optim=Optim(peak_lr=5e-3, precision="fp32"))
    execute(changed, run_dir=run, options=RunOptions(allow_change=frozenset({"optim.peak_lr"})))
    card = (run / "package" / "README.md").read_text()
    assert "from step 8 on: `optim.peak_lr` `0.01` to `0.005`" in card
    assert "# up to step 7" in card


def test_a_change_that_made_no_step_is_joined_with_the_next() -> None:
    def one(history, field, old, new, step):
        difference = Difference(field, old, new)
        return remember(history, [difference], from_step=step, attempt=2, extended=False, command="train x")

    first = one([], "optim.peak_lr", 0.01, 0.005, 7)
    joined = one(first, "optim.peak_lr", 0.005, 0.002, 7)
    assert [entry["changes"] for entry in joined] == [[["optim.peak_lr", 0.01, 0.002]]]
    assert one(first, "optim.peak_lr", 0.005, 0.01, 7) == [], "and is gone where it was taken back"
    assert [entry["from_step"] for entry in one(first, "seed", 1, 2, 8)] == [7, 8]


@pytest.mark.parametrize("content", ["", '{"uid": "1", ', "[]", '{"uid": 1, "recipe": {}, "fingerprints": {}}'])
def test_a_damaged_run_json_is_one_screen_and_may_be_set_aside(recipe, runs, tmp_path, content) -> None:
    run = copied(runs, "stopped", tmp_path)
    (run / "run.json").write_text(content)
    with pytest.raises(
        CheckpointError, match=r"run\.json: expected a JSON object with uid, recipe, fingerprints, found"
    ):
        execute(recipe, run_dir=run)
    execute(with_budget(recipe, max_steps=1), run_dir=run, options=RunOptions(resume="never"))
    assert (run / "old-1" / "run.json").read_text() == content


def test_checkpoints_without_a_run_json_are_not_taken_for_a_new_run(recipe, runs, tmp_path) -> None:
    run = copied(runs, "stopped", tmp_path)
    (run / "run.json").unlink()
    with pytest.raises(CheckpointError, match="found checkpoints without it"):
        execute(recipe, run_dir=run)


def test_a_run_starts_where_an_empty_disk_is_mounted_for_its_checkpoints(recipe, tmp_path) -> None:
    (tmp_path / "run/checkpoints/lost+found").mkdir(parents=True)
    execute(with_budget(recipe, max_steps=1), run_dir=tmp_path / "run")
    assert (tmp_path / "run/result.json").is_file()


def signed_anew(checkpoint: Path, **changes) -> None:
    """Give a checkpoint that was tampered with a manifest that agrees with it."""
    facts = manifests.read(checkpoint, run_uid=None)
    files = {
        name: {"size": (checkpoint / name).stat().st_size, "sha256": sha256_file(checkpoint / name)}
        for name in facts["files"]
    }
    (checkpoint / "MANIFEST.json").write_bytes(manifests.render({**facts, **changes, "files": files}))


def without_a_tensor(name: str, which: str) -> Callable[[Path], None]:
    def tamper(run: Path) -> None:
        checkpoint = max((run / "checkpoints").glob("step-*"))
        tensors = load_file(checkpoint / name)
        del tensors[next(key for key in sorted(tensors) if which in key)]
        save_file(tensors, checkpoint / name, metadata={"format": "pt"})
        signed_anew(checkpoint)

    return tamper


def misshapen_state(run: Path) -> None:
    checkpoint = max((run / "checkpoints").glob("step-*"))
    (checkpoint / "state.json").write_text('{"run": {"step": 7, "unheard": 1}}')
    signed_anew(checkpoint)


def offset(value: object) -> Callable[[Path], None]:
    return lambda run: signed_anew(max((run / "checkpoints").glob("step-*")), ledger_offset=value)


@pytest.mark.parametrize(
    ("tamper", "expected"),
    [
        (without_a_tensor("model.safetensors", "classifier.weight"), "weights of classifier.weight"),
        (without_a_tensor("optimizer.safetensors", "exp_avg_sq/"), "the optimizer's tensors: exp_avg_sq/"),
        (misshapen_state, "it cannot be read (TypeError"),
        (offset("far"), "the ledger offset 'far'"),
    ],
)
def test_a_signed_checkpoint_that_does_not_fit_is_set_aside(recipe, runs, tmp_path, capsys, tamper, expected) -> None:
    run = copied(runs, "stopped", tmp_path)
    tamper(run)
    execute(recipe, run_dir=run)
    said = capsys.readouterr().err
    assert expected in said
    assert "continuing after step 6" in said
    assert weights(run) == weights(runs / "complete")


@pytest.mark.parametrize("value", [-7, 10, 10**9])
def test_a_wrong_ledger_offset_repeats_no_point(recipe, runs, tmp_path, value) -> None:
    run = copied(runs, "complete", tmp_path)
    (run / "result.json").unlink()
    signed_anew(max((run / "checkpoints").glob("step-*")), ledger_offset=value)
    execute(recipe, run_dir=run)
    names = [
        (point["name"], point["step"]) for point in map(json.loads, (run / "ledger.jsonl").read_text().splitlines())
    ]
    assert len(names) == len(set(names))


def test_where_no_checkpoint_fits_all_of_them_stay(recipe, runs, tmp_path) -> None:
    run = copied(runs, "stopped", tmp_path)
    for checkpoint in (run / "checkpoints").glob("step-*"):
        tensors = load_file(checkpoint / "model.safetensors")
        tensors["classifier.bias"] = tensors["classifier.bias"][:1].clone()
        save_file(tensors, checkpoint / "model.safetensors", metadata={"format": "pt"})
        signed_anew(checkpoint)
    with pytest.raises(CheckpointError, match=r"weights of classifier.bias: expected \[2\], found \[1\]"):
        execute(recipe, run_dir=run)
    assert len(list((run / "checkpoints").glob("step-*"))) == 2


@pytest.mark.parametrize("content", ["", '{"select": 1', '{"select": "accuracy"}'])
def test_a_damaged_result_json_ends_the_run_once_more(recipe, runs, tmp_path, content) -> None:
    run = copied(runs, "complete", tmp_path)
    (run / "result.json").write_text(content)
    for file in (run / "attempts").iterdir():
        file.write_text("{")  # no number depends on it
    assert execute(recipe, run_dir=run).steps == 8
    assert (run / "result.damaged-1.json").read_text() == content
    assert weights(run) == weights(runs / "complete")


def test_a_ledger_that_is_no_file_is_one_screen(recipe, runs, tmp_path) -> None:
    run = copied(runs, "stopped", tmp_path)
    (run / "ledger.jsonl").unlink()
    (run / "ledger.jsonl").mkdir()
    with pytest.raises(CheckpointError, match=r"ledger\.jsonl: expected a file of the run's numbers"):
        execute(recipe, run_dir=run)


def test_a_run_of_an_older_version_resumes_and_another_optimizer_starts_with_fresh_state(
    recipe, runs, tmp_path, capsys
) -> None:
    run = copied(runs, "stopped", tmp_path)
    document = json.loads((run / "run.json").read_text())
    for later in ("algorithm", "checkpoint_layers"):
        del document["recipe"]["optim"][later]
    (run / "run.json").write_text(json.dumps(document))
    other = replace(recipe, optim=replace(recipe.optim, algorithm="adafactor"))
    with pytest.raises(ResumeMismatch, match=r"optim\.algorithm: 'adamw' -> 'adafactor'") as refused:
        execute(other, run_dir=run)
    assert "checkpoint_layers" not in str(refused.value)
    assert execute(other, run_dir=run, options=RunOptions(allow_change=frozenset({"optim.algorithm"}))).steps == 8
    assert "the optimizer begins anew: the checkpoint holds the state of adamw" in capsys.readouterr().err


@pytest.mark.parametrize(
    "algorithm",
    [
        "adafactor",
        pytest.param("adamw_8bit", marks=pytest.mark.skipif(not find_spec("bitsandbytes"), reason="missing")),
    ],
)
def test_an_optimizer_with_little_state_is_resumed_bit_identically(recipe, tmp_path, algorithm) -> None:
    chosen = replace(recipe, optim=Optim(algorithm=algorithm, peak_lr=1e-2, checkpoint_layers=True, precision="fp32"))
    execute(chosen, run_dir=tmp_path / "whole")
    with pytest.raises(Interrupted):
        execute(chosen, run_dir=tmp_path / "cut", options=RunOptions(planned_stop=PlannedStop(stop_at=5)))
    execute(chosen, run_dir=tmp_path / "cut")
    assert weights(tmp_path / "cut") == weights(tmp_path / "whole")
    ours, theirs = (tmp_path / name / "checkpoints/step-00000008/optimizer.safetensors" for name in ("cut", "whole"))
    assert ours.read_bytes() == theirs.read_bytes()


def test_a_complete_run_keeps_its_last_checkpoint_and_is_packaged_again_from_its_best(
    recipe, runs, tmp_path, capsys
) -> None:
    still = replace(
        with_budget(recipe, max_steps=6, evaluate_every=2, save_every=2), optim=Optim(peak_lr=1e-12, precision="fp32")
    )
    result = execute(still, run_dir=tmp_path / "run")
    assert (result.best_step, result.steps) == (2, 6)
    assert [folder.name for folder in (tmp_path / "run/checkpoints").glob("step-*")] == ["step-00000006"]
    before = weights(tmp_path / "run")
    repackage(tmp_path / "run", recipe=still)
    assert weights(tmp_path / "run") == before
    assert json.loads((tmp_path / "run/result.json").read_text())["best_step"] == 2
    capsys.readouterr()

    assert cli(["runs", str(tmp_path), "--clean", "--yes"]) == 0
    shown = capsys.readouterr().out
    assert "complete" in shown
    assert "are free now" in shown
    assert not (tmp_path / "run/checkpoints").exists()
    assert Predictor.load(result.package).predict(["good film"])
    assert execute(still, run_dir=tmp_path / "run").steps == 6, "still complete"
    with pytest.raises(CheckpointError, match="had checkpoints, but none is valid now"):
        execute(with_budget(still, max_steps=9), run_dir=tmp_path / "run", options=RunOptions(extend=True))


def test_a_package_of_an_unfinished_run_does_not_end_it(recipe, runs, tmp_path, capsys) -> None:
    run = copied(runs, "stopped", tmp_path)
    package = repackage(run, recipe=recipe)
    assert "goes on behind step 7 of 8" in capsys.readouterr().err
    assert Predictor.load(package).predict(["good film"])
    assert not (run / "result.json").exists()
    assert execute(recipe, run_dir=run).steps == 8
    assert weights(run) == weights(runs / "complete")


def test_all_checkpoints_stay_where_asked_and_an_unfinished_run_is_not_cleaned(recipe, runs, tmp_path, capsys) -> None:
    run = copied(runs, "stopped", tmp_path)
    assert cli(["runs", str(tmp_path), "--clean", "--yes"]) == 0
    assert "Nothing to clean" in capsys.readouterr().out
    assert len(list((run / "checkpoints").glob("step-*"))) == 2
    execute(with_budget(recipe, keep_when_done="all"), run_dir=run)
    assert len(list((run / "checkpoints").glob("step-*"))) > 1
