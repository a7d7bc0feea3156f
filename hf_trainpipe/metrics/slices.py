"""What a slice of a split is: rows that share a word, a value of a column, a length, or two of these.

A slice is a sentence about rows, and is written as one: ``has "refund"``, ``lacks "not"``, ``channel is "phone"``,
``tokens from 3 to 12``, two of them joined by ``and``. So it is found again in other rows, such as those of a gate that asks
for a floor in it. Shapes: N rows.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from hf_trainpipe.errors import DataError
from hf_trainpipe.metrics.base import Floats

Bools = NDArray[np.bool_]
Ints = NDArray[np.int64]
TOKENS = "tokens"
"""The number that each row's length goes by."""

_QUOTED = r'"(?:[^"\\]|\\.)*"'
_NUMBER = r"[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?"
_CONDITION = re.compile(
    rf"(?P<word>has|lacks)\s+(?P<said>{_QUOTED}|\S+)"
    rf"|(?P<name>{_QUOTED}|\S+)\s+(?:is\s+(?P<value>{_QUOTED}|\S+)"
    rf"|from\s+(?P<from>{_NUMBER})(?:\s+to\s+(?P<to>{_NUMBER}))?|up\s+to\s+(?P<most>{_NUMBER}))"
)
_AND = re.compile(r"\s+and\s+")


@dataclass(frozen=True, eq=False, kw_only=True)
class RowFacts:
    """What is known of the rows of a split, by which slices are told."""

    size: int
    """N"""
    words: Mapping[str, Ints] = field(default_factory=dict)
    """Of each word, in small letters, the rows that have it, ascending."""
    values: Mapping[str, NDArray[np.str_]] = field(default_factory=dict)
    """Columns with few values: [N] as text."""
    numbers: Mapping[str, Floats] = field(default_factory=dict)
    """Columns of numbers: [N], NaN where there is none; :data:`TOKENS` are the lengths."""

    @classmethod
    def of(cls, words: Iterable[Iterable[str]], **further: Any) -> RowFacts:
        """From the words of each row."""
        found: dict[str, list[int]] = {}
        size = 0
        for row, listed in enumerate(words):
            size = row + 1
            for word in {one.lower() for one in listed}:
                found.setdefault(word, []).append(row)
        places = {word: np.array(rows, dtype=np.int64) for word, rows in found.items()}
        return cls(size=size, words=places, **further)


@dataclass(frozen=True, kw_only=True)
class Condition:
    """One thing that is so in some rows."""

    kind: Literal["has", "lacks", "is", "from"]
    name: str
    """The word of ``has`` and ``lacks``; else the column, or :data:`TOKENS`."""
    value: str = ""
    """Of ``is``."""
    low: float = -math.inf
    """Of ``from``: the smallest number that belongs to it."""
    high: float = math.inf
    """The largest."""

    def rows(self, facts: RowFacts) -> Bools:
        """[N]: where it is so. A column or word that the rows do not have is so nowhere, its lack everywhere."""
        inside = np.zeros(facts.size, dtype=bool)
        if self.kind in ("has", "lacks"):
            inside[facts.words.get(self.name, np.zeros(0, dtype=np.int64))] = True
            return inside if self.kind == "has" else ~inside
        if self.kind == "is":
            return inside if self.name not in facts.values else np.asarray(facts.values[self.name] == self.value)
        numbers = facts.numbers.get(self.name)
        return inside if numbers is None else np.asarray((numbers >= self.low) & (numbers <= self.high))

    def __str__(self) -> str:
        if self.kind in ("has", "lacks"):
            return f"{self.kind} {_quoted(self.name)}"
        name = self.name if re.fullmatch(r"[\w.-]+", self.name) else _quoted(self.name)
        if self.kind == "is":
            return f"{name} is {_quoted(self.value)}"
        if math.isinf(self.low):
            return f"{name} up to {self.high:.12g}"
        return f"{name} from {self.low:.12g}" + ("" if math.isinf(self.high) else f" to {self.high:.12g}")


@dataclass(frozen=True)
class Slice:
    """Rows in which all conditions are so.

    >>> str(Slice.parse('has "refund" and tokens up to 12'))
    'has "refund" and tokens up to 12'
    """

    conditions: tuple[Condition, ...]

    @classmethod
    def parse(cls, text: str) -> Slice:
        """A slice as it is written.

        Raises:
            DataError: it is written otherwise.
        """
        found: list[Condition] = []
        at = 0
        while (match := _CONDITION.match(text.strip(), at)) is not None:
            found.append(_read(match))
            at = match.end()
            if at == len(text.strip()):
                return cls(tuple(found))
            if (joined := _AND.match(text.strip(), at)) is None:
                break
            at = joined.end()
        raise DataError(
            f"slice: expected conditions joined by 'and', found {text!r}.",
            fix='Write has "refund", lacks "not", channel is "phone", tokens from 3 to 12, or tokens up to 12.',
        )

    def rows(self, facts: RowFacts) -> Bools:
        """[N]: which rows belong to it."""
        inside = np.ones(facts.size, dtype=bool)
        for condition in self.conditions:
            inside &= condition.rows(facts)
        return inside

    def __str__(self) -> str:
        return " and ".join(map(str, self.conditions))


def _read(match: re.Match[str]) -> Condition:
    if match["word"]:
        return Condition(kind="has" if match["word"] == "has" else "lacks", name=_unquoted(match["said"]).lower())
    name = _unquoted(match["name"])
    if match["value"] is not None:
        return Condition(kind="is", name=name, value=_unquoted(match["value"]))
    if match["most"] is not None:
        return Condition(kind="from", name=name, high=float(match["most"]))
    high = math.inf if match["to"] is None else float(match["to"])
    return Condition(kind="from", name=name, low=float(match["from"]), high=high)


def _quoted(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)


def _unquoted(text: str) -> str:
    if len(text) < 2 or text[0] != '"':
        return text
    try:
        return str(json.loads(text))
    except ValueError:
        return text[1:-1]
