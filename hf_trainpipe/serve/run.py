"""Serve a package until a signal says stop: then answer what was accepted, and end with 0."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import json
import logging
import os
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hf_trainpipe.errors import MissingExtra, TrainpipeError
from hf_trainpipe.serve.settings import TOKEN_VARIABLE, Settings
from hf_trainpipe.tracking.console import Console
from hf_trainpipe.utils.tables import facts

if TYPE_CHECKING:
    import socket

    from hf_trainpipe.serve.engine import Engine

_STOP = tuple(
    getattr(signal, name)
    for name in ("SIGTERM", "SIGINT", "SIGHUP", "SIGQUIT", "SIGUSR1", "SIGUSR2")
    if hasattr(signal, name)
)


def require_extra() -> None:
    """Raise MissingExtra unless the extra ``serve`` is installed."""
    import importlib.util

    needed = ("fastapi", "uvicorn", "httptools", "prometheus_client")
    if missing := [name.replace("_", "-") for name in needed if importlib.util.find_spec(name) is None]:
        raise MissingExtra(
            f"serve needs {', '.join(missing)}, which is not installed.", fix="pip install 'hf-trainpipe[serve]'"
        )


def serve(
    package: Path | str,
    settings: Settings,
    *,
    device: str | None = None,
    allow_code: bool = False,
    backend: str | None = None,
    as_json: bool = False,
) -> int:
    """Serve ``package`` (or the package of a run) until a signal says stop; returns the exit code.

    SIGTERM, SIGINT, SIGHUP, SIGQUIT, SIGUSR1 and SIGUSR2 all drain; one more of them cuts nothing short, since the drain
    ends within ``drain_s`` anyway. Only SIGKILL ends at once. The token comes from the environment (``HF_TRAINPIPE_TOKEN``) where the
    settings have none. Says on stderr once requests are taken, and where; with ``as_json`` also in a line of JSON on stdout.

    Raises:
        MissingExtra: The extra ``serve`` is not installed.
        TrainpipeError: The package cannot be served, or the address cannot be had.
    """
    require_extra()
    from hf_trainpipe.serve import engine as engines

    logger = logging.getLogger("hf_trainpipe.serve")
    logger.setLevel(logging.INFO)
    logger.propagate = False
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(logging.Formatter("%(message)s"))
    logger.addHandler(handler)
    try:
        listener = _listen(settings.host, settings.port)  # before the weights: the address may be taken
        with contextlib.closing(listener):
            with Console(0).working("loading the package"):
                engine = engines.load(package, device=device, allow_code=allow_code, backend=backend)
            if engine.runtime == "installed" and engine.differs:
                logger.warning(
                    "warning: the package carries another version of its runtime; the installed one answers. "
                    "--allow-code runs the package's own."
                )
            return _serve(engine, settings, listener, logger, as_json=as_json)
    finally:
        logger.removeHandler(handler)


def from_environment(**choices: Any) -> Settings:
    """Settings with the token of the environment, if there is one."""
    return Settings(token=os.environ.get(TOKEN_VARIABLE) or None, **choices)


def _listen(host: str, port: int) -> socket.socket:
    import socket

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


def _announce(engine: Engine, settings: Settings, url: str, *, as_json: bool, logger: logging.Logger) -> None:
    """Say on stderr where the server is and what it answers; with ``as_json`` also a line of JSON on stdout."""
    name, names = engine.predictor.info.name, engine.task.label_names
    limits, answers = settings.limits, engine.schema.answers
    labels = ", ".join(names[:6]) + (f" and {len(names) - 6} more" if len(names) > 6 else "")
    logger.info("serving %s at %s, demo at %s/demo", name, url, url)
    shown = [
        ("answers", f"{answers}{f': {labels}' if labels else ''}"),
        (
            "a request",
            f"{limits.inputs:,} inputs and {limits.characters:,} characters at most, {limits.deadline_s:g} s",
        ),
        ("token", f"required ({TOKEN_VARIABLE})" if settings.token else "not required"),
    ]
    logger.info("%s", facts(shown))
    if as_json:
        told = {"name": name, "url": url, "demo": f"{url}/demo", "kind": answers, "labels": list(names)}
        print(json.dumps(told, ensure_ascii=False), flush=True)


def _serve(
    engine: Engine, settings: Settings, listener: socket.socket, logger: logging.Logger, *, as_json: bool = False
) -> int:
    import uvicorn

    from hf_trainpipe.serve.app import make_app
    from hf_trainpipe.serve.connections import protocol

    predictor = engine.predictor
    predictor.predict(list(engine.schema.examples))  # the first call is slow, and shows what is broken
    gc.collect()
    gc.freeze()  # what is loaded stays: garbage collections skip it while a client waits
    batch_tokens = settings.batch_tokens or (512 if str(predictor.device) == "cpu" else 16_384)
    app, state = make_app(engine, settings, batch_tokens=batch_tokens)
    limit_s = max(1, round(settings.drain_s))
    config = uvicorn.Config(
        app,
        http=protocol(settings.limits, refused=state.metrics.refused),
        log_config=None,
        access_log=False,
        server_header=False,
        ws="none",
        timeout_keep_alive=max(1, round(settings.limits.idle_s)),
        proxy_headers=False,  # a client could claim any address in a header
        timeout_graceful_shutdown=limit_s,
        backlog=1024,
    )

    host, port = listener.getsockname()[:2]
    url = f"http://{f'[{host}]' if ':' in host else host}:{port}"

    class Server(uvicorn.Server):
        """Uvicorn's, with our signals: it would end with the signal instead of 0."""

        async def startup(self, sockets: list[socket.socket] | None = None) -> None:
            await super().startup(sockets=sockets)
            if self.started:
                _announce(engine, settings, url, as_json=as_json, logger=logger)

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
            if state.is_draining:
                logger.info(
                    "stopping already: %d inputs wait, for %g s at most", state.batcher.admission.waiting, limit_s
                )
                return
            state.is_draining = True
            logger.info("stopping: %d inputs wait", state.batcher.admission.waiting)
            asyncio.get_running_loop().call_later(settings.notice_s, setattr, self, "should_exit", True)

    Server(config).run(sockets=[listener])
    for number in _STOP:
        signal.signal(number, signal.SIG_IGN)  # the rest of the shutdown is not interrupted either
    logger.info("stopped")
    return 0
