"""JSON in and out of the routes, by the parser that comes with FastAPI: it bounds nesting and is fast."""

from __future__ import annotations

import asyncio
from typing import Any

from fastapi import Request, Response
from pydantic_core import from_json, to_json

from hf_trainpipe.serve.guard import BODY, LARGE
from hf_trainpipe.serve.refusals import Refusal

__all__ = ["JSON", "json_response", "read_json"]

JSON = "application/json"


_ONE = asyncio.Semaphore(1)


async def read_json(request: Request) -> Any:
    """The body as JSON; large ones one at a time, with a turn of the event loop in between.

    Raises:
        Refusal: 400.
    """
    if len(request.scope[BODY]) <= LARGE:
        return _read(request)
    async with _ONE:
        await asyncio.sleep(0)
        return _read(request)


def _read(request: Request) -> Any:
    try:
        return from_json(request.scope.pop(BODY), allow_inf_nan=False)
    except ValueError as error:
        where = str(error).rpartition(" at ")[2]
        raise Refusal(
            400, "json", f"body: expected JSON in UTF-8, found something else at {where}.", "Correct the body."
        ) from None


def json_response(content: Any) -> Response:
    """A response with ``content`` as JSON."""
    return Response(to_json(content), media_type=JSON)
