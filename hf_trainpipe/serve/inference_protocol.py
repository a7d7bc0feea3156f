"""The V2 inference protocol (Open Inference Protocol), as KServe, Triton and MLServer speak it.

Texts come as tensors of BYTES named ``text`` and, for pairs, ``text_pair``; an answer is one element of the tensor
``answers``, JSON as ``/predict`` gives it. Classifiers with one label give ``label`` and ``score`` too.

https://github.com/kserve/open-inference-protocol/blob/main/specification/protocol/inference_rest.md
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from fastapi import FastAPI, Request, Response
from pydantic_core import to_json

from hf_trainpipe import __version__
from hf_trainpipe.runtime.tasks.columns import TEXT
from hf_trainpipe.serve import openapi
from hf_trainpipe.serve.callers import CALLER
from hf_trainpipe.serve.json_bodies import json_response, read_json
from hf_trainpipe.serve.refusals import Refusal

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from hf_trainpipe.runtime.tasks.schema import TaskSchema
    from hf_trainpipe.serve.batcher import Batcher

_KEYS = {"id", "inputs", "outputs", "parameters"}


def add_routes(app: FastAPI, info: Mapping[str, Any], task: TaskSchema, batcher: Batcher) -> None:
    """Add the protocol's routes but those of health, which are the server's own."""
    names = tuple(_texts(task))
    outputs = {"answers": "BYTES", **({"label": "BYTES", "score": "FP64"} if task.best is not None else {})}

    @app.get("/v2", tags=["v2"], summary="The server", **openapi.V2)
    async def v2_server() -> Response:
        return json_response({"name": "hf-trainpipe", "version": __version__, "extensions": []})

    @app.get("/v2/models/{name}", tags=["v2"], summary="The model", **openapi.V2)
    async def v2_model(name: str) -> Response:
        _same(name, info)
        return json_response(
            {
                "name": info["name"],
                "platform": "hf_trainpipe",
                "inputs": [{"name": tensor, "datatype": "BYTES", "shape": [-1]} for tensor in names],
                "outputs": [{"name": tensor, "datatype": kind, "shape": [-1]} for tensor, kind in outputs.items()],
            }
        )

    @app.get("/v2/models/{name}/ready", tags=["v2"], summary="Whether it takes requests", **openapi.V2)
    async def v2_model_ready(name: str) -> Response:
        _same(name, info)
        return json_response({"name": info["name"], "ready": batcher.is_alive})

    @app.post("/v2/models/{name}/infer", tags=["v2"], summary="Answers as tensors", **openapi.of_infer(names, outputs))
    async def v2_infer(name: str, request: Request) -> Response:
        _same(name, info)
        body = _object(await read_json(request))
        texts = _tensors(body["inputs"], names)
        wanted = _wanted(body.get("outputs"), outputs)
        first = texts[names[0]]
        batcher.admission.check_inputs(first)
        for role in names[1:]:
            fits = len(texts[role]) == len(first)
            _expect(fits, "inputs", f"as many elements in {role} as in {names[0]}", len(texts[role]))
        rows = zip(*(texts[role] for role in names), strict=True)
        inputs: list[Any] = [dict(zip(names, values, strict=True)) for values in rows]
        answers = await batcher.ask(inputs, body.get("parameters") or {}, request.scope.get(CALLER))
        columns: dict[str, list[Any]] = {"answers": [to_json(answer).decode() for answer in answers]}
        if task.best is not None:
            best = [task.best(answer) for answer in answers]
            columns["label"], columns["score"] = [label for label, _ in best], [score for _, score in best]
        tensors = [
            {"name": tensor, "datatype": outputs[tensor], "shape": [len(answers)], "data": columns[tensor]}
            for tensor in wanted
        ]
        given_id = {"id": body["id"]} if "id" in body else {}
        return json_response({"model_name": info["name"], **given_id, "outputs": tensors})


def _texts(task: TaskSchema) -> list[str]:
    """The roles of the form that is texts alone: what tensors of BYTES can hold."""
    return next(
        (list(form) for form in task.inputs if all(cell == TEXT for cell in form.values())), list(task.inputs[0])
    )


def _same(name: str, info: Mapping[str, Any]) -> None:
    if name != info["name"]:
        raise Refusal(404, "model", f"model: expected {info['name']!r}, found another.", "Correct the path.")


def _expect(holds: bool, where: str, expected: str, found: Any) -> None:
    if not holds:
        shown = found if isinstance(found, int | float | None) else type(found).__name__
        raise Refusal(422, "v2", f"{where}: expected {expected}, found {shown}.", "See GET /openapi.json.")


def _object(body: Any) -> dict[str, Any]:
    _expect(isinstance(body, dict) and "inputs" in body, "body", "an object with 'inputs'", body)
    if set(body) - _KEYS:
        raise Refusal(422, "v2", f"body: expected the keys {sorted(_KEYS)}, found another.", "Remove it.")
    name, parameters = body.get("id", ""), body.get("parameters")
    _expect(isinstance(name, str) and len(name) <= 128, "id", "a string of at most 128 characters", name)
    _expect(isinstance(parameters, dict | None), "parameters", "an object", parameters)
    read: dict[str, Any] = body
    return read


def _tensors(inputs: Any, names: Sequence[str]) -> dict[str, list[Any]]:
    found: dict[str, list[Any]] = {}
    for place, tensor in enumerate(inputs if isinstance(inputs, list) else [inputs]):
        where = f"inputs[{place}]"
        is_new = isinstance(tensor, dict) and tensor.get("name") in names and tensor["name"] not in found
        _expect(is_new, where, f"a tensor named {' or '.join(names)}, once", tensor)
        _expect(tensor.get("datatype") == "BYTES", f"{where}.datatype", "'BYTES'", tensor.get("datatype"))
        data = tensor.get("data")
        fits = isinstance(data, list) and tensor.get("shape") in ([len(data)], [len(data), 1])
        _expect(fits, where, "a list 'data' and its length as 'shape'", data)
        found[tensor["name"]] = data
    for name in names:
        _expect(name in found, "inputs", f"a tensor named {name}", len(found))
    return found


def _wanted(asked: Any, outputs: Mapping[str, str]) -> list[str]:
    if asked is None:
        return list(outputs)
    _expect(isinstance(asked, list), "outputs", "a list of objects with a name", asked)
    names: list[str] = []
    for place, item in enumerate(asked):
        name: Any = item.get("name") if isinstance(item, dict) else None
        is_output = isinstance(name, str) and name in outputs
        _expect(is_output, f"outputs[{place}]", f"an object with a name out of {', '.join(outputs)}", item)
        names.append(name)
    return names
