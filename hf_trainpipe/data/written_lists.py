"""Parse lists that a csv holds as text, as written by Python, JSON or numpy. Nothing is executed."""

from __future__ import annotations

import ast
import json
import re

MAX_CHARACTERS = 100_000
_WRAPPED = re.compile(
    r"(?:np\.|numpy\.)?(?:array|set|frozenset|tuple|list|tensor)\((.*?)(?:,\s*dtype=[\w.']+)?\)", re.DOTALL
)
_SCALAR = re.compile(r"\bnp\.\w+\(([^()]*)\)")
"""How numpy 2 writes its numbers and texts inside Python's lists."""
_TOKEN = re.compile(
    r"""\s*(?:(?P<comma>,)|(?P<quoted>"(?:[^"\\]|\\.)*"|'(?:[^'\\]|\\.)*')|(?P<bare>[^,\s'"\[\](){}]+))""", re.DOTALL
)
_NUMBER = re.compile(r"-?[0-9]+(?:\.[0-9]*)?", re.ASCII)
_ENDS = {"[": "]", "(": ")", "{": "}"}


def is_written_list(text: str) -> bool:
    """Whether a cell is a list written as text. ``(other)`` is a label: round and curly brackets need a quote or number."""
    text = text.strip()
    if not text or text[-1] not in "])}":
        return False
    if text[0] == "[":
        return text[-1] == "]"
    if text[0] in "({":
        inside = text[1:-1].strip()
        return text[-1] == _ENDS[text[0]] and (not inside or inside[0] in "'\"-0123456789")
    return _WRAPPED.fullmatch(text) is not None


def parse_list(text: str) -> list[str]:
    """The labels of a written list, numbers and booleans as text.

    >>> parse_list("['a', 'b c']"), parse_list('["a", "b"]'), parse_list("[0 1. 0]"), parse_list("[]")
    (['a', 'b c'], ['a', 'b'], ['0', '1.0', '0'], [])

    Raises:
        ValueError: why it is not a flat list.
    """
    text = text.strip()
    if len(text) > MAX_CHARACTERS:
        raise ValueError(f"it has {len(text):,} characters, and may have {MAX_CHARACTERS:,}")
    if (wrapped := _WRAPPED.fullmatch(text)) is not None:
        text = wrapped[1].strip() or "[]"
    if "np." in text:
        text = _SCALAR.sub(r"\1", text)
    if text[0] not in _ENDS or text[-1] != _ENDS[text[0]]:
        raise ValueError("its brackets do not match")
    items = _items(text[1:-1])
    if len(items) > 1:
        if not items[-1]:
            items.pop()  # a trailing comma
        return [_joined(item) for item in items]
    words = items[0]
    if len(words) > 1 and not (all(quoted for _, quoted in words) or all(map(_is_plain, words))):
        raise ValueError("its labels are separated by spaces alone, so that their ends are unknown")
    return [_read(*word) for word in words]


def _items(body: str) -> list[list[tuple[str, bool]]]:
    """Items between commas, each as (word, was quoted) pairs; only the last may be empty."""
    items: list[list[tuple[str, bool]]] = [[]]
    at, body = 0, body.rstrip()
    while at < len(body):
        found = _TOKEN.match(body, at)
        if found is None:
            is_open = body[at:].lstrip()[0] in "'\""
            raise ValueError("a quote is not closed" if is_open else "it holds a list or dictionary")
        at = found.end()
        if found["comma"] is None:
            items[-1].append((found["quoted"] or found["bare"], found["quoted"] is not None))
        elif items[-1]:
            items.append([])
        else:
            raise ValueError("an item is missing between two commas")
        if found["quoted"] and at < len(body) and not (body[at].isspace() or body[at] == ","):
            raise ValueError(f"{body[at]!r} follows a quoted item")
    return items


def _joined(words: list[tuple[str, bool]]) -> str:
    if len(words) > 1 and any(quoted for _, quoted in words):
        raise ValueError("some items are separated by commas, others by spaces")
    if len(words) == 1:
        return _read(*words[0])
    return " ".join(word for word, _ in words)


def _is_plain(word: tuple[str, bool]) -> bool:
    text, quoted = word
    return not quoted and (_NUMBER.fullmatch(text) is not None or text in ("True", "False", "..."))


def _read(text: str, quoted: bool) -> str:
    if not quoted:
        if text in ("...", "…"):
            raise ValueError("it was shortened when it was written ('...')")
        if text in ("None", "null", "nan", "NaN"):
            raise ValueError(f"it holds {text}")
        return text + "0" if text.endswith(".") and _NUMBER.fullmatch(text) else text
    try:
        value = json.loads(text, strict=False) if text[0] == '"' else ast.literal_eval(text)
    except (ValueError, SyntaxError):
        try:
            value = ast.literal_eval(text)
        except (ValueError, SyntaxError):
            raise ValueError(f"{text:.40} is no text that Python or JSON writes") from None
    return str(value)
