"""Edits of a text, and the alignment between an edited text and its original."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt


class Edit(NamedTuple):
    """Replace ``text[start:end]`` by ``text``. A list of edits is sorted and does not overlap."""

    start: int
    end: int
    text: str


def apply_edits(text: str, edits: Sequence[Edit]) -> str:
    """Return ``text`` with ``edits`` done.

    >>> apply_edits("a  b", [Edit(1, 3, " ")])
    'a b'
    """
    if not edits:
        return text
    pieces: list[str] = []
    position = 0
    for edit in edits:
        assert position <= edit.start <= edit.end <= len(text), "edits must be sorted and must not overlap"
        pieces.append(text[position : edit.start])
        pieces.append(edit.text)
        position = edit.end
    pieces.append(text[position:])
    return "".join(pieces)


def spaced(text: str, tokens: Iterable[tuple[int, int, str]]) -> list[Edit]:
    """Edits that leave one space between tokens.

    Args:
        tokens: Start, end and new text of each, in order.

    >>> apply_edits("It's on", spaced("It's on", [(0, 2, "It"), (2, 4, "is"), (5, 7, "on")]))
    'It is on'
    """
    found: list[Edit] = []
    position = 0
    for start, end, new in tokens:
        gap = " " if position else ""
        if text[position:start] != gap:
            found.append(Edit(position, start, gap))
        if new != text[start:end]:
            found.append(Edit(start, end, new))
        position = end
    if position < len(text):
        found.append(Edit(position, len(text), ""))
    return found


def without(text: str, words: Iterable[tuple[int, int]]) -> list[Edit]:
    """Edits that take words away, each with the space behind it, or else the one before it.

    >>> apply_edits("one, two three.", without("one, two three.", [(0, 3), (9, 14)]))
    ', two.'
    """
    found: list[Edit] = []
    position = 0
    for start, end in words:
        if text[end : end + 1].isspace():
            end += 1
        elif start > position and text[start - 1].isspace():
            start -= 1
        found.append(Edit(start, end, ""))
        position = end
    return found


class Aligned:
    """A text after some edits, which knows where each of its characters came from.

    Character ``i`` of ``text`` stands for ``original[starts[i]:ends[i]]``: one character where nothing
    changed, the whole replaced stretch where it did, an empty stretch where it was inserted. Both arrays
    never decrease.
    """

    __slots__ = ("_ends", "_starts", "original", "text")

    def __init__(self, text: str) -> None:
        self.text = text
        """The text as it is now."""
        self.original = text
        """The text as it was at first."""
        self._starts: npt.NDArray[np.int64] | None = None
        self._ends: npt.NDArray[np.int64] | None = None

    def edited(self, edits: Sequence[Edit]) -> Aligned:
        """A new one with further ``edits``, given in positions of ``self.text``."""
        if not edits:
            return self
        result = Aligned(self.original)
        result.text = apply_edits(self.text, edits)
        starts, ends = _origins(len(self.text), edits)
        if self._starts is not None and self._ends is not None:
            starts, ends = self._compose(starts, ends)
        result._starts, result._ends = starts, ends
        return result

    def _compose(
        self, starts: npt.NDArray[np.int64], ends: npt.NDArray[np.int64]
    ) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
        assert self._starts is not None
        assert self._ends is not None
        # One more entry on each side lets insertions at either end of the text be looked up too.
        first = np.append(self._starts, len(self.original))[starts]
        last = np.insert(self._ends, 0, 0)[ends]
        # An insertion (start == end) lies between two characters: it takes the place between them,
        # or all of the stretch that both came from.
        return first, np.maximum(first, last)

    def to_original(self, start: int, end: int) -> tuple[int, int]:
        """The stretch of the original that ``text[start:end]`` came from."""
        assert 0 <= start <= end <= len(self.text), (start, end, len(self.text))
        if self._starts is None or self._ends is None:
            return start, end
        if start == end:
            at = int(self._starts[start]) if start < len(self.text) else len(self.original)
            return at, at
        return int(self._starts[start]), int(self._ends[end - 1])

    def from_original(self, start: int, end: int) -> tuple[int, int] | None:
        """The smallest stretch of ``text`` that holds all that is left of ``original[start:end]``.

        None when nothing is left of it.
        """
        if self._starts is None or self._ends is None:
            return (start, end) if 0 <= start < end <= len(self.text) else None
        first = int(np.searchsorted(self._ends, start, side="right"))
        last = int(np.searchsorted(self._starts, end, side="left"))
        return (first, last) if first < last else None


def _origins(length: int, edits: Sequence[Edit]) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """For each character after ``edits`` of a text of ``length``: start and end of where it came from."""
    count = len(edits)
    begin = np.fromiter((edit.start for edit in edits), dtype=np.int64, count=count)
    end = np.fromiter((edit.end for edit in edits), dtype=np.int64, count=count)
    # Stretches by turns: what is kept before an edit, what the edit puts in; and what is kept behind the last one.
    first = np.zeros(2 * count + 1, dtype=np.int64)
    first[1::2], first[2::2] = begin, end
    sizes = np.empty(2 * count + 1, dtype=np.int64)
    sizes[0::2] = np.append(begin, length) - first[0::2]
    sizes[1::2] = np.fromiter((len(edit.text) for edit in edits), dtype=np.int64, count=count)
    last = np.zeros_like(first)
    last[1::2] = end
    is_kept = np.repeat(np.arange(2 * count + 1) % 2 == 0, sizes)
    starts = np.repeat(first, sizes)
    within = np.arange(len(starts), dtype=np.int64) - np.repeat(np.cumsum(sizes) - sizes, sizes)
    starts[is_kept] += within[is_kept]
    ends = np.repeat(last, sizes)
    ends[is_kept] = starts[is_kept] + 1
    return starts, ends
