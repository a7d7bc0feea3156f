"""A push that stops at any of its requests, or meets another push there: readers see the old model or the new one."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from hf_trainpipe.errors import PushError
from hf_trainpipe.hub.push_queue import Entry, PushQueue, describe_file
from hf_trainpipe.hub.retry import RetryPolicy
from hf_trainpipe.hub.upload import upload
from hf_trainpipe.package import layout
from hf_trainpipe.package.card_merge import block
from tests.hub.hub_server import TOKEN, Blob, Fault, Hub, Repository, serve
from tests.nightly import at_night

pytestmark = pytest.mark.filterwarnings("ignore:Use 'content=:DeprecationWarning")  # of the client's own uploads
REPO = "user/tiny"
ASKED = Entry(kind="package", repo=REPO, message="Package tiny", tag="auto")
SHARDS = [f"model-0000{number}-of-00002.safetensors" for number in (1, 2)]


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    """A stand-in that the client in this process talks to, without retries of its own."""
    from huggingface_hub import close_session, constants
    from huggingface_hub.utils import _http

    with serve() as running:
        template = constants.HUGGINGFACE_CO_URL_TEMPLATE.replace(constants.ENDPOINT, running.url)
        monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
        monkeypatch.setattr(constants, "ENDPOINT", running.url)
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
        monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)
        monkeypatch.setitem(_http.http_backoff.__kwdefaults__, "max_retries", 0)
        monkeypatch.setattr(_http, "_GLOBAL_CLIENT_FACTORY", _http._GLOBAL_CLIENT_FACTORY)
        monkeypatch.setenv("HF_TOKEN", TOKEN)
        yield running
        close_session()


def files_of(version: str) -> dict[str, bytes]:
    """A package in small: a card, a manifest that lists it, and weights in two files."""
    files = {name: f"{version} {name}".encode() * 9 for name in SHARDS} | {"config.json": json.dumps(version).encode()}
    files["README.md"] = ("---\nlicense: mit\n---\n\n" + block("scores", f"Of {version}")).encode()
    if version == "old":
        files["tokenizer.json"] = b"{}"  # which the new one lacks
    listed = {name: {"size": len(c), "sha256": hashlib.sha256(c).hexdigest()} for name, c in files.items()}
    return {**files, layout.MANIFEST: json.dumps({"files": listed}).encode()}


def blobs(files: dict[str, bytes]) -> dict[str, Blob]:
    return {name: Blob(content, lfs=name.endswith(".safetensors")) for name, content in files.items()}


class Push:
    """A package in a queue of its own, and a repository that holds an older one."""

    def __init__(self, hub: Hub, folder: Path) -> None:
        self.hub = hub
        self.repository = hub.repositories[REPO] = Repository(private=True)
        self.repository.commit("main", blobs({".gitattributes": b"", "photo.png": b"photo"}), "first")
        self.commit_other("old")
        folder.mkdir(parents=True)
        for name, content in files_of("new").items():
            (folder / name).write_bytes(content)
        self.queue = PushQueue(folder.with_name(f"{folder.name}.outbox"), owner=folder)
        self.queue.add(ASKED, {name: folder / name for name in files_of("new")})

    def commit_other(self, version: str) -> None:
        """What another machine pushes, as a whole."""
        kept = {name: blob for name, blob in self.main.items() if not layout.is_package_file(name)}
        self.repository.commit("main", kept | blobs(files_of(version)), version)

    def run(self, *, attempts: int = 1) -> Entry:
        [entry] = self.queue.open_entries()
        return upload(self.queue, entry, policy=RetryPolicy(attempts=attempts, wait_s=0.0))

    @property
    def main(self) -> dict[str, Blob]:
        return self.repository.commits[self.repository.branches["main"]]

    def versions(self) -> list[str | None]:
        """Which whole package each commit holds, in their order; None where it holds parts."""
        known = {json.dumps(version): version for version in ("old", "new", "other")}
        found: list[str | None] = []
        for files in list(self.repository.commits.values())[1:]:
            version = known[files["config.json"].content.decode()]
            held = {name: blob.content for name, blob in files.items() if layout.is_package_file(name)}
            whole = held == files_of(version) and files["photo.png"].content == b"photo"
            found.append(version if whole else None)
        return found

    def tagged(self) -> set[str]:
        return {self.repository.commits[oid]["config.json"].content.decode() for oid in self.repository.tags.values()}


def stopped_everywhere(hub: Hub, folder: Path, fault: Callable[[int], Fault]) -> Iterator[tuple[Push, bool]]:
    """A new push for each of its requests, with ``fault(n)`` at the n-th, until one meets none; whether it failed."""
    for number in range(100):
        push = Push(hub, folder / str(number))
        hub.objects.clear()
        hub.faults[:] = [fault(number)]
        try:
            push.run()
            failed = False
        except PushError:
            failed = True
        if hub.faults[0].times:
            assert number > 5
            return
        hub.faults.clear()
        yield push, failed


@pytest.mark.parametrize(
    ("method", "kind"), [*at_night(("*", "cut")), ("P", "lose")], ids=["cut before", "answer lost"]
)
def test_stopped_at_any_request_it_shows_the_old_model_or_the_new_and_continues(
    hub: Hub, tmp_path: Path, method: str, kind: Any
) -> None:
    for push, failed in stopped_everywhere(hub, tmp_path, lambda number: Fault(method, "", kind=kind, after=number)):
        assert push.versions() in (["old"], ["old", "new"])
        assert push.tagged() <= {'"new"'}
        assert list(push.repository.branches) == ["main"]
        if failed:
            assert push.run().state == "done"
        assert push.versions() == ["old", "new"]
        assert push.repository.tags == {"v1": push.repository.branches["main"]}
        assert push.queue.open_entries() == []


@pytest.mark.nightly
def test_another_push_at_any_request_of_it_stays_whole_as_well(hub: Hub, tmp_path: Path) -> None:
    orders = set()
    pushes: list[Push] = []

    def meanwhile() -> None:
        latest = Push.__new__(Push)
        latest.hub, latest.repository = hub, hub.repositories[REPO]
        latest.commit_other("other")

    for push, failed in stopped_everywhere(
        hub, tmp_path, lambda number: Fault("*", "", kind="meanwhile", after=number, meanwhile=meanwhile)
    ):
        if failed:  # the Hub refused a commit upon a parent that had moved
            push.run()
        orders.add(tuple(push.versions()))
        [tagged] = push.repository.tags.values()
        assert push.repository.commits[tagged]["config.json"].content == b'"new"'
        pushes.append(push)
    assert orders == {("old", "other", "new"), ("old", "new", "other")}


@pytest.mark.parametrize(
    "fault",
    [
        Fault("POST", "/commit/", status=503),
        Fault("POST", "/repos/create", status=429, headers={"Retry-After": "0"}),
        Fault("POST", "/commit/", kind="cut", times=2),
        Fault("POST", "/commit/main", kind="lose"),
        Fault("PUT", "/lfs/", kind="half"),
        Fault("GET", "/tree/", status=500),
        Fault("POST", "/tag/", kind="lose"),
    ],
    ids=[
        "503",
        "429",
        "cut twice",
        "commit's answer lost",
        "upload cut in the middle",
        "500 while verifying",
        "tag's answer lost",
    ],
)
def test_faults_that_pass_are_retried(hub: Hub, tmp_path: Path, fault: Fault) -> None:
    push = Push(hub, tmp_path / "package")
    hub.objects.clear()
    hub.faults.append(fault)
    done = push.run(attempts=4)
    assert fault.times == 0
    assert push.versions() == ["old", "new"], "one commit, even if an answer was lost"
    assert push.repository.tags == {"v1": done.commit}
    assert done.tries == 1


def test_a_version_that_another_push_takes_at_the_same_time(hub: Hub, tmp_path: Path) -> None:
    push = Push(hub, tmp_path / "package")

    def meanwhile() -> None:
        push.commit_other("other")
        push.repository.tags["v1"] = push.repository.branches["main"]

    hub.faults.append(Fault("POST", "/tag/", kind="meanwhile", meanwhile=meanwhile))
    done = push.run()
    assert (done.tag, push.repository.tags["v2"]) == ("v2", done.commit)


def test_what_has_arrived_is_not_sent_again(hub: Hub, tmp_path: Path) -> None:
    push = Push(hub, tmp_path / "package")
    hub.objects.clear()
    hub.faults.append(Fault("PUT", f"/lfs/{hashlib.sha256(files_of('new')[SHARDS[1]]).hexdigest()}", kind="half"))
    with pytest.raises(PushError):
        push.run()
    assert push.versions() == ["old"]
    push.run()
    sent = [path for method, path in hub.requests if method == "PUT"]
    assert sorted(sent.count(path) for path in set(sent)) == [1, 2]
    assert push.versions() == ["old", "new"]


def test_a_file_that_changes_during_the_upload_is_not_committed(hub: Hub, tmp_path: Path) -> None:
    push = Push(hub, tmp_path / "package")
    hub.objects.clear()
    changed = push.queue.path / "0001/config.json"
    hub.faults.append(Fault("PUT", "/lfs/", kind="meanwhile", meanwhile=lambda: changed.write_text("{}")))
    with pytest.raises(PushError, match=r"config\.json changed"):
        push.run()
    assert push.versions() == ["old"]


def test_a_gitignore_leaves_nothing_out(hub: Hub, tmp_path: Path) -> None:
    push = Push(hub, tmp_path / "package")
    push.main[".gitignore"] = Blob(b"*.safetensors\n", lfs=False)
    push.run()
    assert push.versions() == ["old", "new"]


def test_a_push_that_an_earlier_version_began_is_finished(hub: Hub, tmp_path: Path) -> None:
    push = Push(hub, tmp_path / "package")
    branch = "incoming-0123456789ab"
    base = push.repository.branches["main"]
    push.repository.branches[branch] = base
    staged = push.repository.commit(branch, push.main | blobs(files_of("new")), "new")
    place = push.queue.path / "0001.json"
    earlier = {"state": "staged", "staging": branch, "staged_commit": staged, "base": base}
    place.write_text(json.dumps(json.loads(place.read_text()) | earlier))
    done = push.run()
    assert list(push.repository.branches) == ["main"]
    assert push.repository.tags == {"v1": done.commit}
    assert {name: describe_file(tmp_path / "package" / name) for name in files_of("new")} == dict(done.files)
    assert push.versions()[-1] == "new"
