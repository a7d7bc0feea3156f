"""Another package takes over while requests are answered: none is lost, and what is not proved does not take over."""

from __future__ import annotations

import asyncio
import json
import logging
import shutil
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from hf_trainpipe.package.layout import RECORDED
from hf_trainpipe.serve import engine
from hf_trainpipe.serve.app import make_app, make_served
from hf_trainpipe.serve.following import Follow, Following
from hf_trainpipe.serve.settings import Settings
from tests.package.conftest import TEXTS, write_package

LOG = logging.getLogger("tests.serve.following")


class Place:
    """Where an alias would be: the tests say who holds it."""

    def __init__(self, package: Path) -> None:
        self.held = (1, package)
        self.away = False

    def turn(self) -> int:
        if self.away:
            raise ConnectionError("no route to the store")
        return self.held[0]


async def ask(app: Any, path: str, body: Any = None) -> tuple[int, Any]:
    """One request, as a server passes it on."""
    sent: list[Any] = []
    content = b"" if body is None else json.dumps(body).encode()
    headers = [(b"host", b"localhost"), (b"content-type", b"application/json")]
    scope = {
        "type": "http", "method": "GET" if body is None else "POST", "path": path, "raw_path": path.encode(),
        "headers": headers, "query_string": b"", "http_version": "1.1", "scheme": "http", "client": ("127.0.0.1", 1),
        "server": ("127.0.0.1", 2), "root_path": "",
    }  # fmt: skip
    gone = asyncio.Event()

    async def receive() -> Any:
        if not sent and not gone.is_set():
            gone.set()
            return {"type": "http.request", "body": content, "more_body": False}
        return await asyncio.Future()  # the client stays

    async def send(message: Any) -> None:
        sent.append(message)

    await app(scope, receive, send)
    return sent[0]["status"], json.loads(b"".join(part.get("body", b"") for part in sent[1:]))


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    folder = tmp_path_factory.mktemp("following")
    strange = "ends of lines \u2028 to some \u2029 and not to \x85 others"
    return [write_package(folder / str(seed), seed=seed, inputs=[*TEXTS, strange]) for seed in (0, 1)]


def scenario(place: Place, act: Any) -> None:
    """A server without a socket, which follows ``place``."""

    async def live() -> None:
        settings = Settings()
        app, switch = make_app(engine.load(place.held[1]), settings, batch_tokens=64)
        switch.current.record = 1
        switch.batcher.start()
        make = partial(make_served, settings=settings, batch_tokens=64, signs=switch.current.signs)
        follow = Follow(name="aliases/x", turn=place.turn, current=lambda: place.held)
        following = Following(
            follow, switch, load=engine.load, make=lambda loaded, record: make(loaded, record=record), logger=LOG
        )
        try:
            await act(app, switch, following)
        finally:
            await asyncio.to_thread(switch.batcher.close)

    asyncio.run(live())


def test_no_request_is_lost_and_each_is_answered_by_one_package(runs: list[Path]) -> None:
    texts = ["ada lovelace lived in london", "nobody answers the phone"]
    expected = {
        record: engine.load(run).predictor.predict(texts, top_k=1)[0][0]["score"] for record, run in enumerate(runs, 1)
    }
    assert abs(expected[1] - expected[2]) > 1e-3
    place = Place(runs[0])

    async def act(app: Any, switch: Any, following: Following) -> None:
        seen: list[int] = []
        ending = asyncio.Event()

        async def client() -> None:
            while not ending.is_set():
                status, answers = await ask(app, "/predict", {"inputs": texts, "parameters": {"top_k": 1}})
                assert status == 200
                score = answers[0][0]["score"]
                seen.append(next(record for record, one in expected.items() if abs(one - score) < 1e-4))

        clients = [asyncio.create_task(client()) for _ in range(4)]
        first = switch.current
        for record, run in ((2, runs[1]), (3, runs[0])):
            done = len(seen)
            while len(seen) < done + 10:
                await asyncio.sleep(0.001)
            place.held = (record, run)
            await following.once()
            assert (await ask(app, "/info"))[1]["record"] == record
        ending.set()
        await asyncio.gather(*clients)
        await asyncio.gather(*following._draining)
        assert set(seen) == {1, 2}
        last = (await ask(app, "/predict", {"inputs": texts, "parameters": {"top_k": 1}}))[1][0][0]["score"]
        assert abs(last - expected[1]) < 1e-4, "record 3 is the first package again"
        assert not first.batcher.is_alive, "the one before has ended its thread"
        metrics = switch.current.signs.metrics.text().decode()
        assert 'trainpipe_swaps_total{outcome="taken"} 2.0' in metrics
        assert "trainpipe_alias_record 3.0" in metrics

    scenario(place, act)


def test_what_is_not_proved_does_not_take_over(
    runs: list[Path], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    changed, other = tmp_path / "changed", tmp_path / "other"
    for copy in (changed, other):
        shutil.copytree(runs[1].parent, copy)
    weights = changed / "package" / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-4] + b"\0\0\0\1")
    shutil.copy(runs[0].parent / RECORDED, other / RECORDED)
    place = Place(runs[0])

    async def act(app: Any, switch: Any, following: Following) -> None:
        for record, folder in ((2, changed), (3, other)):
            place.held = (record, folder / "package")
            await following.once()
            await following.once()
            assert (await ask(app, "/info"))[1]["record"] == 1
        place.away = True
        await following.once()
        await following.once()
        place.away, place.held = False, (4, runs[1])
        await following.once()
        assert (await ask(app, "/info"))[1]["record"] == 4
        assert 'trainpipe_swaps_total{outcome="refused"} 2.0' in switch.current.signs.metrics.text().decode()

    with caplog.at_level(logging.INFO, logger=LOG.name):
        scenario(place, act)
    said = [record.getMessage() for record in caplog.records]
    assert len(said) == 4 or len(said) == 5, said  # each refusal once, the store that is away once, and the swap
    assert "is not as it was written: model.safetensors has sha256" in said[0]
    assert said[0].endswith("Record 1 goes on answering.")
    assert "does not reproduce its recorded predictions" in said[1]
    assert "aliases/x cannot be looked at: ConnectionError: no route to the store" in said[2]
