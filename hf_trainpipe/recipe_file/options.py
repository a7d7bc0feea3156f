"""Override fields of a recipe from the command line: ``--optim.peak-lr 1e-5 --task.names a b``.

Why not tyro: it narrows a field to the type of its default and is fast
enough (0.1 s to import, 0.1 s to parse), but it resolves the annotation of every field of every
part, so one type imported for type checkers only (a table in memory) ends in a NameError; it calls
every part's constructor again; and it prints boxed messages and exits. Here only the named fields change,
and a mistake is a RecipeError like any other.

An option is the path of a field, with ``-`` or ``_``; an item of a tuple by its index
(``--preprocessing.0.keep-first 4``). Its values reach up to the next option: ``--x 1``, ``--x=1``,
``--names a b``, ``--names a,b`` or JSON (``--names '["a, b", "c"]'``). ``none`` is None, a switch
needs no value, ``--columns text=review label=stars`` is a mapping.
"""

from __future__ import annotations

import dataclasses
import difflib
import json
import types
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args, get_origin

from hf_trainpipe.codec import value_from_json
from hf_trainpipe.codec.fields import built, conforms, field_types, is_mapping, members, needed, spell
from hf_trainpipe.errors import RecipeError, closest

if TYPE_CHECKING:
    from hf_trainpipe.recipe import Recipe

_UNREADABLE = object()
_TRUE, _FALSE, _NONE = ("true", "yes", "on", "1"), ("false", "no", "off", "0"), ("none", "null")


def override(recipe: Recipe, args: Sequence[str], *, verb_options: Iterable[str] = ()) -> Recipe:
    """The recipe with the fields in ``args`` replaced; the last value of a field counts.

    Args:
        recipe: A field keeps the class of its current value.
        args: ``["--optim.peak-lr", "1e-5", ...]``.
        verb_options: Options that are not the recipe's (``--run-dir``), for suggestions.

    Raises:
        RecipeError: an unknown option, a value of another type, or one that the part refuses.
    """
    known = [option for option, _, _ in leaves(recipe)]
    tree: dict[str, Any] = {}
    for option, values in _options(args):
        *parents, last = option.removeprefix("--").replace("-", "_").split(".")
        node = tree
        for name in parents:
            node = node.setdefault(name, {})
            if not isinstance(node, dict):
                raise _both(option)
        if isinstance(node.get(last), dict):
            raise _both(option)
        node[last] = (option, values)
    patched: Recipe = _patch(recipe, tree, _Known(known, tuple(verb_options)))
    return patched


def leaves(part: object, prefix: str = "--") -> Iterator[tuple[str, str, object]]:
    """Fields that options can set: the option, its type in words, its current value."""
    if not dataclasses.is_dataclass(part) or isinstance(part, type):
        return
    hints = field_types(type(part))
    for field in dataclasses.fields(part):
        value, option = getattr(part, field.name), prefix + field.name.replace("_", "-")
        nested = list(enumerate(value)) if isinstance(value, tuple) else [("", value)]
        inner = [
            leaf
            for position, item in nested
            for leaf in leaves(item, f"{option}.{position}." if position != "" else f"{option}.")
        ]
        if inner:
            yield from inner
        elif field.init and not dataclasses.is_dataclass(value):
            yield option, spell(hints[field.name]), value


@dataclasses.dataclass(frozen=True)
class _Known:
    """Options for suggestions."""

    fields: list[str]
    verb_options: tuple[str, ...]

    def refuse(self, option: str) -> RecipeError:
        option = option.replace("_", "-")
        everything = [*self.fields, *self.verb_options]
        tail = option.removeprefix("--").rpartition(".")[2]
        by_tail = {known.rpartition(".")[2]: known for known in reversed(self.fields) if "." in known}
        meant = ELSEWHERE.get(tail)
        hint = f" Did you mean {by_tail[tail]!r}?" if tail in by_tail else ""
        if not hint and meant in everything:
            hint = f" Did you mean {meant!r}?"
        if not hint and "." not in option:
            hint = closest(option, [known for known in everything if "." not in known])
            near = difflib.get_close_matches(tail, by_tail, n=1, cutoff=0.75)
            if not hint and near:  # a name without its part: --peek-lr
                hint = f" Did you mean {by_tail[near[0]]!r}?"
        hint = hint or closest(option, everything)
        nearest = hint.removeprefix(" Did you mean '").removesuffix("'?")
        groups = [name.partition(".")[0] + "." for name in (option, nearest)]
        same = [[known for known in self.fields if known.startswith(group)] for group in groups]
        same.append([nearest] if nearest in self.verb_options else [])
        listed = next(filter(None, same), None)
        what = "Options" if listed else "The nearest options"
        listed = listed or sorted(everything, key=lambda known: -_alike(option, tail, known))[:NEAREST]
        return RecipeError(f"{option}: the recipe has no such option.{hint}", fix=f"{what}: {', '.join(listed)}")


