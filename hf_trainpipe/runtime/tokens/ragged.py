"""Flat arithmetic of features: special tokens, cuts, windows, and which window owns a word.

All arrays are flat: ``starts[i]:starts[i + 1]`` is the place of item ``i``. N examples, F features
(one an example, or several windows), T tokens.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from ..errors import InputError

Ints = npt.NDArray[np.int64]


class Groups(NamedTuple):
    """Neighbouring items that stay together; without a reason to, each item is a group of its own."""

    starts: Ints
    """[G] the place of the first item of each."""
    counts: Ints
    """[G] how many items it has."""
    longest: Ints
    """[G, S] in each stream the length of its longest item."""
    totals: Ints
    """[G] the sum of all lengths."""

    @classmethod
    def of(cls, lengths: npt.NDArray[Any], owners: npt.NDArray[Any] | None) -> Groups:
        """Groups of items with these lengths, [n], or [n, S] in several streams: neighbours of one owner."""
        widths = np.asarray(lengths if lengths.ndim == 2 else lengths[:, None], dtype=np.int64)
        if owners is None or not len(widths):
            ones = np.ones(len(widths), dtype=np.int64)
            return cls(np.arange(len(widths), dtype=np.int64), ones, widths, widths.sum(axis=1))
        starts = np.flatnonzero(np.concatenate([[True], owners[1:] != owners[:-1]])).astype(np.int64)
        counts = np.diff(np.append(starts, len(widths)))
        return cls(starts, counts, np.maximum.reduceat(widths, starts), np.add.reduceat(widths.sum(axis=1), starts))

    def longest_first(self) -> Groups:
        """By the length of their longest items, over all streams."""
        return self.take(np.argsort(-self.longest.sum(axis=1), kind="stable"))

    def take(self, groups: Ints) -> Groups:
        """Some of the groups, in this order."""
        return Groups(*(column[groups] for column in self))

    def items(self) -> Ints:
        """The places of all items, group by group."""
        return ranges(self.starts, self.counts)


_PROBES = ("a", "the", "1", ".", "A", "\u3042", "\u4e00")
_NO_EDGE = np.iinfo(np.int32).max


@dataclass(frozen=True)
class Template:
    """The special tokens around one text or a pair, and the token types of each part.

    Read off a probe, so that it holds for any post-processor that puts fixed tokens around its texts.
    """

    specials: tuple[tuple[int, ...], ...]
    """Ids before, between and after the texts: two groups for one text, three for a pair."""
    special_types: tuple[tuple[int, ...], ...]
    text_types: tuple[int, ...]

    @property
    def num_specials(self) -> int:
        return sum(map(len, self.specials))

    @property
    def has_types(self) -> bool:
        """Whether any token has a type other than 0."""
        return any(self.text_types) or any(map(any, self.special_types))

    @staticmethod
    def probe(backend: Any, *, pair: bool) -> Template:
        """Read it off a ``tokenizers.Tokenizer``.

        Raises:
            InputError: The tokenizer has no token for any of several plain characters, or puts texts
                in an order of its own.
        """
        for probe in _PROBES:
            encoding = backend.encode(probe, probe) if pair else backend.encode(probe)
            sequences = encoding.sequence_ids
            texts = [s for i, s in enumerate(sequences) if s is not None and (not i or sequences[i - 1] != s)]
            if texts == [0, 1][: 2 if pair else 1]:
                return _template(encoding.ids, encoding.type_ids, sequences, len(texts))
        raise InputError(
            "tokenizer: expected special tokens around the texts, found none of the probes in its output.",
            fix="Use a fast tokenizer whose special tokens stand before, between and after the texts.",
        )


def _template(ids: list[int], types: list[int], sequences: list[int | None], num_texts: int) -> Template:
    groups: list[list[int]] = [[] for _ in range(num_texts + 1)]
    group_types: list[list[int]] = [[] for _ in range(num_texts + 1)]
    text_types = [0] * num_texts
    passed = 0
    for token, kind, sequence in zip(ids, types, sequences, strict=True):
        if sequence is None:
            groups[passed].append(token)
            group_types[passed].append(kind)
        else:
            text_types[sequence] = kind
            passed = sequence + 1
    return Template(tuple(map(tuple, groups)), tuple(map(tuple, group_types)), tuple(text_types))


class Part(NamedTuple):
    """One stretch of every feature: ``source[begin[f] : begin[f] + length[f]]``."""

    source: npt.NDArray[np.int32]
    begin: Ints
    length: Ints
    types: npt.NDArray[np.uint8] | int
    """Of each token of a fixed group, or one number for all."""


def ranges(begin: Ints, length: Ints) -> Ints:
    """``begin[i], begin[i] + 1, ...`` of ``length[i]`` numbers, one item after the other.

    >>> ranges(np.array([5, 0]), np.array([2, 3])).tolist()
    [5, 6, 0, 1, 2]
    """
    total = int(length.sum())
    before = np.cumsum(length) - length
    return np.repeat(begin - before, length) + np.arange(total, dtype=np.int64)


def ends_of(lengths: npt.NDArray[Any]) -> Ints:
    """``starts`` of items with these lengths, with the end of the last: one longer than ``lengths``."""
    return np.concatenate([np.zeros(1, dtype=np.int64), np.cumsum(lengths, dtype=np.int64)])


def assemble(
    parts: Sequence[Part], *, has_types: bool
) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.uint8] | None, Ints]:
    """Lay the parts of each feature one after the other.

    Returns:
        ids int32[T], types uint8[T] or None, starts int64[F + 1].
    """
    starts = ends_of(np.sum([part.length for part in parts], axis=0))
    ids = np.empty(int(starts[-1]), dtype=np.int32)
    types = np.zeros(len(ids), dtype=np.uint8) if has_types else None
    place = starts[:-1].copy()
    for part in parts:
        if part.length.any():
            source = ranges(part.begin, part.length)
            target = ranges(place, part.length)
            ids[target] = part.source[source]
            if types is not None:
                types[target] = part.types if isinstance(part.types, int) else part.types[source]
        place += part.length
    return ids, types, starts


class Cut(NamedTuple):
    """Which stretch of its example's tokens each feature holds."""

    example: Ints
    begin: Ints
    length: Ints


