"""``POST /v1/chat/completions`` and ``/v1/completions``, as OpenAI's clients speak them, for packages that write texts.

An answer comes whole, or with ``"stream": true`` as server-sent events, a token after the other as the model writes them. Fields that
change nothing here (``user``, ``metadata``, ...) are passed over; those that ask for something else are refused by name.

https://platform.openai.com/docs/api-reference/chat
"""

from __future__ import annotations

import asyncio
import json
import time
import uuid
from typing import TYPE_CHECKING, Any

from fastapi import FastAPI, Request, Response
from starlette.responses import StreamingResponse

from hf_trainpipe.serve import openapi
from hf_trainpipe.serve.callers import CALLER
from hf_trainpipe.serve.json_bodies import json_response, read_json
from hf_trainpipe.serve.refusals import Refusal

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from hf_trainpipe.serve.batcher import Batcher
    from hf_trainpipe.serve.engine import Engine

_PASSED_ON = ("max_tokens", "temperature", "top_p", "seed", "stop")
_ALIASES = {"max_completion_tokens": "max_tokens"}
_ONLY: dict[str, tuple[Any, ...]] = {
    "n": (1,), "frequency_penalty": (0,), "presence_penalty": (0,), "logprobs": (False,), "top_logprobs": (0,), "tools": ([],),
    "response_format": ({"type": "text"},), "echo": (False,), "best_of": (1,), "suffix": ("",), "logit_bias": ({},),
}  # fmt: skip
"""What of OpenAI's fields has one value here; null is as if a field were not there."""


def add_routes(app: FastAPI, engine: Engine, batcher: Batcher) -> None:
    """Add the routes that fit what the package reads."""
    forms = [set(form) for form in engine.schema.inputs]
    if engine.schema.pipeline != "text-generation":
        return
    described = openapi.of_completions()

    @app.get("/v1/models", tags=["v1"], summary="The model", **openapi.V2)
    async def v1_models() -> Response:
        return json_response({"object": "list", "data": [{"id": engine.info["name"], "object": "model"}]})

    if {"messages"} in forms:

        @app.post("/v1/chat/completions", tags=["v1"], summary="The next message of a conversation", **described)
        async def v1_chat(request: Request) -> Response:
            body = await _body(request, "messages")
            return await _Completion(engine, batcher, request, body, is_chat=True).response()

    if {"text"} in forms:

        @app.post("/v1/completions", tags=["v1"], summary="How a text goes on", **described)
        async def v1_complete(request: Request) -> Response:
            body = await _body(request, "prompt")
            return await _Completion(engine, batcher, request, body, is_chat=False).response()


async def _body(request: Request, needed: str) -> dict[str, Any]:
    body = await read_json(request)
    if not isinstance(body, dict) or needed not in body:
        raise Refusal(422, "v1", f"body: expected an object with {needed!r}.", "See GET /openapi.json.")
    for name, allowed in _ONLY.items():
        if body.get(name) is not None and body[name] not in allowed:
            raise Refusal(422, "v1", f"{name}: expected {json.dumps(allowed[0])}, or none.", f"Leave {name!r} out.")
    if not isinstance(body.get("stream", False), bool | None):
        raise Refusal(422, "v1", "stream: expected true or false.", "Correct the value.")
    return body


