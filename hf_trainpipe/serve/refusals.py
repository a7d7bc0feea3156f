"""Error responses: what was expected, what was found, what to do."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from starlette.responses import Response


class Refusal(Exception):
    """An error response.

    Args:
        status: HTTP status.
        reason: One word for metrics, such as ``queue``.
        message: What was expected and what was found; goes to the client only, never to a log.
        fix: What to do.
        headers: Further headers of the response.
        data: Further facts for the client, such as ``position``.
    """

    def __init__(
        self,
        status: int,
        reason: str,
        message: str,
        fix: str,
        *,
        headers: Mapping[str, str] | None = None,
        **data: Any,
    ) -> None:
        super().__init__(f"{status} {reason}")
        self.status = status
        self.reason = reason
        self.message = message
        self.fix = fix
        self.headers = dict(headers or {})
        self.data = data

    def body(self, request_id: str) -> bytes:
        """The body of the response: JSON."""
        content = {"error": self.message, "fix": self.fix, "request_id": request_id, **self.data}
        return json.dumps(content, ensure_ascii=False).encode(errors="replace")

    def response(self, request_id: str) -> Response:
        return Response(self.body(request_id), self.status, headers=self.headers, media_type="application/json")


def internal() -> Refusal:
    """Of an unexpected error: the log has the request's id and where it happened, the client the id."""
    return Refusal(500, "internal", "The server failed.", "Report the request id.")
