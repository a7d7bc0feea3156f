"""An application on a socket, until a signal says stop: then what was accepted is answered, and it ends with 0."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import socket
from typing import TYPE_CHECKING

from hf_trainpipe.errors import TrainpipeError

if TYPE_CHECKING:
    from collections.abc import Callable

    from starlette.types import ASGIApp

    from hf_trainpipe.serve.settings import Settings

_STOP = tuple(
    getattr(signal, name)
    for name in ("SIGTERM", "SIGINT", "SIGHUP", "SIGQUIT", "SIGUSR1", "SIGUSR2")
    if hasattr(signal, name)
)


def listen(host: str, port: int) -> socket.socket:
    """A socket that listens.

    Raises:
        TrainpipeError: The address cannot be had.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host.strip("[]"), port))
    except OSError as error:
        listener.close()
        raise TrainpipeError(
            f"{host}:{port} cannot be listened on: {error.strerror or error}.",
            fix="Stop what listens there, or choose another --port; 0 takes any free one.",
        ) from error
    listener.setblocking(False)
    return listener


def whole_seconds(seconds: float) -> int:
    """At least 1."""
    return max(1, round(seconds))


def run(
    app: ASGIApp,
    settings: Settings,
    listener: socket.socket,
    *,
    refused: Callable[[str], None],
    started: Callable[[str], None],
    stop: Callable[[], bool],
) -> None:
    """Serve an application until a signal says stop.

    Args:
        refused: Told a word for each connection that was closed, for the metrics.
        started: Called with the server's address once it takes requests.
        stop: Called at each signal; returns whether it is the first.
    """
    import uvicorn

    from hf_trainpipe.serve.connections import protocol

    config = uvicorn.Config(
        app,
        http=protocol(settings.limits, refused=refused),
        log_config=None,
        access_log=False,
        server_header=False,
        ws="none",
        timeout_keep_alive=whole_seconds(settings.limits.idle_s),
        proxy_headers=False,  # a client could claim any address in a header
        timeout_graceful_shutdown=whole_seconds(settings.drain_s),
        backlog=1024,
    )
    host, port = listener.getsockname()[:2]
    url = f"http://{f'[{host}]' if ':' in host else host}:{port}"

    class Server(uvicorn.Server):
        """Uvicorn's, with our signals: it would end with the signal instead of 0."""

        async def startup(self, sockets: list[socket.socket] | None = None) -> None:
            await super().startup(sockets=sockets)
            if self.started:
                started(url)

        @contextlib.contextmanager
        def capture_signals(self):  # type: ignore[no-untyped-def]
            loop = asyncio.get_running_loop()

            def on_signal(*_: object) -> None:
                with contextlib.suppress(RuntimeError):  # the loop has ended: so does the process
                    loop.call_soon_threadsafe(self._stop)

            for number in _STOP:
                signal.signal(number, on_signal)
            yield

        def _stop(self) -> None:
            if stop():
                asyncio.get_running_loop().call_later(settings.notice_s, setattr, self, "should_exit", True)

    Server(config).run(sockets=[listener])
    for number in _STOP:
        signal.signal(number, signal.SIG_IGN)  # the rest of the shutdown is not interrupted either
