"""trainpipe.json of schema 1, from before a task was one file: checked, and put into the words of today."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..errors import RecipeError, SchemaError
from ..tasks.about import about
from ..tasks.older import has_known_columns, task_of_decoder

_KINDS = ("single_label", "multi_label", "regression", "tags")
_OPTIONS = {"single_label": (), "multi_label": ("threshold",), "regression": ("low", "high"), "tags": ("scheme",)}
_GONE = ("decoder", "inputs", "splitter")


def translated(manifest: Mapping[str, Any], *, where: str) -> dict[str, Any]:
    """The manifest with ``task`` and ``about`` in place of ``decoder``, ``inputs`` and ``splitter``.

    Raises:
        SchemaError: one of these is not as it must be.
    """

    def refuse(field: str, expected: str, found: Any) -> SchemaError:
        shown = repr(found)
        return SchemaError(
            f"{where}: {field}: expected {expected}, found {shown if len(shown) <= 200 else shown[:200] + '...'}.",
            fix="Write the package again.",
        )

    for name in ("decoder", "inputs"):
        if name not in manifest:
            raise SchemaError(f"{where}: the field {name!r} is missing.", fix="Write the package again.")
    decoder, inputs = manifest["decoder"], manifest["inputs"]
    if not _is_decoder(decoder):
        raise refuse("decoder", "an object with kind, labels and options", decoder)
    if inputs not in ("text", "pair", "words"):
        raise refuse("inputs", "'text', 'pair' or 'words'", inputs)
    if decoder["kind"] not in _KINDS:
        raise refuse("decoder.kind", f"one of {', '.join(_KINDS)}", decoder["kind"])
    if unknown := sorted(set(decoder["options"]) - set(_OPTIONS[decoder["kind"]])):
        raise refuse("decoder.options", f"{list(_OPTIONS[decoder['kind']])}", unknown[0])
    if (inputs == "words") != (decoder["kind"] == "tags"):
        raise SchemaError(
            f"{where}: inputs {inputs!r} do not go with a decoder {decoder['kind']!r}.",
            fix="Words are for tags, and texts for the others.",
        )
    splitter = manifest.get("splitter")
    if not (splitter is None or (isinstance(splitter, str) and splitter)):
        raise refuse("splitter", "the name of a splitter, or null", splitter)
    if not _is_columns(columns := manifest.get("columns", {})):
        raise refuse("columns", "an object with inputs and target", columns)
    try:
        task = task_of_decoder(manifest)
        told = about(task)
        if not (columns.get("inputs") or has_known_columns(manifest)):
            told |= {"columns": {}, "target": None}
    except (RecipeError, TypeError, ValueError, AttributeError) as error:
        raise refuse("decoder", f"what goes together ({getattr(error, 'message', error)})", decoder) from error
    kept = {name: value for name, value in manifest.items() if name not in _GONE}
    renamed = {name: columns[name] for name in ("rename", "join") if name in columns}
    if not columns and isinstance(data := (manifest.get("recipe") or {}).get("data"), Mapping):
        renamed = {name: data.get(name) or {} for name in ("rename", "join")}
    return {**kept, "schema": 2, "task": task.to_json(), "about": told, "columns": renamed}


def _is_decoder(value: Any) -> bool:
    return (
        isinstance(value, dict)
        and set(value) == {"kind", "labels", "options"}
        and isinstance(value["kind"], str)
        and isinstance(value["labels"], list)
        and all(isinstance(label, str) for label in value["labels"])
        and isinstance(value["options"], dict)
    )


def _is_columns(value: Any) -> bool:
    if not isinstance(value, dict) or set(value) - {"inputs", "target", "rename", "join"}:
        return False
    names, target = value.get("inputs", []), value.get("target")
    is_named = isinstance(names, list) and all(isinstance(name, str) and name for name in names)
    return is_named and (target is None or (isinstance(target, str) and bool(target)))
