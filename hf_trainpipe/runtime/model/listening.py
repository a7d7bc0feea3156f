"""Who is told of the tokens of an answer while they are written: a server that streams.

The features of a request hold a number for its listener, since they travel through batches as arrays.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from contextlib import contextmanager

LISTENER = "listener"
"""What the number is called among a request's parameters, and in its features."""

_listeners: dict[int, Callable[[list[int]], None]] = {}
_numbers = itertools.count(1)


@contextmanager
def listening(listener: Callable[[list[int]], None]) -> Iterator[int]:
    """The number of a listener while this is open."""
    number = next(_numbers)
    _listeners[number] = listener
    try:
        yield number
    finally:
        del _listeners[number]


def tell(number: int, ids: list[int]) -> None:
    """Tell a listener of all tokens of its answer so far; nobody, where it does not listen any more."""
    if (listener := _listeners.get(number)) is not None:
        listener(ids)
