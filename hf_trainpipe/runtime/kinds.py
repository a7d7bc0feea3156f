"""Dataclasses as JSON by the name of their class, as a package holds its task and its steps."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from dataclasses import MISSING, asdict, fields, is_dataclass
from typing import Any

from .errors import SchemaError

UNSAID = {"unsaid": True}
"""Metadata of a field that came later: it is not written while it is None, so that what does not use it stays as it was."""


def is_said(value: Any, item: Any) -> bool:
    """Whether a field of a dataclass is written: see :data:`UNSAID`."""
    return item.init and not (item.metadata.get("unsaid") and getattr(value, item.name) is None)


def to_json(value: Any) -> dict[str, Any]:
    """``{"kind": class, field: value, ...}``, tuples as lists."""
    found = {item.name: getattr(value, item.name) for item in fields(value) if is_said(value, item)}
    return {"kind": type(value).__name__, **{name: _plain(item) for name, item in found.items()}}


def _plain(item: Any) -> Any:
    if is_dataclass(item) and not isinstance(item, type):
        return asdict(item)
    return list(item) if isinstance(item, tuple) else item


def from_json(item: Any, known: Mapping[str, type[Any]], *, where: str, what: str) -> Any:
    """Read what :func:`to_json` wrote.

    Args:
        known: Classes by name.
        where: What messages begin with.
        what: What they call such a class: ``step``.

    Raises:
        SchemaError: The kind or a field is not known, or a field is missing.
    """
    kind = item.get("kind") if isinstance(item, Mapping) else None
    if not isinstance(kind, str):
        raise SchemaError(
            f"{where}: expected an object with a 'kind', found {item!r}.",
            fix=f'Write it as {{"kind": "{min(known)}"}}.',
        )
    if kind not in known:
        near = difflib.get_close_matches(kind, known, n=1)
        raise SchemaError(
            f"{where}: expected a known {what}, found kind {kind!r}. Known: {', '.join(sorted(known))}.",
            fix=f"Did you mean {near[0]!r}?" if near else f"A {what} of a recipe needs that recipe's code.",
        )
    cls = known[kind]
    values = {name: tuple(held) if isinstance(held, list) else held for name, held in item.items() if name != "kind"}
    names = {held.name for held in fields(cls) if held.init}
    needed = {f.name for f in fields(cls) if f.init and f.default is MISSING and f.default_factory is MISSING}
    if (unknown := sorted(set(values) - names)) or (missing := sorted(needed - set(values))):
        raise SchemaError(
            f"{where}: {kind} takes {sorted(names)}; "
            + (f"it has no field {unknown[0]!r}." if unknown else f"{missing[0]!r} is missing."),
            fix=f"Correct the fields of {kind}.",
        )
    return cls(**values)
