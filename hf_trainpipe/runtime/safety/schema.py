"""``trainpipe.json``: what a package says about itself."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from ..errors import SchemaError
from .checks import Check, fields, is_count, is_object, is_string, is_text, list_of, map_of, one_of, or_null, wrong
from .files import read_limited
from .older import translated

FILE_NAME = "trainpipe.json"
SCHEMA = 2
"""The version written here. Packages of version 1, which had a decoder in place of a task, are translated when read."""
_LIMIT = 32 << 20


@dataclass(frozen=True, kw_only=True)
class PackageInfo:
    """The content of ``trainpipe.json``. Every field is JSON as it stands."""

    name: str
    task: dict[str, Any]
    """``{"kind": class, field: value, ...}``: the task as it was fitted, labels included."""
    about: dict[str, Any]
    """What clients, the card and file readers know without the task's class; see :func:`.about.about`."""
    columns: dict[str, Any] = field(default_factory=dict)
    """``{"rename": {old: new}, "join": {new: [names]}, "lists": {new: [names]}}`` of the recipe's data."""
    preprocessing: list[dict[str, Any]] = field(default_factory=list)
    tokens: dict[str, Any]
    """``{"max_length", "overflow", "stride"}``."""
    scores: dict[str, Any] = field(default_factory=dict)
    """``{split: {metric: {"value", "low", "high", "confidence", "n"}}}``."""
    recipe: dict[str, Any] = field(default_factory=dict)
    data: dict[str, Any] = field(default_factory=dict)
    versions: dict[str, Any] = field(default_factory=dict)
    files: dict[str, Any] = field(default_factory=dict)
    """``{name: {"size", "sha256"}}``."""
    code: dict[str, Any] | None = None
    """``{"file", "sha256"}`` of code of the recipe that the package needs."""
    model_code: list[str] = field(default_factory=list)
    """Files of code that the model itself brings; they run only with consent."""
    verified: dict[str, Any] | None = None
    resumed: dict[str, Any] | None = None
    """What killing, resuming and comparing a copy of the run gave, where it was asked for."""
    backend: str = "torch"
    """What runs the network unless the caller says otherwise."""
    backends: dict[str, Any] = field(default_factory=dict)
    """Further backends in the package (:data:`.onnx_model.FILES`), each with the figures of its gate."""

    def to_json(self) -> dict[str, Any]:
        """With ``schema`` first."""
        return {"schema": SCHEMA, **asdict(self)}


def read(folder: Path | str) -> PackageInfo:
    """Read and validate the ``trainpipe.json`` of a package.

    Raises:
        SchemaError: No such file, a link, broken JSON, another schema number, or a wrong field.
    """
    path = Path(folder) / FILE_NAME
    try:
        value = json.loads(read_limited(path, _LIMIT))
    except (FileNotFoundError, NotADirectoryError) as error:
        raise SchemaError(
            f"{folder}: expected a package, found no {FILE_NAME} in it.", fix="Give the folder of a package."
        ) from error
    except OSError as error:
        why = "it is a link" if path.is_symlink() else error.strerror
        raise SchemaError(f"{path}: cannot be read: {why}.", fix="Use a folder of plain files.") from error
    except (ValueError, RecursionError) as error:
        raise SchemaError(f"{path}: not valid JSON: {error}.", fix="Fetch or write the package again.") from error
    return validate(value, where=str(path))


def write(folder: Path | str, info: PackageInfo) -> Path:
    """Validate and write ``trainpipe.json``; returns its path.

    Raises:
        SchemaError: A field is not as it must be.
    """
    validate(info.to_json(), where=FILE_NAME)
    path = Path(folder) / FILE_NAME
    content = json.dumps(info.to_json(), ensure_ascii=False, indent=2, allow_nan=False)
    path.write_text(content + "\n", encoding="utf-8")
    return path


