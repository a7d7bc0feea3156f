"""A stand-in for a Neptune server: what the unmodified client needs to create and continue a run.

The client reads two Swagger specifications and finds its calls by ``operationId``, so the paths here
are our own. Operations are kept in memory. As with the real service, a series takes only points whose
steps grow; others are refused, and listed in ``refused``.
"""

from __future__ import annotations

import base64
import json
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlparse

PROJECT = "team/project"


def _object(**properties: Any) -> dict[str, Any]:
    return {"type": "object", "properties": properties}


def _ref(name: str) -> dict[str, Any]:
    return {"$ref": f"#/definitions/{name}"}


def _list(item: dict[str, Any]) -> dict[str, Any]:
    return {"type": "array", "items": item}


TEXT, WHOLE, NUMBER, TRUTH = {"type": "string"}, {"type": "integer"}, {"type": "number"}, {"type": "boolean"}

DEFINITIONS = {
    "Versions": _object(minRecommendedVersion=TEXT, minCompatibleVersion=TEXT, maxCompatibleVersion=TEXT),
    "ClientConfig": _object(apiUrl=TEXT, applicationUrl=TEXT, pyLibVersions=_ref("Versions")),
    "Tokens": _object(accessToken=TEXT, refreshToken=TEXT, username=TEXT),
    "Project": _object(id=TEXT, name=TEXT, organizationName=TEXT, projectKey=TEXT, version=WHOLE),
    "Projects": _object(entries=_list(_ref("Project"))),
    "Organization": _object(id=TEXT, name=TEXT),
    "Experiment": _object(id=TEXT, type=TEXT, shortId=TEXT, organizationName=TEXT, projectName=TEXT, trashed=TRUTH),
    "Error": _object(errorDescription=TEXT),
    "Attribute": _object(name=TEXT, type=TEXT),
    "Attributes": _object(attributes=_list(_ref("Attribute"))),
    "FloatPoint": _object(timestampMillis=WHOLE, step=NUMBER, value=NUMBER),
    "FloatPoints": _object(totalItemCount=WHOLE, values=_list(_ref("FloatPoint"))),
}

# operationId: (method, {query or header parameter: type}, name of the body, definition of the answer)
BACKEND = {
    "getClientConfig": ("get", {"alpha": TEXT, "X-Neptune-Api-Token": TEXT}, None, _ref("ClientConfig")),
    "exchangeApiToken": ("get", {"X-Neptune-Api-Token": TEXT}, None, _ref("Tokens")),
    "getProject": ("get", {"projectIdentifier": TEXT}, None, _ref("Project")),
    "listProjects": ("get", {}, None, _ref("Projects")),
    "listOrganizations": ("get", {}, None, _list(_ref("Organization"))),
}
LEADERBOARD = {
    "createExperiment": (
        "post",
        {"X-Neptune-CliVersion": TEXT},
        "experimentCreationParams",
        _ref("Experiment"),
    ),
    "getExperiment": ("get", {"experimentId": TEXT}, None, _ref("Experiment")),
    "ping": ("post", {"experimentId": TEXT}, None, None),
    "executeOperations": ("post", {"experimentId": TEXT}, "operations", _list(_ref("Error"))),
    "getExperimentAttributes": ("get", {"experimentId": TEXT}, None, _ref("Attributes")),
    "getFloatSeriesValues": (
        "get",
        {"experimentId": TEXT, "attribute": TEXT, "limit": WHOLE, "offset": WHOLE},
        None,
        _ref("FloatPoints"),
    ),
    "fileAtomUpload": ("post", {}, None, None),
    "fileAtomMultipartUploadStart": ("post", {}, None, None),
    "fileAtomMultipartUploadFinish": ("post", {}, None, None),
    "fileAtomMultipartUploadPart": ("post", {}, None, None),
}
TYPES = {
    "assignFloat": "float",
    "assignInt": "int",
    "assignBool": "bool",
    "assignString": "string",
    "insertStrings": "stringSet",
    "logFloats": "floatSeries",
}


