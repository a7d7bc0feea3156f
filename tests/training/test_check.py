"""``check``: seeded faults are named with their fix and leave nothing behind; the run after it is the one without it."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from hf_trainpipe import Hub as HubSettings
from hf_trainpipe.errors import PushError
from hf_trainpipe.hub.permission import require_permission
from hf_trainpipe.recipe.interfaces import Destination
from hf_trainpipe.report.forecast import read
from hf_trainpipe.testing import tiny_model
from hf_trainpipe.tracking import base
from hf_trainpipe.tracking.mlflow import MLflow
from hf_trainpipe.tracking.reach import obstacle
from hf_trainpipe.training.check.foretell import evaluations_and_saves
from hf_trainpipe.training.check.found import Found, Problem
from hf_trainpipe.training.check.screen import screen
from hf_trainpipe.training.forecasts import corrected
from tests.hub.hub_server import TOKEN, Fault, Hub, Repository, serve
from tests.training.conftest import Done, Workshop

FAULTY = '''
from dataclasses import dataclass, replace

import torch
from hf_trainpipe import Hub, Neptune, Pretrained, TextClassification
from recipes import exact


@dataclass(frozen=True)
class Greedy(TextClassification):
    """Needs more memory for a long example than any machine has."""

    def loss_sum(self, outputs, batch):
        if torch.is_grad_enabled() and batch.tokens > 6:
            torch.empty(1 << 46)
        return super().loss_sum(outputs, batch)


def many():
    """Faults of which none hides another."""
    recipe = replace(exact(), hub=Hub("user/tiny"), trackers=(Neptune(project="team/tiny", mode="async"),))
    return replace(recipe, model=Pretrained("model", sha256="0" * 64), task=TextClassification("words", label="label"))


def foreign():
    return replace(exact(), model=Pretrained("model", tokenizer="other"))


def greedy():
    return replace(exact(), task=Greedy("text", label="label"))
'''
BESIDE = '''
from dataclasses import dataclass

from hf_trainpipe import Budget, Files, Optim, Preprocessor, Pretrained, Recipe, TextClassification, Tokens


@dataclass(frozen=True)
class Beside(Preprocessor):
    """Reads a file that does not travel."""

    def edits(self, texts):
        open("words.txt").close()
        return [[] for _ in texts]


def recipe():
    return Recipe(
        name="beside",
        model=Pretrained("model"),
        data=Files(train="train.csv", validation="dev.csv"),
        preprocessing=(Beside(),),
        task=TextClassification("text", label="label"),
        tokens=Tokens(max_length=32),
        optim=Optim(precision="fp32"),
        budget=Budget(max_steps=2, examples_per_step=16),
    )
'''


@pytest.fixture(scope="module")
def faulty(workshop: Workshop, tmp_path_factory: pytest.TempPathFactory) -> Workshop:
    """The workshop's model, data and recipes in another folder, with faults."""
    folder = tmp_path_factory.mktemp("faulty")
    shutil.copytree(workshop.folder / "model", folder / "model")
    for name in ("train.csv", "dev.csv", "recipes.py"):
        shutil.copy(workshop.folder / name, folder)
    (folder / "faulty.py").write_text(FAULTY)
    (folder / "beside.py").write_text(BESIDE)
    (folder / "words.txt").write_text("very")
    vocabulary = (tiny_model(folder / "other") / "vocab.txt").read_text().split()
    shutil.rmtree(folder / "other")
    _tokenizer_of([*vocabulary, *(f"word{number}" for number in range(9)), "fine-grained"], folder / "other")
    found = object.__new__(Workshop)
    found.folder = folder
    return found


def _tokenizer_of(words: list[str], folder: Path) -> None:
    from transformers import BertTokenizerFast

    folder.mkdir()
    order = [*words[:5], *(f"unused{number}" for number in range(200)), *words[5:]]
    (folder / "vocab.txt").write_text("\n".join(order) + "\n")
    BertTokenizerFast(str(folder / "vocab.txt"), model_max_length=64).save_pretrained(folder)


