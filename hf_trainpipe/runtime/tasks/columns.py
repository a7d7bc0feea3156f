"""What a task reads: columns, what their cells hold, and how a request's value is checked."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any


class Unfit(ValueError):
    """A value that a cell cannot hold.

    Args:
        found: What was found, as a message tells it; None: the value itself.
        fix: What to do, where the cell knows better than an example shows.
    """

    def __init__(self, found: str | None = None, *, fix: str | None = None) -> None:
        super().__init__(found)
        self.found, self.fix = found, fix


@dataclass(frozen=True)
class Cell:
    """What a cell of a column holds."""

    name: str
    """What messages call it."""
    schema: Mapping[str, Any] = field(default_factory=dict, compare=False, repr=False)
    """JSON Schema of a request's value."""
    is_blank_missing: bool = field(default=True, compare=False, repr=False)
    """Whether an empty cell stands for nothing, so that its row has no value."""

    def read(self, value: Any, *, allow_empty: bool = False) -> Any:
        """The value of a request in its one shape.

        Raises:
            Unfit: it is something else.
        """
        return value

    def characters(self, value: Any) -> int:
        """How large a value is, for a server's bounds."""
        return len(str(value))

    def spelt(self, value: Any) -> str:
        """A value for a person to read."""
        return str(value)


class Text(Cell):
    """A string."""

    def read(self, value: Any, *, allow_empty: bool = False) -> str:
        if not isinstance(value, str):
            raise Unfit(_shown(value))
        if not value.strip() and not allow_empty:
            raise Unfit("an empty text")
        return _encodable(value)

    def characters(self, value: Any) -> int:
        return len(value)


class Words(Cell):
    """A list of strings, one a word."""

    def read(self, value: Any, *, allow_empty: bool = False) -> tuple[str, ...]:
        is_list = isinstance(value, (list, tuple))
        if not is_list or not (value or allow_empty) or not all(isinstance(word, str) for word in value):
            raise Unfit
        return tuple(map(_encodable, value))

    def characters(self, value: Any) -> int:
        return sum(len(word) or 1 for word in value)

    def spelt(self, value: Any) -> str:
        return " ".join(value)


class Choices(Cell):
    """Two texts or more: a list of them, or ``{"text": [...], "label": [...]}``, as lists or the other way round."""

    def read(self, value: Any, *, allow_empty: bool = False) -> tuple[str, ...]:
        if isinstance(value, str) and value.lstrip().startswith("["):  # a cell of a csv
            with suppress(ValueError, RecursionError):
                value = json.loads(value)
        if hasattr(value, "tolist"):
            value = value.tolist()
        if isinstance(value, Mapping):
            value = value.get("text")
        if not isinstance(value, (list, tuple)):
            raise Unfit(f"no list of choices: {_shown(value)}")
        texts = tuple(choice.get("text") if isinstance(choice, Mapping) else choice for choice in value)
        if len(texts) < 2:
            raise Unfit(f"{len(texts)} choices", fix="Give two choices or more.")
        return tuple(TEXT.read(text, allow_empty=allow_empty) for text in texts)

    def characters(self, value: Any) -> int:
        return sum(len(text) or 1 for text in value)

    def spelt(self, value: Any) -> str:
        return " / ".join(self.read(value, allow_empty=True))


def _encodable(value: str) -> str:
    try:
        value.encode()
    except UnicodeEncodeError as error:
        raise Unfit(
            f"half a character (a lone surrogate) at position {error.start}",
            fix="Decode the text with errors='replace'.",
        ) from error
    return value


def _shown(value: Any) -> str:
    text = repr(value)
    return f"{type(value).__name__} {text if len(text) <= 80 else text[:77] + '...'}"


TEXT = Text("text", {"type": "string", "minLength": 1})
"""A string."""
CHOICES = Choices("choices", {"type": "array", "items": {"type": "string"}, "minItems": 2})
"""Two texts or more."""
WORDS = Words("words", {"type": "array", "items": {"type": "string"}, "minItems": 1})
"""A list of strings, one a word."""
CLASS = Cell("class")
"""One label: a name, or an integer id."""
CLASSES = Cell("classes", is_blank_missing=False)
"""Any number of labels: a list, a vector of a 0 or 1 a label, or a string with separators."""
NUMBER = Cell("number")
"""A float."""
TAGS = Cell("tags", is_blank_missing=False)
"""A list of tag names or ids, one a word."""
SPANS = Cell("spans", is_blank_missing=False)
"""A list of ``{"start", "end", "label"}`` in characters of the text column."""
TEXTS = Cell("text, or a list of them")
"""A string, or a list of strings that are all right."""
ANYTHING = Cell("value", is_blank_missing=False)
"""Whatever the task makes of it."""


@dataclass(frozen=True)
class Column:
    """A column that a task reads, and what it expects in it.

    >>> Column("sentence", TEXT)
    Column(name='sentence', cell=Text(name='text'))
    """

    name: str
    """The column's name in the data."""
    cell: Cell
    """What its cells hold."""
    is_target: bool = field(default=False, repr=False)
    """Whether it holds what is to be learnt: a request does not have it."""
    parts: tuple[str, ...] = field(default=(), repr=False)
    """Where each label has a column of its own: these columns, of 0s and 1s."""
    separator: str = field(default=",", repr=False)
    """Of several labels a row, where they are text: what stands between them."""
    form: str | None = field(default=None, repr=False)
    """Of several labels a row: ``names`` or ``vector``; None: as it looks."""
    usual: tuple[str, ...] = field(default=(), repr=False)
    """Of a target: names that are tried in a labelled file without the recipe's."""

    @property
    def columns(self) -> tuple[str, ...]:
        """What it is called in the data."""
        return self.parts or (self.name,)


class Labels(tuple[str, ...]):
    """Label names in the order of the model's outputs, which know where their order comes from.

    A plain tuple of names was ordered by whoever wrote it.

    >>> Labels(("b", "a")).ids, len(Labels())
    ({'b': 0, 'a': 1}, 0)
    """

    is_ordered: bool
    """Whether somebody gave them their order (the recipe, a ``ClassLabel``, a package), so that integers in a column may be
    positions in it. Names that were collected from the data and sorted have none that data could know."""
    are_vectors: bool | None
    """Of several labels a row, whether the training data writes them as a 0 or 1 a label; None: not known."""
    said: tuple[str, ...] | None
    """The names as the recipe has them; None where it has none."""

    def __new__(
        cls,
        names: Iterable[str] = (),
        *,
        is_ordered: bool = True,
        are_vectors: bool | None = None,
        said: tuple[str, ...] | None = None,
    ) -> Labels:
        labels = super().__new__(cls, names)
        labels.is_ordered, labels.are_vectors, labels.said = is_ordered, are_vectors, said
        return labels

    @classmethod
    def of(cls, names: Iterable[str] | None) -> Labels:
        """Names as labels; labels as they are."""
        return names if isinstance(names, Labels) else cls(names or ())

    @property
    def names(self) -> tuple[str, ...]:
        """In the order of the ids."""
        return tuple(self)

    @property
    def ids(self) -> dict[str, int]:
        """Name to position."""
        return {name: position for position, name in enumerate(self)}
