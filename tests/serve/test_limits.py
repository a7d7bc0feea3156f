"""What the server refuses, and that it stays well meanwhile."""

from __future__ import annotations

import concurrent.futures
import json
import socket
import subprocess
import sys
import threading
import time
from typing import TYPE_CHECKING, Any

import pytest

from hf_trainpipe.errors import TrainpipeError
from hf_trainpipe.serve.settings import TOKEN_VARIABLE, Limits, Settings
from tests.serve.conftest import ROOT, Running, start

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

TOKEN = "a-token-for-this-test-0123456789"
HARD = "a " * 60_000
"""Many windows of the tiny model: more than a second of work."""
LIMITS = {
    "--max-body": 400_000,
    "--max-inputs": 8,
    "--max-characters": 200_000,
    "--max-tokens": 100_000,
    "--queue": 8,
    "--deadline": 0.5,
    "--batch-tokens": 128,
}


@pytest.fixture(scope="module")
def server(package: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    options = [str(part) for pair in LIMITS.items() for part in pair]
    with start(package, tmp_path_factory.mktemp("log") / "limits.log", *options) as running:
        yield running


def exchange(running: Running, *parts: bytes, pause: float = 0.0) -> bytes:
    """Send parts on a bare connection and read until the server closes it."""
    with socket.create_connection(("127.0.0.1", running.port), timeout=60) as connection:
        try:
            for part in parts:
                connection.sendall(part)
                time.sleep(pause)
        except (BrokenPipeError, ConnectionResetError):
            pass  # the server may close before everything is sent
        received = b""
        try:
            while chunk := connection.recv(65536):
                received += chunk
        except ConnectionResetError:
            pass
        return received


def head(running: Running, *lines: str) -> bytes:
    fixed = ["POST /predict HTTP/1.1", f"Host: 127.0.0.1:{running.port}", "Content-Type: application/json"]
    return ("\r\n".join([*fixed, *lines]) + "\r\n\r\n").encode()


def test_a_declared_body_is_refused_before_it_is_sent(server: Running) -> None:
    answer = exchange(server, head(server, "Content-Length: 100000000"))
    assert answer.startswith(b"HTTP/1.1 413")
    assert b"at most 400000 bytes" in answer
    assert b"connection: close" in answer.lower()
    assert exchange(server, head(server, "Content-Length: " + "9" * 30)).startswith(b"HTTP/1.1 4")


def test_an_undeclared_body_is_counted_while_it_streams(server: Running) -> None:
    before = server.metric("process_resident_memory_bytes")
    chunk = b"10000\r\n" + b" " * 0x10000 + b"\r\n"
    answer = exchange(server, head(server, "Transfer-Encoding: chunked"), *[chunk] * 1600)  # 100 MB
    assert answer == b"" or answer.startswith(b"HTTP/1.1 413")
    assert server.metric('trainpipe_refused_total{reason="body"}') >= 1
    assert server.metric("process_resident_memory_bytes") - before < 50e6
    assert server.predict("ada")


GET = b"GET /health HTTP/1.1\r\nHost: 127.0.0.1\r\n"
BLOCK = b"a" * 65536
CHUNKED = "Transfer-Encoding: chunked"


@pytest.mark.parametrize(
    ("parts", "status"),
    [
        ([GET + b"a: b\r\n" * 101 + b"\r\n"], b"431"),
        ([GET + b"a: ", *[BLOCK] * 100], b"431"),
        ([b"GET /", *[BLOCK] * 100], b"431"),
        ([b"\r\n" * 40_000], b"431"),
        ([b"\0" * 1000], b"400"),
        ([GET + b"\r\n", GET.replace(b" /", b" /\0")], b"200"),
        ([GET + b"Content-Length: 9\r\n\r\n"], b"200"),
        ([b"chunked", b"2\r\n{}\r\n0\r\n", b"a: b\r\n" * 200], b""),
        ([b"chunked", b"2\r\n{}\r\n0\r\na: ", *[BLOCK] * 100], b""),
        ([b"chunked", b"2;", *[BLOCK] * 100], b""),
        ([b"chunked", b"1\r\n1\r\n" * 5000], b""),
        ([(GET + b"\r\n") * 5000], b"200"),
    ],
)
def test_what_has_no_end_is_ended(server: Running, parts: list[bytes], status: bytes) -> None:
    """The connection is closed without waiting for a timeout: :func:`exchange` reads to the end."""
    if parts[0] == b"chunked":
        parts = [head(server, CHUNKED), *parts[1:]]
    before = server.metric("process_resident_memory_bytes")
    begin = time.monotonic()
    answer = exchange(server, *parts)
    assert time.monotonic() - begin < Limits().body_s, "it was closed for its time alone"
    assert answer[9:12] == status or answer == b""
    assert server.metric("process_resident_memory_bytes") - before < 20e6
    assert server.predict("ada")


def test_a_json_bomb_is_refused_by_its_number_of_values(server: Running) -> None:
    for body in (b'{"inputs": [' + b"[]," * 120_000 + b"[]]}", b'{"inputs": [' + b'"",' * 120_000 + b'""]}'):
        response = server.post("/predict", body)
        assert response.status == 413
        assert "values" in response.json["error"]
    text = server.post("/predict", {"inputs": '[",' * 40_000})
    assert "tokens" in text.json["error"], "brackets in a text are text"


@pytest.mark.parametrize(
    ("inputs", "message"),
    [
        (["ada"] * 9, "expected at most 8, found 9"),
        (["a" * 100_001] * 2, "expected at most 200000 characters, found 200002"),
        (["a." * 60_000], "expected at most 100000 tokens, found"),
    ],
)
def test_too_much_is_413(server: Running, inputs: list[str], message: str) -> None:
    response = server.post("/predict", {"inputs": inputs})
    assert response.status == 413
    assert message in response.json["error"]
    assert server.predict("ada")


def test_a_deadline_is_503_and_the_work_is_given_up(server: Running) -> None:
    response = server.post("/predict", {"inputs": HARD})
    assert response.status == 503
    assert response.headers["retry-after"] == "1"
    assert server.predict("ada"), "what nobody waits for is not computed first"
    assert server.metric("trainpipe_waiting_inputs") == 0


def test_a_full_lane_is_429_and_small_requests_have_their_own(server: Running) -> None:
    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        long = pool.submit(server.post, "/predict", {"inputs": [HARD] + ["ada"] * 7})
        small, large = [], []
        while not long.done():
            assert server.get("/health").status == 200
            small.append(server.post("/predict", {"inputs": "ada"}).status)
            large.append(server.post("/predict", {"inputs": ["ada"] * 8}))
    assert set(small) == {200}
    refused = [answer for answer in large if answer.status == 429]
    assert refused, [answer.status for answer in large]
    assert {answer.status for answer in large} <= {200, 429}
    assert refused[0].json["error"] == "8 inputs are queued already, of 8 at most."
    assert refused[0].headers["retry-after"] == "1"


def test_abuse_leaves_the_server_well(server: Running) -> None:
    """Slow clients, malformed bodies, huge lists, connections that are dropped; others are answered meanwhile."""
    stop = threading.Event()
    statuses: list[int] = []

    def slow() -> None:
        with socket.create_connection(("127.0.0.1", server.port), timeout=60) as connection:
            for byte in head(server, "Content-Length: 100"):
                if stop.is_set():
                    return
                connection.sendall(bytes([byte]))
                time.sleep(0.05)

    def rude() -> None:
        many = json.dumps({"inputs": ["a"] * 10_000}).encode()
        while not stop.is_set():
            statuses.append(server.post("/predict", b'{"inputs": [').status)
            statuses.append(server.post("/predict", many).status)
            with socket.create_connection(("127.0.0.1", server.port)) as connection:
                connection.sendall(head(server, "Content-Length: 100") + b"{")

    threads = [threading.Thread(target=target) for target in [slow] * 20 + [rude] * 2]
    for thread in threads:
        thread.start()
    healthy = [server.get("/health").status for _ in range(30)]
    answers = [server.post("/predict", {"inputs": "ada"}).status for _ in range(30)]
    stop.set()
    for thread in threads:
        thread.join()
    assert set(healthy) == {200}
    assert set(answers) == {200}
    assert set(statuses) == {400, 413}
    assert server.metric('trainpipe_refused_total{reason="internal"}') == 0


def test_a_token_guards_everything_but_signs_of_life(package: Path, tmp_path: Path) -> None:
    with start(package, tmp_path / "log", "--host", "0.0.0.0", **{TOKEN_VARIABLE: TOKEN}) as server:
        for path in ("/info", "/metrics", "/openapi.json", "/v2", "/nowhere"):
            assert server.get(path).status == 401, path
        for path in ("/health", "/ready", "/v2/health/live", "/v2/health/ready", "/demo"):
            assert server.get(path, headers={"Host": "model.example"}).status == 200, path
        for given in ("", TOKEN, f"Basic {TOKEN}", f"Bearer {TOKEN}x", f"Bearer {TOKEN[:-1]}", "Bearer \xe9"):
            refused = server.post("/predict", {"inputs": "ada"}, headers={"Authorization": given})
            assert refused.status == 401, given
            assert refused.headers["www-authenticate"] == "Bearer"
        for scheme in ("Bearer", "bearer"):
            given = {"Authorization": f"{scheme} {TOKEN}", "Host": "model.example"}
            assert server.post("/predict", {"inputs": "ada"}, headers=given).status == 200
    assert TOKEN not in (tmp_path / "log").read_text()


def test_wrong_settings_are_refused() -> None:
    with pytest.raises(TrainpipeError, match=r"0\.0\.0\.0 can be reached by others, and there is no token") as caught:
        Settings(host="0.0.0.0")
    assert TOKEN_VARIABLE in caught.value.fix
    assert TOKEN not in repr(Settings(token=TOKEN))
    wrong: list[tuple[type, dict[str, Any], str]] = [
        (Settings, {"token": "short"}, "expected 16 ASCII characters"),
        (Settings, {"port": 70_000}, "port: expected 0 to 65535, found 70000"),
        (Settings, {"batch_tokens": 0}, "batch_tokens: expected 1 or more, found 0"),
        (Settings, {"drain_s": -1.0}, "expected 0 or more seconds"),
        (Limits, {"queue": 0}, "queue: expected more than 0, found 0"),
    ]
    for kind, choice, message in wrong:
        with pytest.raises(TrainpipeError, match=message):
            kind(**choice)
    assert Settings(host="::1").port == 8000


def test_wrong_command_lines_are_one_screen(package: Path, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        cases = [
            ([str(package), "--port", port], f"127.0.0.1:{port} cannot be listened on"),
            ([str(package), "--host", "0.0.0.0"], "can be reached by others"),
            ([str(tmp_path)], "is not a package"),
            ([str(package), "--queue", "0"], "queue: expected more than 0"),
        ]
        for arguments, message in cases:
            command = [sys.executable, "-m", "hf_trainpipe", "serve", *arguments]
            done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=120)
            assert done.returncode == 2, done.stderr
            assert done.stderr.startswith("error: ")
            assert message in done.stderr
            assert "Traceback" not in done.stderr
