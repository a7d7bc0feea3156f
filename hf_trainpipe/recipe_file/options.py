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

import contextlib
import dataclasses
import difflib
import json
import types
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, get_args, get_origin

from hf_trainpipe.codec import value_from_json
from hf_trainpipe.codec.fields import built, conforms, field_types, is_mapping, item_types, members, needed, spell
from hf_trainpipe.errors import RecipeError, closest
from hf_trainpipe.recipe_file.described import field_texts

if TYPE_CHECKING:
    from hf_trainpipe.recipe import Recipe

_NONE = ("none", "null")
_WORDS: dict[Any, dict[str, Any]] = {
    types.NoneType: dict.fromkeys(_NONE),
    bool: dict.fromkeys(("true", "yes", "on", "1"), True) | dict.fromkeys(("false", "no", "off", "0"), False),
}


def override(recipe: Recipe, args: Sequence[str], *, verb_options: Iterable[str] = ()) -> Recipe:
    """The recipe with the fields in ``args`` replaced; the last value of a field counts.

    Args:
        recipe: A field keeps the class of its current value.
        args: ``["--optim.peak-lr", "1e-5", ...]``.
        verb_options: Options that are not the recipe's (``--run-dir``), for suggestions.

    Raises:
        RecipeError: an unknown option, a value of another type, or one that the part refuses.
    """
    known = [leaf.option for leaf in leaves(recipe)]
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
    patched: Recipe = _patched(type(recipe), recipe, tree, _Known(known, tuple(verb_options)))
    return patched


class Leaf(NamedTuple):
    """A field that an option can set."""

    option: str
    value: object
    part: type
    field: str

    @property
    def kind(self) -> str:
        """Its type in words."""
        return spell(field_types(self.part)[self.field])

    @property
    def text(self) -> str:
        """Its docstring."""
        return field_texts(self.part)[self.field]


def leaves(part: object, prefix: str = "--") -> Iterator[Leaf]:
    """Fields that options can set."""
    if not dataclasses.is_dataclass(part) or isinstance(part, type):
        return
    for field in dataclasses.fields(part):
        value, option = getattr(part, field.name), prefix + field.name.replace("_", "-")
        items = {f"{option}.{n}.": item for n, item in enumerate(value)} if isinstance(value, tuple) else {}
        nested = [leaf for inside, item in (items or {f"{option}.": value}).items() for leaf in leaves(item, inside)]
        if nested:
            yield from nested
        elif field.init and not dataclasses.is_dataclass(value):
            yield Leaf(option, value, type(part), field.name)


@dataclasses.dataclass(frozen=True)
class _Known:
    """Options for suggestions."""

    fields: list[str]
    verb_options: tuple[str, ...]

    def refuse(self, option: str) -> RecipeError:
        option = option.replace("_", "-")
        everything = [*self.fields, *self.verb_options]
        ranked = sorted(everything, key=lambda known: -_alike(option, known))
        likeness = _alike(option, ranked[0])
        meant = ELSEWHERE.get(_name(option), "") if likeness < 1 else ""
        if meant not in everything:
            meant = ranked[0] if likeness >= ALIKE else ""
        groups = [name.partition(".")[0] + "." for name in (option, meant)]
        same = [[known for known in self.fields if known.startswith(group)] for group in groups]
        same.append([meant] if meant in self.verb_options else [])
        listed = next(filter(None, same), None)
        what = "Options" if listed else "The nearest options"
        listed = listed or ranked[:NEAREST]
        hint = f" Did you mean {meant!r}?" if meant else ""
        return RecipeError(f"{option}: the recipe has no such option.{hint}", fix=f"{what}: {', '.join(listed)}")


