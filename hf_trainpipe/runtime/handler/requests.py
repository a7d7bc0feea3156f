"""What a person or a request hands in, checked and put into one shape."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any, NamedTuple

from ..errors import InputError
from ..tasks.columns import TEXT, Cell, Unfit
from ..tasks.schema import TaskSchema

Form = Mapping[str, Cell]


@dataclass(frozen=True)
class Example:
    """One input: its values by role, and how large they are."""

    values: Mapping[str, Any]
    characters: int


class Body(NamedTuple):
    """The body of a request, in one shape."""

    inputs: Sequence[Any]
    parameters: Mapping[str, Any]
    is_one: bool
    """Whether one input was given instead of a list: the answer is then one, too."""


def read_body(data: Any) -> Body:
    """Read ``{"inputs": one input or a list, "parameters": {...}}``; the inputs themselves are not looked at.

    Raises:
        InputError: Not an object, no inputs, another key, or parameters that are no object.
    """
    if not isinstance(data, Mapping) or "inputs" not in data:
        found = f"the keys {_show_keys(data)}" if isinstance(data, Mapping) else type(data).__name__
        raise InputError(
            f"body: expected an object with 'inputs', found {found}.",
            fix='Send {"inputs": "some text"}, with "parameters" where needed.',
        )
    if unknown := min((str(key) for key in data if key not in ("inputs", "parameters")), default=None):
        raise InputError(
            f"body: expected 'inputs' and 'parameters', found {_short(repr(unknown))}.",
            fix="Remove or correct the key.",
        )
    parameters = data.get("parameters")
    if parameters is None:
        parameters = {}
    if not isinstance(parameters, Mapping):
        raise InputError(
            f"parameters: expected an object, found {type(parameters).__name__}.",
            fix='Send {"inputs": "some text", "parameters": {}}.',
        )
    inputs = data["inputs"]
    if isinstance(inputs, (list, tuple)):
        return Body(inputs, parameters, False)
    return Body([inputs], parameters, True)


def read_inputs(inputs: Sequence[Any], schema: TaskSchema, *, allow_empty: bool = False) -> list[Example]:
    """Check inputs of a package.

    Args:
        inputs: One item an example.
        schema: What the package's task takes.
        allow_empty: Take texts and sentences without words as they are: data may hold some.

    Raises:
        InputError: With ``position``, what was expected and what was found.
    """
    if isinstance(inputs, (str, bytes, Mapping)) or not isinstance(inputs, Sequence):
        raise InputError(
            f"inputs: expected a list, each item {_expected(schema)}; found {_show(inputs)}.",
            fix="Put it into a list.",
        )
    return [_read(item, schema, position, allow_empty) for position, item in enumerate(inputs)]


def by_role(examples: Sequence[Example], schema: TaskSchema) -> dict[str, list[Any]]:
    """A column for each role that any of the examples has; None where one has another form."""
    if not examples:
        return {role: [] for role in schema.inputs[0]}
    roles = dict.fromkeys(role for form in schema.inputs for role in form)
    columns = {role: [example.values.get(role) for example in examples] for role in roles}
    return {role: values for role, values in columns.items() if any(value is not None for value in values)}


def _read(item: Any, schema: TaskSchema, position: int, allow_empty: bool) -> Example:
    given, forms = item, schema.inputs
    alone = next((form for form in forms if _is_text_alone(form)), None)
    if isinstance(item, str) and alone is not None:
        item = dict.fromkeys(alone, item)
    elif isinstance(item, (tuple, list)) and (pair := _pair(forms)) is not None and len(item) == len(pair):
        item = dict(zip(pair, item, strict=True))
    form = next((form for form in forms if set(form) == set(item)), None) if isinstance(item, Mapping) else None
    if form is None:
        raise _refused(schema, position, _show(given))
    values, characters = {}, 0
    for role, cell in form.items():
        try:
            values[role] = cell.read(item[role], allow_empty=allow_empty)
        except Unfit as unfit:
            raise _refused(schema, position, unfit.found or _show(given), fix=unfit.fix) from unfit
        characters += cell.characters(values[role])
    return Example(values, characters)


def _is_text_alone(form: Form) -> bool:
    return tuple(form.values()) == (TEXT,)


def _pair(forms: Sequence[Form]) -> Form | None:
    """The form whose values may also come as a list: that of several texts, where there is no other."""
    return forms[0] if len(forms) == 1 and len(forms[0]) > 1 else None


def _expected(schema: TaskSchema) -> str:
    """The forms of an input in words: ``a text, {'text': ...} or {'words': [...]}``."""
    forms = schema.inputs
    told = ["a text"] if any(map(_is_text_alone, forms)) else []
    if (pair := _pair(forms)) is not None:
        told.append("a pair of texts" if len(pair) == 2 else f"a list of {len(pair)} values")
    for form in forms:
        spelt = ", ".join(
            f"{role!r}: {'[...]' if cell.schema.get('type') == 'array' else '...'}" for role, cell in form.items()
        )
        told.append(f"{{{spelt}}}")
    return (
        f"{told[0]}, or {told[1]}" if len(told) == 2 else " or ".join([", ".join(told[:-1]), told[-1]][len(told) < 2 :])
    )


def _refused(schema: TaskSchema, position: int, found: str, *, fix: str | None = None) -> InputError:
    shown = ", or ".join(json.dumps(example, ensure_ascii=False) for example in schema.examples[:2])
    return InputError(
        f"inputs[{position}]: expected {_expected(schema)}, found {found}.",
        fix=fix or f"Give {shown}.",
        position=position,
    )


def _show(value: Any) -> str:
    return f"{type(value).__name__} {_short(repr(value))}"


def _show_keys(value: Mapping[Any, Any]) -> str:
    return _short(str(sorted(map(str, islice(value, 20)))))


def _short(text: str) -> str:
    return text if len(text) <= 80 else text[:77] + "..."
