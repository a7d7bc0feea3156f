"""Whole runs with a fake Hub: pushes at the end and in the background, mirrored checkpoints."""

from __future__ import annotations

import json
import shutil
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from hf_trainpipe.package.layout import list_files
from tests import warm
from tests.hub.hub_server import Fault, Hub, serve

RECIPES = """
from hf_trainpipe import Hub, replace
from recipes import recipe


def told():
    card = {"license": "apache-2.0", "language": ("en",), "limits": ("Tiny.",)}
    return replace(recipe(), hub=Hub("user/tiny", when="best", **card))


def behind():
    return replace(recipe(), hub=Hub("user/tiny", when="every_save", checkpoints=True))


def best():
    return replace(recipe(), hub=Hub("user/tiny", when="best"))


def mirrored():
    return replace(recipe(), hub=Hub("user/tiny", checkpoints=True))
"""


@pytest.fixture(scope="module")
def surroundings(workshop, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Hub, dict[str, str]]]:
    """One address for the tests of this file: processes that wait with its environment are begun once."""
    (workshop.folder / "hub_recipes.py").write_text(RECIPES)
    with serve() as hub:
        variables = hub.environment(tmp_path_factory.mktemp("hub") / "hf")
        with warm.waits_with(workshop.environment(variables)):
            yield hub, variables


@pytest.fixture
def hub(surroundings: tuple[Hub, dict[str, str]]) -> Hub:
    """An empty one."""
    surroundings[0].repositories.clear()
    surroundings[0].faults.clear()
    return surroundings[0]


@pytest.fixture
def online(surroundings: tuple[Hub, dict[str, str]], hub: Hub) -> dict[str, str]:
    return surroundings[1]


def remote(hub: Hub, branch: str = "main") -> dict[str, bytes]:
    repository = hub.repositories["user/tiny"]
    return {name: blob.content for name, blob in repository.commits[repository.branches[branch]].items()}


