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
from huggingface_hub import ModelCard

from hf_trainpipe.hub.push_queue import Entry, PushQueue
from hf_trainpipe.package import layout
from hf_trainpipe.package.card import CardFacts, render
from hf_trainpipe.package.layout import MANIFEST, list_files
from tests.hub.hub_server import TOKEN, Blob, Fault, Hub

PUSH = """
import json, sys
from huggingface_hub.utils import _http
_http.http_backoff.__kwdefaults__["base_wait_time"] = 0.01  # the client's own retries: as many, but quick
from hf_trainpipe.errors import TrainpipeError
from hf_trainpipe.hub.repository import push, retry
from hf_trainpipe.hub.retry import RetryPolicy
policy = RetryPolicy(wait_s=0.01)
options = json.loads(sys.argv[3])
try:
    if sys.argv[2] == "--retry":
        print(json.dumps({"ok": retry(sys.argv[1], policy=policy)}))
    else:
        print(json.dumps({"ok": push(sys.argv[1], sys.argv[2], policy=policy, **options)}))
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
SNAPSHOT = "import sys, huggingface_hub; print(huggingface_hub.snapshot_download(sys.argv[1], revision=sys.argv[2]))"


@pytest.fixture
def package(tmp_path: Path, classifier_run: Path) -> Path:
    run = tmp_path / "run"
    shutil.copytree(classifier_run, run)
    (run / "run.json").write_text("{}")
    manifest = layout.read_manifest(run / "package")
    layout.write_json(run / "package" / layout.MANIFEST, {**manifest, "verified": {"passed": True}})
    return run / "package"


def entries(package: Path) -> list[Entry]:
    return PushQueue.of(package).entries()


def client(script: str, *arguments: str, hub: Hub, home: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run the real client in a process of its own: its endpoint is fixed when it is imported."""
    root = Path(__file__).parents[2]
    done = subprocess.run(
        [sys.executable, "-c", script, *arguments],
        cwd=root, env=surroundings(hub, home, **environment), capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done


def surroundings(hub: Hub, home: Path, **environment: str) -> dict[str, str]:
    known = {name: os.environ[name] for name in ("PATH", "LANG") if name in os.environ}
    known |= {
        "HF_ENDPOINT": hub.url,
        "HF_HUB_DISABLE_XET": "1",
        "HF_HOME": str(home / "hf"),
        "HOME": str(home),
    }
    return known | {"HF_TOKEN": TOKEN, "HF_HUB_DISABLE_PROGRESS_BARS": "1", "OMP_NUM_THREADS": "1", **environment}


def start(script: str, *arguments: str, hub: Hub, home: Path) -> subprocess.Popen[str]:
    """The same, to be killed."""
    return subprocess.Popen(
        [sys.executable, "-c", script, *arguments], cwd=Path(__file__).parents[2], env=surroundings(hub, home),
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip


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
    assert list(hub.repositories["user/tiny"].branches) == ["main"]
    [entry] = entries(package)
    assert (entry.state, entry.error, entry.tries) == ("done", None, 1)
    assert sorted(path.name for path in (package.parent / "outbox").iterdir()) == ["0001.json", "lock"]
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


def test_refused_token(package: Path, hub: Hub, tmp_path: Path) -> None:
    done = push(package, "user/tiny", hub=hub, home=tmp_path, HF_TOKEN="hf_" + "x" * 30)
    assert done["exit"] == 5
    assert "401" in done["error"]
    assert f"hf-trainpipe push {package} --retry" in done["fix"]
    assert hub.repositories == {}
    assert sum(path == "/api/repos/create" for _, path in hub.requests) == 1, "a refusal is not tried again"


def test_hub_that_stays_down_leaves_nothing_visible(package: Path, hub: Hub, tmp_path: Path) -> None:
    hub.faults.append(Fault("POST", "/commit/", status=503, times=100))
    done = push(package, "user/tiny", hub=hub, home=tmp_path)
    assert (done["exit"], "after 4 tries: the Hub answered 503" in done["error"]) == (5, True)
    assert list(remote(hub, "user/tiny")) == [".gitattributes"]
    assert hub.repositories["user/tiny"].tags == {}
    [entry] = entries(package)
    assert (entry.state, "503" in entry.error) == ("queued", True)

    shutil.rmtree(package)  # what waits in the outbox needs the package no more
    hub.faults.clear()
    done = push(package.parent, "--retry", hub=hub, home=tmp_path)["ok"]
    assert [(sent["state"], sent["tag"]) for sent in done] == [("done", "v1")]
    assert "model.safetensors" in remote(hub, "user/tiny")
    assert push(package.parent, "--retry", hub=hub, home=tmp_path)["ok"] == []


@pytest.mark.parametrize(
    ("method", "path"),
    [("PUT", "/lfs/"), ("POST", "/commit/main")],
    ids=["upload", "commit"],
)
def test_killed_in_the_middle_and_retried_ends_whole(
    package: Path, hub: Hub, tmp_path: Path, method: str, path: str
) -> None:
    fault = Fault(method, path, kind="hold")
    hub.faults.append(fault)
    process = start(PUSH, str(package), "user/tiny", "{}", hub=hub, home=tmp_path)
    assert fault.reached.wait(60)
    process.kill()
    process.communicate()
    assert list(remote(hub, "user/tiny")) == [".gitattributes"], "nothing is visible before it is whole"
    assert hub.repositories["user/tiny"].tags == {}
    uploads = sum(method == "PUT" for method, _ in hub.requests)
    [done] = push(package.parent, "--retry", hub=hub, home=tmp_path)["ok"]
    assert hub.repositories["user/tiny"].tags == {"v1": done["commit"]}
    assert hub.repositories["user/tiny"].visible == ["main"]
    assert local(package).items() <= remote(hub, "user/tiny").items()
    if path != "/lfs/":
        assert sum(method == "PUT" for method, _ in hub.requests) == uploads, "weights are not uploaded twice"
    assert [entry.tries for entry in entries(package)] == [2]


def test_damage_in_the_store_is_seen_before_there_is_a_tag(package: Path, hub: Hub, tmp_path: Path) -> None:
    weights = layout.hash_file(package / "model.safetensors")
    hub.objects[weights] = b"damaged"  # the store claims to have it already
    done = push(package, "user/tiny", hub=hub, home=tmp_path)
    assert done["exit"] == 5
    assert "model.safetensors has 7 bytes" in done["error"]
    before = next(iter(hub.repositories["user/tiny"].commits))
    assert f"It has no tag; the commit before it is {before[:12]}." in done["error"]
    assert hub.repositories["user/tiny"].tags == {}


def test_a_parent_that_moved_refuses_the_commit(package: Path, hub: Hub, tmp_path: Path) -> None:
    assert push(package, "user/tiny", hub=hub, home=tmp_path)["ok"]
    script = """
import sys
from huggingface_hub import CommitOperationAdd, HfApi
from huggingface_hub.errors import HfHubHTTPError
try:
    HfApi().create_commit("user/tiny", [CommitOperationAdd("a.txt", b"a")], commit_message="a", parent_commit="0" * 40)
except HfHubHTTPError as error:
    print(error.response.status_code)
"""
    assert client(script, hub=hub, home=tmp_path).stdout.strip() == "412"


def test_versions_count_up_and_hand_written_sections_stay(package: Path, hub: Hub, tmp_path: Path) -> None:
    assert push(package, "user/tiny", hub=hub, home=tmp_path)["ok"]["tag"] == "v1"
    repository = hub.repositories["user/tiny"]
    files = dict(repository.commits[repository.branches["main"]])
    mark = b"<!-- trainpipe:end scores -->\n"
    written = files["README.md"].content.replace(mark, mark + b"\n## What we think of it\n\nIt is fine.\n")
    written = written.replace(b"tags:\n", b"tags:\n- support\n").replace(
        b"language: en\n", b"language: en\ninference: false\n"
    )
    repository.commit("main", files | {"README.md": Blob(written, lfs=False)}, "Our view")

    manifest = layout.read_manifest(package)
    manifest["scores"]["validation"]["accuracy"]["value"] = 0.5
    card = render(manifest, CardFacts(language="en", license="apache-2.0"))
    (package / "README.md").write_text(card)
    layout.write_json(package / MANIFEST, {**manifest, "files": layout.hash_files(package)})
    done = push(package, "user/tiny", hub=hub, home=tmp_path)["ok"]
    assert (done["tag"], hub.repositories["user/tiny"].tags["v2"]) == ("v2", done["commit"])
    text = remote(hub, "user/tiny")["README.md"].decode()
    assert text.index("| validation | accuracy | 0.5000 |") < text.index("## What we think of it\n\nIt is fine.")
    assert text.index("It is fine.") < text.index("trainpipe:begin preprocessing")
    assert text.count("It is fine.") == 1
    data = ModelCard(text).data
    assert (data.license, data.tags, data.to_dict()["inference"]) == ("apache-2.0", ["hf-trainpipe", "support"], False)
    downloaded = Path(client(SNAPSHOT, "user/tiny", "v2", hub=hub, home=tmp_path).stdout.splitlines()[-1])
    recorded = layout.read_manifest(downloaded)["files"]
    assert recorded["README.md"]["sha256"] == layout.hash_file(downloaded / "README.md"), "of the merged card"
    again = push(package, "user/tiny", hub=hub, home=tmp_path)["ok"]
    assert (again["commit"], again["tag"]) == (done["commit"], "v2"), "nothing changed: no new commit, no new version"


def test_pull_request_is_opened_once_and_merged_by_a_person(package: Path, hub: Hub, tmp_path: Path) -> None:
    hub.faults.append(Fault("POST", "/discussions", kind="lose"))
    done = push(package, "user/tiny", hub=hub, home=tmp_path, options={"pull_request": True})["ok"]
    repository = hub.repositories["user/tiny"]
    assert [request.status for request in repository.requests] == ["open"]
    assert done["url"] == f"{hub.url}/user/tiny/discussions/1"
    assert done["tag"] is None
    assert list(remote(hub, "user/tiny")) == [".gitattributes"]
    assert local(package).items() <= remote(hub, "user/tiny", "refs/pr/1").items()
    client('from huggingface_hub import HfApi; HfApi().merge_pull_request("user/tiny", 1)', hub=hub, home=tmp_path)
    assert local(package).items() <= remote(hub, "user/tiny").items()


def test_a_later_push_supersedes_one_that_waits(package: Path, hub: Hub, tmp_path: Path) -> None:
    hub.faults.append(Fault("POST", "/commit/", status=503, times=100))
    assert push(package, "user/tiny", hub=hub, home=tmp_path)["exit"] == 5
    hub.faults.clear()
    assert push(package, "user/tiny", hub=hub, home=tmp_path)["ok"]["tag"] == "v1"
    assert [entry.state for entry in entries(package)] == ["superseded", "done"]


def test_files_that_changed_while_they_waited_are_refused(package: Path, hub: Hub, tmp_path: Path) -> None:
    hub.faults.append(Fault("POST", "/commit/", status=503, times=100))
    assert push(package, "user/tiny", hub=hub, home=tmp_path)["exit"] == 5
    (package.parent / "outbox/0001/config.json").write_text("{}")
    hub.faults.clear()
    done = push(package.parent, "--retry", hub=hub, home=tmp_path)
    assert (done["exit"], "config.json changed" in done["error"]) == (5, True)
    assert [entry.state for entry in entries(package)] == ["superseded"]
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
