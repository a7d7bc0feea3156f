"""A real server process on a tiny package, asked over loopback."""

from __future__ import annotations

import http.client
import json
import os
import re
import signal
import subprocess
import sys
import time
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from hf_trainpipe.serve.settings import TOKEN_VARIABLE
from tests.package.conftest import write_package

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

ROOT = Path(__file__).parents[2]
JSON = {"Content-Type": "application/json"}


@dataclass
class Response:
    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


@dataclass
class Running:
    """A server that takes requests."""

    process: subprocess.Popen[str]
    port: int
    log: Path

    def ask(
        self, method: str, path: str, body: Any = None, *, headers: Mapping[str, str] | None = None, timeout: float = 60
    ) -> Response:
        """One request on a connection of its own. A body that is not bytes is sent as JSON."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=timeout)
        try:
            content = body if body is None or isinstance(body, bytes) else json.dumps(body).encode()
            kind = JSON if body is not None else {}
            connection.request(method, path, content, {**kind, **(headers or {})})
            response = connection.getresponse()
            return Response(response.status, {k.lower(): v for k, v in response.getheaders()}, response.read())
        finally:
            connection.close()

    def get(self, path: str, **options: Any) -> Response:
        return self.ask("GET", path, **options)

    def post(self, path: str, body: Any, **options: Any) -> Response:
        return self.ask("POST", path, body, **options)

    def predict(self, inputs: Any, **parameters: Any) -> Any:
        response = self.post("/predict", {"inputs": inputs, "parameters": parameters})
        assert response.status == 200, response.body
        return response.json

    def metric(self, name: str) -> float:
        text = self.get("/metrics").body.decode()
        return sum(float(line.rpartition(" ")[2]) for line in text.splitlines() if re.match(name + r"[ {]", line))


@contextmanager
def start(package: Path, log: Path, *options: str, **environment: str) -> Iterator[Running]:
    """Run ``hf-trainpipe serve``; at the end SIGTERM must end it with 0, unless the test ended it itself."""
    command = [sys.executable, "-m", "hf_trainpipe", "serve", str(package), "--port", "0", *options]
    inherited = {name: value for name, value in os.environ.items() if name != TOKEN_VARIABLE}
    settings = {"OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1", "PYTHONWARNINGS": "error::ResourceWarning"}
    with log.open("w") as stream:
        process = subprocess.Popen(
            command, cwd=ROOT, env={**inherited, **settings, **environment}, stderr=stream, text=True
        )
    try:
        yield Running(process, _port(process, log), log)
        if process.poll() is None:
            process.send_signal(signal.SIGTERM)
            assert process.wait(60) == 0, log.read_text()
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()


def _port(process: subprocess.Popen[str], log: Path) -> int:
    until = time.monotonic() + 240
    while time.monotonic() < until and process.poll() is None:
        if found := re.search(r"^serving .*:(\d+), demo", log.read_text(), flags=re.MULTILINE):
            return int(found[1])
        time.sleep(0.05)
    raise AssertionError(f"no server: exit {process.poll()}\n{log.read_text()}")


@pytest.fixture(scope="session")
def package(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_package(tmp_path_factory.mktemp("serve") / "tiny")


@pytest.fixture(scope="session")
def tagger(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_package(tmp_path_factory.mktemp("serve") / "tagger", kind="tags")
