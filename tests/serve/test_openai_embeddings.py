"""Vectors over HTTP as OpenAI's clients ask for them."""

from __future__ import annotations

import base64
from typing import TYPE_CHECKING, Any

import jsonschema
import numpy as np
import pytest

from hf_trainpipe import SentenceEmbeddings
from hf_trainpipe.runtime.handler.predictor import Predictor
from hf_trainpipe.testing import tiny_model
from tests.package.conftest import write_package
from tests.serve.conftest import Running, start

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

TEXTS = ["it was a good day", "anna"]


@pytest.fixture(scope="module")
def embedder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from transformers import AutoModel, AutoTokenizer

    folder = tiny_model(tmp_path_factory.mktemp("model"))
    return write_package(
        tmp_path_factory.mktemp("serve") / "embedder",
        inputs=TEXTS,
        model=AutoModel.from_pretrained(folder),
        tokenizer=AutoTokenizer.from_pretrained(folder),
        task=SentenceEmbeddings(prompt="a ", pair_prompt="the "),
        tokens={"max_length": 16, "overflow": "truncate", "stride": 0},
    )


@pytest.fixture(scope="module")
def server(embedder: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    with start(embedder, tmp_path_factory.mktemp("log") / "server.log") as running:
        yield running


def vectors(response: Any) -> np.ndarray:
    assert response.status == 200, response.body
    assert [item["index"] for item in response.json["data"]] == list(range(len(response.json["data"])))
    return np.array([item["embedding"] for item in response.json["data"]])


def test_vectors_are_those_of_the_package(server: Running, embedder: Path) -> None:
    package = Predictor.load(embedder)
    ours = np.array([answer["embedding"] for answer in package.predict(TEXTS)])
    response = server.post("/v1/embeddings", {"input": TEXTS, "model": "any", "user": "me"})
    assert np.abs(vectors(response) - ours).max() < 1e-6
    assert response.json["usage"]["total_tokens"] == package.features(TEXTS).num_tokens
    assert np.abs(vectors(server.post("/v1/embeddings", {"input": TEXTS[1]})) - ours[1:]).max() < 1e-6

    documents = [answer["embedding"] for answer in package.predict([{"text_pair": text} for text in TEXTS])]
    found = vectors(server.post("/v1/embeddings", {"input": TEXTS, "input_type": "document"}))
    assert np.abs(found - documents).max() < 1e-6
    assert np.abs(found - ours).max() > 1e-3

    short = server.post("/v1/embeddings", {"input": TEXTS, "dimensions": 4, "encoding_format": "base64"}).json["data"]
    decoded = [np.frombuffer(base64.b64decode(item["embedding"]), dtype="<f4") for item in short]
    expected = ours[:, :4] / np.linalg.norm(ours[:, :4], axis=1, keepdims=True)
    assert np.abs(np.stack(decoded) - expected).max() < 1e-6

    described = server.get("/openapi.json").json["paths"]["/v1/embeddings"]["post"]
    schema = described["responses"]["200"]["content"]["application/json"]["schema"]
    jsonschema.validate(response.json, schema)


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ({"inputs": "a"}, "expected an object with 'input'"),
        ({"input": [1, 2]}, "input: expected a text or a list of texts"),
        ({"input": "a", "dimensions": 0}, "parameters.dimensions: expected a whole number of 1 or more"),
        ({"input": "a", "encoding_format": "hex"}, "encoding_format: expected float or base64"),
        ({"input": "a", "stream": True}, "expected the keys"),
    ],
)
def test_what_cannot_be_used_is_refused(server: Running, body: dict[str, Any], message: str) -> None:
    response = server.post("/v1/embeddings", body)
    assert response.status == 422
    assert message in response.json["error"]