def check(shop: Workshop, *arguments: str, **environment: str) -> tuple[Done, dict[str, Any]]:
    """Run the verb; nothing but tokens and the audit may be new afterwards, where it finds a fault."""
    before = {path for path in shop.folder.rglob("*") if "__pycache__" not in path.parts}
    done = shop.run(sys.executable, "-m", "hf_trainpipe", "check", *arguments, "--json", **environment)
    after = {path for path in shop.folder.rglob("*") if "__pycache__" not in path.parts}
    cache = shop.folder / "cache"
    kept = {cache, *(path for name in ("tokens", "audit") for path in (cache / name, *(cache / name).rglob("*")))}
    if done.code == 2:
        assert after - before <= kept
    assert done.code in (0, 2), done.err
    return done, json.loads(done.out)


def problems(found: dict[str, Any]) -> dict[str, list[str]]:
    """Messages and fixes by what they are of."""
    told: dict[str, list[str]] = {}
    for one in found["problems"]:
        assert one["fix"], one
        told.setdefault(one["what"], []).append(f"{one['message']} {one['fix']}")
    return told


def test_faults_of_which_none_hides_another_are_all_told_at_once(faulty: Workshop) -> None:
    done, found = check(faulty, "faulty.py:many", "--run-dir", "train.csv/run", "--evaluation.select", "acuracy",
                        "--track", "nowhere", HF_HUB_OFFLINE="1")  # fmt: skip
    told = problems(found)
    assert done.code == 2
    assert "is a file" in told["run folder"][0]
    assert "Did you mean 'accuracy'?" in told["evaluation"][0]
    assert "has no column 'words'" in told["data"][0]
    assert "expected sha256 0000" in told["model"][0]
    assert "HF_HUB_OFFLINE" in told["hub"][0]
    assert sorted(one.split(":")[0] for one in told["tracker"]) == ["Neptune", "trackers"]
    assert "expected NEPTUNE_API_TOKEN in the environment" in " ".join(told["tracker"])
    found.pop("ok")
    shown = screen(
        Found(**{**found, "problems": [Problem(**one) for one in found["problems"]]}), name="tiny", next_command=""
    )
    assert shown.startswith(f"tiny: {len(found['problems'])} problems\n")
    assert shown.count("fix: ") == len(found["problems"])