def until(condition: Callable[[], object], *, seconds: float = 200) -> None:
    """Wait for what must come; the limit only keeps a test that failed from hanging."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not come to pass"
        time.sleep(0.05)


def queue(run: Path) -> list[dict]:
    return [json.loads(path.read_text()) for path in sorted((run / "outbox").glob("[0-9]*.json"))]


def is_idle(run: Path) -> bool:
    """Whether the background push has ended: it removes its working files last."""
    folder = run / "outbox"
    return (folder / "background-push.lock").exists() and not (folder / "held").exists()


def test_a_push_that_fails_does_not_fail_the_run_and_is_retried_later(workshop, online, hub) -> None:
    run = workshop.folder / "at-end"
    command = ["hub_recipes.py:told", "--run-dir", "at-end", "--budget.max-steps", "4"]
    done = workshop.train(*command, **{**online, "HF_TOKEN": "hf_" + "w" * 34})
    assert done.code == 5, done.err
    assert "the Hub answered 401" in done.err
    assert "hf-trainpipe push at-end --retry" in done.err
    assert done.result["push"]["state"] == "failed"
    assert json.loads((run / "result.json").read_text())["push"] == done.result["push"]
    assert done.result["verified"]["passed"]
    assert "w" * 34 not in done.err + done.out

    sent = workshop.run(sys.executable, "-m", "hf_trainpipe", "push", "at-end", "--retry", "--json", **online)
    assert sent.code == 0, sent.err
    [pushed] = json.loads(sent.out)["pushed"]
    assert hub.repositories["user/tiny"].tags == {"v1": pushed["commit"]}
    assert json.loads((run / "result.json").read_text())["push"]["commit"] == pushed["commit"]
    package = {name: (run / "package" / name).read_bytes() for name in list_files(run / "package")[0]}
    assert package.items() <= remote(hub).items()
    card = remote(hub)["README.md"].decode()
    for expected in ("license: apache-2.0", "- en\n", "- Tiny.", "## Training curve", "train/loss", "told --run-dir"):
        assert expected in card

    again = workshop.train(*command, **online)
    assert again.code == 0, again.err
    assert (again.result["push"]["state"], again.result["push"]["tag"]) == ("done", "v1")
    assert len(hub.repositories["user/tiny"].messages) == 2, "there was nothing new to push"


@pytest.mark.nightly
def test_pushing_behind_the_training_changes_no_byte_of_it(workshop, whole, online, hub) -> None:
    run, go = workshop.folder / "behind", workshop.folder / "go"
    command = ["hub_recipes.py:behind", "--run-dir", "behind"]
    process = workshop.start(*command, WAIT_AT="24", WAIT_FOR=str(go), **online)
    try:
        # While it trains, both branches appear; the run goes on once they are seen.
        until(lambda: "user/tiny" in hub.repositories and "checkpoints" in hub.repositories["user/tiny"].branches)
        until(lambda: "model.safetensors" in remote(hub))
        assert process.poll() is None
        assert hub.repositories["user/tiny"].tags == {}
        interim = remote(hub)
        go.touch()
        assert process.wait(240) == 0
    finally:
        process.kill()
        process.wait()
    for name, content in interim.items():
        (workshop.folder / "interim" / name).parent.mkdir(parents=True, exist_ok=True)
        (workshop.folder / "interim" / name).write_bytes(content)
    verified = workshop.run(sys.executable, "-m", "hf_trainpipe", "verify", "interim")
    assert verified.code == 2, verified.err
    assert "loads and answers, but nothing was compared" in verified.err
    assert "- Training goes on: these are the weights of step " in interim["README.md"].decode()
    assert json.loads((run / "result.json").read_text())["push"]["state"] == "done"
    assert workshop.weights("behind") == workshop.weights("whole")
    for name in ("model.safetensors", "optimizer.safetensors", "state.json"):
        ours = (workshop.last_checkpoint("behind") / name).read_bytes()
        assert ours == (workshop.last_checkpoint("whole") / name).read_bytes()
    assert interim["model.safetensors"] != remote(hub)["model.safetensors"] == workshop.weights("whole")
    assert list(hub.repositories["user/tiny"].tags) == ["v1"]
    assert {entry["kind"] for entry in queue(run)} == {"package", "checkpoint"}
    assert all(entry["state"] in ("done", "superseded") for entry in queue(run))


@pytest.mark.nightly
def test_a_hub_that_hangs_does_not_disturb_the_training(workshop, whole, online, hub) -> None:
    hub.faults.append(Fault("POST", "/", kind="hold", times=1000))
    done = workshop.train("hub_recipes.py:best", "--run-dir", "disturbed", HF_TRAINPIPE_HUB_TIMEOUT="0.5", **online)
    assert done.code == 5, done.err
    assert "Could not create the repository at user/tiny after 4 tries" in done.err
    assert workshop.weights("disturbed") == workshop.weights("whole")
    assert hub.repositories == {}


def test_a_run_that_lost_its_machine_goes_on_exactly_on_another(workshop, whole, online, hub, tmp_path) -> None:
    run = workshop.folder / "lost"
    done = workshop.train("hub_recipes.py:mirrored", "--run-dir", "lost", KILL_AT="17", **online)
    assert done.code == -9, done.err
    # The background push may begin after the trainer's end; it sees that it is gone, and mirrors what it left.
    until(lambda: "user/tiny" in hub.repositories and is_idle(run))
    steps = {name.split("/")[0] for name in remote(hub, "checkpoints") if name.startswith("step-")}
    assert steps & {"step-00000010", "step-00000013", "step-00000015"}
    assert "model.safetensors" not in remote(hub, "main")
    shutil.rmtree(run)

    hub.faults.append(Fault("GET", r"/resolve/.*model\.safetensors", kind="cut"))
    again = ["hub_recipes.py:mirrored", "--run-dir", "lost", "--resume-from", "hub:user/tiny"]
    done = workshop.train(*again, **online)
    assert done.code == 0, done.err
    assert "continuing after step 1" in done.err
    assert json.loads((run / "resumed-from.json").read_text())["repo"] == "user/tiny"
    assert workshop.weights("lost") == workshop.weights("whole")
    for name in ("model.safetensors", "optimizer.safetensors"):
        ours = (workshop.last_checkpoint("lost") / name).read_bytes()
        assert ours == (workshop.last_checkpoint("whole") / name).read_bytes()
    untimed = [
        {k: v for k, v in workshop.ledger(name).items() if "per_second" not in k[0]} for name in ("lost", "whole")
    ]
    assert untimed[0] == untimed[1]
    assert remote(hub, "main")["model.safetensors"] == workshop.weights("whole")
    assert done.result["scores"] == whole.result["scores"]

    shutil.rmtree(run)  # another recipe is refused by its fields, as on the machine itself
    refused = workshop.train(*again, "--seed", "3", **online)
    assert refused.code == 2, refused.err
    assert "seed: 17 -> 3" in refused.err

    shutil.rmtree(run)  # and damage by its hashes
    repository = hub.repositories["user/tiny"]
    files = dict(repository.commits[repository.branches["checkpoints"]])
    for name in files:
        if name.endswith("/optimizer.safetensors"):
            files[name] = type(files[name])(b"x" * len(files[name].content), lfs=True)
    repository.commit("checkpoints", files, "damage")
    damaged = workshop.train(*again, **online)
    assert damaged.code == 3, damaged.err
    assert "optimizer.safetensors does not match its sha256" in damaged.err
    assert not (run / "run.json").exists()


@pytest.mark.nightly
def test_resume_from_nowhere(workshop, online, hub) -> None:
    for spelled, code, words in (
        ("hub:user/none", 3, "the Hub answered 404"),
        ("user/none", 2, "expected hub:user/name"),
    ):
        done = workshop.train("hub_recipes.py:mirrored", "--run-dir", "nowhere-hub", "--resume-from", spelled, **online)
        assert (done.code, words in done.err) == (code, True), done.err
    assert not (workshop.folder / "nowhere-hub/run.json").exists()
