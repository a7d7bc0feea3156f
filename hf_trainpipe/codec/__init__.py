"""Recipes to JSON and back.

Each part is an object with its kind: ``{"kind": "HubData", "path": "stanfordnlp/sst2", ...}``.
A kind is a public name of :mod:`hf_trainpipe`, never an import path, so reading a recipe from JSON
runs no code. Unknown kinds and fields, and values of another type
than the field's, are refused. A class of a recipe file is written as ``"custom:ClassName"`` and
read back only through ``extra``.

Values without a JSON form are tagged in the same way: ``{"kind": "Path", "path": "x"}``,
``{"kind": "float", "value": "inf"}``, and ``{"kind": "dict", "items": {...}}`` for a mapping
that has a key called kind. A list comes back as what the field's type says, else as a tuple.
A table in memory is described, not stored: columns, rows, fingerprint.
"""

from __future__ import annotations

import dataclasses
import importlib
import math
from collections.abc import Mapping
from pathlib import Path, PurePath
from typing import Any, get_args, get_origin

from hf_trainpipe.codec.fields import built, conforms, field_types, is_mapping, item_types, join, members, needed, spell
from hf_trainpipe.errors import RecipeError, closest
from hf_trainpipe.recipe import Recipe
from hf_trainpipe.runtime.kinds import is_said

__all__ = ["from_json", "to_json", "value_from_json", "with_defaults"]

_TAGS = ("DataFrame", "Path", "dict", "float")


def to_json(recipe: Recipe) -> dict[str, Any]:
    """The recipe as JSON values; ``json.dumps(..., allow_nan=False)`` takes the result.

    Raises:
        RecipeError: a field has a value without a JSON form; the message begins with its name.
    """
    encoded: dict[str, Any] = _encode(recipe, "")
    return encoded


def from_json(value: Mapping[str, Any], *, extra: Mapping[str, type] | None = None) -> Recipe:
    """The recipe that :func:`to_json` wrote.

    Args:
        value: ``{"kind": "Recipe", ...}``; fields with a default may be left out.
        extra: Classes of the recipe file by name, for kinds ``custom:NAME``.

    Raises:
        RecipeError: unknown kind or field, a missing field, a value of another type, or a table
            that was in memory when the recipe was written.
    """
    recipe = _decode(value, Recipe, "", extra or {})
    if not isinstance(recipe, Recipe):
        raise RecipeError(
            f'expected a recipe, {{"kind": "Recipe", ...}}, found {value!r:.80}.',
            fix='Write the recipe as one JSON object with "kind": "Recipe".',
        )
    return recipe


def with_defaults(value: Any) -> Any:
    """A recipe in JSON with the defaults of fields that were added since it was written."""
    if isinstance(value, list):
        return [with_defaults(item) for item in value]
    if not isinstance(value, Mapping):
        return value
    filled = {name: with_defaults(item) for name, item in value.items()}
    cls = _part_class(value.get("kind"))
    for field in dataclasses.fields(cls) if cls is not None else ():
        if field.init and field.name not in filled and not field.metadata.get("unsaid"):
            if field.default is not dataclasses.MISSING:
                filled[field.name] = _encode(field.default, field.name)
            elif field.default_factory is not dataclasses.MISSING:
                filled[field.name] = _encode(field.default_factory(), field.name)
    return filled


def value_from_json(value: Any, hint: Any) -> Any:
    """A field's value from JSON: lists become tuples and texts become paths, as the type ``hint`` says."""
    return _decode(value, hint, "", {})


def _encode(value: Any, where: str) -> Any:
    if value is None or isinstance(value, bool | int | str):
        return value
    if isinstance(value, float):
        return float(value) if math.isfinite(value) else {"kind": "float", "value": repr(float(value))}
    if isinstance(value, PurePath):
        return {"kind": "Path", "path": str(value)}
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        name = type(value).__name__
        encoded = {"kind": name if _part_class(name) is type(value) else f"custom:{name}"}
        for field in dataclasses.fields(value):
            if field.name == "kind":
                raise RecipeError(
                    f"{type(value).__name__}: a field of a recipe part cannot be called kind.",
                    fix="Rename the field: kind names the class in the recipe's JSON.",
                )
            if is_said(value, field):
                encoded[field.name] = _encode(getattr(value, field.name), join(where, field.name))
        return encoded
    if isinstance(value, Mapping) and all(isinstance(key, str) for key in value):
        items = {key: _encode(item, f"{where}[{key!r}]") for key, item in value.items()}
        return {"kind": "dict", "items": items} if "kind" in items else items
    if isinstance(value, list | tuple):
        return [_encode(item, f"{where}[{position}]") for position, item in enumerate(value)]
    if isinstance(value, frozenset | set):
        return sorted(_encode(item, where) for item in value)
    if type(value).__module__.partition(".")[0] == "pandas" and hasattr(value, "columns"):
        return _describe_table(value)
    raise RecipeError(
        f"{where}: a {type(value).__name__} has no form in JSON, so the recipe cannot be recorded.",
        fix="Use numbers, text, true or false, None, tuples, mappings, paths and dataclasses of these.",
    )


