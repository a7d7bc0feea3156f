"""Neptune, with the real client: offline files, and a stand-in for its server."""

from __future__ import annotations

import base64
import json
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from hf_trainpipe.errors import RecipeError
from hf_trainpipe.tracking.follower import Follower
from hf_trainpipe.tracking.ledger import read
from hf_trainpipe.tracking.neptune import Neptune
from hf_trainpipe.tracking.neptune_files import import_runs

from .conftest import finished, until
from .neptune_server import PROJECT, NeptuneServer

if TYPE_CHECKING:
    from collections.abc import Iterator

    from .conftest import Place

RECIPE = {
    "name": "sst2",
    "optim": {"peak_lr": 5e-5, "max_grad_norm": None},
    "task": {"names": ["negative", "positive"]},
    "trackers": [{"kind": "Neptune"}],
}
SLACK_SECONDS = 10.0


def log(place: Place, steps: range, *, attempt: int = 1, truncate_to: int | None = None) -> int:
    with place.ledger(attempt, truncate_to) as ledger:
        for step in steps:
            ledger.log({"train/loss": 1 / (step + 1), "train/lr": step / 3}, step=step, epoch=step / 9)
            if step % 5 == 4:
                ledger.log({"validation/accuracy": step / 100}, step=step, epoch=step / 9)
        return ledger.offset


def sync(place: Place) -> dict[str, Any]:
    """``sync`` in a process of its own, as the command line runs it."""
    code = "import json, sys; from hf_trainpipe.tracking.follower import sync; print(json.dumps(sync(sys.argv[1])))"
    done = subprocess.run(
        [sys.executable, "-c", code, str(place.run)], capture_output=True, text=True, check=True, timeout=120
    )
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def offline_runs(place: Place) -> list[list[dict[str, Any]]]:
    """The operations of each offline run: JSON objects, one after the other."""
    found = []
    for path in sorted(place.run.glob(".neptune/offline/run__*/data-1.log")):
        text, decoder, operations, position = path.read_text(), json.JSONDecoder(), [], 0
        while position < len(text):
            row, position = decoder.raw_decode(text, position)
            operations.append(row["obj"])
            while position < len(text) and text[position].isspace():
                position += 1
        found.append(operations)
    return found


def offline_points(operations: list[dict[str, Any]]) -> dict[str, list[tuple[int, float]]]:
    found: dict[str, list[tuple[int, float]]] = {}
    for row in operations:
        if row["type"] == "LogFloats":
            assert row["path"][0] == "metrics"
            points = found.setdefault("/".join(row["path"][1:]), [])
            points += [(value["step"], value["value"]) for value in row["values"]]
    return found


def held(place: Place) -> dict[str, list[tuple[int, float]]]:
    """What a destination is to hold: the ledger's finite points, and the attempt of each step."""
    attempts = {point.step: float(point.attempt) for point in read(place.run / "ledger.jsonl")}
    return place.points() | {"attempt": sorted(attempts.items())}


@pytest.fixture
def server(place: Place, monkeypatch: pytest.MonkeyPatch) -> Iterator[NeptuneServer]:
    with NeptuneServer() as found:
        monkeypatch.setenv("NEPTUNE_API_TOKEN", found.token)
        monkeypatch.setenv("NEPTUNE_PROJECT", PROJECT)
        monkeypatch.setenv("NEPTUNE_RETRIES_TIMEOUT", "1")
        monkeypatch.setenv("OAUTHLIB_INSECURE_TRANSPORT", "1")  # the stand-in speaks http
        yield found


def no_secrets(place: Place, server: NeptuneServer) -> bool:
    secrets = (server.token.encode(), base64.b64decode(server.token), b"a-secret-of-the-test")
    contents = [path.read_bytes() for path in place.run.rglob("*") if path.is_file()]
    return not any(secret in content for content in contents for secret in secrets)


