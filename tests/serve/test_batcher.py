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
