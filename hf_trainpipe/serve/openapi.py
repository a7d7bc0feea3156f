"""What /openapi.json says: the schemas of requests and responses of this package's kind, with examples."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from fastapi import Response

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

__all__ = ["DESCRIPTION", "METRICS", "TAGS", "of_info", "of_infer", "of_predict", "of_sign", "of_v2"]

Schema = dict[str, Any]

DESCRIPTION = "Answers of a package of hf-trainpipe. Every response has X-Request-ID; a request may bring its own."
TAGS = [
    {"name": "answers", "description": "The body of Inference Endpoints."},
    {"name": "signs", "description": "For those who watch the server."},
    {"name": "v2", "description": "The Open Inference Protocol, version 2."},
]

METRICS: dict[str, Any] = {
    "response_class": Response,
    "responses": {200: {"description": "Prometheus' text format.", "content": {"text/plain": {}}}},
}

_TEXT: Schema = {"type": "string", "minLength": 1}
_SCORE: Schema = {"type": "number", "minimum": 0, "maximum": 1}


def _object(properties: Schema, *, required: Sequence[str] | None = None) -> Schema:
    needed = list(properties if required is None else required)
    return {"type": "object", "properties": properties, "required": needed, "additionalProperties": False}


def _list(items: Schema, **more: Any) -> Schema:
    return {"type": "array", "items": items, **more}


_INPUTS: dict[str, tuple[Schema, Any, Any]] = {
    "text": (
        {"anyOf": [_TEXT, _object({"text": _TEXT})]},
        "The parcel arrived a day early.",
        ["The parcel arrived a day early.", {"text": "Nobody answers the phone."}],
    ),
    "pair": (
        _object({"text": _TEXT, "text_pair": _TEXT}),
        {"text": "A man sleeps.", "text_pair": "Nobody is awake."},
        [{"text": "A man sleeps.", "text_pair": "Nobody is awake."}],
    ),
    "words": (
        {"anyOf": [_TEXT, _object({"text": _TEXT}), _object({"words": _list({"type": "string"}, minItems=1)})]},
        "Anna left Rome.",
        ["Anna left Rome.", {"words": ["Anna", "left", "Rome", "."]}],
    ),
}
_PARAMETERS: dict[str, Schema] = {
    "top_k": {"type": ["integer", "null"], "minimum": 1, "description": "How many labels, the best first."},
    "threshold": {
        "type": ["number", "null"],
        "minimum": 0,
        "maximum": 1,
        "description": "Least probability of a label, instead of the package's own.",
    },
    "aggregation": {
        "enum": ["simple", "none", None],
        "description": "simple: entities; none: an item a word.",
    },
}
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


def _answer(info: Mapping[str, Any]) -> tuple[Schema, Any]:
    labels = list(info["labels"]) or ["label"]
    label: Schema = {"type": "string", "enum": labels}
    kind = info["answers"]
    if kind == "regression":
        return _object({"score": {"type": "number"}}), {"score": 3.5}
    if kind == "tags":
        place: Schema = {"type": "integer", "minimum": 0}
        properties = {"label": {"type": ["string", "null"]}, "text": {"type": "string"}}
        item = _object({**properties, "start": place, "end": place, "score": _SCORE})
        name = labels[-1].split("-", 1)[-1]
        return _list(item), [{"label": name, "text": "Anna", "start": 0, "end": 4, "score": 0.98}]
    return _list(_object({"label": label, "score": _SCORE})), [{"label": labels[0], "score": 0.98}]


def _json(schema: Schema, example: Any = None, **more: Any) -> Schema:
    given = {} if example is None else {"example": example}
    return {"application/json": {"schema": schema, **given, **more}}


def _responses(schema: Schema, example: Any, *, errors: Sequence[int], what: str = "As asked.") -> dict[int | str, Any]:
    return {
        200: {"description": what, "content": _json(schema, example)},
        **{status: {"description": _STATUSES[status], "content": _json(_ERROR)} for status in errors},
    }


def of_predict(info: Mapping[str, Any]) -> dict[str, Any]:
    """Of ``POST /predict``."""
    item, one, several = _INPUTS[info["inputs"]]
    parameters = _object({name: _PARAMETERS[name] for name in info["parameters"]}, required=())
    parameters["type"] = ["object", "null"]
    body = _object({"inputs": {"anyOf": [item, _list(item)]}, "parameters": parameters}, required=("inputs",))
    first = next(iter(info["parameters"]), None)
    values = {"top_k": 1, "threshold": 0.5, "aggregation": "simple"}
    with_parameters = {"inputs": one, **({"parameters": {first: values[first]}} if first else {})}
    examples = {
        "one": {"summary": "One input", "value": {"inputs": one}},
        "several": {"summary": "Several", "value": {"inputs": several}},
        "parameters": {"summary": "With parameters", "value": with_parameters},
    }
    answer, example = _answer(info)
    return {
        "summary": "Answers",
        "description": "One answer for one input, a list for a list, in order.",
        "response_class": Response,
        "responses": _responses({"anyOf": [answer, _list(answer)]}, example, errors=tuple(_STATUSES)),
        "openapi_extra": {"requestBody": {"required": True, "content": _json(body, examples=examples)}},
    }


def of_info(info: Mapping[str, Any]) -> dict[str, Any]:
    """Of ``GET /info``."""
    schema: Schema = {
        "type": "object",
        "properties": {
            "name": {"type": "string"},
            "inputs": {"enum": list(_INPUTS)},
            "answers": {"enum": ["single_label", "multi_label", "regression", "tags"]},
            "labels": _list({"type": "string"}),
            "options": {"type": "object", "description": "threshold, scheme, low or high, as the package has them."},
            "parameters": _list({"type": "string"}),
            "scores": {"type": "object"},
            "max_length": {"type": ["integer", "null"]},
            "overflow": {"type": "string"},
            "runtime": {"enum": ["installed", "package"]},
        },
    }
    return {"response_class": Response, "responses": _responses(schema, dict(info), errors=(401,))}


def of_sign(what: str) -> dict[str, Any]:
    """Of the routes that say whether the server lives and takes requests."""
    schema: Schema = _object({"status": {"type": "string"}})
    return {
        "summary": f"Whether the server {what}",
        "response_class": Response,
        "responses": _responses(schema, {"status": "ok" if what == "lives" else "ready"}, errors=(503,)),
    }


def of_v2() -> dict[str, Any]:
    """Of the protocol's descriptions."""
    return {"response_class": Response, "responses": _responses({"type": "object"}, None, errors=(401,))}


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
        "response_class": Response,
        "responses": _responses(answer, None, errors=tuple(_STATUSES)),
        "openapi_extra": {"requestBody": {"required": True, "content": _json(body, example)}},
    }
