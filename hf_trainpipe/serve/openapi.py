"""What /openapi.json says: the schemas of requests and responses of this package's kind, with examples."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from hf_trainpipe.runtime.tasks.columns import TEXT

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from hf_trainpipe.runtime.tasks.schema import TaskSchema

Schema = dict[str, Any]

DESCRIPTION = "Answers of a package of hf-trainpipe. Every response has X-Request-ID; a request may bring its own."
TAGS = [
    {"name": "answers", "description": "The body of Inference Endpoints."},
    {"name": "signs", "description": "For those who watch the server."},
    {"name": "v1", "description": "What OpenAI's clients ask, of packages that write texts."},
    {"name": "v2", "description": "The Open Inference Protocol, version 2."},
]

METRICS: dict[str, Any] = {
    "responses": {200: {"description": "Prometheus' text format.", "content": {"text/plain": {}}}}
}


def _object(properties: Schema, *, required: Sequence[str] | None = None) -> Schema:
    needed = list(properties if required is None else required)
    return {"type": "object", "properties": properties, "required": needed, "additionalProperties": False}


def _list(items: Schema, **more: Any) -> Schema:
    return {"type": "array", "items": items, **more}


_ERROR: Schema = {
    "type": "object",
    "properties": {
        "error": {"type": "string", "description": "What was expected and what was found."},
        "fix": {"type": "string", "description": "What to do."},
        "request_id": {"type": "string"},
        "position": {"type": "integer", "description": "Which input is meant, where one is."},
    },
    "required": ["error", "fix", "request_id"],
}
_STATUSES = {
    400: "The body is not JSON.",
    401: "No token, or a wrong one.",
    408: "The body came too slowly.",
    413: "The body, its inputs, characters or tokens are more than the server takes.",
    415: "Not application/json, or an encoded body.",
    422: "The body, an input or a parameter cannot be used.",
    429: "Too many inputs wait.",
    503: "No answer in time, or the server is about to end.",
}


def _json(schema: Schema, example: Any = None, **more: Any) -> Schema:
    given = {} if example is None else {"example": example}
    return {"application/json": {"schema": schema, **given, **more}}


def _responses(schema: Schema, example: Any, *, errors: Sequence[int]) -> dict[int | str, Any]:
    return {
        200: {"description": "As asked.", "content": _json(schema, example)},
        **{status: {"description": _STATUSES[status], "content": _json(_ERROR)} for status in errors},
    }


def of_predict(task: TaskSchema) -> dict[str, Any]:
    """Of ``POST /predict``."""
    forms = [_object({role: dict(cell.schema) for role, cell in form.items()}) for form in task.inputs]
    alone = [dict(cell.schema) for form in task.inputs for cell in form.values() if len(form) == 1 and cell == TEXT]
    item = {"anyOf": [*alone, *forms]} if len(alone) + len(forms) > 1 else forms[0]
    parameters = _object({name: dict(known.schema) for name, known in task.parameters.items()}, required=())
    parameters["type"] = ["object", "null"]
    body = _object({"inputs": {"anyOf": [item, _list(item)]}, "parameters": parameters}, required=("inputs",))
    one = task.examples[0]
    first = [{"parameters": {name: known.example}} for name, known in task.parameters.items()][:1]
    with_parameters = {"inputs": one, **(first[0] if first else {})}
    examples = {
        "one": {"summary": "One input", "value": {"inputs": one}},
        "several": {"summary": "Several", "value": {"inputs": list(task.examples)}},
        "parameters": {"summary": "With parameters", "value": with_parameters},
    }
    answer, example = dict(task.answer), task.answer_example
    return {
        "summary": "Answers",
        "description": "One answer for one input, a list for a list, in order.",
        "responses": _responses({"anyOf": [answer, _list(answer)]}, example, errors=tuple(_STATUSES)),
        "openapi_extra": {"requestBody": {"required": True, "content": _json(body, examples=examples)}},
    }


def of_embeddings(model: str) -> dict[str, Any]:
    """Of ``POST /v1/embeddings``."""
    text: Schema = {"type": "string", "minLength": 1}
    optional: Schema = {
        "model": {"type": "string", "description": "Not looked at: there is one."},
        "encoding_format": {"enum": ["float", "base64", None]},
        "dimensions": {"type": ["integer", "null"], "minimum": 1},
        "input_type": {"enum": ["query", "document", None], "description": "Which prompt is put before the texts."},
        "user": {"type": ["string", "null"]},
    }
    body = _object({"input": {"anyOf": [text, _list(text)]}, **optional}, required=("input",))
    vector = {"anyOf": [_list({"type": "number"}), {"type": "string"}]}
    item = _object({"object": {"const": "embedding"}, "index": {"type": "integer"}, "embedding": vector})
    usage = _object({"prompt_tokens": {"type": "integer"}, "total_tokens": {"type": "integer"}})
    answer = _object({"object": {"const": "list"}, "data": _list(item), "model": {"type": "string"}, "usage": usage})
    example = {"input": ["How do I return a parcel?"], "model": model}
    return {
        "summary": "Vectors, as OpenAI's clients ask for them",
        "responses": _responses(answer, None, errors=tuple(_STATUSES)),
        "openapi_extra": {"requestBody": {"required": True, "content": _json(body, example)}},
    }


def of_info(info: Mapping[str, Any]) -> dict[str, Any]:
    """Of ``GET /info``."""
    kinds = "single_label, multi_label, regression, tags, or the task's own."
    schema: Schema = {
        "type": "object",
        "properties": {
            "name": {"type": "string"},
            "inputs": {"type": "string", "description": "text, pair, words, or what else the task reads."},
            "forms": {"type": "array", "description": "The fields of an input, in each of its forms."},
            "answers": {"type": "string", "description": kinds},
            "labels": _list({"type": "string"}),
            "options": {"type": "object", "description": "threshold, scheme, low or high, as the package has them."},
            "parameters": _list({"type": "string"}),
            "scores": {"type": "object"},
            "max_length": {"type": ["integer", "null"]},
            "overflow": {"type": "string"},
            "device": {"type": "string", "description": "Where the network runs, as torch calls it."},
            "precision": {
                "enum": ["fp32", "bf16", "fp16"],
                "description": "What torch multiplies in; of an ONNX model fp32, whatever its weights are.",
            },
            "runtime": {"enum": ["installed", "package"]},
        },
    }
    return {"responses": _responses(schema, dict(info), errors=(401,))}


def of_sign(what: str) -> dict[str, Any]:
    """Of the routes that say whether the server lives and takes requests."""
    example = {"status": "ok" if what == "lives" else "ready"}
    responses = _responses(_object({"status": {"type": "string"}}), example, errors=(503,))
    return {"summary": f"Whether the server {what}", "responses": responses}


V2: dict[str, Any] = {"responses": _responses({"type": "object"}, None, errors=(401,))}
"""Of the protocol's descriptions."""


