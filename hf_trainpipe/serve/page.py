"""The page at /demo: one file, under a policy that lets it load nothing and talk to this server alone."""

from __future__ import annotations

import base64
import hashlib
import re
from importlib.resources import files
from typing import TYPE_CHECKING

from starlette.responses import Response

if TYPE_CHECKING:
    from fastapi import FastAPI


def add_routes(app: FastAPI) -> None:
    """Add ``GET /demo``."""
    text = files("hf_trainpipe.serve").joinpath("demo.html").read_text(encoding="utf-8")
    headers = headers_of(text)

    @app.get("/demo", tags=["answers"], summary="A page to try the package")
    async def demo() -> Response:
        return Response(text, media_type="text/html; charset=utf-8", headers=headers)


def headers_of(text: str) -> dict[str, str]:
    """The headers of a page."""
    return {
        "Content-Security-Policy": policy(text),
        "X-Frame-Options": "DENY",
        "Permissions-Policy": "camera=(), geolocation=(), microphone=()",
    }


def policy(text: str) -> str:
    """The content security policy of a page: its own inline script and style, by their hashes, and nothing else."""

    def hashes(tag: str) -> str:
        found = re.findall(rf"<{tag}>(.*?)</{tag}>", text, flags=re.DOTALL)
        digests = (base64.b64encode(hashlib.sha256(part.encode()).digest()).decode() for part in found)
        return " ".join(f"'sha256-{digest}'" for digest in digests)

    return (
        f"default-src 'none'; script-src {hashes('script')}; style-src {hashes('style')}; img-src data:; "
        "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    )
