"""trainpipe.json of schema 1, from before a task was one file: checked, and put into the words of today."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..errors import RecipeError, SchemaError
from ..tasks.about import about
from ..tasks.older import has_known_columns, task_of_decoder
from .checks import fields, is_object, is_string, is_text, list_of, or_null, wrong

_KINDS = ("single_label", "multi_label", "regression", "tags")
_OPTIONS = {"single_label": (), "multi_label": ("threshold",), "regression": ("low", "high"), "tags": ("scheme",)}
_is_decoder = fields({"kind": is_string, "labels": list_of(is_string), "options": is_object}, are_all=True)
_GONE = ("decoder", "inputs", "splitter")


def translated(manifest: Mapping[str, Any], *, where: str) -> dict[str, Any]:
    """The manifest with ``task`` and ``about`` in place of ``decoder``, ``inputs`` and ``splitter``.

    Raises:
        SchemaError: one of these is not as it must be.
    """
    for name in ("decoder", "inputs"):
        if name not in manifest:
            raise SchemaError(f"{where}: the field {name!r} is missing.", fix="Write the package again.")
    decoder, inputs = manifest["decoder"], manifest["inputs"]
    if not _is_decoder(decoder):
        raise wrong(where, "decoder", "an object with kind, labels and options", decoder)
    if inputs not in ("text", "pair", "words"):
        raise wrong(where, "inputs", "'text', 'pair' or 'words'", inputs)
    if decoder["kind"] not in _KINDS:
        raise wrong(where, "decoder.kind", f"one of {', '.join(_KINDS)}", decoder["kind"])
    if unknown := sorted(set(decoder["options"]) - set(_OPTIONS[decoder["kind"]])):
        raise wrong(where, "decoder.options", f"{list(_OPTIONS[decoder['kind']])}", unknown[0])
    if (inputs == "words") != (decoder["kind"] == "tags"):
        raise SchemaError(
            f"{where}: inputs {inputs!r} do not go with a decoder {decoder['kind']!r}.",
            fix="Words are for tags, and texts for the others.",
        )
    splitter = manifest.get("splitter")
    if not or_null(is_text)(splitter):
        raise wrong(where, "splitter", "the name of a splitter, or null", splitter)
    if not _is_columns(columns := manifest.get("columns", {})):
        raise wrong(where, "columns", "an object with inputs and target", columns)
    try:
        task = task_of_decoder(manifest)
        told = about(task)
        if not (columns.get("inputs") or has_known_columns(manifest)):
            told |= {"columns": {}, "target": None}
    except (RecipeError, TypeError, ValueError, AttributeError) as error:
        raise wrong(where, "decoder", f"what goes together ({getattr(error, 'message', error)})", decoder) from error
    kept = {name: value for name, value in manifest.items() if name not in _GONE}
    renamed = {name: columns[name] for name in ("rename", "join") if name in columns}
    if not columns and isinstance(data := (manifest.get("recipe") or {}).get("data"), Mapping):
        renamed = {name: data.get(name) or {} for name in ("rename", "join")}
    return {**kept, "schema": 2, "task": task.to_json(), "about": told, "columns": renamed}


def _is_columns(value: Any) -> bool:
    if not isinstance(value, dict) or set(value) - {"inputs", "target", "rename", "join"}:
        return False
    return list_of(is_text)(value.get("inputs", [])) and or_null(is_text)(value.get("target"))
