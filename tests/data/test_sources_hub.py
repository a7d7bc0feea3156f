"""HubData with the real clients and a local fake of the Hub."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, urlsplit

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).parents[2]
REPO = "someone/reviews"
FIRST, SECOND = "a" * 40, "b" * 40


def rows(name: str, count: int) -> bytes:
    return "".join(
        json.dumps({"sentence": f"{name} {number}", "label": ["no", "yes"][number % 2]}) + "\n"
        for number in range(count)
    ).encode()


class Hub:
    """Commits of one data set repository; ``main`` moves."""

    def __init__(self) -> None:
        self.commits = {
            FIRST: {"train.jsonl": rows("first", 40), "test.jsonl": rows("held", 8)},
            SECOND: {"train.jsonl": rows("second", 30), "test.jsonl": rows("held", 8)},
        }
        self.main = FIRST
        self.requests: list[str] = []

    def answer(self, method: str, path: str, body: bytes) -> tuple[int, Any, dict[str, str]]:
        parts = urlsplit(path).path.strip("/").split("/")
        if parts[:2] == ["api", "datasets"] and "/".join(parts[2:4]) == REPO:
            return self._api(parts[4:], body)
        if parts[0] == "datasets" and "/".join(parts[1:3]) == REPO and parts[3] == "resolve":
            commit, name = self._commit(parts[4]), "/".join(parts[5:])
            if commit is None or name not in self.commits[commit]:
                return 404, {"error": "Entry not found"}, {"X-Error-Code": "EntryNotFound"}
            content = self.commits[commit][name]
            return 200, content, {"ETag": f'"{hashlib.sha1(content).hexdigest()}"', "X-Repo-Commit": commit}
        if parts[0] == "api":
            return 404, {"error": "Repository not found"}, {"X-Error-Code": "RepoNotFound"}
        return 404, {"error": "Not found"}, {}

    def _commit(self, revision: str) -> str | None:
        revision = unquote(revision)
        return self.main if revision == "main" else revision if revision in self.commits else None

    def _api(self, parts: list[str], body: bytes) -> tuple[int, Any, dict[str, str]]:
        commit = self._commit(parts[1]) if len(parts) > 1 else self.main
        if commit is None:
            return 404, {"error": "Invalid rev id"}, {"X-Error-Code": "RevisionNotFound"}
        files = self.commits[commit]
        entries = [
            {"type": "file", "path": name, "oid": hashlib.sha1(content).hexdigest(), "size": len(content)}
            for name, content in files.items()
        ]
        if parts and parts[0] == "tree":
            return (200, entries, {}) if len(parts) == 2 else (404, {"error": "no"}, {"X-Error-Code": "EntryNotFound"})
        if parts and parts[0] == "paths-info":
            wanted = unquote(body.decode())
            return 200, [entry for entry in entries if str(entry["path"]) in wanted], {}
        siblings = [{"rfilename": name} for name in files]
        info = {"_id": "1", "id": REPO, "sha": commit, "siblings": siblings, "private": False, "gated": False}
        return 200, {**info, "disabled": False, "tags": [], "downloads": 0, "likes": 0}, {}


@contextmanager
def serve(hub: Hub) -> Iterator[str]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def handle_any(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            hub.requests.append(f"{self.command} {self.path}")
            status, answer, headers = hub.answer(self.command, self.path, body)
            content = answer if isinstance(answer, bytes) else json.dumps(answer).encode()
            span = self.headers.get("Range")
            if status == 200 and span and isinstance(answer, bytes):
                low, _, high = span.removeprefix("bytes=").partition("-")
                whole, status = len(content), 206
                content = content[int(low) : int(high) + 1 if high else None]
                headers = {**headers, "Content-Range": f"bytes {low}-{int(low) + len(content) - 1}/{whole}"}
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(content)

        do_GET = do_HEAD = do_POST = handle_any

        def log_message(self, *args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


PROGRAM = """
import json, sys
from hf_trainpipe.data.sources import HubData
from hf_trainpipe.errors import TrainpipeError, render
for line in sys.argv[1:]:
    data = eval(line, {"HubData": HubData})
    try:
        splits = data.splits()
        answer = {"commit": data.commit(), "rows": {name: len(split) for name, split in splits.items()},
                  "first": splits["train"][0]}
    except TrainpipeError as error:
        answer = {"error": render(error.message, error.fix), "kind": type(error).__name__}
    print("ANSWER", json.dumps(answer))