@pytest.mark.parametrize(
    ("arguments", "what", "said"),
    [
        (["recipes.py:exact", "--task.names", "negative", "good"], "data", "train.csv"),
        (["faulty.py:foreign"], "model", "the tokenizer has ids up to"),
        (["recipes.py:exact", "--optim.peak-lr", "1e30"], "training", "expected a finite"),
        (["faulty.py:greedy"], "training", "out of memory with a single example"),
        (["beside.py"], "package", "words.txt"),
        (["recipes.py:recipe", "--seed", "3"], "memory", "the system killed the process"),
    ],
)  # fmt: skip
def test_a_fault(faulty: Workshop, arguments: list[str], what: str, said: str) -> None:
    done, found = check(faulty, *arguments, **({"KILL_AT": "2"} if what == "memory" else {}))
    told = problems(found)
    assert done.code == 2
    assert list(told) == [what], told
    assert said in told[what][0]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_one_that_is_killed_leaves_nothing_or_what_the_next_one_removes(
    faulty: Workshop, number: signal.Signals
) -> None:
    process = subprocess.Popen(
        [sys.executable, "-m", "hf_trainpipe", "check", "recipes.py:exact"],
        cwd=faulty.folder, env=faulty.environment({}), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    while not (begun := list(faulty.folder.glob(".check-*/found.json"))):
        assert process.poll() is None
        time.sleep(0.01)
    process.send_signal(number)
    process.wait()
    if number == signal.SIGKILL:  # the process that rehearses sees it at its next stage
        until = time.monotonic() + 60
        while begun[0].parent.exists() and time.monotonic() < until:
            time.sleep(0.05)
    assert not list(faulty.folder.glob(".check-*"))


@pytest.mark.parametrize("content", ["", "text,label\n", "text,label\na good day,positive\n"])
def test_data_that_are_hardly_any(faulty: Workshop, content: str) -> None:
    """An empty file, one without rows, one row of one class: one screen."""
    (faulty.folder / "few.csv").write_text(content)
    done, found = check(faulty, "recipes.py:exact", "--data.train", "few.csv")
    assert done.code == 2
    assert list(problems(found)) == ["data"]


def test_the_run_after_it_is_the_one_without_it_and_keeps_the_forecast_beside_what_came(
    workshop: Workshop, whole: Done
) -> None:
    cache = str(workshop.folder / "checked-cache")
    before = {path.name for path in workshop.folder.iterdir()}
    done, found = check(workshop, "recipes.py", "--cost-per-hour", "3.6", HF_TRAINPIPE_CACHE=cache)
    assert (done.code, found["problems"]) == (0, [])
    assert {path.name for path in workshop.folder.iterdir()} - before == {"checked-cache"}
    assert {path.name for path in Path(cache).iterdir()} == {"audit", "tokens", "forecasts"}
    seconds = found["forecast"]["forecast"]["seconds"]
    assert seconds["low"] < seconds["value"] < seconds["high"]
    assert found["forecast"]["cost"]["value"] == pytest.approx(seconds["value"] / 1000)
    ran = workshop.run(sys.executable, "-m", "hf_trainpipe", "train", "recipes.py", "--run-dir", "checked",
                       HF_TRAINPIPE_CACHE=cache)  # fmt: skip
    assert ran.code == 0, ran.err
    assert workshop.weights("checked") == workshop.weights("whole")
    timed = ("train/tokens_per_second", "attempt")
    same = [
        {key: value for key, value in workshop.ledger(name).items() if key[0] not in timed}
        for name in ("checked", "whole")
    ]
    assert same[0] == same[1]
    kept = read(workshop.folder / "checked")
    assert kept is not None
    assert kept["outcome"]["undisturbed"]
    assert kept["outcome"]["disk_bytes"] == pytest.approx(
        kept["plain"]["disk_bytes"], rel=0.3
    )  # a tiny model: the report is half
    assert kept["outcome"]["memory_bytes"] == pytest.approx(kept["plain"]["memory_bytes"], rel=0.2)
    assert "forecast  time " in ran.out
    assert ">Forecast<" in (workshop.folder / "checked" / "report.html").read_text()
    [history] = (Path(cache) / "forecasts" / "history").iterdir()
    assert json.loads(history.read_text())["outcome"]["seconds"] == kept["outcome"]["seconds"]


def test_a_run_that_differs_from_the_one_in_its_folder_and_a_disk_that_is_too_small(
    workshop: Workshop, whole: Done
) -> None:
    """Checkpoints of 260 million steps, all of which are to be kept."""
    more = ["--budget.epochs", "20000000", "--budget.save-every", "1", "--budget.keep-checkpoints", "1000000000"]
    done, found = check(workshop, "recipes.py", "--run-dir", "whole", *more)
    told = problems(found)
    assert (done.code, sorted(told)) == (2, ["disk", "run"])
    assert "This run is complete, and other settings made its weights" in told["run"][0]
    assert "(budget.keep_checkpoints 1,000,000,000, the best and the one being written)" in told["disk"][0]
    assert "lower budget.keep_checkpoints" in told["disk"][0]


def test_evaluations_and_checkpoints_are_counted_as_a_run_has_them() -> None:
    for total, every, saving in ((12, 5, 4), (12, 4, 6), (7, 7, 1), (1, 1, 1), (20, 3, 5)):
        plan = SimpleNamespace(total_steps=total, evaluate_every=every, save_every=saving)
        steps = range(1, total + 1)
        evaluations = {step for step in steps if step % every == 0 or step == total}
        saves = {step for step in steps if step % saving == 0 or step == total}
        counted = (len(evaluations), len(evaluations | saves))
        assert evaluations_and_saves(plan, evaluates=True) == counted  # type: ignore[arg-type]
        assert evaluations_and_saves(plan, evaluates=False) == (0, len(saves))  # type: ignore[arg-type]


@pytest.fixture
def near(monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    """A stand-in for the Hub that the client in this process talks to."""
    from huggingface_hub import close_session, constants
    from huggingface_hub.utils import _http

    with serve() as running:
        for name, value in (("ENDPOINT", running.url), ("HF_HUB_OFFLINE", False)):
            monkeypatch.setattr(constants, name, value)
        monkeypatch.setitem(_http.http_backoff.__kwdefaults__, "max_retries", 0)
        monkeypatch.setattr(_http, "_GLOBAL_CLIENT_FACTORY", _http._GLOBAL_CLIENT_FACTORY)
        monkeypatch.setenv("HF_TOKEN", TOKEN)
        yield running
        close_session()


def _ask(repo: str = "user/tiny", *, private: bool = True) -> None:
    require_permission(HubSettings(repo, private=private), retry="hf-trainpipe check r.py", seconds=5.0)


def test_permission_on_the_hub_is_asked_and_nothing_is_changed_there(
    near: Hub, monkeypatch: pytest.MonkeyPatch
) -> None:
    _ask()  # the push makes it
    near.repositories["user/tiny"] = Repository(private=True)
    near.repositories["user/tiny"].commit("main", {}, "first")
    _ask()
    assert [path for method, path in near.requests if method == "POST"] == ["/api/models/user/tiny/preupload/main"]
    with pytest.raises(PushError, match="expected a repository of user, found someone/tiny"):
        _ask("someone/tiny")
    near.faults.append(Fault("POST", "preupload", status=403, times=9))
    with pytest.raises(PushError, match="the Hub answered 403") as caught:
        _ask()
    assert "use one with write access" in caught.value.fix
    near.faults.clear()
    near.repositories["user/tiny"].private = False
    with pytest.raises(PushError, match="found a public repository"):
        _ask()
    monkeypatch.setenv("HF_TOKEN", "hf_" + "x" * 34)
    with pytest.raises(PushError, match="the Hub answered 401"):
        _ask()
    monkeypatch.setattr("huggingface_hub.get_token", lambda: None)
    with pytest.raises(PushError, match="expected a token that may write to user/tiny, found none"):
        _ask()
    assert list(near.repositories) == ["user/tiny"]


def test_a_tracker_is_asked_for_its_library_its_credentials_and_its_server(monkeypatch: pytest.MonkeyPatch) -> None:
    with serve() as server:
        assert obstacle(MLflow(uri=server.url), seconds=5.0) is None
        gone = server.url
    met = obstacle(MLflow(uri=gone), seconds=2.0)
    assert met is not None
    assert f"MLflow: expected an answer from {gone} within 2 s" in met.message
    monkeypatch.setitem(base.LIBRARIES, "MLflow", "mlflow_that_is_nowhere")
    met = obstacle(MLflow(), seconds=2.0)
    assert met is not None
    assert "pip install 'hf-trainpipe[mlflow]'" in met.fix
    assert MLflow(uri="sqlite:///mlflow.db").destination() == Destination()


def test_forecasts_learn_from_what_came_of_earlier_ones() -> None:
    first = corrected(100.0, [], usual=0.08)
    assert (first.value, round(first.high / first.value, 2)) == (100.0, 1.2)
    later = corrected(100.0, [(50.0, 60.0)] * 8, usual=0.08)
    assert 117.0 < later.value < 120.0
    assert later.high / later.value < first.high / first.value
    scattered = corrected(100.0, [(50.0, 40.0), (50.0, 60.0)] * 4, usual=0.08)
    assert scattered.high / scattered.value > 1.3
    assert (
        corrected(100.0, [(1.0, 1e6)], usual=0.08).value < 175.0
    )  # a suspended machine is no reason to expect the same
