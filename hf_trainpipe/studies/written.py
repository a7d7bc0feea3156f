"""A recipe as the Python file that a person would write: what differs from the defaults, and nothing else."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from hf_trainpipe.recipe import Recipe

_WIDE = 100


def as_python(recipe: Recipe, *, about: str) -> str:
    """The text of a recipe file.

    Args:
        about: Its docstring, without quotes.
    """
    names: set[str] = set()
    body = _expression(recipe, names, indent=4)
    imports = ", ".join(sorted({*names, "main"}))
    if len(imports) > _WIDE:
        imports = "(\n" + "".join(f"    {name},\n" for name in sorted({*names, "main"})) + ")"
    quoted = about.replace("\\", "\\\\").replace('"""', "'''")
    return (
        f'"""{quoted}\n"""\n\nfrom hf_trainpipe import {imports}\n\n\ndef recipe() -> Recipe:\n    return {body}\n\n\n'
        f'if __name__ == "__main__":\n    main(recipe)\n'
    )


def _expression(value: Any, names: set[str], *, indent: int) -> str:
    """A value as Python; ``names`` collects the classes."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        kind = type(value).__name__
        names.add(kind)
        parts = [
            f"{item.name}={_expression(getattr(value, item.name), names, indent=indent + 4)}"
            for item in dataclasses.fields(value)
            if item.init and getattr(value, item.name) != _default(item)
        ]
        return _call(f"{kind}(", parts, ")", indent)
    if isinstance(value, tuple):
        parts = [_expression(item, names, indent=indent + 4) for item in value]
        return f"({parts[0]},)" if len(parts) == 1 else _call("(", parts, ")", indent)
    if isinstance(value, Mapping):
        parts = [f"{key!r}: {_expression(item, names, indent=indent + 4)}" for key, item in value.items()]
        return _call("{", parts, "}", indent)
    return repr(value) if not isinstance(value, str) else _text(value)


def _text(value: str) -> str:
    """With double quotes, as formatters write it."""
    plain = repr(value)
    return f'"{plain[1:-1]}"' if plain[0] == "'" and '"' not in value and "\\'" not in plain else plain


def _default(item: dataclasses.Field[Any]) -> Any:
    if item.default is not dataclasses.MISSING:
        return item.default
    return item.default_factory() if item.default_factory is not dataclasses.MISSING else dataclasses.MISSING


def _call(start: str, parts: list[str], end: str, indent: int) -> str:
    line = f"{start}{', '.join(parts)}{end}"
    if len(line) + indent <= _WIDE and "\n" not in line:
        return line
    inner = " " * (indent + 4)
    return f"{start}\n" + "".join(f"{inner}{part},\n" for part in parts) + " " * indent + end
