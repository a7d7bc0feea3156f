"""What a person or a request hands in, checked and put into one shape."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any, NamedTuple

from ..errors import InputError

__all__ = ["Body", "Example", "read_body", "read_inputs"]

_EXPECTED = {
    "text": "a text, or {'text': ...}",
    "pair": "a pair of texts, or {'text': ..., 'text_pair': ...}",
    "words": "a text, {'text': ...} or {'words': [...]}",
}
_FIX = {
    "text": 'Give "I like it".',
    "pair": 'Give {"text": "A man sleeps.", "text_pair": "Nobody is awake."}.',
    "words": 'Give "Anna left Rome.", or {"words": ["Anna", "left", "Rome", "."]}.',
}


@dataclass(frozen=True)
class Example:
    """One input: a text, a pair, or words."""

    text: str | None = None
    pair: str | None = None
    words: tuple[str, ...] | None = None

    @property
    def characters(self) -> int:
        """Of its texts; a word counts for one at least."""
        return len(self.text or "") + len(self.pair or "") + sum(len(word) or 1 for word in self.words or ())


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


def read_inputs(inputs: Sequence[Any], kind: str, *, allow_empty: bool = False) -> list[Example]:
    """Check inputs of a package.

    Args:
        inputs: One item an example.
        kind: ``text``, ``pair`` or ``words``.
        allow_empty: Take texts and sentences without words as they are: data may hold some.

    Raises:
        InputError: With ``position``, what was expected and what was found.
    """
    if isinstance(inputs, (str, bytes, Mapping)) or not isinstance(inputs, Sequence):
        raise InputError(
            f"inputs: expected a list, each item {_EXPECTED[kind]}; found {_show(inputs)}.",
            fix="Put it into a list.",
        )
    return [_read(item, kind, position, allow_empty) for position, item in enumerate(inputs)]


def _read(item: Any, kind: str, position: int, allow_empty: bool) -> Example:
    given = item
    if isinstance(item, str):
        item = {"text": item}
    elif kind == "pair" and isinstance(item, (tuple, list)) and len(item) == 2:
        item = {"text": item[0], "text_pair": item[1]}
    if not isinstance(item, Mapping):
        raise _refused(kind, position, given)
    keys = set(item)
    if kind == "pair" and keys == {"text", "text_pair"}:
        return Example(
            text=_text(item["text"], kind, position, allow_empty),
            pair=_text(item["text_pair"], kind, position, allow_empty),
        )
    if kind != "pair" and keys == {"text"}:
        return Example(text=_text(item["text"], kind, position, allow_empty))
    if kind == "words" and keys == {"words"}:
        words = item["words"]
        if (
            not isinstance(words, (list, tuple))
            or not (words or allow_empty)
            or not all(isinstance(w, str) for w in words)
        ):
            raise _refused(kind, position, given)
        return Example(words=tuple(_encodable(word, kind, position) for word in words))
    raise _refused(kind, position, given)


def _text(value: Any, kind: str, position: int, allow_empty: bool) -> str:
    if not isinstance(value, str):
        raise _refused(kind, position, value)
    if not value.strip() and not allow_empty:
        raise InputError(
            f"inputs[{position}]: expected {_EXPECTED[kind]}, found an empty text.",
            fix=_FIX[kind],
            position=position,
        )
    return _encodable(value, kind, position)


def _encodable(value: str, kind: str, position: int) -> str:
    try:
        value.encode()
    except UnicodeEncodeError as error:
        raise InputError(
            f"inputs[{position}]: expected {_EXPECTED[kind]}, found half a character (a lone surrogate) at "
            f"position {error.start}.",
            fix="Decode the text with errors='replace'.",
            position=position,
        ) from error
    return value


def _refused(kind: str, position: int, found: Any) -> InputError:
    return InputError(
        f"inputs[{position}]: expected {_EXPECTED[kind]}, found {_show(found)}.",
        fix=_FIX[kind],
        position=position,
    )


def _show(value: Any) -> str:
    return f"{type(value).__name__} {_short(repr(value))}"


def _show_keys(value: Mapping[Any, Any]) -> str:
    return _short(str(sorted(map(str, islice(value, 20)))))


def _short(text: str) -> str:
    return text if len(text) <= 80 else text[:77] + "..."