def _swagger(host: str, service: str, operations: dict[str, Any]) -> dict[str, Any]:
    paths: dict[str, Any] = {}
    for name, (method, parameters, body, answer) in operations.items():
        listed = [
            {"name": key, "in": "header" if key.startswith("X-") else "query", "required": False, **kind}
            for key, kind in parameters.items()
        ]
        if body is not None:
            schema = {"type": "array", "items": {"type": "object"}} if body == "operations" else {"type": "object"}
            listed.append({"name": body, "in": "body", "required": True, "schema": schema})
        response = {"description": "done", **({"schema": answer} if answer else {})}
        paths[f"/api/{service}/{name}"] = {
            method: {
                "operationId": name,
                "tags": ["api"],
                "parameters": listed,
                "responses": {"200": response, "404": {"description": "not found"}},
            }
        }
    return {
        "swagger": "2.0",
        "info": {"title": service, "version": "1"},
        "host": host,
        "basePath": "/",
        "schemes": ["http"],
        "consumes": ["application/json"],
        "produces": ["application/json"],
        "paths": paths,
        "definitions": DEFINITIONS,
    }


class Run:
    """What the server holds of one run."""

    def __init__(self, number: int, custom_id: str | None) -> None:
        self.id = f"00000000-0000-4000-8000-{number:012d}"
        self.short_id = f"PRO-{number}"
        self.custom_id = custom_id
        self.values: dict[str, Any] = {}
        self.types: dict[str, str] = {}
        self.series: dict[str, list[tuple[int, float]]] = {}
        self.times: dict[str, list[int]] = {}
        self.files: dict[str, bytes] = {}


