"""The page's routes, behind the middleware of the server."""

from __future__ import annotations

import hashlib
import hmac
import json
import secrets
import sys
import threading
from importlib.resources import files
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from pydantic_core import to_json
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.responses import Response
from starlette.routing import Route

from hf_trainpipe.serve.listening import listen, run
from hf_trainpipe.serve.metrics import Metrics
from hf_trainpipe.serve.middleware import REQUEST_ID, Middleware
from hf_trainpipe.serve.page import headers_of
from hf_trainpipe.serve.refusals import Refusal, internal
from hf_trainpipe.ui.table import RunTable

if TYPE_CHECKING:
    from pathlib import Path

    from starlette.requests import Request

    from hf_trainpipe.serve.settings import Settings

MOST_RUNS = 16
"""Runs whose curves are asked for at a time."""
REPORT_POLICY = (
    "sandbox allow-scripts allow-popups; default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; "
    "img-src data:; font-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
"""A report is a file of a run: it may use what it brings, and neither load anything nor ask this server."""


def make_app(folder: Path, settings: Settings, *, metrics: Metrics | None = None) -> Middleware:
    """The application over a folder of runs."""
    table, key = RunTable(folder), secrets.token_bytes(32)
    text = files("hf_trainpipe.ui").joinpath("ui.html").read_text(encoding="utf-8")
    headers = headers_of(text)

    def ticket(name: str) -> str:
        """What a link to a report carries in place of the token, which a browser does not send with a link."""
        return hmac.new(key, name.encode(), hashlib.sha256).hexdigest()

    async def page(_: Request) -> Response:
        return Response(text, media_type="text/html; charset=utf-8", headers=headers)

    def runs(request: Request) -> Response:
        rows = table.rows()
        for row in rows:
            name = row["run"]
            row["report"] = f"/report/{ticket(name)}/{quote(name, safe='')}" if row["report"] else None
        body = _json({"folder": str(folder), "runs": rows})
        state = hashlib.sha256(body).hexdigest()[:16]
        if request.query_params.get("since") == state:
            return Response(_json({"same": True}), media_type="application/json")
        return Response(_json({"state": state, "folder": str(folder), "runs": rows}), media_type="application/json")

    def curves(request: Request) -> Response:
        names = request.query_params.getlist("run")
        if len(names) > MOST_RUNS:
            raise Refusal(400, "runs", f"run: expected at most {MOST_RUNS}, found {len(names)}.", "Choose fewer.")
        return Response(_json(table.curves(names)), media_type="application/json")

    def report(request: Request) -> Response:
        name, given = request.path_params["name"], request.path_params["ticket"]
        content = table.report(name) if hmac.compare_digest(given.encode(), ticket(name).encode()) else None
        if content is None:
            raise Refusal(404, "route", "There is no such report.", "Open it from the page.")
        return Response(
            content, media_type="text/html; charset=utf-8", headers={"Content-Security-Policy": REPORT_POLICY}
        )

    async def health(_: Request) -> Response:
        return Response(_json({"status": "ok"}), media_type="application/json")

    async def refused(request: Request, error: Exception) -> Response:
        if isinstance(error, HTTPException):
            what = "This path does not take that method." if error.status_code == 405 else "There is no such path."
            error = Refusal(error.status_code, "route", what, "Open / in a browser.", headers=error.headers)
        refusal = error if isinstance(error, Refusal) else internal()
        return refusal.response(request.scope[REQUEST_ID])

    app = Starlette(
        routes=[
            Route("/", page, methods=["GET"]),
            Route("/api/runs", runs, methods=["GET"]),
            Route("/api/curves", curves, methods=["GET"]),
            Route("/report/{ticket}/{name:path}", report, methods=["GET"]),
            Route("/health", health, methods=["GET"]),
        ],
        exception_handlers={Refusal: refused, HTTPException: refused, Exception: refused},
    )
    threading.Thread(target=table.rows, name="first look", daemon=True).start()
    return Middleware(
        app,
        settings=settings,
        metrics=metrics or Metrics(),
        is_draining=lambda: False,
        is_open=lambda path: path in ("/", "/health") or path.startswith("/report/"),
    )


def serve_page(folder: Path, settings: Settings, *, as_json: bool = False) -> int:
    """Serve the page until a signal says stop; returns the exit code.

    Raises:
        TrainpipeError: The address cannot be had.
    """
    metrics, stopped = Metrics(), threading.Event()
    listener = listen(settings.host, settings.port)

    def started(url: str) -> None:
        print(f"runs of {folder} at {url}; Ctrl-C stops", file=sys.stderr, flush=True)
        if as_json:
            print(json.dumps({"folder": str(folder), "url": url}, ensure_ascii=False), flush=True)

    def stop() -> bool:
        first = not stopped.is_set()
        stopped.set()
        return first

    with listener:
        app = make_app(folder, settings, metrics=metrics)
        run(app, settings, listener, refused=metrics.refused, started=started, stop=stop)
    return 0


def _json(content: Any) -> bytes:
    return to_json(content, inf_nan_mode="null", fallback=str)
