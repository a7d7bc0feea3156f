"""Which package answers now: another one takes over between two requests, and the one before ends those that it has.

All of it happens on the event loop, so a request belongs to exactly one package from its first byte to its last: its routes, its
description, its model's thread.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Receive, Scope, Send

    from hf_trainpipe.serve.batcher import Batcher
    from hf_trainpipe.serve.engine import Engine
    from hf_trainpipe.serve.metrics import Metrics


@dataclass
class Signs:
    """What all packages of a server share."""

    metrics: Metrics
    is_draining: bool = False
    """After SIGTERM: not ready; connections are closed with their next response."""


@dataclass(eq=False)
class Served:
    """A package with its routes and its model's thread."""

    engine: Engine
    batcher: Batcher
    signs: Signs
    app: ASGIApp
    record: int | None = None
    """Of the alias that is followed, what made this package the champion."""
    most_values: int = 100_000
    """JSON values that a large body may have; each becomes one token at least."""
    asked: int = 0
    """Requests that it has and has not answered."""
    is_idle: asyncio.Event = field(default_factory=asyncio.Event)
    """Set where it was replaced and has answered its last request."""

    async def drain(self) -> None:
        """Wait for its requests, and end its thread."""
        if not self.asked:
            self.is_idle.set()
        await self.is_idle.wait()
        await asyncio.to_thread(self.batcher.close)


class Switch:
    """ASGI application: each request goes to the package that answers at that moment."""

    def __init__(self, first: Served) -> None:
        self.current = first

    @property
    def batcher(self) -> Batcher:
        """The model's thread of the package that answers."""
        return self.current.batcher

    def replace(self, new: Served) -> Served:
        """Let another package answer from now on, and return the one before, to be drained."""
        new.batcher.start()
        old, self.current = self.current, new
        return old

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self._live(receive, send)
            return
        served = self.current
        served.asked += 1
        try:
            await served.app(scope, receive, send)
        finally:
            served.asked -= 1
            if served is not self.current and not served.asked:
                served.is_idle.set()

    async def _live(self, receive: Receive, send: Send) -> None:
        """The model's thread of the first package begins with the server, that of the last one ends with it."""
        while (kind := (await receive())["type"]) in ("lifespan.startup", "lifespan.shutdown"):
            if kind == "lifespan.startup":
                self.batcher.start()
            else:
                await asyncio.to_thread(self.batcher.close)
            await send({"type": f"{kind}.complete"})
            if kind == "lifespan.shutdown":
                return