ALIKE = 0.7
"""How much of an option has to agree with another, for it to be what was meant."""
NEAREST = 6
"""Options to list in an error without a known part of the recipe."""
ELSEWHERE = {
    **dict.fromkeys(("lr", "learning-rate"), "--optim.peak-lr"),
    **dict.fromkeys(("batch-size", "per-device-train-batch-size", "train-batch-size"), "--budget.examples-per-step"),
    **dict.fromkeys(("num-train-epochs", "num-epochs"), "--budget.epochs"),
    **dict.fromkeys(("max-seq-length", "max-seq-len", "max-len"), "--tokens.max-length"),
    **dict.fromkeys(("output", "output-dir", "out"), "--run-dir"),
    **dict.fromkeys(("bf16", "fp16", "tf32"), "--optim.precision"),
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


def _name(option: str) -> str:
    return option.removeprefix("--").rpartition(".")[2]


def _alike(option: str, known: str) -> float:
    pairs = ((option, known), (_name(option), _name(known)))
    return max(difflib.SequenceMatcher(None, one, other).ratio() for one, other in pairs)


def _both(option: str) -> RecipeError:
    return RecipeError(f"{option}: given both as a whole and field by field.", fix="Give one of the two.")


def _options(args: Sequence[str]) -> list[tuple[str, list[str]]]:
    found: list[tuple[str, list[str]]] = []
    for arg in args:
        if arg == "--":
            continue
        if arg.startswith("--"):
            option, equals, value = arg.partition("=")
            found.append((option, [value] if equals else []))
        elif found:
            found[-1][1].append(arg)
        else:
            raise RecipeError(f"unexpected argument {arg!r}: expected an option.", fix="Write --field value.")
    return found


def _patched(cls: type, part: Any, tree: dict[str, Any], known: _Known) -> Any:
    """A part with the fields of ``tree`` replaced; where there is none (``part`` is None), a new one of them."""
    if not tree:
        return part
    hints = field_types(cls)
    names = [field.name for field in dataclasses.fields(cls) if field.init]
    option = _first_option(tree)
    changes = {}
    for name, node in tree.items():
        negated = name.removeprefix("no_")
        if name not in names and negated in names and isinstance(node, tuple) and bool in members(hints[negated]):
            name, node = negated, (node[0], node[1] or ["false"])
        if name not in names:
            raise known.refuse(_first_option(node))
        changes[name] = _value(getattr(part, name, None), hints[name], node, known)
    if part is not None:
        return built(lambda: dataclasses.replace(part, **changes), option)
    for name in needed(cls):
        if name not in changes:
            missing = f"{option.rpartition('.')[0]}.{name.replace('_', '-')}"
            raise RecipeError(
                f"{option}: the recipe has no {cls.__name__} yet, and a new one needs {missing}.",
                fix=f"Add {missing} VALUE.",
            )
    return built(lambda: cls(**changes), option)


def _value(current: Any, hint: Any, node: Any, known: _Known) -> Any:
    """What a field gets: the value of its option, a list with items changed, or a part with fields changed."""
    if isinstance(node, tuple):
        option, values = node
        is_none = [value.lower() for value in values] in [[word] for word in _NONE]
        has_parts = any(map(dataclasses.is_dataclass, current if isinstance(current, tuple) else [current]))
        if is_none and isinstance(current, tuple) and (has_parts or not current):
            return None if not current and types.NoneType in members(hint) else ()
        if has_parts and not is_none:
            raise known.refuse(option)
        return _read(values, hint, option, current)
    if isinstance(current, tuple):
        items = list(current)
        for position, child in node.items():
            if not position.isdecimal() or int(position) >= len(items):
                raise known.refuse(_first_option(child))
            items[int(position)] = _value(items[int(position)], type(items[int(position)]), child, known)
        return tuple(items)
    if dataclasses.is_dataclass(current) and not isinstance(current, type):
        return _patched(type(current), current, node, known)
    parts = [m for m in members(hint) if isinstance(m, type) and dataclasses.is_dataclass(m)]
    if current is None and len(parts) == 1:  # an optional part that the recipe does not have: --hub.repo me/model
        group = _first_option(node).rpartition(".")[0]
        options = [f"{group}.{name.replace('_', '-')}" for name in field_types(parts[0])]
        return _patched(parts[0], None, node, _Known(options, known.verb_options))
    raise known.refuse(_first_option(node))


def _first_option(node: Any) -> str:
    while isinstance(node, dict):
        node = next(iter(node.values()))
    return str(node[0])


def _read(values: list[str], hint: Any, option: str, current: object) -> Any:
    if not values and bool in members(hint):
        return True
    with contextlib.suppress(ValueError, KeyError):
        return _parse(values, hint if hint is not Any else type(current) | str)
    choices = [arg for m in members(hint) if get_origin(m) is Literal for arg in get_args(m)]
    found = f"found {' '.join(values)!r}" if values else "found no value"
    near = closest(values[0], map(str, choices)) if values else ""
    raise RecipeError(f"{option}: expected {spell(hint)}, {found}.{near}", fix=f"Write {option} VALUE.")


def _parse(values: list[str], hint: Any) -> Any:
    """The values as the first type of a union that takes them: narrow types before text.

    Raises:
        ValueError, KeyError: none takes them.
    """
    if not values:
        raise ValueError(values)
    several = len(values) > 1 or values[0][:1] in ("[", "{")
    order = (types.NoneType, bool, int, float, Path, str)

    def rank(member: Any) -> int:
        if get_origin(member) is Literal:
            return -1
        if member in order and member is not str:
            return order.index(member)
        return 6 if (member is str) != several else 7  # one value is a text rather than a list of one

    for member in sorted(members(hint), key=rank):
        with contextlib.suppress(ValueError, KeyError):
            return _one(values, member)
    raise ValueError(values)


def _one(values: list[str], hint: Any) -> Any:
    container, args = get_origin(hint) or hint, get_args(hint)
    one = values[0] if len(values) == 1 else ""
    if is_mapping(hint) or container in (tuple, list, frozenset, set, Sequence):
        if values[0].startswith("{" if is_mapping(hint) else "["):
            value = value_from_json(json.loads(" ".join(values)), hint)
            if not conforms(value, hint):
                raise ValueError(values)
            return value
        items = one.split(",") if one else values
        if is_mapping(hint):
            pairs = items if all("=" in item for item in items) else values  # else the commas belong to the value
            split = [pair.split("=", 1) for pair in pairs]
            return {key: _parse([item], args[1]) for key, item in split}
        hints = item_types(hint if args else list[str], len(items))
        read = [_parse([item], item_hint) for item, item_hint in zip(items, hints, strict=True)]
        return (tuple if container is Sequence else container)(read)
    (text,) = values
    if container is Literal:
        return {str(arg): arg for arg in args}[text]
    if hint in _WORDS:
        return _WORDS[hint][text.lower()]
    if hint in (int, float, str, Path):
        return hint(text)
    raise ValueError(values)
