"""How requests come together in batches."""

from __future__ import annotations

import asyncio
import dataclasses
import time
from typing import TYPE_CHECKING, Any

from hf_trainpipe.serve.batcher import Batcher
from hf_trainpipe.serve.engine import load
from hf_trainpipe.serve.metrics import Metrics
from hf_trainpipe.serve.settings import Limits

if TYPE_CHECKING:
    from pathlib import Path

CLIENTS = 4
BATCH_S = 0.4


class Slow:
    """A predictor whose batches take a time that is known, and are counted."""

    def __init__(self, predictor: Any) -> None:
        self._predictor = predictor
        self.sizes: list[int] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(self._predictor, name)

    def run(self, pieces: Any) -> None:
        self.sizes.append(len(pieces))
        time.sleep(BATCH_S)
        self._predictor.run(pieces)


def test_a_batch_waits_a_moment_for_the_clients_that_were_just_answered(package: Path) -> None:
    """They ask again one after the other, well within a twentieth of the batch's time."""
    engine = load(package)
    slow = Slow(engine.predictor)
    batcher = Batcher(dataclasses.replace(engine, predictor=slow), limits=Limits(), batch_tokens=512, metrics=Metrics())

    async def client(number: int) -> None:
        for _ in range(4):
            await asyncio.sleep(0.003 * number)
            assert len(await batcher.ask(["one text"], {})) == 1

    async def clients() -> None:
        await asyncio.gather(*map(client, range(CLIENTS)))

    batcher.start()
    try:
        asyncio.run(clients())
    finally:
        batcher.close()
    assert sum(slow.sizes) == 4 * CLIENTS
    assert len(slow.sizes) <= 6, f"one alone, then all together: {slow.sizes}"


class Spoilt:
    """A predictor that fails for a batch with a certain text in it, as some models do."""

    def __init__(self, predictor: Any) -> None:
        self._predictor = predictor

    def __getattr__(self, name: str) -> Any:
        return getattr(self._predictor, name)

    def encode(self, jobs: Any, **bounds: Any) -> Any:
        if any("odd words" in example.values["text"] for job in jobs for example in job.examples):
            raise KeyError("odd words")
        return self._predictor.encode(jobs, **bounds)

    def run(self, pieces: Any) -> None:
        if any("odd text" in job.examples[0].values["text"] for job, _ in pieces):
            raise ValueError("odd text")
        self._predictor.run(pieces)


def test_a_request_that_cannot_be_computed_fails_alone(package: Path) -> None:
    engine = load(package)
    spoilt = dataclasses.replace(engine, predictor=Spoilt(engine.predictor))
    batcher = Batcher(spoilt, limits=Limits(), batch_tokens=512, metrics=Metrics())
    texts = ["one", "odd words", "two", "odd text", "three"]

    async def clients() -> list[Any]:
        asking = [asyncio.ensure_future(batcher.ask([text], {})) for text in texts]
        await asyncio.sleep(0)
        batcher.start()  # all of them are there by now
        return await asyncio.gather(*asking, return_exceptions=True)

    try:
        found = asyncio.run(clients())
    finally:
        batcher.close()
    assert [getattr(answer, "status", 200) for answer in found] == [200, 500, 200, 500, 200]
    assert batcher.admission.waiting == 0
