"""The routes, as a FastAPI application."""

from __future__ import annotations

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
from hf_trainpipe.serve.switch import Served, Signs, Switch

if TYPE_CHECKING:
    from hf_trainpipe.serve.engine import Engine
    from hf_trainpipe.serve.settings import Settings
    from hf_trainpipe.serve.watching import Watcher


def make_app(engine: Engine, settings: Settings, *, batch_tokens: int) -> tuple[Middleware, Switch]:
    """The application of a package with its middleware, and what says which package answers. The model's thread runs during its
    lifespan."""
    switch = Switch(make_served(engine, settings, batch_tokens=batch_tokens, signs=Signs(Metrics())))
    signs = switch.current.signs
    middleware = Middleware(switch, settings=settings, metrics=signs.metrics, is_draining=lambda: signs.is_draining)
    return middleware, switch


def make_served(
    engine: Engine, settings: Settings, *, batch_tokens: int, signs: Signs, record: int | None = None
) -> Served:
    """A package with its routes; its model's thread is not started."""
    batcher = Batcher(
        engine,
        limits=settings.limits,
        batch_tokens=batch_tokens,
        metrics=signs.metrics,
        watcher=_watcher(engine, settings, signs.metrics),
    )
    app = FastAPI(
        title=engine.info["name"],
        version=__version__,
        description=openapi.DESCRIPTION,
        docs_url=None,  # their pages load scripts from elsewhere
        redoc_url=None,
        default_response_class=Response,
        openapi_tags=openapi.TAGS,
    )
    most_values = settings.limits.tokens + 8 * settings.limits.inputs
    app.state.server = server = Served(engine, batcher, signs, app, record, most_values)
    _add_answers(app, server)
    _add_health(app, server)
    inference_protocol.add_routes(app, engine.info, engine.schema, batcher)
    openai_embeddings.add_routes(app, engine, batcher)
    openai_chat.add_routes(app, engine, batcher)
    page.add_routes(app)
    app.add_exception_handler(HTTPException, _unknown)
    app.add_exception_handler(Refusal, _refused)
    app.add_exception_handler(Exception, _failed)
    return server


def _watcher(engine: Engine, settings: Settings, metrics: Metrics) -> Watcher | None:
    if settings.watching is None:
        return None
    from hf_trainpipe.serve.watching import Watcher

    return Watcher(settings.watching, engine, metrics)


def _add_answers(app: FastAPI, server: Served) -> None:
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
        followed = {} if server.record is None else {"record": server.record}
        return json_response({**server.engine.info, "runtime": server.engine.runtime, **followed})


def _add_health(app: FastAPI, server: Served) -> None:
    async def health() -> Response:
        if not server.batcher.is_alive:
            raise Refusal(503, "dead", "The model's thread has ended.", "Start the server again.")
        return json_response({"status": "ok"})

    async def ready() -> Response:
        if server.signs.is_draining or not server.batcher.is_alive:
            raise Refusal(503, "draining", "The server is shutting down.", "Send the request to another server.")
        return json_response({"status": "ready"})

    for path, act in (("/health", health), ("/v2/health/live", health), ("/ready", ready), ("/v2/health/ready", ready)):
        described = openapi.of_sign("lives" if act is health else "takes requests")
        app.get(path, tags=["signs"], operation_id=path.strip("/").replace("/", "_"), **described)(act)

    @app.get("/metrics", tags=["signs"], summary="Counts and times for Prometheus", **openapi.METRICS)
    async def metrics() -> Response:
        return Response(server.signs.metrics.text(), headers={"Content-Type": CONTENT_TYPE})


async def _refused(request: Request, error: Exception) -> Response:
    assert isinstance(error, Refusal)
    server: Served = request.app.state.server
    server.signs.metrics.refused(error.reason)
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
