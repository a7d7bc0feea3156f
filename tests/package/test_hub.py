from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from hf_trainpipe.package import layout
from hf_trainpipe.package.layout import MANIFEST, list_files
from tests.package.hub_server import TOKEN, Fault, Hub

PUSH = """
import json, sys
from hf_trainpipe.errors import TrainpipeError
from hf_trainpipe.package.hub import push
options = json.loads(sys.argv[3])
try:
    print(json.dumps({"ok": push(sys.argv[1], sys.argv[2], wait_s=0.01, **options)}))
except TrainpipeError as error:
    print(json.dumps({"error": error.message, "fix": error.fix, "exit": error.exit_code}))
"""
DOWNLOAD = """
import sys
from huggingface_hub import snapshot_download
from transformers import AutoModelForSequenceClassification
folder = snapshot_download(sys.argv[1], revision=sys.argv[2])
model = AutoModelForSequenceClassification.from_pretrained(sys.argv[1], revision=sys.argv[2])
assert model.config.id2label == {0: "calm", 1: "angry", 2: "sad"}, model.config.id2label
print(folder)
"""


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory, classifier_run: Path) -> Path:
    run = tmp_path_factory.mktemp("push") / "run"
    shutil.copytree(classifier_run, run)
    manifest = layout.read_manifest(run / "package")
    layout.write_json(run / "package" / layout.MANIFEST, {**manifest, "verified": {"passed": True}})
    return run / "package"


