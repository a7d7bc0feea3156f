"""Connections whose requests must begin to make sense within a time."""

from __future__ import annotations

from asyncio import TimerHandle, Transport
from typing import Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

__all__ = ["protocol"]


def protocol(*, head_s: float) -> type[HttpToolsProtocol]:
    """Uvicorn's protocol, but a connection is closed whose head of a request takes longer than ``head_s``.

    Uvicorn bounds idle connections only: a client that sends a letter a second would hold one for ever.
    """

    class Bounded(HttpToolsProtocol):
        _head_timer: TimerHandle | None = None

        def connection_made(self, transport: Transport) -> None:  # type: ignore[override]
            super().connection_made(transport)
            self._await_head()

        def connection_lost(self, exc: Exception | None) -> None:
            self._have_head()
            super().connection_lost(exc)

        def on_message_begin(self) -> None:
            self._await_head()
            super().on_message_begin()

        def on_headers_complete(self) -> None:
            self._have_head()
            super().on_headers_complete()

        def _await_head(self) -> None:
            self._have_head()
            self._head_timer = self.loop.call_later(head_s, self._too_slow)

        def _have_head(self) -> None:
            if self._head_timer is not None:
                self._head_timer.cancel()
                self._head_timer = None

        def _too_slow(self) -> Any:
            if not self.transport.is_closing():
                self.transport.close()

    return Bounded