def test_offline_first_then_a_server(place: Place, request: pytest.FixtureRequest) -> None:
    running = Follower(place.info(**RECIPE), [Neptune(tags=("a",))], poll_s=0.05)
    log(place, range(25))
    with place.ledger() as ledger:
        ledger.log({"train/grad_norm": float("inf")}, step=25, epoch=2.0)
        ledger.log({"train/grad_norm": 1.5}, step=26, epoch=2.0)
    (message,) = finished(running)
    assert "offline" in message
    assert "hosted service ended" in message

    steps = [step for step, _ in held(place)["attempt"] if step != 25]
    expected = held(place) | {"train/grad_norm": [(26, 1.5)], "attempt": [(step, 1.0) for step in steps]}
    assert sync(place)["trackers"][0]["num_sent"] == 0  # another process, and another folder of the client
    operations, again = sorted(offline_runs(place), key=len, reverse=True)
    assert (offline_points(operations), offline_points(again)) == (expected, {})
    values = {"/".join(row["path"]): row["value"] for row in operations if row["type"].startswith("Assign")}
    assert values["recipe/optim/peak_lr"] == 5e-5
    assert values["recipe/optim/max_grad_norm"] == "None"
    assert values["recipe/task/names"] == '["negative", "positive"]'
    assert values["recipe/trackers/0/kind"] == "Neptune"
    assert values["sys/name"] == "sst2"

    (made,) = import_runs(place.run, place.root / "old")["runs"]  # what was written is enough for the run's ledger
    imported = {(point.name, point.step): point for point in read(Path(made["run"]) / "ledger.jsonl")}
    logged = {(point.name, point.step): point for point in read(place.run / "ledger.jsonl") if point.step != 25}
    assert imported.keys() == logged.keys()
    assert all(abs(point.time - logged[key].time) < 0.01 for key, point in imported.items())
    assert json.loads((Path(made["run"]) / "run.json").read_text())["recipe"]["optim/peak_lr"] == 5e-5

    server: NeptuneServer = request.getfixturevalue("server")  # now there is a token
    report = sync(place)
    assert report["complete"]
    assert report["trackers"][0]["destination"] == f"{server.address}/{PROJECT}"
    assert server.metrics() == expected
    assert server.refused == []
    assert server.runs[0].custom_id == place.info().uid
    assert server.runs[0].values["recipe/optim/peak_lr"] == 5e-5


@pytest.mark.nightly
def test_a_server_that_goes_away_and_a_run_that_is_resumed(place: Place, server: NeptuneServer) -> None:
    tracker = Neptune()
    place.is_resumable(checkpoint=9)
    running = Follower(place.info(**RECIPE), [tracker], poll_s=0.05, linger_s=2.0)
    offset = log(place, range(10))
    until(lambda: bool(server.runs) and server.metrics() == held(place))
    assert running.messages() == []

    server.stop()
    log(place, range(10, 20))
    found: list[str] = []
    until(lambda: bool(found.extend(running.messages()) or found))
    assert "The run goes on" in found[0]
    start = time.monotonic()
    assert running.finish(0.5) is False
    assert time.monotonic() - start < 0.5 + SLACK_SECONDS
    server.start()
    report = sync(place)  # after the process has ended by itself
    assert report["complete"]
    found_there = server.metrics()
    assert found_there.pop("attempt") == [(step, 1.0) for step in range(10)]  # the others may come again, in attempt 2
    assert found_there == place.points()

    (place.run / "report.html").write_text("<p>done</p>")
    running = Follower(place.info(attempt=2, **RECIPE), [tracker], poll_s=0.05)
    log(place, range(10, 30), attempt=2, truncate_to=offset)
    (place.run / "result.json").write_text('{"steps": 30}')
    running.artifact(place.run / "report.html")
    assert finished(running) == []
    assert server.metrics() == held(place)
    assert server.refused == []
    (run,) = server.runs
    assert run.files == {"artifacts/report.html": b"<p>done</p>"}
    assert server.creations >= 3
    assert no_secrets(place, server)


def test_an_answer_that_is_lost_repeats_no_point(place: Place, server: NeptuneServer) -> None:
    server.lose_answers = 2
    running = Follower(place.info(), [Neptune()], poll_s=0.05)
    log(place, range(12))
    messages = finished(running)
    assert "connected again" in messages[-1]
    assert server.metrics() == held(place)


def test_what_a_recipe_may_not_say() -> None:
    with pytest.raises(RecipeError, match=r"Neptune.mode: expected one of auto, .*found 'sync'"):
        Neptune(mode="sync")  # type: ignore[arg-type]
    with pytest.raises(RecipeError, match=r"Neptune.tags: expected a tuple"):
        Neptune(tags="a")  # type: ignore[arg-type]


def test_auto_follows_the_environment(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    assert Neptune()._mode() == "offline"
    monkeypatch.setenv("NEPTUNE_API_TOKEN", "token")
    assert Neptune()._mode() == "async"
    assert Neptune(mode="offline")._mode() == "offline"
    monkeypatch.setenv("NEPTUNE_MODE", "debug")
    assert Neptune()._mode() == "debug"
