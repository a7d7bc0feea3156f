"""``POST /v1/embeddings`` as OpenAI's clients send it, of packages that answer with vectors.

https://platform.openai.com/docs/api-reference/embeddings; beside its fields ``input_type``: ``document`` for texts that are
searched, which get the prompt of ``text_pair``.
"""

from __future__ import annotations

import asyncio
import base64
from typing import TYPE_CHECKING, Any

import numpy as np
from fastapi import FastAPI, Request, Response

from hf_trainpipe.serve import openapi
from hf_trainpipe.serve.callers import CALLER
from hf_trainpipe.serve.json_bodies import json_response, read_json
from hf_trainpipe.serve.refusals import Refusal

if TYPE_CHECKING:
    from hf_trainpipe.serve.batcher import Batcher
    from hf_trainpipe.serve.engine import Engine

_KEYS = {"input", "model", "encoding_format", "dimensions", "user", "input_type"}
_ROLES = {"query": "text", "document": "text_pair"}


def add_routes(app: FastAPI, engine: Engine, batcher: Batcher) -> None:
    """Add the route, if the package's task gives a text alone a vector."""
    if engine.schema.answers != "embedding":
        return

    @app.post("/v1/embeddings", tags=["answers"], **openapi.of_embeddings(engine.info["name"]))
    async def embeddings(request: Request) -> Response:
        body = _object(await read_json(request))
        texts = [body["input"]] if isinstance(body["input"], str) else body["input"]
        inputs = [{_ROLES[body.get("input_type") or "query"]: text} for text in texts]
        asked = {"dimensions": body["dimensions"]} if body.get("dimensions") is not None else {}
        answers = await batcher.ask(inputs, asked, request.scope.get(CALLER))
        encode = _as_base64 if body.get("encoding_format") == "base64" else list
        tokens = await asyncio.to_thread(lambda: engine.predictor.features(inputs).num_tokens) if inputs else 0
        return json_response(
            {
                "object": "list",
                "data": [
                    {"object": "embedding", "index": place, "embedding": encode(answer["embedding"])}
                    for place, answer in enumerate(answers)
                ],
                "model": engine.info["name"],
                "usage": {"prompt_tokens": tokens, "total_tokens": tokens},
            }
        )


def _as_base64(vector: list[float]) -> str:
    """Little-endian float32, which OpenAI's Python client asks for."""
    return base64.b64encode(np.asarray(vector, dtype="<f4").tobytes()).decode()


def _object(body: Any) -> dict[str, Any]:
    def expect(holds: bool, where: str, expected: str) -> None:
        if not holds:
            raise Refusal(422, "body", f"{where}: expected {expected}.", "See GET /openapi.json.")

    expect(isinstance(body, dict) and "input" in body, "body", "an object with 'input'")
    expect(set(body) <= _KEYS, "body", f"the keys {', '.join(sorted(_KEYS))}")
    texts = body["input"]
    is_texts = isinstance(texts, list) and all(isinstance(text, str) for text in texts)
    expect(isinstance(texts, str) or is_texts, "input", "a text or a list of texts")
    expect(body.get("encoding_format") in (None, "float", "base64"), "encoding_format", "float or base64")
    expect(body.get("input_type") in (None, *_ROLES), "input_type", "query or document")
    read: dict[str, Any] = body
    return read
