"""Routes, answers and errors of a real server process."""

from __future__ import annotations

import concurrent.futures
import json
import re
import shutil
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import jsonschema
import pytest

from hf_trainpipe.package.layout import RECORDED
from hf_trainpipe.runtime.handler.predictor import Predictor
from tests.serve.conftest import ROOT, Running, start

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

CANARY = "zanzibar canary"


@pytest.fixture(scope="module")
def server(package: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    log = tmp_path_factory.mktemp("log") / "server.log"
    with start(package, log, "--access-log") as running:
        yield running
    assert CANARY.split()[0] not in log.read_text(), "no text reaches the log"


@pytest.fixture(scope="module")
def tags(tagger: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    with start(tagger, tmp_path_factory.mktemp("log") / "tags.log", "--batch-tokens", "48") as running:
        yield running


@pytest.fixture(scope="module")
def offline(package: Path) -> Predictor:
    return Predictor.load(package)


def near(found: Any, expected: Any) -> bool:
    if isinstance(expected, list):
        return len(found) == len(expected) and all(near(a, b) for a, b in zip(found, expected, strict=True))
    if isinstance(expected, dict):
        return set(found) == set(expected) and all(near(found[key], value) for key, value in expected.items())
    return abs(found - expected) < 1e-5 if isinstance(expected, float) else bool(found == expected)


@pytest.mark.parametrize("path", ["/", "/predict"])
def test_one_input_and_a_list(server: Running, offline: Predictor, path: str) -> None:
    one = server.post(path, {"inputs": "the parcel arrived"})
    assert near(one.json, offline.predict(["the parcel arrived"])[0])
    several = server.post(path, {"inputs": ["ada", {"text": "she wrote"}], "parameters": {"top_k": 1}})
    assert near(several.json, offline.predict(["ada", "she wrote"], top_k=1))
    assert server.post(path, {"inputs": [], "parameters": None}).json == []


def test_answers_do_not_depend_on_who_else_asks(server: Running, offline: Predictor) -> None:
    requests = [
        [f"ada {'lovelace lived in london ' * (number % 7)}{number}" for number in range(first, first + 1 + first % 5)]
        for first in range(60)
    ]
    before = server.metric("trainpipe_batch_features_count")
    with concurrent.futures.ThreadPoolExecutor(16) as pool:
        found = list(pool.map(server.predict, requests))
    for inputs, answers in zip(requests, found, strict=True):
        assert near(answers, offline.predict(inputs))
    assert server.metric("trainpipe_batch_features_count") - before < sum(map(len, requests)), "none was shared"


def test_tags_with_offsets(tags: Running, tagger: Path) -> None:
    offline = Predictor.load(tagger)
    inputs = ["Ada Lovelace lived in London. " * 9, {"words": ["She", "wrote"]}, "ada"]
    assert near(tags.predict(inputs), offline.predict(inputs))
    each = tags.predict(inputs, aggregation="none")
    assert near(each, offline.predict(inputs, aggregation="none"))
    assert all(inputs[0][item["start"] : item["end"]] == item["text"] for item in each[0])  # type: ignore[index]


@pytest.mark.parametrize(
    ("body", "status", "message"),
    [
        (b"{", 400, "expected JSON in UTF-8"),
        (b'{"inputs": "\xff"}', 400, "expected JSON in UTF-8"),
        (b"[" * 30_000, 400, "expected JSON in UTF-8"),
        (b'{"inputs": NaN}', 400, "expected JSON in UTF-8"),
        (b"", 400, "expected JSON in UTF-8"),
        (b'{"inputs": "\\ud800"}', 400, "expected JSON in UTF-8"),
        ([1], 422, "expected an object with 'inputs', found list"),
        ({"text": "a"}, 422, r"found the keys \['text'\]"),
        ({"inputs": "a", "options": {}}, 422, "found 'options'"),
        ({"inputs": "a", "parameters": [1]}, 422, "parameters: expected an object"),
        ({"inputs": "a", "parameters": {"topk": 1}}, 422, "expected top_k, found 'topk'"),
        ({"inputs": "a", "parameters": {"inputs": 1}}, 422, "expected top_k, found 'inputs'"),
        ({"inputs": "a", "parameters": {"top_k": 0}}, 422, "top_k: expected a whole number of 1 or more"),
        ({"inputs": 3}, 422, r"inputs\[0\]: expected a text.*found int 3"),
    ],
)
def test_bad_requests(server: Running, body: Any, status: int, message: str) -> None:
    response = server.post("/predict", body)
    assert response.status == status
    assert re.search(message, response.json["error"])
    assert response.json["fix"]
    assert response.json["request_id"] == response.headers["x-request-id"]


def test_errors_name_the_input_but_logs_hold_no_text(server: Running) -> None:
    response = server.post("/predict", {"inputs": [CANARY, {CANARY: CANARY}, ""], "parameters": {}})
    assert response.status == 422
    assert response.json["position"] == 1
    server.get(f"/{CANARY.split()[0]}?text={CANARY.split()[0]}")
    server.post("/predict", {"inputs": CANARY})


def test_request_ids(server: Running) -> None:
    assert server.get("/health", headers={"X-Request-ID": "abc-1.2_3"}).headers["x-request-id"] == "abc-1.2_3"
    made = [server.get("/health", headers={"X-Request-ID": bad}).headers["x-request-id"] for bad in ("a b", "x" * 200)]
    assert len(set(made)) == 2
    assert all(re.fullmatch(r"[0-9a-f]{32}", value) for value in made)


def test_signs_and_unknown_paths(server: Running) -> None:
    assert server.get("/health").json == {"status": "ok"}
    assert server.get("/ready").json == {"status": "ready"}
    assert server.get("/v2/health/live").status == server.get("/v2/health/ready").status == 200
    assert server.get("/predict").status == 405
    assert server.get("/docs").status == server.get("/nowhere").status == 404
    assert "path" in server.get("/nowhere").json["error"]
    assert server.get("/info").json["labels"] == ["calm", "angry", "sad"]
    for name in ("/demo", "/predict", "/nowhere"):
        headers = server.get(name).headers
        assert headers["x-content-type-options"] == "nosniff"
        assert "access-control-allow-origin" not in headers


def test_metrics(server: Running) -> None:
    server.predict("ada")
    text = server.get("/metrics").body.decode()
    assert 'trainpipe_requests_total{route="/predict",status="200"}' in text
    for name in ("trainpipe_request_seconds_bucket", "trainpipe_tokens_total", "process_resident_memory_bytes"):
        assert name in text
    assert server.metric("trainpipe_waiting_inputs") == 0


def test_only_json_as_it_is(server: Running) -> None:
    for headers in ({"Content-Type": "text/plain"}, {"Content-Encoding": "gzip"}, {"Content-Encoding": "identity, br"}):
        response = server.post("/predict", {"inputs": "a"}, headers=headers)
        assert response.status == 415, headers
    for charset in ("application/json; charset=utf-8", "Application/JSON"):
        assert server.post("/predict", {"inputs": "a"}, headers={"Content-Type": charset}).status == 200


def test_a_name_that_a_stranger_made_point_here_is_refused(server: Running) -> None:
    for host in ("evil.example", "evil.example:80", "127.0.0.1.evil.example", ""):
        assert server.get("/info", headers={"Host": host}).status in (400, 421), host
    for host in ("localhost", "localhost:1", "[::1]:80", "127.0.0.1"):
        assert server.get("/info", headers={"Host": host}).status == 200, host


def test_a_server_in_16_bits_answers_near_and_refuses_what_does_not_agree(
    package: Path, offline: Predictor, tmp_path: Path
) -> None:
    texts = ["ada lovelace lived in london", "nobody answers the phone"]
    with start(package, tmp_path / "log", "--precision", "bf16") as running:
        assert (running.get("/info").json["precision"], running.get("/info").json["device"]) == (
            "bf16",
            str(offline.device),
        )
        for found, expected in zip(running.predict(texts), offline.predict(texts), strict=True):
            scores = [{one["label"]: one["score"] for one in answer} for answer in (found, expected)]
            assert scores[0] == pytest.approx(scores[1], abs=0.02)
            assert scores[0] != pytest.approx(scores[1], abs=1e-7)
    copy = tmp_path / "run"
    shutil.copytree(package.parent, copy)
    wrong = [{"input": texts[0], "output": row} for row in ([9.0, 0.0, 0.0], [0.0, 9.0, 0.0])]
    (copy / RECORDED).write_text("".join(json.dumps(line) + "\n" for line in wrong))
    command = [sys.executable, "-m", "hf_trainpipe", "serve", str(copy), "--port", "0", "--precision", "bf16"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, timeout=240, check=False)
    assert done.returncode == 6
    assert "does not agree with its 2 recorded predictions" in done.stderr
    assert "Traceback" not in done.stderr


def test_v2(server: Running, offline: Predictor) -> None:
    name = server.get("/info").json["name"]
    assert server.get("/v2").json["name"] == "hf-trainpipe"
    model = server.get(f"/v2/models/{name}").json
    assert [tensor["name"] for tensor in model["outputs"]] == ["answers", "label", "score"]
    assert server.get(f"/v2/models/{name}/ready").json == {"name": name, "ready": True}
    assert server.get("/v2/models/other").status == server.get("/v2/models/other/ready").status == 404
    texts = ["ada", "the parcel arrived"]
    tensor = {"name": "text", "shape": [2], "datatype": "BYTES", "data": texts}
    found = server.post(f"/v2/models/{name}/infer", {"id": "7", "inputs": [tensor]}).json
    assert (found["model_name"], found["id"]) == (name, "7")
    expected = offline.predict(texts)
    columns = {tensor["name"]: tensor for tensor in found["outputs"]}
    assert all(near(json.loads(a), b) for a, b in zip(columns["answers"]["data"], expected, strict=True))
    assert columns["label"] == {
        "name": "label",
        "datatype": "BYTES",
        "shape": [2],
        "data": [answer[0]["label"] for answer in expected],
    }
    assert near(columns["score"]["data"], [answer[0]["score"] for answer in expected])
    asked = {"inputs": [tensor], "outputs": [{"name": "score"}], "parameters": {"top_k": 1}}
    only = server.post(f"/v2/models/{name}/infer", asked)
    assert [tensor["name"] for tensor in only.json["outputs"]] == ["score"]


@pytest.mark.parametrize(
    "change",
    [
        {"inputs": []},
        {"inputs": [{"name": "other", "shape": [1], "datatype": "BYTES", "data": ["a"]}]},
        {"inputs": [{"name": "text", "shape": [2], "datatype": "BYTES", "data": ["a"]}]},
        {"inputs": [{"name": "text", "shape": [1], "datatype": "FP32", "data": [1.0]}]},
        {"inputs": [{"name": "text", "shape": [1], "datatype": "BYTES", "data": [1]}]},
        {"outputs": [{"name": "logits"}]},
        {"outputs": "score"},
        {"parameters": [1]},
        {"id": 7},
        {"other": 1},
    ],
)
def test_v2_bad_requests(server: Running, change: dict[str, Any]) -> None:
    name = server.get("/info").json["name"]
    tensor = {"name": "text", "shape": [1], "datatype": "BYTES", "data": ["a"]}
    response = server.post(f"/v2/models/{name}/infer", {"inputs": [tensor], **change})
    assert response.status == 422, response.body
    assert response.json["error"]


@pytest.mark.parametrize("which", ["server", "tags"])
def test_openapi_examples_work(which: str, request: pytest.FixtureRequest) -> None:
    """Each example of a request fits its schema, is answered, and the answer fits its schema."""
    running: Running = request.getfixturevalue(which)
    document = running.get("/openapi.json").json
    assert document["openapi"].startswith("3.1")
    assert {"/", "/predict", "/health", "/ready", "/metrics", "/info", "/demo", "/v2"} < set(document["paths"])
    for path in ("/", "/predict", "/v2/models/{name}/infer"):
        operation = document["paths"][path]["post"]
        content = operation["requestBody"]["content"]["application/json"]
        answer = operation["responses"]["200"]["content"]["application/json"]
        examples = [case["value"] for case in content.get("examples", {}).values()] or [content["example"]]
        for example in examples:
            jsonschema.Draft202012Validator(content["schema"]).validate(example)
            response = running.post(path.replace("{name}", document["info"]["title"]), example)
            assert response.status == 200, response.body
            jsonschema.Draft202012Validator(answer["schema"]).validate(response.json)
        if "example" in answer:
            jsonschema.Draft202012Validator(answer["schema"]).validate(answer["example"])
        wrong = running.post(path.replace("{name}", document["info"]["title"]), {})
        refused = operation["responses"]["422"]["content"]["application/json"]["schema"]
        jsonschema.Draft202012Validator(refused).validate(wrong.json)


def test_others_notice_no_abuse(server: Running) -> None:
    """One attack of every kind, from a process of its own; no time is asserted."""
    script = ROOT / "scripts" / "bench" / "abuse.py"
    options = [f"--port={server.port}", "--requests=38", "--hold=0.5", "--health-ms=1e9", "--memory-mb=1e9"]
    done = subprocess.run([sys.executable, script, *options], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "of which failed: 0" in done.stdout