"""


def ask(folder: Path, endpoint: str, *calls: str, **more: str) -> list[dict[str, Any]]:
    """Run calls in a fresh process, as HF_ENDPOINT is read at import."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("HF_")}
    environment |= {
        "HF_ENDPOINT": endpoint,
        "HF_HUB_DISABLE_XET": "1",
        "HF_HUB_DISABLE_TELEMETRY": "1",
        "HF_HUB_DISABLE_IMPLICIT_TOKEN": "1",
        "HF_HOME": str(folder / "hf"),
        "HF_TRAINPIPE_CACHE": str(folder / "cache"),
        "PYTHONPATH": str(ROOT),
        "no_proxy": "127.0.0.1",
        **more,
    }
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, *calls],
        env=environment,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    answers = [json.loads(line[7:]) for line in done.stdout.splitlines() if line.startswith("ANSWER ")]
    assert len(answers) == len(calls), done.stderr
    return answers


NOWHERE = "http://127.0.0.1:9"
CALL = f"HubData({REPO!r}, validation=0.25, test='test', stratify='label', rename={{'sentence': 'text'}})"


def test_pinned_cached_and_offline(tmp_path: Path) -> None:
    hub = Hub()
    with serve(hub) as endpoint:
        (first,) = ask(tmp_path, endpoint, CALL)
        assert first["commit"] == FIRST
        assert first["rows"] == {"train": 30, "validation": 10, "test": 8}
        assert set(first["first"]) == {"text", "label"}
        hub.main = SECOND
        hub.requests.clear()
        again, other = ask(tmp_path, endpoint, CALL, f"HubData({REPO!r}, validation=None, revision={SECOND!r})")
        assert again == first, "a pinned revision does not move"
        assert other["rows"] == {"train": 30}
        assert other["first"]["sentence"] == "second 0"
        assert not any(FIRST in request for request in hub.requests), "the cache needs no network"
    sliced = f"HubData({REPO!r}, train='train[:5]', validation=None)"
    offline = ask(tmp_path, NOWHERE, CALL, sliced, f"HubData({REPO!r})", HF_HUB_OFFLINE="1")
    assert offline[0] == first
    assert offline[1]["rows"] == {"train": 5}
    assert "has no split 'validation'. There are: " in offline[2]["error"]

    pins = next((tmp_path / "cache").glob("hub-pins.json"))
    assert json.loads(pins.read_text()) == {f"{REPO}@main": FIRST}
    pins.unlink()
    (unpinned,) = ask(tmp_path, NOWHERE, f"HubData({REPO!r}, validation=None)")
    assert unpinned["commit"] in (FIRST, SECOND), "a cache that others filled serves without a pin"


def test_streaming_pulls_the_rows_asked_for(tmp_path: Path) -> None:
    with serve(Hub()) as endpoint:
        call = f"HubData({REPO!r}, validation='test', streaming=True, take=3)"
        answer, wrong = ask(tmp_path, endpoint, call, f"HubData({REPO!r}, validation='tset', streaming=True)")
    assert answer["rows"] == {"train": 3, "validation": 3}
    assert answer["first"] == {"sentence": "first 0", "label": "no"}
    assert "Did you mean 'test'?" in wrong["error"]
    assert not list((tmp_path / "hf").rglob("*.arrow"))


def test_unknown_repository_and_revision(tmp_path: Path) -> None:
    with serve(Hub()) as endpoint:
        repo, revision, config = ask(
            tmp_path,
            endpoint,
            "HubData('someone/reveiws')",
            f"HubData({REPO!r}, revision='v9')",
            f"HubData({REPO!r}, config='german')",
        )
    assert "'someone/reveiws' cannot be loaded: the Hub knows no data set of that name" in repo["error"]
    assert "data.revision: " in revision["error"]
    assert "it has no revision 'v9' (404)" in revision["error"]
    assert "has no configuration 'german'" in config["error"]
    assert repo["kind"] == revision["kind"] == config["kind"] == "DataError"


@pytest.mark.parametrize("more", [{}, {"HF_HUB_OFFLINE": "1"}])
def test_no_network_and_no_cache(tmp_path: Path, more: dict[str, str]) -> None:
    (answer,) = ask(tmp_path, NOWHERE, f"HubData({REPO!r})", **more)
    assert answer["kind"] == "DataError"
    assert f"{REPO!r} cannot be loaded" in answer["error"]
    assert "Files(train=" in answer["error"]
    assert len(answer["error"].splitlines()) < 12
