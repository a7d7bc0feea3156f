"""What messages say of something long: an error of a library on one line, the first of many names."""

from __future__ import annotations

from collections.abc import Iterable


def first_line(said: BaseException | str, *, named: bool = False) -> str:
    """The first line of what an error says; its kind where it says nothing.

    Args:
        named: Whether the kind stands in front.

    >>> first_line(ValueError("no rows\\nsee the log")), first_line(KeyError()), first_line(OSError("full"), named=True)
    ('no rows', 'KeyError', 'OSError: full')
    """
    return _named(said, next(iter(str(said).strip().splitlines()), ""), named)


def one_line(said: BaseException | str, most: int = 200, *, named: bool = False) -> str:
    """All that an error says on one line, at most so many characters of it; its kind where it says nothing.

    Args:
        named: Whether the kind stands in front.
    """
    return _named(said, " ".join(str(said).split())[:most], named)


def _named(said: BaseException | str, line: str, named: bool) -> str:
    if not isinstance(said, BaseException):
        return line
    kind = type(said).__name__
    return (f"{kind}: {line}" if named else line) if line else kind


def listed(names: Iterable[object], most: int = 12, *, quoted: bool = False) -> str:
    """The first of many names, and how many more there are; empty where there are none.

    >>> listed(["a", "b", "c"], 2), listed("ab", quoted=True), listed([])
    ('a, b and 1 more', "'a', 'b'", '')
    """
    said = [repr(name) if quoted else str(name) for name in names]
    return ", ".join(said[:most]) + (f" and {len(said) - most:,} more" if len(said) > most else "")