class _Completion:
    """One request and its answer."""

    def __init__(
        self, engine: Engine, batcher: Batcher, request: Request, body: dict[str, Any], *, is_chat: bool
    ) -> None:
        self._engine, self._batcher, self._is_chat, self._body = engine, batcher, is_chat, body
        self._caller = request.scope.get(CALLER)
        said = {_ALIASES.get(name, name): value for name, value in body.items() if value is not None}
        self._parameters = {name: said[name] for name in _PASSED_ON if name in said}
        self._input = {"messages": body["messages"]} if is_chat else {"text": body["prompt"]}
        kind = "chat.completion" if is_chat else "text_completion"
        self._head = {
            "id": f"{'chatcmpl' if is_chat else 'cmpl'}-{uuid.uuid4().hex}",
            "object": kind,
            "created": int(time.time()),
            "model": engine.info["name"],
        }

    async def response(self) -> Response:
        if not self._body.get("stream"):
            [answer] = await self._batcher.ask([self._input], self._parameters, self._caller)
            text, reason = answer["generated_text"], answer["finish_reason"]
            told = {"message": {"role": "assistant", "content": text}} if self._is_chat else {"text": text}
            return json_response({**self._head, "choices": [_choice(reason, **told)], "usage": _usage(answer)})
        events = self._events()
        first = await anext(events)  # a request that cannot be used is refused before the response begins
        return StreamingResponse(_after(first, events), media_type="text/event-stream")

    async def _events(self) -> AsyncIterator[str]:
        loop, tokens = asyncio.get_running_loop(), asyncio.Queue[list[int] | None]()

        def written(ids: list[int]) -> None:
            loop.call_soon_threadsafe(tokens.put_nowait, ids)

        asked = asyncio.ensure_future(self._ask(written))
        asked.add_done_callback(lambda _: tokens.put_nowait(None))
        try:
            sent = ""
            decode = self._engine.predictor.tokenizer.decode
            while (ids := await tokens.get()) is not None:
                text = self._safe(decode(ids, skip_special_tokens=True, clean_up_tokenization_spaces=False))
                if len(text) > len(sent):
                    yield self._event(text[len(sent) :], is_first=not sent)
                    sent = text
            answer = await asked
            rest = answer["generated_text"][len(sent) :]
            if rest or not sent:
                yield self._event(rest, is_first=not sent)
            yield self._event(None, reason=answer["finish_reason"])
            if (self._body.get("stream_options") or {}).get("include_usage"):
                yield _line({**self._chunk(), "choices": [], "usage": _usage(answer)})
            yield "data: [DONE]\n\n"
        finally:
            asked.cancel()

    async def _ask(self, written: Callable[[list[int]], None]) -> dict[str, Any]:
        [answer] = await self._batcher.ask([self._input], self._parameters, self._caller, listener=written)
        found: dict[str, Any] = answer
        return found

    def _safe(self, text: str) -> str:
        """What of a text will stay, whatever comes: without half a character, and what may become one of the texts before which
        the answer ends."""
        stops = self._parameters.get("stop", self._engine.task.stop)
        stops = (stops,) if isinstance(stops, str) else tuple(stops)
        text = text.rstrip("\ufffd")
        at = min((place for one in stops if (place := text.find(one)) >= 0), default=len(text))
        longest = max(map(len, stops), default=1) - 1
        return text[: min(at, len(text) - longest)]

    def _chunk(self) -> dict[str, Any]:
        return {**self._head, "object": "chat.completion.chunk" if self._is_chat else "text_completion"}

    def _event(self, text: str | None, *, is_first: bool = False, reason: str | None = None) -> str:
        if self._is_chat:
            delta = {**({"role": "assistant"} if is_first else {}), **({} if text is None else {"content": text})}
            told: dict[str, Any] = {"delta": delta}
        else:
            told = {"text": text or ""}
        return _line({**self._chunk(), "choices": [_choice(reason, **told)]})


def _choice(reason: str | None, **told: Any) -> dict[str, Any]:
    return {"index": 0, **told, "logprobs": None, "finish_reason": reason}


def _usage(answer: dict[str, Any]) -> dict[str, int]:
    read, written = answer["prompt_tokens"], answer["completion_tokens"]
    return {"prompt_tokens": read, "completion_tokens": written, "total_tokens": read + written}


def _line(content: dict[str, Any]) -> str:
    return f"data: {json.dumps(content, ensure_ascii=False)}\n\n"


async def _after(first: str, events: AsyncIterator[str]) -> AsyncIterator[str]:
    """The events; an error behind the first one is told as one, since the response has begun."""
    yield first
    try:
        async for event in events:
            yield event
    except Refusal as refusal:
        yield _line({"error": {"message": refusal.message, "type": refusal.reason}})
