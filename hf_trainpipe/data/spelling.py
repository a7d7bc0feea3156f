"""What a label is called: one name for a value, whatever file, type or spelling it comes in. docs/labels.md has the rule."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Iterable
from decimal import Decimal
from functools import lru_cache
from typing import Any

TRUE, FALSE = "True", "False"
_INTEGER = re.compile(r"-?(?:0|[1-9][0-9]*)", re.ASCII)
_WHOLE = re.compile(r"(-?(?:0|[1-9][0-9]*))\.0", re.ASCII)
_NUMBER = re.compile(r"[+-]?[0-9]+(?:\.[0-9]*)?", re.ASCII)
_ENDS = re.compile(r"^[\s\ufeff\u200b\u2060]+|[\s\ufeff\u200b\u2060]+$")
"""White space of any kind, and what is wide nowhere: byte order marks and zero-width spaces."""
_LARGEST_EXACT = 2**53


def spelt(value: Any) -> str | None:
    """A cell's label as the data spells it, without white space around it; None where there is none.

    Raises:
        ValueError: a whole float from 2**53 on, which stands for several integers.
        TypeError: a value that is no label: a date, bytes, a dictionary.
    """
    if value is None or value != value:
        return None
    if isinstance(value, str):
        return _ENDS.sub("", value) or None
    if isinstance(value, bool | int):
        return str(value)
    if isinstance(value, float):
        if abs(value) >= _LARGEST_EXACT:
            raise ValueError(
                f"the number {value!r} is too large for a float: other ids may have been rounded to it as well"
            )
        return repr(value)
    if isinstance(value, Decimal):
        return str(int(value)) if value == value.to_integral_value() else format(value.normalize(), "f")
    raise TypeError(f"expected a label (text, an integer, a boolean), found {type(value).__name__} {value!r:.60}")


@lru_cache(maxsize=1 << 16)
def key(text: str) -> str:
    """What is compared: labels are the same where their keys are.

    >>> key("1.0"), key("TRUE"), key("01"), key(" New\u00a0York ")
    ('1', 'True', '01', 'New York')
    """
    clean = " ".join(_ENDS.sub("", text).split())
    if not clean.isascii():
        return unicodedata.normalize("NFC", clean)
    if (whole := _WHOLE.fullmatch(clean)) is not None:
        clean = whole[1]
    if clean == "-0":
        return "0"
    return clean.capitalize() if clean.lower() in ("true", "false") else clean


def is_integer(name: str) -> bool:
    """Whether a key is an integer, written as Python writes it: ``01`` and ``+1`` are names."""
    return _INTEGER.fullmatch(name) is not None


def number(name: str) -> Decimal | None:
    """The number that a label may stand for, ``01`` and ``1.50`` included."""
    return Decimal(name) if _NUMBER.fullmatch(name) else None


def fold(name: str) -> str:
    """Equal for labels that a person may have meant as one: case, width and white space aside, or equal as numbers."""
    if (value := number(name)) is not None:
        return str(value.normalize() + 0)
    return "".join(unicodedata.normalize("NFKC", name).casefold().split())


def names_of(spellings: Iterable[str]) -> tuple[str, ...]:
    """The names of labels, sorted: integers by number, else as text, of tags ``O`` first. The order is total.

    A name is what the data says where it says it in one way, and the key of its spellings where it says it in several,
    or where all labels are integers.
    """
    spellings_of = grouped({*spellings}, key)
    if all(map(is_integer, spellings_of)):
        return tuple(sorted(spellings_of, key=Decimal))
    names = (found[0] if len(found) == 1 else of for of, found in spellings_of.items())
    return tuple(sorted(names, key=tag_order))


def tag_order(name: str) -> tuple[bool, str, str, str]:
    """``O`` first, then by type, then by prefix; the name itself last, so that no two are equal."""
    prefix, dash, kind = name.partition("-")
    return (name != "O", kind, prefix, name) if dash and prefix in "BIESLU" else (name != "O", name, "", name)


def grouped(names: Iterable[str], by: Callable[[str], str]) -> dict[str, list[str]]:
    """Names by what they have in common, in the order in which they come."""
    found: dict[str, list[str]] = {}
    for name in names:
        found.setdefault(by(name), []).append(name)
    return found


def doubled(names: Iterable[str]) -> list[list[str]]:
    """Names of a recipe that mean the same label."""
    return [same for same in grouped(names, key).values() if len(same) > 1]


def entity_types(tags: Iterable[str]) -> list[str]:
    """The types of entities that tags with a prefix name, sorted."""
    return sorted({tag.partition("-")[2] for tag in tags if tag != "O"})