def client(script: str, *arguments: str, hub: Hub, home: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run the real client in a process of its own: its endpoint is fixed when it is imported."""
    known = {name: os.environ[name] for name in ("PATH", "LANG") if name in os.environ}
    known |= {
        "HF_ENDPOINT": hub.url,
        "HF_HUB_DISABLE_XET": "1",
        "HF_HOME": str(home / "hf"),
        "HOME": str(home),
    }
    known |= {"HF_TOKEN": TOKEN, "HF_HUB_DISABLE_PROGRESS_BARS": "1", "OMP_NUM_THREADS": "1", **environment}
    root = Path(__file__).parents[2]
    done = subprocess.run(
        [sys.executable, "-c", script, *arguments],
        cwd=root, env=known, capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done


def push(package: Path, repo: str, *, hub: Hub, home: Path, options: dict[str, Any] | None = None, **env: str) -> Any:
    done = client(PUSH, str(package), repo, json.dumps(options or {}), hub=hub, home=home, **env)
    assert TOKEN not in done.stdout + done.stderr
    return json.loads(done.stdout.splitlines()[-1])


def remote(hub: Hub, repo: str, branch: str = "main") -> dict[str, bytes]:
    repository = hub.repositories[repo]
    return {name: blob.content for name, blob in repository.commits[repository.branches[branch]].items()}


def local(package: Path) -> dict[str, bytes]:
    return {name: (package / name).read_bytes() for name in list_files(package)[0]}


def test_push_whole_then_download_the_same_bytes(package: Path, hub: Hub, tmp_path: Path) -> None:
    (package / "notes.env").write_text("not part of a package")
    try:
        done = push(package, "user/tiny", hub=hub, home=tmp_path, options={"tag": "v1"})["ok"]
    finally:
        (package / "notes.env").unlink()
    assert done["private"] is True
    assert done["left_out"] == ["notes.env"]
    assert hub.repositories["user/tiny"].private
    assert hub.repositories["user/tiny"].messages == ["initial commit", "Package tiny"]
    assert hub.repositories["user/tiny"].tags == {"v1": done["commit"]}
    expected = local(package)
    found = remote(hub, "user/tiny")
    assert found.pop(".gitattributes")
    assert found == expected

    folder = Path(client(DOWNLOAD, "user/tiny", "v1", hub=hub, home=tmp_path).stdout.splitlines()[-1])
    assert {name: hashlib.sha256((folder / name).read_bytes()).hexdigest() for name in expected} == {
        name: hashlib.sha256(content).hexdigest() for name, content in expected.items()
    }

    again = push(package, "user/tiny", hub=hub, home=tmp_path, options={"tag": "v1"})["ok"]
    assert again["commit"] == done["commit"], "an unchanged package makes no new commit"


def test_push_to_a_branch_removes_files_of_an_older_package(package: Path, hub: Hub, tmp_path: Path) -> None:
    assert push(package, "user/tiny", hub=hub, home=tmp_path)["ok"]
    repository = hub.repositories["user/tiny"]
    blob = next(iter(repository.commits[repository.branches["main"]].values()))
    older = {
        **repository.commits[repository.branches["main"]],
        "trainpipe_runtime/gone.py": blob,
        "photo.png": blob,
    }
    repository.commit("main", older, "an older package")
    done = push(package, "user/tiny", hub=hub, home=tmp_path, options={"revision": "next"})["ok"]
    assert done["removed"] == ["trainpipe_runtime/gone.py"]
    assert "photo.png" in remote(hub, "user/tiny", "next")
    assert "trainpipe_runtime/gone.py" in remote(hub, "user/tiny", "main")


@pytest.mark.parametrize(
    "fault",
    [
        Fault("POST", "/commit/", status=503),
        Fault("POST", "/repos/create", status=429, headers={"Retry-After": "0"}),
        Fault("POST", "/commit/", kind="cut", times=2),
        Fault("POST", "/commit/", kind="lose"),
        Fault("PUT", "/lfs/", kind="cut"),
        Fault("GET", "/tree/", status=500),
    ],
    ids=["503", "429", "cut twice", "answer lost", "upload cut", "500 while verifying"],
)
def test_faults_that_pass_are_retried(package: Path, hub: Hub, tmp_path: Path, fault: Fault) -> None:
    hub.faults.append(fault)
    done = push(package, "user/tiny", hub=hub, home=tmp_path)["ok"]
    assert fault.times == 0
    repository = hub.repositories["user/tiny"]
    assert len(repository.messages) == 2, "one commit, even if an answer was lost"
    assert repository.branches["main"] == done["commit"]
    assert local(package).items() <= remote(hub, "user/tiny").items()


def test_refused_token(package: Path, hub: Hub, tmp_path: Path) -> None:
    done = push(package, "user/tiny", hub=hub, home=tmp_path, HF_TOKEN="hf_" + "x" * 30)
    assert done["exit"] == 5
    assert "401" in done["error"]
    assert f"hf-trainpipe push {package} user/tiny" in done["fix"]
    assert hub.repositories == {}


def test_hub_that_stays_down_leaves_nothing_visible(package: Path, hub: Hub, tmp_path: Path) -> None:
    hub.faults.append(Fault("POST", "/commit/", status=503, times=100))
    done = push(package, "user/tiny", hub=hub, home=tmp_path)
    assert (done["exit"], "after 4 tries: the Hub answered 503" in done["error"]) == (5, True)
    assert list(remote(hub, "user/tiny")) == [".gitattributes"]


def test_public_repository_is_refused_unless_said(package: Path, hub: Hub, tmp_path: Path) -> None:
    assert push(package, "user/tiny", hub=hub, home=tmp_path, options={"private": False})["ok"]["private"] is False
    done = push(package, "user/tiny", hub=hub, home=tmp_path)
    assert done["exit"] == 5
    assert "public" in done["error"]


def test_canary_in_a_file_is_refused(package: Path, hub: Hub, tmp_path: Path) -> None:
    done = push(package, "user/tiny", hub=hub, home=tmp_path, CANARY_TOKEN="apache-2.0")  # stands in README.md
    assert done["exit"] == 5
    assert "README.md, line" in done["error"]
    assert "$CANARY_TOKEN" in done["error"]
    assert "apache" not in done["error"]
    assert hub.requests == []


@pytest.mark.parametrize("change", ["weights", "unverified"])
def test_changed_or_unverified_package_is_refused(package: Path, hub: Hub, tmp_path: Path, change: str) -> None:
    copy = tmp_path / "package"
    shutil.copytree(package, copy)
    if change == "weights":
        with (copy / "model.safetensors").open("r+b") as stream:
            stream.seek(-1, os.SEEK_END)
            stream.write(b"\x7f")
    else:
        manifest = json.loads((copy / MANIFEST).read_text())
        (copy / MANIFEST).write_text(json.dumps({**manifest, "verified": None}))
    done = push(copy, "user/tiny", hub=hub, home=tmp_path)
    assert done["exit"] == 5
    assert ("model.safetensors" if change == "weights" else "never verified") in done["error"]
    assert hub.requests == []
