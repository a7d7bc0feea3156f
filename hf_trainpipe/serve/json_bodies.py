"""JSON in and out of the routes, by the parser that comes with FastAPI: it bounds nesting and is fast."""

from __future__ import annotations

import asyncio
import re
from typing import Any

from fastapi import Request, Response
from pydantic_core import from_json, to_json

from hf_trainpipe.serve.middleware import BODY, LARGE
from hf_trainpipe.serve.refusals import Refusal

_STRING = re.compile(rb'"[^"\\]*+(?:\\.[^"\\]*+)*+"', re.DOTALL)
_ONE = asyncio.Semaphore(1)


async def read_json(request: Request) -> Any:
    """The body as JSON; large ones one at a time, with a turn of the event loop in between.

    Raises:
        Refusal: 400, or 413 where it has more values than a request needs.
    """
    if len(request.scope[BODY]) <= LARGE:
        return _read(request)
    async with _ONE:
        await asyncio.sleep(0)
        _check_values(request.scope[BODY], most=request.app.state.server.most_values)
        return _read(request)


def _check_values(body: bytes, *, most: int) -> None:
    """Count values (lists, objects, commas) before Python's objects are made of them: two megabytes can hold half a
    million, which take seconds and a hundred times the memory. Where there seem to be too many, strings are left out,
    since they may hold commas and brackets; a body with too many quotation marks is refused without that."""
    found = _values(body)
    if found <= most:
        return
    if body.count(b'"') <= 4 * most and (found := _values(_STRING.sub(b"", body))) <= most:
        return
    raise Refusal(413, "values", f"body: expected at most {most} values, found {found}.", "Send several requests.")


def _values(body: bytes) -> int:
    return sum(map(body.count, (b",", b"[", b"{")))


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
    return Response(to_json(content), media_type="application/json")
