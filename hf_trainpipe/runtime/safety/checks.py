"""What JSON of a package must be, put together from small checks."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from ..errors import SchemaError

Check = Callable[[Any], bool]


def wrong(where: str, field: str, expected: str, found: Any) -> SchemaError:
    """The error of a field that is not as it must be; what was found is cut to a line."""
    shown = repr(found)
    return SchemaError(
        f"{where}: {field}: expected {expected}, found {shown if len(shown) <= 200 else shown[:200] + '...'}.",
        fix="Write the package again.",
    )


def is_string(value: Any) -> bool:
    return isinstance(value, str)


def is_text(value: Any) -> bool:
    """A string that is not empty."""
    return isinstance(value, str) and bool(value)


def is_count(value: Any) -> bool:
    """A whole number of 0 or more."""
    return type(value) is int and value >= 0


def is_object(value: Any) -> bool:
    return isinstance(value, dict)


def one_of(*values: Any) -> Check:
    return lambda value: value in values


def or_null(check: Check) -> Check:
    return lambda value: value is None or check(value)


def list_of(item: Check, *, least: int = 0) -> Check:
    """A list of ``least`` or more."""
    return lambda value: isinstance(value, list) and len(value) >= least and all(map(item, value))


def map_of(item: Check, *, name: Check = is_string) -> Check:
    """An object with any names."""
    return lambda value: isinstance(value, dict) and all(name(key) and item(held) for key, held in value.items())


def fields(checks: Mapping[str, Check], *, are_all: bool = False) -> Check:
    """An object with these fields, and with ``are_all`` no others."""

    def check(value: Any) -> bool:
        if not isinstance(value, dict) or set(checks) - set(value) or (are_all and set(value) - set(checks)):
            return False
        return all(is_right(value[name]) for name, is_right in checks.items())

    return check