def of_completions() -> dict[str, Any]:
    """Of ``POST /v1/chat/completions`` and ``/v1/completions``, whose forms are OpenAI's."""
    answer: Schema = {
        "type": "object",
        "properties": {"choices": _list({"type": "object"}), "usage": {"type": "object"}},
        "required": ["choices"],
    }
    return {
        "responses": _responses(answer, None, errors=tuple(_STATUSES)),
        "openapi_extra": {"requestBody": {"required": True, "content": _json({"type": "object"})}},
    }


def of_infer(names: Sequence[str], outputs: Mapping[str, str]) -> dict[str, Any]:
    """Of ``POST /v2/models/{name}/infer``."""

    def tensor(allowed: Sequence[str], data: Schema) -> Schema:
        shape = _list({"type": "integer"}, minItems=1, maxItems=2)
        return _object(
            {"name": {"enum": list(allowed)}, "shape": shape, "datatype": {"type": "string"}, "data": _list(data)}
        )

    asked = _list({"type": "object", "properties": {"name": {"enum": list(outputs)}}, "required": ["name"]})
    inputs = _list(tensor(names, {"type": "string"}), minItems=len(names))
    optional = {"id": {"type": "string"}, "outputs": asked, "parameters": {"type": "object"}}
    body = _object({"inputs": inputs, **optional}, required=("inputs",))
    example = {
        "id": "1",
        "inputs": [{"name": name, "shape": [1], "datatype": "BYTES", "data": ["A text."]} for name in names],
    }
    answer: Schema = {
        "type": "object",
        "properties": {
            "model_name": {"type": "string"},
            "id": {"type": "string"},
            "outputs": _list(tensor(list(outputs), {"type": ["string", "number"]})),
        },
        "required": ["model_name", "outputs"],
    }
    return {
        "responses": _responses(answer, None, errors=tuple(_STATUSES)),
        "openapi_extra": {"requestBody": {"required": True, "content": _json(body, example)}},
    }
