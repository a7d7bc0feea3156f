"""``trainpipe.json``: what a package says about itself."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from ..errors import SchemaError
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
    """``{"rename": {old: new}, "join": {new: [names]}}`` of the recipe's data."""
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
            raise SchemaError(
                f"{where}: {name}: expected {expected}, found {_shown(value[name], is_right)}.",
                fix="Write the package again.",
            )
    return PackageInfo(**{name: value[name] for name in _FIELDS if name in value})


def _shown(value: Any, is_right: Callable[[Any], bool]) -> str:
    """The part of a value that is wrong, where it is one entry of many; cut to a line."""
    if isinstance(value, dict):
        value = next(({key: item} for key, item in value.items() if not is_right({key: item})), value)
    text = repr(value)
    return text if len(text) <= 200 else text[:200] + "..."


def _is_text(value: Any) -> bool:
    return isinstance(value, str) and bool(value)


def _is_count(value: Any) -> bool:
    return type(value) is int and value >= 0


def _is_hash(value: Any) -> bool:
    return isinstance(value, str) and len(value) == 64 and not set(value) - set("0123456789abcdef")


def _is_plain_path(value: Any) -> bool:
    return _is_text(value) and not value.startswith("/") and not set(value.split("/")) & {"", ".", ".."}


def _is_task(value: Any) -> bool:
    return isinstance(value, dict) and _is_text(value.get("kind"))


def _is_about(value: Any) -> bool:
    """As :func:`.about.about` writes it."""
    return (
        isinstance(value, dict)
        and all(_is_text(value.get(name)) for name in ("reads", "answers", "pipeline", "does"))
        and _is_texts(value.get("labels"))
        and isinstance(value.get("forms"), list)
        and all(_is_texts(form) and form for form in value["forms"])
        and isinstance(value.get("columns"), dict)
        and all(map(_is_text, [*value["columns"], *value["columns"].values()]))
        and isinstance(value.get("options"), dict)
        and isinstance(value.get("examples"), list)
        and bool(value["examples"])
    )


def _is_texts(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(item, str) for item in value)


def _is_tokens(value: Any) -> bool:
    return (
        isinstance(value, dict)
        and set(value) == {"max_length", "overflow", "stride"}
        and (value["max_length"] is None or (_is_count(value["max_length"]) and value["max_length"] > 0))
        and value["overflow"] in ("truncate", "window", "drop", "error")
        and _is_count(value["stride"])
    )


def _is_scores(value: Any) -> bool:
    return isinstance(value, dict) and all(
        isinstance(metrics, dict) and all(isinstance(s, dict) and "value" in s for s in metrics.values())
        for metrics in value.values()
    )


def _is_files(value: Any) -> bool:
    return isinstance(value, dict) and all(
        _is_plain_path(name)
        and isinstance(item, dict)
        and set(item) == {"size", "sha256"}
        and _is_count(item["size"])
        and _is_hash(item["sha256"])
        for name, item in value.items()
    )


def _is_code(value: Any) -> bool:
    if value is None:
        return True
    is_object = isinstance(value, dict) and set(value) == {"file", "sha256"}
    return is_object and _is_plain_path(value["file"]) and _is_hash(value["sha256"])


def _is_backends(value: Any) -> bool:
    return isinstance(value, dict) and all(
        name in ("onnx", "onnx-int8") and isinstance(item, dict) and _is_plain_path(item.get("file"))
        for name, item in value.items()
    )


def _is_columns(value: Any) -> bool:
    if not isinstance(value, dict) or set(value) - {"rename", "join"}:
        return False
    back, joined = value.get("rename", {}), value.get("join", {})
    return (
        isinstance(back, dict)
        and isinstance(joined, dict)
        and all(map(_is_text, [*back, *back.values(), *joined]))
        and all(isinstance(parts, list) and all(map(_is_text, parts)) for parts in joined.values())
    )


def _is_object(value: Any) -> bool:
    return isinstance(value, dict)


_FIELDS: dict[str, tuple[str, Callable[[Any], bool]]] = {
    "name": ("a name", _is_text),
    "task": ("an object with a kind", _is_task),
    "about": ("an object with reads, answers, forms and labels", _is_about),
    "columns": ("an object with rename and join", _is_columns),
    "preprocessing": (
        "a list of objects with a kind",
        lambda v: isinstance(v, list) and all(isinstance(s, dict) and _is_text(s.get("kind")) for s in v),
    ),
    "tokens": ("an object with max_length, overflow and stride", _is_tokens),
    "scores": ("split -> metric -> object with a value", _is_scores),
    "recipe": ("an object", _is_object),
    "data": ("an object", _is_object),
    "versions": ("an object", _is_object),
    "files": ("relative path -> size and sha256", _is_files),
    "code": ("null, or a relative file and its sha256", _is_code),
    "model_code": ("a list of relative files", lambda v: isinstance(v, list) and all(map(_is_plain_path, v))),
    "verified": ("null or an object", lambda v: v is None or isinstance(v, dict)),
    "resumed": ("null or an object", lambda v: v is None or isinstance(v, dict)),
    "backend": ("'torch', 'onnx' or 'onnx-int8'", lambda v: v in ("torch", "onnx", "onnx-int8")),
    "backends": ("backend -> object with a file", _is_backends),
}
_OPTIONAL = {"columns", "resumed", "backend", "backends", "model_code"}