NEAREST = 6
"""Options to list in an error without a known part of the recipe."""
ELSEWHERE = {
    **dict.fromkeys(("lr", "learning-rate"), "--optim.peak-lr"),
    **dict.fromkeys(("batch-size", "per-device-train-batch-size", "train-batch-size"), "--budget.examples-per-step"),
    **dict.fromkeys(("num-train-epochs", "num-epochs"), "--budget.epochs"),
    **dict.fromkeys(("max-seq-length", "max-seq-len", "max-len"), "--tokens.max-length"),
    **dict.fromkeys(("output", "output-dir", "out"), "--run-dir"),
    **dict.fromkeys(("bf16", "fp16"), "--optim.precision"),
    **dict.fromkeys(("model-name-or-path", "model"), "--model.name"),
    **dict.fromkeys(("train-file", "train-data"), "--data.train"),
    **dict.fromkeys(("validation-file", "eval-file", "dev-file"), "--data.validation"),
    **dict.fromkeys(("metric", "metric-for-best-model"), "--evaluation.select"),
    "warmup-ratio": "--optim.warmup",
    "lr-scheduler-type": "--optim.schedule",
    "eval-steps": "--budget.evaluate-every",
    "save-steps": "--budget.save-every",
    "logging-steps": "--budget.log-every",
    "save-total-limit": "--budget.keep-checkpoints",
    "early-stopping-patience": "--budget.patience",
    "label-smoothing-factor": "--task.label-smoothing",
    "torch-compile": "--optim.compile",
    "hub-model-id": "--hub.repo",
    "resume-from-checkpoint": "--resume",
}
"""Names of transformers' TrainingArguments and example scripts, to ours."""


def _alike(option: str, tail: str, known: str) -> float:
    name = known.removeprefix("--").rpartition(".")[2]
    return max(difflib.SequenceMatcher(None, option, known).ratio(), difflib.SequenceMatcher(None, tail, name).ratio())


def _both(option: str) -> RecipeError:
    return RecipeError(f"{option}: given both as a whole and field by field.", fix="Give one of the two.")


def _options(args: Sequence[str]) -> Iterator[tuple[str, list[str]]]:
    option, values = "", list[str]()
    for arg in args:
        if arg == "--":
            continue
        if arg.startswith("--"):
            if option:
                yield option, values
            option, equals, value = arg.partition("=")
            values = [value] if equals else []
        elif option:
            values.append(arg)
        else:
            raise RecipeError(f"unexpected argument {arg!r}: expected an option.", fix="Write --field value.")
    if option:
        yield option, values


def _patch(part: Any, tree: dict[str, Any], known: _Known) -> Any:
    cls: type = type(part)
    hints = field_types(cls)
    names = [field.name for field in dataclasses.fields(part) if field.init]
    changes = {}
    for name, node in tree.items():
        negated = name.removeprefix("no_")
        if name not in names and negated in names and isinstance(node, tuple) and bool in members(hints[negated]):
            name, node = negated, (node[0], node[1] or ["false"])
        if name not in names:
            raise known.refuse(_first_option(node))
        changes[name] = _value(getattr(part, name), hints[name], node, known)
    return built(lambda: dataclasses.replace(part, **changes), _first_option(tree) if tree else "")


def _value(current: Any, hint: Any, node: Any, known: _Known) -> Any:
    if isinstance(node, tuple):
        option, values = node
        if current == () and [value.lower() for value in values] in [[none] for none in _NONE]:
            return None if types.NoneType in members(hint) else ()
        if isinstance(current, tuple) and any(map(dataclasses.is_dataclass, current)):
            if [value.lower() for value in values] in [[none] for none in _NONE]:
                return ()
            raise known.refuse(option)
        return _read(values, hint, option, current, known)
    if isinstance(current, tuple):
        items = list(current)
        for position, child in node.items():
            if not position.isdecimal() or int(position) >= len(items):
                raise known.refuse(_first_option(child))
            items[int(position)] = _value(items[int(position)], type(items[int(position)]), child, known)
        return tuple(items)
    if dataclasses.is_dataclass(current) and not isinstance(current, type):
        return _patch(current, node, known)
    parts = [m for m in members(hint) if isinstance(m, type) and dataclasses.is_dataclass(m)]
    if current is None and len(parts) == 1:
        return _new(parts[0], node, known)
    raise known.refuse(_first_option(node))