def validate(value: Any, *, where: str = FILE_NAME) -> PackageInfo:
    """Check the content of a ``trainpipe.json``, field by field.

    Raises:
        SchemaError: With the field, what was expected and what was found.
    """
    if not isinstance(value, Mapping):
        raise SchemaError(f"{where}: expected an object, found {value!r}.", fix="Write the package again.")
    if value.get("schema") == 1:
        value = translated(value, where=where)
    if value.get("schema") != SCHEMA:
        raise SchemaError(
            f"{where}: expected schema {SCHEMA}, found {value.get('schema')!r}.",
            fix="Use the version of the project that wrote the package.",
        )
    if unknown := sorted(set(value) - set(_FIELDS) - {"schema"}):
        raise SchemaError(f"{where}: {unknown[0]!r} is not a field.", fix="Remove it, or update the project.")
    for name, (expected, is_right) in _FIELDS.items():
        if name not in value and name in _OPTIONAL:
            continue
        if name not in value:
            raise SchemaError(f"{where}: the field {name!r} is missing.", fix="Write the package again.")
        if not is_right(value[name]):
            raise wrong(where, name, expected, _part(value[name], is_right))
    return PackageInfo(**{name: value[name] for name in _FIELDS if name in value})


def _part(value: Any, is_right: Check) -> Any:
    """The part of a value that is wrong, where it is one entry of many."""
    entries = value.items() if isinstance(value, dict) else ()
    return next(({key: item} for key, item in entries if not is_right({key: item})), value)


def _is_hash(value: Any) -> bool:
    return is_string(value) and len(value) == 64 and not set(value) - set("0123456789abcdef")


def _is_plain_path(value: Any) -> bool:
    return is_text(value) and not value.startswith("/") and not set(value.split("/")) & {"", ".", ".."}


def _is_columns(value: Any) -> bool:
    if not isinstance(value, dict) or set(value) - {"rename", "join", "lists"}:
        return False
    renamed, joined = map_of(is_text, name=is_text), map_of(list_of(is_text), name=is_text)
    return renamed(value.get("rename", {})) and joined(value.get("join", {})) and joined(value.get("lists", {}))


_ABOUT = fields(
    {
        **dict.fromkeys(("reads", "answers", "pipeline", "does"), is_text),
        "labels": list_of(is_string),
        "forms": list_of(list_of(is_string, least=1)),
        "columns": map_of(is_text, name=is_text),
        "options": is_object,
        "examples": list_of(lambda _: True, least=1),
    }
)
"""As :func:`.about.about` writes it."""
_TOKENS = fields(
    {
        "max_length": or_null(lambda value: is_count(value) and value > 0),
        "overflow": one_of("truncate", "window", "drop", "error"),
        "stride": is_count,
    },
    are_all=True,
)
_FILE = fields({"size": is_count, "sha256": _is_hash}, are_all=True)
_CODE = fields({"file": _is_plain_path, "sha256": _is_hash}, are_all=True)
_KIND = fields({"kind": is_text})
_SCORES = map_of(map_of(fields({"value": lambda _: True})))
_BACKENDS = map_of(fields({"file": _is_plain_path}), name=one_of("onnx", "onnx-int8"))
_FIELDS: dict[str, tuple[str, Check]] = {
    "name": ("a name", is_text),
    "task": ("an object with a kind", _KIND),
    "about": ("an object with reads, answers, forms and labels", _ABOUT),
    "columns": ("an object with rename, join and lists", _is_columns),
    "preprocessing": ("a list of objects with a kind", list_of(_KIND)),
    "tokens": ("an object with max_length, overflow and stride", _TOKENS),
    "scores": ("split -> metric -> object with a value", _SCORES),
    "recipe": ("an object", is_object),
    "data": ("an object", is_object),
    "versions": ("an object", is_object),
    "files": ("relative path -> size and sha256", map_of(_FILE, name=_is_plain_path)),
    "code": ("null, or a relative file and its sha256", or_null(_CODE)),
    "model_code": ("a list of relative files", list_of(_is_plain_path)),
    "verified": ("null or an object", or_null(is_object)),
    "resumed": ("null or an object", or_null(is_object)),
    "backend": ("'torch', 'onnx' or 'onnx-int8'", one_of("torch", "onnx", "onnx-int8")),
    "backends": ("backend -> object with a file", _BACKENDS),
}
_OPTIONAL = {"columns", "resumed", "backend", "backends", "model_code"}
