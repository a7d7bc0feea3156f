"""Types of dataclass fields: what an annotation allows, whether a value fits, how to say it to a person."""

from __future__ import annotations

import collections.abc
import dataclasses
import functools
import sys
import types
import typing
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Literal, Union, get_args, get_origin

from hf_trainpipe.errors import RecipeError, TrainpipeError


@functools.cache
def field_types(cls: type) -> dict[str, Any]:
    """The type of each field of a dataclass; ``Any`` where the annotation cannot be resolved.

    Unlike :func:`typing.get_type_hints` it resolves field by field, so that one name imported for
    type checkers only (a pandas table) does not spoil the others.
    """
    namespace: dict[str, Any] = {**vars(collections.abc), **vars(typing), "Path": Path}
    for base in reversed(cls.__mro__):
        if base.__module__ in sys.modules:
            namespace.update(vars(sys.modules[base.__module__]))
    resolved = {}
    for field in dataclasses.fields(cls):
        hint: Any = field.type
        if isinstance(hint, str):
            try:
                hint = eval(hint, namespace)
            except Exception:  # whatever an annotation raises, it is not usable as a type
                hint = Any
        resolved[field.name] = hint
    return resolved


def needed(cls: type) -> list[str]:
    """The fields of a dataclass that have no default, in order."""
    fields = [field for field in dataclasses.fields(cls) if field.init]
    missing = dataclasses.MISSING
    return [field.name for field in fields if field.default is missing and field.default_factory is missing]


def built(make: Callable[[], Any], where: str) -> Any:
    """What ``make`` gives; errors of a part's own checks as a RecipeError that begins with ``where``."""
    try:
        return make()
    except TrainpipeError:
        raise
    except (TypeError, ValueError) as error:
        message = f"{where}: {getattr(error, 'message', error)}"
        raise RecipeError(message, fix=getattr(error, "fix", "Choose another value.")) from error


def join(where: str, name: str) -> str:
    """The place of a field inside of a part: ``optim.peak_lr``."""
    return f"{where}.{name}" if where else name


def members(hint: Any) -> tuple[Any, ...]:
    """The alternatives of a union, ``NoneType`` included; the type itself otherwise."""
    if get_origin(hint) in (Union, types.UnionType):
        return tuple(inner for arg in get_args(hint) for inner in members(arg))
    return (hint,)


def item_types(hint: Any, count: int) -> list[Any]:
    """The types of so many items of a list; of ``tuple[A, B]`` its own, however many there are."""
    args = get_args(hint)
    if get_origin(hint) is tuple and args and args[-1] is not Ellipsis:
        return list(args)
    return [args[0] if args else Any] * count


def is_mapping(hint: Any) -> bool:
    """Whether a type is ``dict[K, V]``, ``Mapping[K, V]`` or alike."""
    origin = get_origin(hint)
    return isinstance(origin, type) and issubclass(origin, Mapping) and len(get_args(hint)) == 2


def conforms(value: Any, hint: Any) -> bool:
    """Whether a value is of a field's type. An int is a float too; a bool is not an int."""
    origin, args = get_origin(hint), get_args(hint)
    if origin in (Union, types.UnionType):
        return any(conforms(value, arg) for arg in args)
    if origin is Literal:
        return any(value == arg and type(value) is type(arg) for arg in args)
    if origin is tuple:
        kinds = item_types(hint, len(value)) if isinstance(value, tuple) else None
        return kinds is not None and len(kinds) == len(value) and all(map(conforms, value, kinds))
    if is_mapping(hint):
        return isinstance(value, Mapping) and all(
            conforms(key, args[0]) and conforms(item, args[1]) for key, item in value.items()
        )
    if isinstance(origin, type):
        if isinstance(value, str) and origin is not str:  # a text is no Sequence[str] here
            return False
        if not isinstance(value, origin):
            return False
        items: Any = value if len(args) == 1 and isinstance(value, list | tuple | frozenset | set) else ()
        return all(conforms(item, args[0]) for item in items)
    if hint is float:
        return isinstance(value, float | int) and not isinstance(value, bool)
    if hint is int:
        return isinstance(value, int) and not isinstance(value, bool)
    if hint is None:
        return value is None
    if hint is Any or not isinstance(hint, type):
        return True
    try:
        return isinstance(value, hint)
    except TypeError:  # a Protocol, a TypedDict: isinstance does not work
        return True


def spell(hint: Any) -> str:
    """A field's type for people: ``a number``, ``one of 'a', 'b'``, ``text or none``."""
    names: dict[Any, str] = {
        float: "a number",
        int: "a whole number",
        bool: "true or false",
        str: "text",
        Path: "a path",
    }
    names |= {type(None): "none", None: "none"}
    described = []
    for member in members(hint):
        origin, args = get_origin(member), get_args(member)
        if member in names:
            described.append(names[member])
        elif origin is Literal:
            listed = ", ".join(repr(arg) for arg in args)
            described.append(f"one of {listed}" if len(args) > 1 else listed)
        elif is_mapping(member):
            described.append("a mapping")
        elif origin is tuple and args and args[-1] is not Ellipsis:
            described.append(f"{len(args)} values ({', '.join(spell(arg) for arg in args)})")
        elif origin is not None and args:
            described.append(f"a list ({spell(args[0])} each)")
        else:
            name = getattr(member, "__name__", str(member))
            described.append(f"{'an' if name[0] in 'AEIOU' else 'a'} {name}")
    return " or ".join(described)
