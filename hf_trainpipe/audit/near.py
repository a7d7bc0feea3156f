"""All pairs of texts with a Jaccard similarity of their character 5-grams of at least 0.8: an exact join, not a sketch.

Prefix filtering (Chaudhuri et al. 2006; Bayardo et al. 2007): two sets with that similarity share one of the rarest grams of
each. Candidates are then held against a bound from a parity sketch of 512 bits, and what is left is counted exactly.
Shapes: N texts, G grams of all texts, E entries of all prefixes.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from hf_trainpipe.runtime.tokens.ragged import ranges

SIZE = 5
"""Characters of a gram; a shorter text is one gram."""
SIMILAR = (4, 5)
"""0.8, as a fraction: no rounding decides whether a pair is near."""
_CHARACTERS = 2_000_000
"""Of texts whose grams are held at a time."""
_CANDIDATES = 2_000_000
"""Held at a time."""
_MOST = 200_000_000
"""Candidates in all. Where more texts share their rarest grams, as copies of one template do, each is held against so many of
those that are nearest in size, and that is said."""
_WORDS = 8
"""Of 64 bits, of a sketch."""
_BUCKETS = 1 << 22
"""Among which grams are counted: how rare a gram is decides the order of a prefix alone, which may be any."""

Ints = NDArray[np.int64]
Codes = NDArray[np.uint64]


@dataclass(frozen=True)
class NearPairs:
    """What a join found."""

    pairs: Ints
    """[P, 2] positions of texts, the smaller first, ascending."""
    skipped: int = 0
    """Candidates that were left out, since too many texts share their rarest grams; 0: recall is 1."""


def near_pairs(texts: Sequence[str]) -> NearPairs:
    """The pairs of distinct texts that are near. Time grows with the pairs that share a rare gram; memory is 100 bytes a text,
    15 bytes a character, and 300 MB at most besides.

    Args:
        texts: In normal form, each once.
    """
    empty = np.zeros((0, 2), dtype=np.int64)
    if len(texts) < 2:
        return NearPairs(empty)
    grams = _Grams(texts)
    index = _Index.of(grams)
    found = [empty]
    for left, right in index.candidates():
        close = index.may_be_near(left, right)
        found += [grams.near(left[part], right[part]) for part in grams.parts(left, right, close)]
    pairs = np.concatenate(found)
    pairs.sort(axis=1)
    return NearPairs(pairs[np.lexsort((pairs[:, 1], pairs[:, 0]))], index.skipped)


class _Grams:
    """The grams of texts as numbers, made when they are asked for."""

    def __init__(self, texts: Sequence[str]) -> None:
        counts = np.fromiter(map(len, texts), dtype=np.int64, count=len(texts))
        self.starts = np.concatenate([[0], np.cumsum(counts)])
        self._characters = np.empty(int(self.starts[-1]), dtype=np.uint32)
        for first, after in self._blocks():
            block = "".join(texts[first:after]).encode("utf-32-le", "surrogatepass")
            self._characters[self.starts[first] : self.starts[after]] = np.frombuffer(block, dtype=np.uint32)
        seen = np.zeros(0x110000, dtype=bool)
        seen[self._characters] = True
        self._code = np.cumsum(seen).astype(np.uint32)  # from 1, so that a short text is no longer one's gram
        self._bits = int(self._code[-1]).bit_length()
        self.num_texts = len(texts)

    def _blocks(self, most: int = _CHARACTERS) -> Iterator[tuple[int, int]]:
        first, total = 0, len(self.starts) - 1
        while first < total:
            after = int(np.searchsorted(self.starts, self.starts[first] + most, side="right")) - 1
            after = min(max(after, first + 1), total)
            yield first, after
            first = after

    def blocks(self) -> Iterator[tuple[Ints, Codes]]:
        """The distinct grams of some texts after the other: their text, ascending, and their number, ascending in each."""
        for first, after in self._blocks():
            yield self.of(np.arange(first, after))

    def of(self, texts: Ints) -> tuple[Ints, Codes]:
        """The distinct grams of some texts: the position in ``texts`` of each, and its number."""
        lengths = np.diff(self.starts)[texts]
        counts = np.maximum(lengths - SIZE + 1, 1)
        owner = np.repeat(np.arange(len(texts)), counts)
        offset = np.arange(len(owner)) - np.repeat(np.cumsum(counts) - counts, counts)
        at = self.starts[texts][owner] + offset
        left = lengths[owner] - offset
        codes = np.zeros(len(owner), dtype=np.uint64)
        for position in range(SIZE):
            place = np.minimum(at + position, max(len(self._characters) - 1, 0))
            character = np.where(left > position, self._code[self._characters[place]], 0).astype(np.uint64)
            # Up to 4,095 different characters a gram has its own number; beyond, two grams share one once in 2**64.
            codes = (
                (codes << np.uint64(self._bits)) | character if self._bits * SIZE <= 64 else mixed(codes ^ character)
            )
        order = np.lexsort((codes, owner))
        owner, codes = owner[order], codes[order]
        is_first = np.ones(len(owner), dtype=bool)
        is_first[1:] = (owner[1:] != owner[:-1]) | (codes[1:] != codes[:-1])
        return owner[is_first], codes[is_first]

    def parts(self, left: Ints, right: Ints, chosen: Ints) -> Iterator[Ints]:
        """Chosen pairs, so many at a time that their grams can be held."""
        lengths = np.diff(self.starts)
        total = np.cumsum(lengths[left[chosen]] + lengths[right[chosen]])
        block = (total - 1) // _CHARACTERS if len(total) else total
        yield from np.split(chosen, np.flatnonzero(np.diff(block)) + 1) if len(chosen) else ()

    def near(self, left: Ints, right: Ints) -> Ints:
        """int64[P, 2]: those of the pairs that are near."""
        texts, places = np.unique(np.concatenate([left, right]), return_inverse=True)
        owner, codes = self.of(texts)
        starts = np.searchsorted(owner, np.arange(len(texts) + 1))
        sizes = np.diff(starts)
        first, second = places[: len(left)], places[len(left) :]
        pair, at = _expanded(starts[first], sizes[first])
        pair_2, at_2 = _expanded(starts[second], sizes[second])
        both, grams = np.concatenate([pair, pair_2]), np.concatenate([codes[at], codes[at_2]])
        order = np.lexsort((grams, both))
        both, grams = both[order], grams[order]
        shared = np.bincount(both[1:][(both[1:] == both[:-1]) & (grams[1:] == grams[:-1])], minlength=len(left))
        union = sizes[first] + sizes[second] - shared
        is_near = SIMILAR[1] * shared >= SIMILAR[0] * union
        return np.stack([left[is_near], right[is_near]], axis=1)


@dataclass
class _Index:
    """Prefixes of texts, the texts numbered by their size."""

    sizes: Ints
    """[N] grams of each text, ascending."""
    text_of: Ints
    """[N] the text of each number."""
    sketches: Codes
    """[N, 8] parities of its grams in 512 buckets."""
    texts: Ints
    """[E] the number of the text of each entry; entries of a gram lie together, by size."""
    lowest: Ints
    """[E] the first entry of the same gram whose text is large enough to be near."""
    skipped: int = 0

    @classmethod
    def of(cls, grams: _Grams) -> _Index:
        sizes = np.zeros(grams.num_texts, dtype=np.int64)
        sketches = np.zeros((grams.num_texts, _WORDS), dtype=np.uint64)
        frequency = np.zeros(_BUCKETS, dtype=np.int64)
        first = 0
        for owner, codes in grams.blocks():
            number = int(owner[-1]) + 1
            sizes[first : first + number] = np.bincount(owner, minlength=number)
            spread = mixed(codes)
            frequency += np.bincount((spread % np.uint64(_BUCKETS)).astype(np.int64), minlength=_BUCKETS)
            bit = (spread >> np.uint64(40)) % np.uint64(64 * _WORDS)
            np.bitwise_xor.at(
                sketches, (first + owner, (bit >> np.uint64(6)).astype(np.int64)), np.uint64(1) << (bit & np.uint64(63))
            )
            first += number
        text_of = np.argsort(sizes, kind="stable")
        number_of = np.empty_like(text_of)
        number_of[text_of] = np.arange(len(text_of))
        entries = list(_prefixes(grams, sizes, frequency))
        codes, texts = np.concatenate([c for c, _ in entries]), number_of[np.concatenate([t for _, t in entries])]
        order = np.lexsort((texts, codes))
        codes, texts = codes[order], texts[order]
        sizes = sizes[text_of]
        starts_of_gram = np.flatnonzero(np.concatenate([[True], codes[1:] != codes[:-1]]))
        gram = np.repeat(np.arange(len(starts_of_gram)), np.diff([*starts_of_gram, len(codes)]))
        smallest = -(-SIMILAR[0] * sizes[texts] // SIMILAR[1])
        high = int(sizes[-1]) + 1
        lowest = np.searchsorted(gram * high + sizes[texts], gram * high + smallest)
        capped = np.maximum(lowest, np.arange(len(texts)) - _cap(np.arange(len(texts)) - lowest, _MOST))
        return cls(sizes, text_of, sketches[text_of], texts, capped, int((capped - lowest).sum()))

    @cached_property
    def number_of(self) -> Ints:
        """[N] the number of each text."""
        return np.argsort(self.text_of)

    def candidates(self) -> Iterator[tuple[Ints, Ints]]:
        """Pairs of texts that share a gram of their prefixes, each once, in blocks."""
        by_text = np.argsort(self.texts, kind="stable")
        counts = (np.arange(len(self.texts)) - self.lowest)[by_text]
        total = np.cumsum(counts)
        owners = self.texts[by_text]
        first = 0
        while first < len(by_text):
            done = int(total[first - 1]) if first else 0
            after = max(int(np.searchsorted(total, done + _CANDIDATES, side="right")), first + 1)
            after = int(
                np.searchsorted(owners, owners[after - 1], side="right")
            )  # all of a text at once: each pair once
            entries = by_text[first:after]
            which, at = _expanded(self.lowest[entries], counts[first:after])
            codes = np.unique(owners[first:after][which] * np.int64(len(self.sizes)) + self.texts[at])
            yield self.text_of[codes // len(self.sizes)], self.text_of[codes % len(self.sizes)]
            first = after

    def may_be_near(self, left: Ints, right: Ints) -> Ints:
        """int64[<= P]: the pairs whose sketches do not show that they differ too much."""
        one, other = self.number_of[left], self.number_of[right]
        total = self.sizes[one] + self.sizes[other]
        # Near: shared >= 4/9 of the sum of the sizes, so that at most 1/9 of it differs.
        most = total - 2 * (-(-SIMILAR[0] * total // (SIMILAR[0] + SIMILAR[1])))
        differing = np.zeros(len(left), dtype=np.int64)
        for word in range(_WORDS):
            differing += np.bitwise_count(self.sketches[one, word] ^ self.sketches[other, word])
        return np.flatnonzero(differing <= most)


def _prefixes(grams: _Grams, sizes: Ints, frequency: Ints) -> Iterator[tuple[Codes, Ints]]:
    """Of each text its rarest grams, so many that a near text has one of them: their numbers and texts, in blocks."""
    first = 0
    for owner, codes in grams.blocks():
        often = frequency[(mixed(codes) % np.uint64(_BUCKETS)).astype(np.int64)]
        order = np.lexsort((codes, often, owner))
        size = sizes[first : first + int(owner[-1]) + 1]
        position = np.arange(len(owner)) - np.repeat(np.cumsum(size) - size, size)
        length = size - -(-SIMILAR[0] * size // SIMILAR[1]) + 1
        kept = order[position < length[owner]]
        yield codes[kept], first + owner[kept]
        first += len(size)


def _cap(counts: Ints, most: int) -> int:
    """The largest number that each count may have so that they are not more than ``most`` in all."""
    ordered = np.sort(counts)
    kept = np.concatenate([[0], np.cumsum(ordered)])  # of the smallest ones, whole
    rest = np.arange(len(ordered), -1, -1)
    fits = np.flatnonzero(kept[:-1] + ordered * rest[:-1] <= most)
    if len(fits) == len(ordered):
        return int(ordered[-1])
    first = int(fits[-1]) + 1 if len(fits) else 0
    return max(1, (most - int(kept[first])) // int(rest[first]))


def _expanded(starts: Ints, counts: Ints) -> tuple[Ints, Ints]:
    """For ranges of numbers: the range of each number, and the number."""
    return np.repeat(np.arange(len(counts)), counts), ranges(starts, counts)


def mixed(numbers: Codes) -> Codes:
    """The finaliser of SplitMix64 (Steele, Lea, Flood 2014)."""
    with np.errstate(over="ignore"):
        x = numbers + np.uint64(0x9E3779B97F4A7C15)
        x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))