class NeptuneServer:
    """Use as a context manager. ``stop`` and ``start`` switch it off and on; the port and the runs stay."""

    def __init__(self) -> None:
        self.runs: list[Run] = []
        self.refused: list[str] = []
        self.creations = 0
        self.lose_answers = 0
        """How many executed operations lose their answer on the way back."""
        self._lock = threading.Lock()
        self._port = 0
        self._server: ThreadingHTTPServer | None = None

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self._port}"

    @property
    def token(self) -> str:
        """An API token that leads the client here."""
        content = {"api_address": self.address, "api_url": self.address, "api_key": "a-secret-of-the-test"}
        return base64.b64encode(json.dumps(content).encode()).decode()

    def start(self) -> None:
        self._server = ThreadingHTTPServer(("127.0.0.1", self._port), _handler(self))
        self._server.daemon_threads = True
        self._port = self._server.server_address[1]
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()

    def stop(self) -> None:
        server, self._server = self._server, None
        if server is not None:
            server.shutdown()
            server.server_close()

    def __enter__(self) -> NeptuneServer:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def metrics(self) -> dict[str, list[tuple[int, float]]]:
        """The series of the only run, without their prefix."""
        (run,) = self.runs
        return {name.removeprefix("metrics/"): list(points) for name, points in run.series.items()}

    def answer(self, name: str, query: dict[str, str], body: bytes) -> tuple[int, Any]:
        with self._lock:
            return getattr(self, f"_{name}")(query, body)

    def _find(self, query: dict[str, str]) -> Run:
        return next(run for run in self.runs if run.id == query["experimentId"])

    def _getClientConfig(self, query: dict[str, str], body: bytes) -> tuple[int, Any]:
        return 200, {"apiUrl": self.address, "applicationUrl": self.address, "pyLibVersions": {}}

    def _exchangeApiToken(self, query: dict[str, str], body: bytes) -> tuple[int, Any]:
        return 200, {"accessToken": self._jwt(), "refreshToken": self._jwt(), "username": "tester"}

    def _jwt(self) -> str:
        """An unsigned JSON Web Token (RFC 7519)."""
        claims = {"exp": int(time.time()) + 3600, "azp": "client", "iss": f"{self.address}/realm"}
        parts = [
            base64.urlsafe_b64encode(json.dumps(part).encode()).rstrip(b"=").decode()
            for part in ({"alg": "HS256", "typ": "JWT"}, claims)
        ]
        return ".".join([*parts, "c2lnbmF0dXJl"])

    def _token(self, query: dict[str, str], body: bytes) -> tuple[int, Any]:
        return 200, {
            "access_token": self._jwt(),
            "refresh_token": self._jwt(),
            "expires_in": 3600,
            "token_type": "bearer",
        }

    def _getProject(self, query: dict[str, str], body: bytes) -> tuple[int, Any]:
        if query.get("projectIdentifier") != PROJECT:
            return 404, {}
        organization, name = PROJECT.split("/")
        return 200, {
            "id": "project-id",
            "name": name,
            "organizationName": organization,
            "projectKey": "PRO",
            "version": 2,
        }

    def _listProjects(self, query: dict[str, str], body: bytes) -> tuple[int, Any]:
        return 200, {"entries": [self._getProject({"projectIdentifier": PROJECT}, b"")[1]]}

    def _listOrganizations(self, query: dict[str, str], body: bytes) -> tuple[int, Any]:
        return 200, [{"id": "organization-id", "name": PROJECT.split("/")[0]}]

    def _experiment(self, run: Run) -> dict[str, Any]:
        organization, name = PROJECT.split("/")
        return {
            "id": run.id,
            "type": "run",
            "shortId": run.short_id,
            "organizationName": organization,
            "projectName": name,
            "trashed": False,
        }

    def _createExperiment(self, query: dict[str, str], body: bytes) -> tuple[int, Any]:
        self.creations += 1
        custom_id = json.loads(body).get("customId")
        for run in self.runs:
            if custom_id is not None and run.custom_id == custom_id:
                return 200, self._experiment(run)
        self.runs.append(Run(len(self.runs) + 1, custom_id))
        return 200, self._experiment(self.runs[-1])

    def _getExperiment(self, query: dict[str, str], body: bytes) -> tuple[int, Any]:
        return 200, self._experiment(self._find(query))

    def _ping(self, query: dict[str, str], body: bytes) -> tuple[int, Any]:
        return 200, {}

    def _executeOperations(self, query: dict[str, str], body: bytes) -> tuple[int, Any]:
        run = self._find(query)
        errors = []
        for operation in json.loads(body):
            path = operation.pop("path")
            ((kind, content),) = operation.items()
            run.types[path] = TYPES[kind]
            if kind == "logFloats":
                points = run.series.setdefault(path, [])
                for entry in content["entries"]:
                    step = int(entry["step"])
                    if points and step <= points[-1][0]:
                        self.refused.append(f"{path} at {step}")
                        errors.append({"errorDescription": f"{path}: step {step} is not after {points[-1][0]}"})
                    else:
                        points.append((step, entry["value"]))
                        run.times.setdefault(path, []).append(entry["timestampMilliseconds"])
            else:
                run.values[path] = content.get("value", content.get("values"))
        if self.lose_answers and any(path.startswith("metrics/") for path in run.series):
            self.lose_answers -= 1
            return 0, None
        return 200, errors

    def _getExperimentAttributes(self, query: dict[str, str], body: bytes) -> tuple[int, Any]:
        run = self._find(query)
        return 200, {"attributes": [{"name": name, "type": kind} for name, kind in run.types.items()]}

    def _getFloatSeriesValues(self, query: dict[str, str], body: bytes) -> tuple[int, Any]:
        run, path = self._find(query), query["attribute"]
        offset, limit = int(query["offset"]), int(query["limit"])
        rows = [
            {"timestampMillis": moment, "step": float(step), "value": value}
            for (step, value), moment in zip(run.series[path], run.times[path], strict=True)
        ]
        return 200, {"totalItemCount": len(rows), "values": rows[offset : offset + limit]}

    def _fileAtomUpload(self, query: dict[str, str], body: bytes) -> tuple[int, Any]:
        run = next(run for run in self.runs if run.id == query["experimentIdentifier"])
        run.files[query["attribute"]] = body
        run.types[query["attribute"]] = "file"
        return 200, {"errors": []}


def _handler(owner: NeptuneServer) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def _serve(self) -> None:
            url = urlparse(self.path)
            query = {name: values[0] for name, values in parse_qs(url.query).items()}
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            host = owner.address.removeprefix("http://")
            if owner._server is None:  # switched off while a connection was open
                self.close_connection = True
                return
            if url.path == "/api/backend/swagger.json":
                self._send(200, _swagger(host, "backend", BACKEND))
            elif url.path == "/api/leaderboard/swagger.json":
                self._send(200, _swagger(host, "leaderboard", LEADERBOARD))
            else:
                name = url.path.rsplit("/", 1)[-1]
                known = name in BACKEND or name in LEADERBOARD or name == "token"
                status, content = owner.answer(name, query, body) if known else (404, {})
                if status:
                    self._send(status, content)
                else:
                    self.close_connection = True

        def _send(self, status: int, content: Any) -> None:
            data = json.dumps(content).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        do_GET = do_POST = _serve

        def log_message(self, format: str, *args: object) -> None:
            pass

    return Handler
