"""A local stand-in for the Hugging Face Hub that the real client talks to, unmodified.

It speaks what a push and a download of a model need: create, validate-yaml, preupload, LFS batch, PUT and
verify, commit (ndjson, with a parent), tree (in pages), revision, resolve (whole or by range), refs, branches,
tags, pull requests and their merge, whoami. Faults can be injected. Point a process at it with HF_ENDPOINT and HF_HUB_DISABLE_XET=1, set before huggingface_hub is imported.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
import socket
import struct
import threading
from contextlib import contextmanager
from dataclasses import dataclass, field
from fnmatch import fnmatch
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal
from urllib.parse import parse_qs, quote, unquote, urlsplit

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

TOKEN = "hf_" + "t" * 34
_REGULAR_LIMIT = 5 << 20
_PAGE = 10


@dataclass
class Fault:
    """Something that goes wrong with the next ``times`` requests that match, after ``after`` that go well.

    ``cut`` closes the connection before the request is served, ``half`` in the middle of its body, ``lose``
    after it (the answer is lost). ``hold`` sets ``reached`` and answers nothing until the client is gone: a test
    kills it meanwhile. ``meanwhile`` calls a function first, and then answers as ever.
    """

    method: str
    """The method, or how its name begins; "*": any."""
    path: str
    """A regular expression, searched for in the path."""
    kind: Literal["status", "cut", "half", "lose", "hold", "meanwhile"] = "status"
    status: int = 503
    headers: Mapping[str, str] = field(default_factory=dict)
    times: int = 1
    after: int = 0
    reached: threading.Event = field(default_factory=threading.Event)
    meanwhile: Callable[[], object] = list


@dataclass
class Blob:
    content: bytes
    lfs: bool

    @property
    def sha256(self) -> str:
        return hashlib.sha256(self.content).hexdigest()

    @property
    def pointer(self) -> bytes:
        oid, size = self.sha256, len(self.content)
        return f"version https://git-lfs.github.com/spec/v1\noid sha256:{oid}\nsize {size}\n".encode()

    @property
    def oid(self) -> str:
        """The git object id: of the LFS pointer, where the content is not in git."""
        content = self.pointer if self.lfs else self.content
        return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()

    def entry(self, path: str) -> dict[str, Any]:
        entry: dict[str, Any] = {"type": "file", "path": path, "size": len(self.content), "oid": self.oid}
        if self.lfs:
            entry["lfs"] = {"oid": self.sha256, "size": len(self.content), "pointerSize": len(self.pointer)}
        return entry


@dataclass
class Repository:
    private: bool
    commits: dict[str, dict[str, Blob]] = field(default_factory=dict)
    messages: list[str] = field(default_factory=list)
    branches: dict[str, str] = field(default_factory=dict)
    tags: dict[str, str] = field(default_factory=dict)
    requests: list[PullRequest] = field(default_factory=list)
    """Pull requests; the head of each is ``branches["refs/pr/N"]``."""

    @property
    def visible(self) -> list[str]:
        """Branches that people look at: neither those of pull requests nor those that a push uploads to."""
        return [name for name in self.branches if not name.startswith(("refs/pr/", "incoming-"))]

    def commit(self, branch: str, files: dict[str, Blob], message: str) -> str:
        listing = json.dumps([len(self.commits), message, sorted((name, blob.oid) for name, blob in files.items())])
        oid = hashlib.sha1(listing.encode()).hexdigest()
        self.commits[oid] = files
        self.messages.append(message)
        self.branches[branch] = oid
        return oid

    def resolve(self, revision: str) -> str | None:
        return (
            self.branches.get(revision) or self.tags.get(revision) or (revision if revision in self.commits else None)
        )


@dataclass
class PullRequest:
    num: int
    title: str
    base: str
    """The commit of main that it was opened upon."""
    status: str = "draft"
    merged: str | None = None


class HttpError(Exception):
    def __init__(self, status: int, message: str, code: str | None = None) -> None:
        super().__init__(message)
        self.status, self.message, self.code = status, message, code


@dataclass
class Answer:
    content: bytes = b""
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)


def _json(value: Any, status: int = 200) -> Answer:
    return Answer(json.dumps(value).encode(), status, {"Content-Type": "application/json"})


class Hub:
    """The state of the stand-in, and what it answers."""

    def __init__(self) -> None:
        self.url = ""
        self.lock = threading.RLock()
        self.repositories: dict[str, Repository] = {}
        self.objects: dict[str, bytes] = {}
        self.faults: list[Fault] = []
        self.requests: list[tuple[str, str]] = []
        name = r"(?P<repo>[\w.-]+/[\w.-]+)"
        routes: list[tuple[str, str, Callable[..., Answer]]] = [
            ("GET", r"/api/whoami-v2", self.whoami),
            ("POST", r"/api/validate-yaml", self.validate),
            ("POST", r"/api/repos/create", self.create),
            ("POST", rf"/api/models/{name}/preupload/(?P<revision>[^/]+)", self.preupload),
            ("POST", rf"/api/models/{name}/commit/(?P<revision>[^/]+)", self.commit),
            ("POST", rf"/api/models/{name}/branch/(?P<branch>[^/]+)", self.branch),
            ("DELETE", rf"/api/models/{name}/branch/(?P<branch>[^/]+)", self.delete_branch),
            ("DELETE", rf"/api/models/{name}/tag/(?P<tag>[^/]+)", self.delete_tag),
            ("GET", rf"/api/models/{name}/discussions", self.discussions),
            ("POST", rf"/api/models/{name}/discussions", self.open_request),
            ("GET", rf"/api/models/{name}/discussions/(?P<num>\d+)", self.discussion),
            ("POST", rf"/api/models/{name}/discussions/(?P<num>\d+)/status", self.change_status),
            ("POST", rf"/api/models/{name}/discussions/(?P<num>\d+)/merge", self.merge_request),
            ("POST", rf"/api/models/{name}/tag/(?P<revision>[^/]+)", self.tag),
            ("GET", rf"/api/models/{name}/refs", self.refs),
            ("GET", rf"/api/models/{name}/tree/(?P<revision>[^/]+)", self.tree),
            ("GET", rf"/api/models/{name}(/revision/(?P<revision>[^/]+))?", self.info),
            ("POST", rf"/{name}\.git/info/lfs/objects/batch", self.batch),
            ("PUT", r"/lfs/(?P<oid>[0-9a-f]{64})", self.put),
            ("POST", r"/lfs-verify", self.verify),
            ("HEAD", rf"/{name}/resolve/(?P<revision>[^/]+)/(?P<path>.+)", self.resolve),
            ("GET", rf"/{name}/resolve/(?P<revision>[^/]+)/(?P<path>.+)", self.resolve),
        ]
        self.routes = [(method, re.compile(path), call) for method, path, call in routes]

    def environment(self, home: Path) -> dict[str, str]:
        """What points a process at it, with its token and a cache of its own."""
        return {
            "HF_ENDPOINT": self.url,
            "HF_HUB_DISABLE_XET": "1",
            "HF_HUB_OFFLINE": "0",
            "HF_HOME": str(home),
            "HF_TOKEN": TOKEN,
        }

    def fault_for(self, method: str, path: str) -> Fault | None:
        with self.lock:
            self.requests.append((method, path))
            for fault in self.faults:
                fits = fault.method == "*" or method.startswith(fault.method)
                if fault.times > 0 and fits and re.search(fault.path, path):
                    if fault.after > 0:
                        fault.after -= 1
                        continue
                    fault.times -= 1
                    return fault
        return None

    def answer(self, method: str, path: str, query: str, headers: Mapping[str, str], body: bytes) -> Answer:
        for wanted, pattern, call in self.routes:
            match = pattern.fullmatch(path)
            if wanted == method and match:
                arguments = {name: unquote(value) for name, value in match.groupdict().items() if value}
                if not path.startswith("/lfs/"):  # signed addresses carry no token
                    self.authorize(method, arguments.get("repo"), headers)
                with self.lock:
                    return call(body=body, query=parse_qs(query), headers=headers, **arguments)
        raise HttpError(404, f"no route {method} {path}")

    def authorize(self, method: str, repo: str | None, headers: Mapping[str, str]) -> None:
        if headers.get("Authorization") == f"Bearer {TOKEN}":
            return
        known = self.repositories.get(repo or "")
        if headers.get("Authorization") or method in ("POST", "DELETE") or known is None or known.private:
            raise HttpError(401, "Invalid username or password.")

    def repository(self, repo: str) -> Repository:
        if repo not in self.repositories:
            raise HttpError(404, "Repository not found", "RepoNotFound")
        return self.repositories[repo]

    def files(self, repo: str, revision: str) -> tuple[str, dict[str, Blob]]:
        oid = self.repository(repo).resolve(revision)
        if oid is None:
            raise HttpError(404, f"Invalid rev id: {revision}", "RevisionNotFound")
        return oid, self.repositories[repo].commits[oid]

    def whoami(self, **_: Any) -> Answer:
        return _json({"type": "user", "name": "user", "orgs": [], "auth": {"type": "access_token"}})

    def validate(self, *, body: bytes, **_: Any) -> Answer:
        import yaml

        match = re.match(r"---\n(.*?)\n---\n", json.loads(body)["content"], re.DOTALL)
        try:
            data = yaml.safe_load(match[1]) if match else None
        except yaml.YAMLError as error:
            return _json({"errors": [{"message": str(error)}], "warnings": []}, 400)
        warnings = [] if isinstance(data, dict) else [{"message": "empty or missing yaml metadata"}]
        return _json({"errors": [], "warnings": warnings})

    def create(self, *, body: bytes, **_: Any) -> Answer:
        asked = json.loads(body)
        repo = f"{asked.get('organization') or 'user'}/{asked['name']}"
        if repo in self.repositories:
            return _json({"error": "You already created this model repo", "url": f"{self.url}/{repo}"}, 409)
        private = asked.get("visibility") == "private" or bool(asked.get("private"))
        self.repositories[repo] = Repository(private=private)
        attributes = Blob(b"*.safetensors filter=lfs diff=lfs merge=lfs -text\n", lfs=False)
        self.repositories[repo].commit("main", {".gitattributes": attributes}, "initial commit")
        return _json({"url": f"{self.url}/{repo}", "name": repo})

    def preupload(self, *, repo: str, revision: str, body: bytes, **_: Any) -> Answer:
        _oid, files = self.files(repo, revision)
        answers, request = [], json.loads(body)
        hosted = files[".gitignore"].content.decode() if ".gitignore" in files else ""
        ignored = request.get("gitIgnore", hosted).splitlines()
        for asked in request["files"]:
            sample = base64.b64decode(asked["sample"])
            lfs = asked["path"].endswith(".safetensors") or asked["size"] > _REGULAR_LIMIT or b"\0" in sample
            known = files.get(asked["path"])
            oid = None if known is None else known.sha256 if known.lfs else known.oid
            mode = "lfs" if lfs else "regular"
            should_ignore = any(fnmatch(asked["path"], pattern) for pattern in ignored)
            answers.append({"path": asked["path"], "uploadMode": mode, "shouldIgnore": should_ignore, "oid": oid})
        return _json({"files": answers})

    def batch(self, *, body: bytes, **_: Any) -> Answer:
        objects = []
        for asked in json.loads(body)["objects"]:
            answer = {"oid": asked["oid"], "size": asked["size"]}
            if asked["oid"] not in self.objects:
                upload = {"href": f"{self.url}/lfs/{asked['oid']}", "header": {}}
                verify = {"href": f"{self.url}/lfs-verify", "header": {}}
                answer["actions"] = {"upload": upload, "verify": verify}
            objects.append(answer)
        return _json({"transfer": "basic", "objects": objects})

    def put(self, *, oid: str, body: bytes, **_: Any) -> Answer:
        if hashlib.sha256(body).hexdigest() != oid:
            raise HttpError(400, "the content has another sha256")
        self.objects[oid] = body
        return Answer()

    def verify(self, *, body: bytes, **_: Any) -> Answer:
        asked = json.loads(body)
        if len(self.objects.get(asked["oid"], b"")) != asked["size"]:
            raise HttpError(404, "object not found")
        return _json({})

    def commit(self, *, repo: str, revision: str, body: bytes, **_: Any) -> Answer:
        repository = self.repository(repo)
        if revision not in repository.branches:
            raise HttpError(404, f"Invalid rev id: {revision}", "RevisionNotFound")
        files = dict(repository.commits[repository.branches[revision]])
        message = ""
        for line in body.decode().splitlines():
            item = json.loads(line)
            key, value = item["key"], item["value"]
            if key == "header":
                message = value["summary"]
                if value.get("parentCommit", repository.branches[revision]) != repository.branches[revision]:
                    raise HttpError(412, "A commit has happened since. Please refresh and try again.")
            elif key == "file":
                files[value["path"]] = Blob(base64.b64decode(value["content"]), lfs=False)
            elif key == "lfsFile":
                if value["oid"] not in self.objects:
                    raise HttpError(400, f"LFS pointer points to no object: {value['path']}")
                files[value["path"]] = Blob(self.objects[value["oid"]], lfs=True)
            elif key == "deletedFile":
                if files.pop(value["path"], None) is None:
                    raise HttpError(404, "A file with this name doesn't exist", "EntryNotFound")
            else:
                raise HttpError(400, f"unknown operation {key}")
        oid = repository.commit(revision, files, message)
        return _json({"commitUrl": f"{self.url}/{repo}/commit/{oid}", "commitOid": oid, "pullRequestUrl": None})

    def branch(self, *, repo: str, branch: str, body: bytes, **_: Any) -> Answer:
        repository = self.repository(repo)
        if branch in repository.branches:
            return _json({"error": "Reference already exists"}, 409)
        start = json.loads(body or b"{}").get("startingPoint", "main")
        repository.branches[branch] = self.files(repo, start)[0]
        return _json({})

    def delete_branch(self, *, repo: str, branch: str, **_: Any) -> Answer:
        if branch == "main":
            raise HttpError(403, "main cannot be deleted")
        if self.repository(repo).branches.pop(branch, None) is None:
            raise HttpError(404, f"Invalid rev id: {branch}", "RevisionNotFound")
        return _json({})

    def delete_tag(self, *, repo: str, tag: str, **_: Any) -> Answer:
        if self.repository(repo).tags.pop(tag, None) is None:
            raise HttpError(404, f"Invalid rev id: {tag}", "RevisionNotFound")
        return _json({})

    def _shown(self, repo: str, request: PullRequest) -> dict[str, Any]:
        return {
            "num": request.num,
            "title": request.title,
            "author": {"name": "user"},
            "createdAt": "2026-01-01T00:00:00.000Z",
            "status": request.status,
            "repo": {"name": repo, "type": "model"},
            "isPullRequest": True,
            "changes": {"base": "refs/heads/main", "mergeCommitId": request.merged},
            "filesWithConflicts": [],
            "events": [],
        }

    def discussions(self, *, repo: str, query: Mapping[str, list[str]], **_: Any) -> Answer:
        """Two a page."""
        found, start = self.repository(repo).requests, 2 * int(query.get("p", ["0"])[0])
        shown = [self._shown(repo, request) for request in found[start : start + 2]]
        return _json({"discussions": shown, "count": len(found), "start": start})

    def open_request(self, *, repo: str, body: bytes, **_: Any) -> Answer:
        repository, asked = self.repository(repo), json.loads(body)
        if not asked["pullRequest"]:
            raise HttpError(400, "the stand-in has pull requests only")
        request = PullRequest(len(repository.requests) + 1, asked["title"], repository.branches["main"])
        repository.requests.append(request)
        repository.branches[f"refs/pr/{request.num}"] = request.base
        return _json({"num": request.num, "pullRequest": True})

    def request(self, repo: str, num: str) -> PullRequest:
        requests = self.repository(repo).requests
        if int(num) > len(requests):
            raise HttpError(404, "Discussion not found")
        return requests[int(num) - 1]

    def discussion(self, *, repo: str, num: str, **_: Any) -> Answer:
        return _json(self._shown(repo, self.request(repo, num)))

    def change_status(self, *, repo: str, num: str, body: bytes, **_: Any) -> Answer:
        request = self.request(repo, num)
        request.status = json.loads(body)["status"]
        event = {"id": f"{int(num):015x}", "type": "status-change", "createdAt": "2026-01-01T00:00:00.000Z"}
        return _json({"newStatus": {**event, "author": {"name": "user"}, "data": {"status": request.status}}})

    def merge_request(self, *, repo: str, num: str, **_: Any) -> Answer:
        """What the request changed, on top of main as it is now."""
        repository, request = self.repository(repo), self.request(repo, num)
        if request.status != "open":
            raise HttpError(403, f"This pull request is {request.status}")
        before = repository.commits[request.base]
        after = repository.commits[repository.branches[f"refs/pr/{num}"]]
        files = dict(repository.commits[repository.branches["main"]])
        files |= {path: blob for path, blob in after.items() if before.get(path) != blob}
        for path in before.keys() - after.keys():
            files.pop(path, None)
        request.merged = repository.commit("main", files, f"{request.title} (#{num})")
        request.status = "merged"
        return _json({})

    def tag(self, *, repo: str, revision: str, body: bytes, **_: Any) -> Answer:
        repository, tag = self.repository(repo), json.loads(body)["tag"]
        if tag in repository.tags:
            return _json({"error": "Tag already exists"}, 409)
        repository.tags[tag] = self.files(repo, revision)[0]
        return _json({})

    def refs(self, *, repo: str, query: Mapping[str, list[str]], **_: Any) -> Answer:
        repository = self.repository(repo)
        branches = [
            {"name": name, "ref": f"refs/heads/{name}", "targetCommit": oid}
            for name, oid in repository.branches.items()
            if not name.startswith("refs/")
        ]
        tags = [
            {"name": name, "ref": f"refs/tags/{name}", "targetCommit": oid} for name, oid in repository.tags.items()
        ]
        answer = {"branches": branches, "tags": tags, "converts": []}
        if "include_prs" in query:
            answer["pullRequests"] = [
                {"name": name, "ref": name, "targetCommit": oid}
                for name, oid in repository.branches.items()
                if name.startswith("refs/pr/")
            ]
        return _json(answer)

    def tree(self, *, repo: str, revision: str, query: Mapping[str, list[str]], **_: Any) -> Answer:
        """Ten entries a page, the next one in a Link header."""
        _oid, files = self.files(repo, revision)
        folders = sorted({name.rpartition("/")[0] for name in files if "/" in name})
        entries = [
            {"type": "directory", "path": name, "oid": hashlib.sha1(name.encode()).hexdigest()} for name in folders
        ]
        entries += [blob.entry(name) for name, blob in sorted(files.items())]
        start = int(query.get("cursor", ["0"])[0])
        answer = _json(entries[start : start + _PAGE])
        if start + _PAGE < len(entries):
            place = f"{self.url}/api/models/{repo}/tree/{quote(revision, safe='')}"
            answer.headers["Link"] = f'<{place}?recursive=true&cursor={start + _PAGE}>; rel="next"'
        return answer

    def info(self, *, repo: str, revision: str = "main", **_: Any) -> Answer:
        oid, files = self.files(repo, revision)
        siblings = [{"rfilename": name} for name in sorted(files)]
        private = self.repositories[repo].private
        return _json({"id": repo, "modelId": repo, "sha": oid, "private": private, "tags": [], "siblings": siblings})

    def resolve(self, *, repo: str, revision: str, path: str, headers: Mapping[str, str], **_: Any) -> Answer:
        oid, files = self.files(repo, revision)
        if path not in files:
            raise HttpError(404, "Entry not found", "EntryNotFound")
        blob = files[path]
        told = {"X-Repo-Commit": oid, "ETag": f'"{blob.oid}"', "Content-Type": "application/octet-stream"}
        if blob.lfs:
            told |= {"X-Linked-Etag": f'"{blob.sha256}"', "X-Linked-Size": str(len(blob.content))}
        if match := re.fullmatch(r"bytes=(\d+)-", headers.get("Range") or ""):  # a download that goes on
            start, end = int(match[1]), len(blob.content)
            told["Content-Range"] = f"bytes {start}-{end - 1}/{end}"
            return Answer(blob.content[start:], 206, told)
        return Answer(blob.content, 200, told)


def _handler(hub: Hub) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, format: str, *args: Any) -> None:
            pass

        def _body(self) -> bytes:
            if self.headers.get("Transfer-Encoding", "").lower() == "chunked":
                content = b""
                while size := int(self.rfile.readline().split(b";")[0], 16):
                    content += self.rfile.read(size)
                    self.rfile.readline()
                self.rfile.readline()
                return content
            return self.rfile.read(int(self.headers.get("Content-Length") or 0))

        def _cut(self) -> None:
            """Reset the connection, as a broken network does."""
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self.connection.close()
            self.close_connection = True

        def _serve(self) -> None:
            address = urlsplit(self.path)
            fault = hub.fault_for(self.command, address.path)
            if fault is not None and fault.kind == "cut":
                self._cut()
                return
            if fault is not None and fault.kind == "half":
                self.rfile.read(int(self.headers.get("Content-Length") or 0) // 2)
                self._cut()
                return
            body = self._body()
            if fault is not None and fault.kind == "hold":
                fault.reached.set()
                self.rfile.read(1)  # returns when the client is gone
                self.close_connection = True
                return
            if fault is not None and fault.kind == "meanwhile":
                with hub.lock:
                    fault.meanwhile()
            if fault is not None and fault.kind == "status":
                answer = _json({"error": "injected"}, fault.status)
                answer.headers |= fault.headers
            else:
                try:
                    answer = hub.answer(self.command, address.path, address.query, self.headers, body)
                except HttpError as error:
                    answer = _json({"error": error.message}, error.status)
                    if error.code:
                        answer.headers |= {"X-Error-Code": error.code, "X-Error-Message": error.message}
            if fault is not None and fault.kind == "lose":
                self._cut()
                return
            self.send_response(answer.status)
            for name, value in answer.headers.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(answer.content)))
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(answer.content)

        do_GET = do_HEAD = do_POST = do_PUT = do_DELETE = _serve

    return Handler


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A cut connection is what some tests ask for."""


@contextmanager
def serve() -> Iterator[Hub]:
    """A stand-in on a free local port."""
    hub = Hub()
    server = _Server(("127.0.0.1", 0), _handler(hub))
    hub.url = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