def windows(num_tokens: Ints, capacity: Ints, stride: Ints) -> Cut:
    """Windows of at most ``capacity`` tokens that overlap by ``stride`` or more, over each example.

    The last window moves back so that it is full. An example that fits is one window.
    """
    step = capacity - stride
    assert (step > 0).all(), "windows must move on"
    beyond = np.maximum(num_tokens - capacity, 0)
    count = 1 + -(-beyond // step)
    example = np.repeat(np.arange(len(num_tokens), dtype=np.int64), count)
    number = ranges(np.zeros(len(count), dtype=np.int64), count)
    begin = np.minimum(number * step[example], beyond[example])
    return Cut(example, begin, np.minimum(num_tokens, capacity)[example])


def cut_pairs(first: Ints, second: Ints, budget: int) -> tuple[Ints, Ints]:
    """Tokens kept of each text of a pair: the longer one gives way first, then both.

    The same numbers as ``longest_first`` of the tokenizers library (utils/truncation.rs).
    """
    short, long = np.minimum(first, second), np.maximum(first, second)
    is_over = first + second > budget
    kept_long = np.where(is_over, np.maximum(short, budget - short), long)
    both = is_over & (short + kept_long > budget)
    kept_short = np.where(both, budget // 2, short)
    kept_long = np.where(both, budget // 2 + budget % 2, kept_long)
    first_is_long = first > second
    return np.where(first_is_long, kept_long, kept_short), np.where(first_is_long, kept_short, kept_long)


def own_words(cut: Cut, num_tokens: Ints, word_place: Ints, word_length: Ints) -> tuple[Ints, Ints]:
    """For each word the one feature that answers for it: the one that shows most around the whole word.

    What lies beyond the text's own ends is not missed. A word of more tokens than a window belongs to a
    window that holds its first token.

    Args:
        cut: The stretches of the features, sorted by example.
        num_tokens: Of each example, [N].
        word_place: First token of each word, counted over all examples, ascending, [W].
        word_length: Tokens of each word, [W].

    Returns:
        Words that are in any feature (ascending), and the feature of each.
    """
    base = ends_of(num_tokens)[:-1][cut.example]
    low = np.searchsorted(word_place, base + cut.begin, side="left")
    high = np.searchsorted(word_place, base + cut.begin + cut.length, side="left")
    word = ranges(low, high - low)
    feature = np.repeat(np.arange(len(cut.example), dtype=np.int64), high - low)
    if len(word) < 2 or bool((word[1:] > word[:-1]).all()):
        return word, feature
    begin, end = cut.begin[feature], (cut.begin + cut.length)[feature]
    place = word_place[word] - base[feature]
    before = np.where(begin > 0, place - begin, _NO_EDGE)
    after = np.where(end < num_tokens[cut.example[feature]], end - place - word_length[word], _NO_EDGE)
    order = np.lexsort((feature, -np.minimum(before, after), word))
    word, feature = word[order], feature[order]
    is_first = np.concatenate([[True], word[1:] != word[:-1]])
    return word[is_first], feature[is_first]
