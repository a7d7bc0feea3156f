"""Before the routes: the request's id, its token, and limits on the size and time of its body."""

from __future__ import annotations

import asyncio
import hmac
import json
import logging
import re
import time
import uuid
from typing import TYPE_CHECKING, Any

from hf_trainpipe.serve.batcher import describe
from hf_trainpipe.serve.refusals import Refusal, internal
from hf_trainpipe.serve.settings import TOKEN_VARIABLE, is_loopback

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, MutableMapping

    from hf_trainpipe.serve.metrics import Metrics
    from hf_trainpipe.serve.settings import Settings

    Message = MutableMapping[str, Any]
    Receive = Callable[[], Awaitable[Message]]
    Send = Callable[[Message], Awaitable[None]]
    App = Callable[[Message, Receive, Send], Awaitable[None]]

LARGE = 64 << 10
"""Bytes beyond which a body is large: all large bodies together are limited by ``limits.bodies_bytes``."""
_HELD = "trainpipe.held"
BODY = "trainpipe.body"
REQUEST_ID = "trainpipe.request_id"
"""Keys of the ASGI scope."""
OPEN_PATHS = frozenset({"/health", "/ready", "/v2/health/live", "/v2/health/ready", "/demo"})
"""Answered without the token: health checks, and the page, which holds nothing of the model."""

_log = logging.getLogger("hf_trainpipe.serve")
_REQUEST_ID = re.compile(rb"[A-Za-z0-9._~-]{1,128}")
_CLOSE = (b"connection", b"close")


class Middleware:
    """ASGI application around the routes.

    Args:
        app: The routes.
        settings: Token and limits.
        is_draining: Whether the server is shutting down: clients are told to close their connections.
    """

    def __init__(self, app: App, *, settings: Settings, metrics: Metrics, is_draining: Callable[[], bool]) -> None:
        self._app = app
        self._settings = settings
        self._metrics = metrics
        self._is_draining = is_draining
        self._token = None if settings.token is None else settings.token.encode()
        self._held = 0
        """Bytes of large bodies in memory that are not parsed yet."""

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            if scope["type"] == "lifespan":
                await self._app(scope, receive, send)
            return
        begin = time.perf_counter()
        headers: dict[bytes, bytes] = {}
        for name, value in scope["headers"]:
            headers[name] = value if name not in headers else headers[name] + b", " + value
        given = headers.get(b"x-request-id", b"")
        request_id = given.decode() if _REQUEST_ID.fullmatch(given) else uuid.uuid4().hex
        scope[REQUEST_ID] = request_id
        status = 0

        async def answered(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message["headers"] = [*message["headers"], (b"x-request-id", request_id.encode()), *_ALWAYS]
                if self._is_draining() and _CLOSE not in message["headers"]:
                    message["headers"].append(_CLOSE)
            await send(message)

        try:
            try:
                self._permit(scope, headers)
                if scope["method"] == "POST":
                    scope[BODY] = await self._body(headers, receive, scope)
                await self._app(scope, receive, answered)
            except Refusal as refusal:
                await self._refuse(refusal, request_id, answered)
        except ConnectionError:
            return
        except Exception as error:
            _log.error("request %s: %s", request_id, describe(error))
            if not status:
                await self._refuse(internal(), request_id, answered)
        finally:
            self._release(scope)
            route = getattr(scope.get("route"), "path", "other")
            seconds = time.perf_counter() - begin
            self._metrics.request(route=route, status=status, seconds=seconds)
            if self._settings.access_log:
                line = {"id": request_id, "method": scope["method"], "route": route, "status": status}
                _log.info(json.dumps({**line, "ms": round(1e3 * seconds, 2)}))

    def _permit(self, scope: Message, headers: dict[bytes, bytes]) -> None:
        if self._token is None:
            # Without a token only local names are accepted, against DNS rebinding by a foreign page.
            host = headers.get(b"host", b"").decode("latin-1").strip()
            name = host.rpartition(":")[0] if re.search(r":\d+$", host) else host
            if not is_loopback(name):
                raise Refusal(
                    421,
                    "host",
                    "Host: expected localhost or a loopback address.",
                    f"Use http://127.0.0.1, or set {TOKEN_VARIABLE} for the server and send the token.",
                    headers={"Connection": "close"},
                )
            return
        if scope["path"] in OPEN_PATHS:
            return
        scheme, _, token = headers.get(b"authorization", b"").partition(b" ")
        if scheme.lower() != b"bearer" or not hmac.compare_digest(token.strip(), self._token):
            raise Refusal(
                401,
                "token",
                "Authorization: expected the server's bearer token.",
                "Send 'Authorization: Bearer TOKEN'.",
                headers={"WWW-Authenticate": "Bearer", "Connection": "close"},
            )

    def _release(self, scope: Message) -> None:
        self._held -= scope.pop(_HELD, 0)

    async def _body(self, headers: dict[bytes, bytes], receive: Receive, scope: Message) -> bytes:
        limits = self._settings.limits
        close = {"Connection": "close"}  # the rest of the body is not read
        if headers.get(b"content-encoding", b"identity").strip().lower() not in (b"identity", b""):
            raise Refusal(415, "encoding", "Content-Encoding: expected none.", "Send the body as it is.", headers=close)
        kind = headers.get(b"content-type", b"").partition(b";")[0].strip().lower()
        if kind != b"application/json":
            raise Refusal(
                415,
                "type",
                "Content-Type: expected application/json.",
                "Send the header 'Content-Type: application/json'.",
                headers=close,
            )
        too_large = Refusal(
            413,
            "body",
            f"body: expected at most {limits.body_bytes} bytes, found more.",
            "Send several requests.",
            headers=close,
        )
        length = headers.get(b"content-length", b"")
        if length.isdigit() and int(length[:20]) > limits.body_bytes:
            raise too_large
        chunks: list[bytes] = []
        size = 0
        try:
            async with asyncio.timeout(limits.body_s):
                while True:
                    message = await receive()
                    if message["type"] == "http.disconnect":
                        raise ConnectionAbortedError
                    chunk = message.get("body", b"")
                    size += len(chunk)
                    if size > limits.body_bytes:
                        raise too_large
                    if size > LARGE:
                        if self._held + len(chunk) > limits.bodies_bytes:
                            raise Refusal(
                                429,
                                "bodies",
                                "Too many large bodies at a time.",
                                "Try again, later, or in several requests.",
                                headers={**close, "Retry-After": "1"},
                            )
                        self._held += len(chunk)
                        scope[_HELD] = scope.get(_HELD, 0) + len(chunk)
                    chunks.append(chunk)
                    if not message.get("more_body"):
                        return b"".join(chunks)
        except TimeoutError:
            raise Refusal(
                408,
                "slow",
                f"body: expected within {limits.body_s:g} s.",
                "Send it faster, or in several requests.",
                headers=close,
            ) from None

    async def _refuse(self, refusal: Refusal, request_id: str, send: Send) -> None:
        self._metrics.refused(refusal.reason)
        content = refusal.body(request_id)
        headers = [(name.lower().encode(), value.encode()) for name, value in refusal.headers.items()]
        headers += [(b"content-type", b"application/json"), (b"content-length", str(len(content)).encode())]
        await send({"type": "http.response.start", "status": refusal.status, "headers": headers})
        await send({"type": "http.response.body", "body": content})


_ALWAYS = (
    (b"cache-control", b"no-store"),
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
    (b"cross-origin-resource-policy", b"same-origin"),
)
