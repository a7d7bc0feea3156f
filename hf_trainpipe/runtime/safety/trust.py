"""What a package must be before anything of it is read: see :mod:`.files`, :mod:`.weights` and :mod:`.onnx_file`.

Nothing of a package's own code runs here, and nothing is imported from it.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from ..errors import SchemaError
from .files import DOCUMENT, MANIFEST, Problem, facts_of, problems, read_limited
from .onnx_file import check_onnx
from .stamps import Stamps, identity
from .weights import INDEX, WEIGHTS, check_weights

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from .schema import PackageInfo

_SHOWN = 5
_CONFIGURATIONS = ("config.json", "tokenizer_config.json")
_KERNELS = ("attn_implementation", "_attn_implementation", "_attn_implementation_internal", "experts_implementation")
_PATHS = ("fast_tokenizer_files",)


def check(
    folder: Path, info: PackageInfo, *, model: str | None = None, allow_code: bool = False
) -> dict[str, tuple[int, ...]]:
    """Refuse a package that is not as its trainpipe.json says, or that would run code nobody agreed to.

    Args:
        folder: The package, resolved.
        model: The ONNX file that will run, such as ``onnx/model.onnx``; None: the torch model. Weights that will not run
            are not hashed.
        allow_code: Whether the model's own code may run.

    Returns:
        What the files looked like, for :func:`recheck`.

    Raises:
        SchemaError: one screen: what was expected, what was found in which file, what to do.
    """

    weights = ("adapter/", "onnx/model", "tensorflow/", *(() if model is None else ("model",)))

    def unread(name: str) -> bool:
        is_other = name.startswith(weights) and name.removesuffix(".data") != model and not name.endswith(".py")
        return is_other or bool(DOCUMENT.fullmatch(name))

    stamps = Stamps(folder)
    try:
        found = problems(folder, info.files, unread=unread, stamps=stamps)
        if found:
            raise refusal(folder, found)
        _check_content(folder, info, model=model, allow_code=allow_code)
    except OSError as error:
        raise SchemaError(f"{error.filename or folder}: cannot be read: {error.strerror}.") from error
    stamps.save()
    return stamps.seen


def recheck(folder: Path, seen: Mapping[str, tuple[int, ...]]) -> None:
    """Refuse a package whose files were exchanged while they were loaded.

    Raises:
        SchemaError: a file is another than the one that was checked.
    """
    for name, before in seen.items():
        try:
            now = identity(facts_of(folder / name))
        except OSError:
            now = ()
        if now != before:
            raise SchemaError(
                f"{folder}: {name} was changed while it was loaded.",
                fix="Keep others from writing there, and load again.",
            )


def refusal(folder: Path, found: Sequence[Problem]) -> SchemaError:
    """The one screen about files that differ."""
    shown = "; ".join(problem.text for problem in found[:_SHOWN])
    more = f"; and {len(found) - _SHOWN} more" if len(found) > _SHOWN else ""
    fixes = dict.fromkeys(problem.fix for problem in found[:_SHOWN])
    return SchemaError(
        f"{folder} is not as it was written: {shown}{more}.",
        fix="\n".join(fixes),
        problems=[problem.text for problem in found],
    )


def _check_content(folder: Path, info: PackageInfo, *, model: str | None, allow_code: bool) -> None:
    if info.code is not None and info.files.get(info.code["file"], {}).get("sha256") != info.code["sha256"]:
        raise SchemaError(
            f"{folder / MANIFEST}: the code {info.code['file']!r} is not among its files, or with another sha256.",
        )
    if strange := [name for name in info.model_code if name not in info.files]:
        raise SchemaError(f"{folder / MANIFEST}: the model's code {strange[0]!r} is not among its files.")
    if model is not None:
        check_onnx(folder, model, info.files)
        return
    if not {WEIGHTS, INDEX} & set(info.files):
        raise SchemaError(f"{folder}: expected {WEIGHTS}, found none in {MANIFEST}.")
    check_weights(folder, info.files)
    for name in _CONFIGURATIONS:
        if name in info.files:
            _check_configuration(folder / name, code=info.model_code, allow_code=allow_code)


def _check_configuration(path: Path, *, code: Sequence[str], allow_code: bool) -> None:
    try:
        content = json.loads(read_limited(path))
        if not isinstance(content, dict):
            raise ValueError(f"expected an object, found {type(content).__name__}")
        found = _named(content, ("auto_map", *_KERNELS, *_PATHS))
    except (ValueError, RecursionError) as error:
        raise SchemaError(f"{path} cannot be read: {str(error)[:200]}.") from error
    for name, value in found:
        if name == "auto_map" and allow_code:
            _check_classes(path, value, code)
        elif name == "auto_map":
            raise SchemaError(
                f"{path}: the model or tokenizer needs code of its own (auto_map), which was not run.",
                fix="Read it; if you trust it: --allow-code, allow_code=True or TRAINPIPE_ALLOW_CODE=1.",
            )
        elif name in _PATHS or "/" in json.dumps(value):
            raise SchemaError(
                f"{path}: {name} names files or code outside of the package: {str(value)[:100]!r}.",
                fix="Do not use this package.",
            )


def _check_classes(path: Path, classes: Any, code: Sequence[str]) -> None:
    """Classes of the model's own come from its listed files alone: ``user/name--module.Class`` would be fetched."""
    values = classes.values() if isinstance(classes, dict) else [classes]
    for value in values:
        for name in value if isinstance(value, list) else [value]:
            if name is not None and f"{str(name).rpartition('.')[0]}.py" not in code:
                raise SchemaError(
                    f"{path}: auto_map names code outside of the package: {str(name)[:100]!r}.",
                    fix="Do not use this package.",
                )


def _named(value: Any, names: Sequence[str]) -> list[tuple[str, Any]]:
    """Every field of these names, at any depth, with its value where that is not empty."""
    if isinstance(value, dict):
        own = [(name, value[name]) for name in names if value.get(name)]
        return own + [pair for child in value.values() for pair in _named(child, names)]
    if isinstance(value, list):
        return [pair for child in value for pair in _named(child, names)]
    return []
