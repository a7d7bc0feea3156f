"""The routes, as a FastAPI application."""

from __future__ import annotations

from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from fastapi import FastAPI, Request, Response
from starlette.exceptions import HTTPException

from hf_trainpipe import __version__
from hf_trainpipe.serve import inference_protocol, openai_chat, openai_embeddings, openapi, page
from hf_trainpipe.serve.batcher import Batcher
from hf_trainpipe.serve.callers import CALLER
from hf_trainpipe.serve.json_bodies import json_response, read_json
from hf_trainpipe.serve.metrics import CONTENT_TYPE, Metrics
from hf_trainpipe.serve.middleware import REQUEST_ID, Middleware
from hf_trainpipe.serve.refusals import Refusal, internal

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from hf_trainpipe.serve.engine import Engine
    from hf_trainpipe.serve.settings import Settings


@dataclass
class Server:
    """What the routes share."""

    engine: Engine
    batcher: Batcher
    metrics: Metrics
    most_values: int = 100_000
    """JSON values that a large body may have; each becomes one token at least."""
    is_draining: bool = False
    """After SIGTERM: not ready; connections are closed with their next response."""


def make_app(engine: Engine, settings: Settings, *, batch_tokens: int) -> tuple[Middleware, Server]:
    """The application of a package with its middleware, and its state. The model's thread runs during its lifespan."""
    metrics = Metrics()
    batcher = Batcher(engine, limits=settings.limits, batch_tokens=batch_tokens, metrics=metrics)
    most_values = settings.limits.tokens + 8 * settings.limits.inputs
    server = Server(engine, batcher, metrics, most_values)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        batcher.start()
        yield
        batcher.close()

    app = FastAPI(
        title=engine.info["name"],
        version=__version__,
        description=openapi.DESCRIPTION,
        docs_url=None,  # their pages load scripts from elsewhere
        redoc_url=None,
        default_response_class=Response,
        lifespan=lifespan,
        openapi_tags=openapi.TAGS,
    )
    app.state.server = server
    _add_answers(app, server)
    _add_health(app, server)
    inference_protocol.add_routes(app, engine.info, engine.schema, batcher)
    openai_embeddings.add_routes(app, engine, batcher)
    openai_chat.add_routes(app, engine, batcher)
    page.add_routes(app)
    app.add_exception_handler(HTTPException, _unknown)
    app.add_exception_handler(Refusal, _refused)
    app.add_exception_handler(Exception, _failed)
    middleware = Middleware(app, settings=settings, metrics=metrics, is_draining=lambda: server.is_draining)
    return middleware, server


def _add_answers(app: FastAPI, server: Server) -> None:
    read_body, wrong = server.engine.read_body, server.engine.input_error

    async def predict(request: Request) -> Response:
        try:
            inputs, parameters, is_one = read_body(await read_json(request))
        except wrong as error:
            raise Refusal(422, "body", error.message, error.fix) from None  # type: ignore[attr-defined]
        answers = await server.batcher.ask(inputs, parameters, request.scope.get(CALLER))
        return json_response(answers[0] if is_one else answers)

    described = openapi.of_predict(server.engine.schema)
    for path, name in (("/predict", "predict"), ("/", "predict_root")):
        app.post(path, operation_id=name, tags=["answers"], **described)(predict)

    @app.get("/info", tags=["answers"], summary="What the package answers", **openapi.of_info(server.engine.info))
    async def info() -> Response:
        return json_response({**server.engine.info, "runtime": server.engine.runtime})


def _add_health(app: FastAPI, server: Server) -> None:
    async def health() -> Response:
        if not server.batcher.is_alive:
            raise Refusal(503, "dead", "The model's thread has ended.", "Start the server again.")
        return json_response({"status": "ok"})

    async def ready() -> Response:
        if server.is_draining or not server.batcher.is_alive:
            raise Refusal(503, "draining", "The server is shutting down.", "Send the request to another server.")
        return json_response({"status": "ready"})

    for path, act in (("/health", health), ("/v2/health/live", health), ("/ready", ready), ("/v2/health/ready", ready)):
        described = openapi.of_sign("lives" if act is health else "takes requests")
        app.get(path, tags=["signs"], operation_id=path.strip("/").replace("/", "_"), **described)(act)

    @app.get("/metrics", tags=["signs"], summary="Counts and times for Prometheus", **openapi.METRICS)
    async def metrics() -> Response:
        return Response(server.metrics.text(), headers={"Content-Type": CONTENT_TYPE})


async def _refused(request: Request, error: Exception) -> Response:
    assert isinstance(error, Refusal)
    server: Server = request.app.state.server
    server.metrics.refused(error.reason)
    return error.response(request.scope[REQUEST_ID])


async def _failed(request: Request, error: Exception) -> Response:
    """Says nothing: the middleware logs where it happened, with the request's id."""
    return await _refused(request, internal())


async def _unknown(request: Request, error: Exception) -> Response:
    """An unknown path or method; what the client wrote is not repeated."""
    assert isinstance(error, HTTPException)
    known = "POST / or /predict; GET /health, /ready, /metrics, /info, /demo, /openapi.json; /v2/..."
    what = "This path does not take that method." if error.status_code == 405 else "There is no such path."
    return await _refused(request, Refusal(error.status_code, "route", what, f"Use {known}", headers=error.headers))
