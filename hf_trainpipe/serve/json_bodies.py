"""JSON in and out of the routes, by the parser that comes with FastAPI: it bounds nesting and is fast."""

from __future__ import annotations

from typing import Any

from fastapi import Request, Response
from pydantic_core import from_json, to_json

from hf_trainpipe.serve.guard import BODY
from hf_trainpipe.serve.refusals import Refusal

__all__ = ["JSON", "json_response", "read_json"]

JSON = "application/json"


def read_json(request: Request) -> Any:
    """The body as JSON.

    Raises:
        Refusal: 400.
    """
    try:
        return from_json(request.scope[BODY], allow_inf_nan=False)
    except ValueError as error:
        where = str(error).rpartition(" at ")[2]
        raise Refusal(
            400, "json", f"body: expected JSON in UTF-8, found something else at {where}.", "Correct the body."
        ) from None


def json_response(content: Any) -> Response:
    """A response with ``content`` as JSON."""
    return Response(to_json(content), media_type=JSON)
