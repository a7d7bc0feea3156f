"""A conversation over OpenAI's routes: whole and as a stream, with usage counted; and what is asked in vain, refused."""

from __future__ import annotations

import http.client
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from transformers import AutoModelForCausalLM, AutoTokenizer

import hf_trainpipe
from hf_trainpipe.package.write import write
from hf_trainpipe.testing import tiny_causal_model
from tests.serve.conftest import JSON, Running, start

if TYPE_CHECKING:
    from collections.abc import Iterator

HELLO = {"messages": [{"role": "user", "content": "it was a day"}]}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("chat")
    model = tiny_causal_model(place / "model")
    return write(
        place / "package",
        model=AutoModelForCausalLM.from_pretrained(model),
        tokenizer=AutoTokenizer.from_pretrained(model),
        task=hf_trainpipe.InstructionTuning(max_new_tokens=12, stop_token="</s>"),
        tokens={"max_length": 60, "overflow": "drop", "stride": 0},
        name="tiny",
    )


@pytest.fixture(scope="module")
def server(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    with start(folder, tmp_path_factory.mktemp("log") / "log") as running:
        yield running


def events(server: Running, body: dict[str, Any]) -> list[dict[str, Any]]:
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=60)
    connection.request("POST", "/v1/chat/completions", json.dumps({**body, "stream": True}), JSON)
    response = connection.getresponse()
    assert response.headers["content-type"].startswith("text/event-stream")
    lines = [line for line in response.read().decode().split("\n\n") if line]
    connection.close()
    assert lines[-1] == "data: [DONE]"
    return [json.loads(line.removeprefix("data: ")) for line in lines[:-1]]


def test_an_answer_is_the_packages_and_its_tokens_are_counted(server: Running, folder: Path) -> None:
    asked = {
        **HELLO,
        "max_tokens": 9,
        "temperature": 1.3,
        "seed": 4,
        "model": "any",
        "user": "me",
        "n": 1,
        "stop": None,
    }
    found = server.post("/v1/chat/completions", asked).json
    [expected] = hf_trainpipe.load(folder).predict([HELLO], max_tokens=9, temperature=1.3, seed=4)
    [choice] = found["choices"]
    assert choice["message"] == {"role": "assistant", "content": expected["generated_text"]}
    assert choice["finish_reason"] == expected["finish_reason"] == "length"
    counts = found["usage"]
    assert counts["completion_tokens"] == 9
    assert counts["total_tokens"] == counts["prompt_tokens"] + 9
    assert server.get("/v1/models").json["data"][0]["id"] == found["model"] == "tiny"


def test_a_stream_is_the_answer_piece_by_piece(server: Running) -> None:
    asked = {**HELLO, "max_completion_tokens": 10, "temperature": 1.3, "seed": 4}
    whole = server.post("/v1/chat/completions", asked).json
    text = whole["choices"][0]["message"]["content"]
    found = events(server, {**asked, "stream_options": {"include_usage": True}})
    pieces = [event["choices"][0]["delta"].get("content", "") for event in found if event["choices"]]
    assert "".join(pieces) == text
    assert len([piece for piece in pieces if piece]) > 3
    assert found[0]["choices"][0]["delta"]["role"] == "assistant"
    assert [event["choices"][0]["finish_reason"] for event in found if event["choices"]][-1] == "length"
    assert found[-1]["usage"] == whole["usage"]
    stop = text[3:5]
    stopped = events(server, {**asked, "stop": [stop]})
    assert "".join(event["choices"][0]["delta"].get("content", "") for event in stopped) == text[: text.find(stop)]
    assert stopped[-1]["choices"][0]["finish_reason"] == "stop"


@pytest.mark.parametrize(
    ("more", "expected"),
    [
        ({"n": 2}, "n: expected 1"),
        ({"tools": [{}]}, "tools: expected []"),
        ({"temperature": -1}, "parameters.temperature"),
        ({"stream": True, "max_tokens": 0}, "parameters.max_tokens"),
        ({"messages": [{"role": "assistant", "content": "a"}]}, "a conversation that ends with an answer"),
        ({"messages": [{"role": "user", "content": "very " * 90}]}, "this model takes 60, the answer included"),
        ({"stream": True, "messages": "hello"}, "messages"),
    ],
)
def test_what_cannot_be_answered_is_refused(server: Running, more: dict[str, Any], expected: str) -> None:
    response = server.post("/v1/chat/completions", {**HELLO, **more})
    assert response.status == 422
    assert expected in response.json["error"]


def test_a_conversation_alone_makes_no_text_route(server: Running) -> None:
    assert server.post("/v1/completions", {"prompt": "a"}).status == 404