def _new(cls: type, tree: dict[str, Any], known: _Known) -> Any:
    """An optional part that the recipe does not have (``--hub.repo me/model``)."""
    hints = field_types(cls)
    option = _first_option(tree)
    for name in tree:
        if name not in hints:
            group = option.rpartition(".")[0]
            raise _Known([f"{group}.{n.replace('_', '-')}" for n in hints], known.verb_options).refuse(option)
    chosen = {name: _value(None, hints[name], node, known) for name, node in tree.items()}
    for name in needed(cls):
        if name not in chosen:
            missing = f"{option.rpartition('.')[0]}.{name.replace('_', '-')}"
            raise RecipeError(
                f"{option}: the recipe has no {cls.__name__} yet, and a new one needs {missing}.",
                fix=f"Add {missing} VALUE.",
            )
    return built(lambda: cls(**chosen), option)


def _first_option(node: Any) -> str:
    while isinstance(node, dict):
        node = next(iter(node.values()))
    return str(node[0])


def _read(values: list[str], hint: Any, option: str, current: object, known: _Known) -> Any:
    if dataclasses.is_dataclass(current) and [v.lower() for v in values] not in [[none] for none in _NONE]:
        raise known.refuse(option)
    if not values and bool in members(hint):
        return True
    value = _parse(values, hint if hint is not Any else type(current) | str) if values else _UNREADABLE
    if value is not _UNREADABLE:
        return value
    choices = [arg for m in members(hint) if get_origin(m) is Literal for arg in get_args(m)]
    found = f"found {' '.join(values)!r}" if values else "found no value"
    near = closest(values[0], map(str, choices)) if values else ""
    raise RecipeError(f"{option}: expected {spell(hint)}, {found}.{near}", fix=f"Write {option} VALUE.")


def _parse(values: list[str], hint: Any) -> Any:
    """Parse the values as the first matching type of a union: narrow types before text."""
    several = len(values) > 1 or values[0][:1] in ("[", "{")
    order = (types.NoneType, bool, int, float, Path, str)

    def rank(member: Any) -> int:
        if get_origin(member) is Literal:
            return -1
        if member in order and member is not str:
            return order.index(member)
        return 6 if (member is str) != several else 7  # one value is a text rather than a list of one

    for member in sorted(members(hint), key=rank):
        value = _one(values, member)
        if value is not _UNREADABLE:
            return value
    return _UNREADABLE


def _one(values: list[str], hint: Any) -> Any:
    origin, args = get_origin(hint), get_args(hint)
    if is_mapping(hint):
        return _mapping(values, hint)
    if (origin or hint) in (tuple, list, frozenset, set, Sequence):
        return _items(values, hint)
    if len(values) != 1:
        return _UNREADABLE
    (text,) = values
    if hint is types.NoneType:
        return None if text.lower() in _NONE else _UNREADABLE
    if hint is bool:
        return True if text.lower() in _TRUE else False if text.lower() in _FALSE else _UNREADABLE
    if origin is Literal:
        return next((arg for arg in args if str(arg) == text), _UNREADABLE)
    if hint in (int, float):
        try:
            return hint(text)
        except ValueError:
            return _UNREADABLE
    return hint(text) if hint in (str, Path) else _UNREADABLE


def _items(values: list[str], hint: Any) -> Any:
    if values[0].startswith("["):
        return _from_json(values, hint)
    origin, args = get_origin(hint), get_args(hint)
    items = values[0].split(",") if len(values) == 1 else values
    fixed = origin is tuple and args and args[-1] is not Ellipsis
    if fixed and len(args) != len(items):
        return _UNREADABLE
    hints = args if fixed else [args[0] if args else str] * len(items)
    read = [_parse([item], item_hint) for item, item_hint in zip(items, hints, strict=True)]
    if _UNREADABLE in read:
        return _UNREADABLE
    container = origin or hint
    return (tuple if container is Sequence else container)(read)


def _mapping(values: list[str], hint: Any) -> Any:
    if values[0].startswith("{"):
        return _from_json(values, hint)
    pairs = values[0].split(",") if len(values) == 1 else values
    if not all("=" in pair for pair in pairs):
        pairs = values  # the commas belong to the value
    item_hint = get_args(hint)[1]
    made = {key: _parse([item], item_hint) for key, _, item in (pair.partition("=") for pair in pairs)}
    return made if all("=" in p for p in pairs) and _UNREADABLE not in made.values() else _UNREADABLE


def _from_json(values: list[str], hint: Any) -> Any:
    try:
        value = value_from_json(json.loads(" ".join(values)), hint)
    except ValueError:
        return _UNREADABLE
    return value if conforms(value, hint) else _UNREADABLE
