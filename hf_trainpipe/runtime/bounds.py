"""What one request may become while it is prepared: a server sets it, training and evaluation do not.

A text grows before the model sees it: U+FDFA is 18 characters under NFKC, and a token is in every window that overlaps it.
What grows beyond is given up where it is noticed, before the next step makes arrays of it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass

from .errors import TooMuch


@dataclass(frozen=True)
class Bounds:
    """Of all that is prepared together."""

    characters: int
    """After each preprocessing step."""
    tokens: int
    """Of all windows, special tokens included."""


_BOUNDS: ContextVar[Bounds | None] = ContextVar("bounds", default=None)


@contextmanager
def bounded(bounds: Bounds | None) -> Iterator[None]:
    """Hold what is prepared inside to ``bounds``."""
    token = _BOUNDS.set(bounds)
    try:
        yield
    finally:
        _BOUNDS.reset(token)


def check_characters(texts: Sequence[str]) -> None:
    """Count texts against the bounds that are set, if any.

    Raises:
        TooMuch: They are longer.
    """
    if (bounds := _BOUNDS.get()) is not None and (found := sum(map(len, texts))) > bounds.characters:
        raise TooMuch("characters", found, bounds.characters, note=" after preprocessing")


def check_tokens(found: int) -> None:
    """Count tokens against the bounds that are set, if any.

    Raises:
        TooMuch: They are more.
    """
    if (bounds := _BOUNDS.get()) is not None and found > bounds.tokens:
        raise TooMuch("tokens", found, bounds.tokens)
