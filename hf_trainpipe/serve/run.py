"""Serve a package until a signal says stop: then answer what was accepted, and end with 0."""

from __future__ import annotations

import contextlib
import gc
import json
import logging
import os
import sys
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hf_trainpipe.errors import MissingExtra
from hf_trainpipe.serve.following import Follow, Following, first_answers
from hf_trainpipe.serve.listening import listen, run, whole_seconds
from hf_trainpipe.serve.settings import TOKEN_VARIABLE, Settings
from hf_trainpipe.tracking.console import Console
from hf_trainpipe.utils.brief import listed
from hf_trainpipe.utils.tables import facts

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable

    from hf_trainpipe.serve.engine import Engine
    from hf_trainpipe.serve.middleware import Middleware
    from hf_trainpipe.serve.switch import Served, Switch


def require_extra() -> None:
    """Raise MissingExtra unless the extra ``serve`` is installed."""
    import importlib.util

    needed = ("fastapi", "uvicorn", "httptools", "prometheus_client")
    if missing := [name.replace("_", "-") for name in needed if importlib.util.find_spec(name) is None]:
        raise MissingExtra(
            f"serve needs {', '.join(missing)}, which is not installed.", fix="pip install 'hf-trainpipe[serve]'"
        )


def serve(
    package: Path | str | None,
    settings: Settings,
    *,
    device: str | None = None,
    allow_code: bool = False,
    backend: str | None = None,
    precision: str | None = None,
    as_json: bool = False,
    follow: Follow | None = None,
) -> int:
    """Serve ``package`` (or the package of a run; with ``follow`` what holds an alias) until a signal says stop; returns the exit code.

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
        listener = listen(settings.host, settings.port)  # before the weights: the address may be taken
        with contextlib.closing(listener):
            load = partial(engines.load, device=device, allow_code=allow_code, backend=backend, precision=precision)
            with Console(0).working("loading the package"):
                record, package = (None, package) if follow is None else follow.current()
                assert package is not None, "a package, or an alias that is followed"
                app, switch = _made(load(package), settings, record=record)
            if (engine := switch.current.engine).runtime == "installed" and engine.differs:
                logger.warning(
                    "warning: the package carries another version of its runtime; the installed one answers. "
                    "--allow-code runs the package's own."
                )
            del engine  # the switch alone holds it, until another package takes over
            following = None if follow is None else _following(follow, switch, settings, load=load, logger=logger)
            return _serve(app, switch, settings, listener, logger, as_json=as_json, following=following)
    finally:
        logger.removeHandler(handler)


def from_environment(**choices: Any) -> Settings:
    """Settings with the token of the environment, if there is one."""
    return Settings(token=os.environ.get(TOKEN_VARIABLE) or None, **choices)


def _announce(engine: Engine, settings: Settings, url: str, *, as_json: bool, logger: logging.Logger) -> None:
    """Say on stderr where the server is and what it answers; with ``as_json`` also a line of JSON on stdout."""
    name, names = engine.predictor.info.name, engine.task.label_names
    limits, answers = settings.limits, engine.schema.answers
    labels = listed(names, 6)
    within = f" in {engine.info['precision']}" if engine.backend == "torch" else ""
    logger.info("serving %s at %s, demo at %s/demo", name, url, url)
    shown = [
        ("answers", f"{answers}{f': {labels}' if labels else ''}"),
        (
            "a request",
            f"{limits.inputs:,} inputs and {limits.characters:,} characters at most, {limits.deadline_s:g} s",
        ),
        ("computed", f"by {engine.backend} on {engine.info['device']}{within}"),
        ("token", f"required ({TOKEN_VARIABLE})" if settings.token else "not required"),
    ]
    logger.info("%s", facts(shown))
    if as_json:
        told = {"name": name, "url": url, "demo": f"{url}/demo", "kind": answers, "labels": list(names)}
        print(json.dumps(told, ensure_ascii=False), flush=True)


def _made(engine: Engine, settings: Settings, *, record: int | None) -> tuple[Middleware, Switch]:
    """The application of the first package, which has answered once."""
    from hf_trainpipe.serve.app import make_app

    if settings.watching is not None:
        from hf_trainpipe.serve.watching import profile_of

        profile_of(engine)  # of the first package what is missing is an error
    first_answers(engine)
    gc.collect()
    gc.freeze()  # what is loaded stays: garbage collections skip it while a client waits
    app, switch = make_app(engine, settings, batch_tokens=_batch_tokens(engine, settings))
    switch.current.record = record
    return app, switch


def _batch_tokens(engine: Engine, settings: Settings) -> int:
    return settings.batch_tokens or (512 if str(engine.predictor.device) == "cpu" else 16_384)


def _following(
    follow: Follow, switch: Switch, settings: Settings, *, load: Callable[[Path], Engine], logger: logging.Logger
) -> Following:
    from hf_trainpipe.serve.app import make_served

    signs = switch.current.signs

    def make(engine: Engine, record: int) -> Served:
        return make_served(engine, settings, batch_tokens=_batch_tokens(engine, settings), signs=signs, record=record)

    logger.info("following %s, record %s, looked at every %g s", follow.name, switch.current.record, follow.every_s)
    return Following(follow, switch, load=load, make=make, logger=logger)


def _serve(
    app: Middleware,
    switch: Switch,
    settings: Settings,
    listener: socket.socket,
    logger: logging.Logger,
    *,
    as_json: bool = False,
    following: Following | None = None,
) -> int:
    signs = switch.current.signs

    def started(url: str) -> None:
        _announce(switch.current.engine, settings, url, as_json=as_json, logger=logger)
        if following is not None:
            following.start()

    def stop() -> bool:
        waiting = switch.batcher.admission.waiting
        if signs.is_draining:
            logger.info("stopping already: %d inputs wait, for %g s at most", waiting, whole_seconds(settings.drain_s))
            return False
        signs.is_draining = True
        if following is not None:
            following.stop()
        logger.info("stopping: %d inputs wait", waiting)
        return True

    run(app, settings, listener, refused=signs.metrics.refused, started=started, stop=stop)
    logger.info("stopped")
    return 0