def _describe_table(table: Any) -> dict[str, Any]:
    import hashlib

    try:
        content = table.to_json(orient="values", double_precision=15, date_unit="ns", default_handler=str)
    except (UnicodeError, TypeError, ValueError, OverflowError):  # bytes, halves of characters, rare numbers
        content = repr(table.values.tolist())
    columns = [str(column).encode("utf-8", "backslashreplace").decode() for column in table.columns]
    digest = hashlib.sha256("\0".join(columns).encode())
    digest.update(content.encode("utf-8", "surrogatepass"))
    return {"kind": "DataFrame", "columns": columns, "rows": len(table), "fingerprint": digest.hexdigest()}


def _public() -> list[str]:
    # Looked up at run time: a static import of the package root would tie this module to all others.
    names: dict[str, str] = importlib.import_module("hf_trainpipe").PUBLIC
    return [name for name in names if name[0].isupper()]


def _part_class(kind: Any) -> Any:
    """The public dataclass of that name; None: there is none."""
    found = getattr(importlib.import_module("hf_trainpipe"), kind) if kind in _public() else None
    return found if isinstance(found, type) and dataclasses.is_dataclass(found) else None


def _class_of(kind: str, where: str, extra: Mapping[str, type]) -> type:
    place = f"{where}: " if where else ""
    if kind.startswith("custom:"):
        name = kind.removeprefix("custom:")
        if name not in extra:
            raise RecipeError(
                f"{place}{name} is a class of the recipe file, not of hf_trainpipe.",
                fix="Load the recipe from its Python file.",
            )
        return extra[name]
    found: type | None = _part_class(kind)
    if found is not None:
        return found
    raise RecipeError(
        f"{place}no part of a recipe is called {kind!r}.{closest(kind, _public())}",
        fix='Use the name of a class of hf_trainpipe as "kind".',
    )


def _decode(value: Any, hint: Any, where: str, extra: Mapping[str, type]) -> Any:
    if isinstance(value, Mapping):
        kind = value.get("kind")
        if kind is None:
            hints = [get_args(member)[1] for member in members(hint) if is_mapping(member)]
            item_hint = hints[0] if hints else Any
            return {key: _decode(item, item_hint, f"{where}[{key!r}]", extra) for key, item in value.items()}
        if kind in _TAGS:
            return _decode_tag(value, where, extra)
        return _decode_part(value, kind, where, extra)
    if isinstance(value, list | tuple):
        return _decode_list(value, hint, where, extra)
    allowed = members(hint)
    if isinstance(value, str) and Path in allowed and str not in allowed:
        return Path(value)
    return value


def _decode_tag(value: Mapping[str, Any], where: str, extra: Mapping[str, type]) -> Any:
    match dict(value):
        case {"kind": "float", "value": "inf" | "-inf" | "nan" as number, **rest} if not rest:
            return float(number)
        case {"kind": "Path", "path": str(path), **rest} if not rest:
            return Path(path)
        case {"kind": "dict", "items": dict(items), **rest} if not rest:
            return {key: _decode(item, Any, f"{where}[{key!r}]", extra) for key, item in items.items()}
        case {"kind": "DataFrame"}:
            raise RecipeError(
                f"{where}: the recipe was trained on a table in memory, and only its description is "
                f"recorded: {value.get('rows')} rows of {value.get('columns')}.",
                fix="Load the recipe from its Python file, or write the table to a file and use Files.",
            )
    raise RecipeError(
        f"{where}: found a malformed {value['kind']}: {value!r:.80}.",
        fix='Write {"kind": "Path", "path": "..."}, {"kind": "float", "value": "inf"} or '
        '{"kind": "dict", "items": {...}}.',
    )


def _decode_part(value: Mapping[str, Any], kind: Any, where: str, extra: Mapping[str, type]) -> Any:
    cls = _class_of(str(kind), where, extra)
    hints = field_types(cls)
    fields = {field.name: field for field in dataclasses.fields(cls) if field.init}
    chosen = {}
    for name, item in value.items():
        if name == "kind":
            continue
        place = join(where, name)
        if name not in fields:
            raise RecipeError(
                f"{place}: {kind} has no field {name!r}.{closest(name, fields)}",
                fix=f"{kind} takes: {', '.join(fields)}.",
            )
        chosen[name] = _decode(item, hints[name], place, extra)
        if not conforms(chosen[name], hints[name]):
            raise RecipeError(
                f"{place}: expected {spell(hints[name])}, found {item!r:.80}.",
                fix=f"Give {place} a value of that type.",
            )
    for name in needed(cls):
        if name not in chosen:
            raise RecipeError(
                f"{join(where, name)}: {kind} needs a value for {name!r}, found none.",
                fix=f'Add "{name}": {spell(hints[name])}.',
            )
    return built(lambda: cls(**chosen), where)


def _decode_list(value: list[Any] | tuple[Any, ...], hint: Any, where: str, extra: Mapping[str, type]) -> Any:
    containers = [m for m in members(hint) if (get_origin(m) or m) in (tuple, list, frozenset, set)]
    container = containers[0] if containers else tuple
    hints = [*item_types(container, len(value)), *[Any] * len(value)]  # conforms() refuses one too many
    items = [_decode(item, h, f"{where}[{i}]", extra) for i, (item, h) in enumerate(zip(value, hints, strict=False))]
    make = get_origin(container) or container
    return make(items)
