"""Before the routes: the request's id, its token, and limits on the size and time of its body."""

from __future__ import annotations

import asyncio
import hmac
import json
import logging
import re
import time
import uuid
from typing import TYPE_CHECKING

from starlette.requests import ClientDisconnect, Request

from hf_trainpipe.serve.batcher import describe
from hf_trainpipe.serve.refusals import Refusal, internal
from hf_trainpipe.serve.settings import TOKEN_VARIABLE, is_loopback

if TYPE_CHECKING:
    from collections.abc import Callable

    from starlette.types import ASGIApp, Message, Receive, Scope, Send

    from hf_trainpipe.serve.metrics import Metrics
    from hf_trainpipe.serve.settings import Settings

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
        is_open: Whether a path is answered without the token.
    """

    def __init__(
        self,
        app: ASGIApp,
        *,
        settings: Settings,
        metrics: Metrics,
        is_draining: Callable[[], bool],
        is_open: Callable[[str], bool] = OPEN_PATHS.__contains__,
    ) -> None:
        self._app = app
        self._is_open = is_open
        self._settings = settings
        self._metrics = metrics
        self._is_draining = is_draining
        self._token = None if settings.token is None else settings.token.encode()
        self._held = 0
        """Bytes of large bodies in memory that are not parsed yet."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
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

        async def refuse(refusal: Refusal) -> None:
            self._metrics.refused(refusal.reason)
            await refusal.response(request_id)(scope, receive, answered)

        try:
            try:
                self._permit(scope, headers)
                if scope["method"] == "POST":
                    scope[BODY] = await self._body(headers, receive, scope)
                await self._app(scope, receive, answered)
            except Refusal as refusal:
                refusal.headers["Connection"] = "close"  # the rest of its body is not read
                await refuse(refusal)
        except (ConnectionError, ClientDisconnect):
            return
        except Exception as error:
            _log.error("request %s: %s", request_id, describe(error))
            if not status:
                await refuse(internal())
        finally:
            self._release(scope)
            route = getattr(scope.get("route"), "path", "other")
            seconds = time.perf_counter() - begin
            self._metrics.request(route=route, status=status, seconds=seconds)
            if self._settings.access_log:
                line = {"id": request_id, "method": scope["method"], "route": route, "status": status}
                _log.info(json.dumps({**line, "ms": round(1e3 * seconds, 2)}))

    def _permit(self, scope: Scope, headers: dict[bytes, bytes]) -> None:
        if self._token is None:
            # Without a token only local names are accepted, against DNS rebinding by a foreign page.
            host = headers.get(b"host", b"").decode("latin-1").strip()
            name = host.rpartition(":")[0] if re.search(r":\d+$", host) else host
            if not is_loopback(name):
                fix = f"Use http://127.0.0.1, or set {TOKEN_VARIABLE} for the server and send the token."
                raise Refusal(421, "host", "Host: expected localhost or a loopback address.", fix)
            return
        if self._is_open(scope["path"]):
            return
        scheme, _, token = headers.get(b"authorization", b"").partition(b" ")
        if scheme.lower() != b"bearer" or not hmac.compare_digest(token.strip(), self._token):
            wrong, fix = "Authorization: expected the server's bearer token.", "Send 'Authorization: Bearer TOKEN'."
            raise Refusal(401, "token", wrong, fix, headers={"WWW-Authenticate": "Bearer"})

    async def _body(self, headers: dict[bytes, bytes], receive: Receive, scope: Scope) -> bytes:
        limits = self._settings.limits
        if headers.get(b"content-encoding", b"identity").strip().lower() not in (b"identity", b""):
            raise Refusal(415, "encoding", "Content-Encoding: expected none.", "Send the body as it is.")
        kind = headers.get(b"content-type", b"").partition(b";")[0].strip().lower()
        if kind != b"application/json":
            fix = "Send the header 'Content-Type: application/json'."
            raise Refusal(415, "type", "Content-Type: expected application/json.", fix)
        most = f"body: expected at most {limits.body_bytes} bytes, found more."
        too_large = Refusal(413, "body", most, "Send several requests.")
        length = headers.get(b"content-length", b"")
        if length.isdigit() and int(length[:20]) > limits.body_bytes:
            raise too_large
        chunks: list[bytes] = []
        size = 0
        try:
            async with asyncio.timeout(limits.body_s):
                async for chunk in Request(scope, receive).stream():
                    size += len(chunk)
                    if size > limits.body_bytes:
                        raise too_large
                    if size > LARGE:
                        self._hold(len(chunk), scope)
                    chunks.append(chunk)
        except TimeoutError:
            slow = f"body: expected within {limits.body_s:g} s."
            raise Refusal(408, "slow", slow, "Send it faster, or in several requests.") from None
        return b"".join(chunks)

    def _hold(self, more: int, scope: Scope) -> None:
        if self._held + more > self._settings.limits.bodies_bytes:
            fix = "Try again, later, or in several requests."
            raise Refusal(429, "bodies", "Too many large bodies at a time.", fix, headers={"Retry-After": "1"})
        self._held += more
        scope[_HELD] = scope.get(_HELD, 0) + more

    def _release(self, scope: Scope) -> None:
        self._held -= scope.pop(_HELD, 0)


_ALWAYS = (
    (b"cache-control", b"no-store"),
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
    (b"cross-origin-resource-policy", b"same-origin"),
)
