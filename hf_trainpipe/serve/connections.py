"""Limits on connections before anything is parsed: bytes, headers, time and number.

Uvicorn's protocol passes everything to its parser, keeps what the parser finds, and limits only the idle time between
two requests. Here each piece is counted before it is parsed, and each state of a connection has a timeout.
"""

from __future__ import annotations

from asyncio import TimerHandle, Transport
from collections import Counter
from typing import TYPE_CHECKING, Any, Literal

import httptools
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol

from hf_trainpipe.serve.callers import CALLER, Caller, client_of
from hf_trainpipe.serve.refusals import Refusal

if TYPE_CHECKING:
    from collections.abc import Callable

    from hf_trainpipe.serve.settings import Limits

_PIECE = 4096
"""Bytes that are parsed at a time, checked before the next ones."""
_PARTS, _PART_BYTES = 1024, 32
"""A body in more parts than these has this many bytes a part: each costs as much as a thousand bytes."""
_PIPELINED = 8
"""Requests that may wait behind the one that is answered, on one connection."""
_FLUSH_S = 5.0
"""Seconds for a client to read the rest of its answer once its connection is closed."""


State = Literal["sending", "answered", "idle"]


class ConnectionPool:
    """The open connections. Where one more is too many, one that waits for its client is closed.

    First the one that has been sending its request for longest, then the one that has been idle for longest; of these,
    those of the clients with most connections. A connection whose request is worked on stays.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._states: dict[Any, State] = {}
        """In the order in which they came to their state."""

    def enter(self, new: Any) -> bool:
        """Accept a connection; False where all others are being answered."""
        if len(self._states) >= self._most:
            victim = self._longest("sending") or self._longest("idle")
            if victim is None:
                return False
            self.leave(victim)
            victim.drop()
        self._states[new] = "sending"
        return True

    def _longest(self, state: State) -> Any | None:
        held = Counter(one.caller.client for one in self._states)
        alike = (one for one, found in self._states.items() if found == state)
        return max(alike, key=lambda one: held[one.caller.client], default=None)  # the first of those alike

    def becomes(self, one: Any, state: State) -> None:
        """Change the state of a connection that is in the pool."""
        if self._states.get(one, state) != state:
            del self._states[one]
            self._states[one] = state

    def leave(self, one: Any) -> None:
        self._states.pop(one, None)


def protocol(limits: Limits, *, refused: Callable[[str], None]) -> type[HttpToolsProtocol]:
    """Uvicorn's protocol within ``limits``.

    Args:
        refused: Told a word for each connection that was closed, for the metrics.
    """
    pool = ConnectionPool(limits.connections)

    class Bounded(HttpToolsProtocol):
        caller: Caller
        _timer: TimerHandle | None = None
        _unread = 0
        """Bytes since the last complete head or part of a body."""
        _num_parts = _body_bytes = 0
        _num_headers = 0
        """Of a request, those behind its body too."""
        _is_receiving = False
        """Between the first byte of a request and its last."""
        _is_in_head = True

        def connection_made(self, transport: Transport) -> None:  # type: ignore[override]
            super().connection_made(transport)
            self.caller = Caller(client_of(self.client[0]) if self.client else "")
            if pool.enter(self):
                self._within(limits.body_s)
            else:
                self._refuse(Refusal(503, "connections", "Too many connections.", "Try again, later."))

        def connection_lost(self, exc: Exception | None) -> None:
            pool.leave(self)
            self._within(None)
            super().connection_lost(exc)
            self._unset_keepalive_if_required()
            self.pipeline.clear()
            if hasattr(self, "caller"):
                self.caller.disconnected()

        def data_received(self, data: bytes) -> None:
            for start in range(0, len(data), _PIECE):
                if self.transport.is_closing():
                    return
                piece = data[start : start + _PIECE]
                self._unread += len(piece)
                try:
                    self.parser.feed_data(piece)
                    if self._unread > limits.header_bytes:
                        raise _too_large(f"{limits.header_bytes} bytes", is_head=self._is_in_head)
                except httptools.HttpParserUpgrade:
                    self.cycle.keep_alive = False  # it is answered; what follows in another protocol is not read
                except httptools.HttpParserCallbackError as error:
                    cause = error.__context__
                    self._refuse(cause if isinstance(cause, Refusal) else _invalid())
                except httptools.HttpParserError:
                    self._refuse(_invalid())
                except Refusal as refusal:
                    self._refuse(refusal)

        def on_message_begin(self) -> None:
            self._unset_keepalive_if_required()
            self._is_receiving = self._is_in_head = True
            self._num_headers = self._num_parts = self._body_bytes = 0
            pool.becomes(self, "sending")
            self._within(limits.body_s)
            super().on_message_begin()

        def on_header(self, name: bytes, value: bytes) -> None:
            self._num_headers += 1
            if self._num_headers > limits.headers:
                raise _too_large(f"{limits.headers} headers", is_head=self._is_in_head)
            if self._is_in_head:  # trailers are ignored
                super().on_header(name, value)

        def on_headers_complete(self) -> None:
            self._is_in_head = False
            self._unread = 0
            self._within(None)
            scope: Any = self.scope
            scope[CALLER] = self.caller
            super().on_headers_complete()
            if len(self.pipeline) > _PIPELINED:
                raise Refusal(429, "pipeline", "Too many requests at a time.", "Wait for answers.")

        def on_body(self, body: bytes) -> None:
            self._unread = 0
            self._num_parts += 1
            self._body_bytes += len(body)
            if self._num_parts > _PARTS and self._body_bytes < _PART_BYTES * self._num_parts:
                raise _too_large("parts of some size", is_head=False)
            super().on_body(body)

        def on_message_complete(self) -> None:
            self._is_receiving = False
            self._unread = 0
            pool.becomes(self, "answered")
            super().on_message_complete()

        def on_response_complete(self) -> None:
            super().on_response_complete()
            has_rest = self.cycle.response_complete and self.cycle.more_body
            if has_rest or self.transport.is_closing():
                self.drop()  # answered before the body was read
            elif not self._is_receiving and not self.pipeline:
                pool.becomes(self, "idle")

        def pause_writing(self) -> None:
            super().pause_writing()
            self._within(limits.body_s)

        def resume_writing(self) -> None:
            super().resume_writing()
            if not self.transport.is_closing():
                self._within(limits.body_s if self._is_receiving and self._is_in_head else None)

        def timeout_keep_alive_handler(self) -> None:
            if not self._is_receiving and self.cycle.response_complete:
                self.drop()

        def shutdown(self) -> None:
            if self.cycle is None or self.cycle.response_complete:
                self.drop()
            else:
                self.cycle.keep_alive = False

        def drop(self) -> None:
            """Close, whether or not the client reads the rest of its answer."""
            if not self.transport.is_closing():
                self.transport.close()
            self._within(_FLUSH_S)

        def _within(self, seconds: float | None) -> None:
            """Set the timeout of the current state; None: it has one elsewhere."""
            if self._timer is not None:
                self._timer.cancel()
            self._timer = None if seconds is None else self.loop.call_later(seconds, self._too_slow)

        def _too_slow(self) -> None:
            self._timer = None
            if self.transport.is_closing() or self.flow.write_paused:
                self.transport.abort()
            elif self._is_receiving:
                seconds = f"{limits.body_s:g} s"
                self._refuse(Refusal(408, "slow", f"request: expected its head within {seconds}.", "Send it faster."))
            else:
                self.drop()

        def _refuse(self, refusal: Refusal) -> None:
            refused(refusal.reason)
            if self.cycle is None or self.cycle.response_complete:
                content = refusal.body("-")
                head = b"content-type: application/json\r\nconnection: close\r\ncontent-length: %d\r\n\r\n"
                self.transport.write(STATUS_LINE[refusal.status] + head % len(content) + content)
            self.drop()

    return Bounded


def _too_large(most: str, *, is_head: bool) -> Refusal:
    if is_head:
        return Refusal(431, "head", f"head: expected at most {most}, found more.", "Send fewer and shorter headers.")
    return Refusal(400, "framing", f"body: expected {most}, found more of them or smaller ones.", "Send larger parts.")


def _invalid() -> Refusal:
    return Refusal(400, "http", "request: expected HTTP/1.1, found something else.", "Correct the request.")
