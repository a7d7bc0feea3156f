"""Which slices there are of some rows, and which of them are worst: what :mod:`.slice_search` chooses from.

Shapes: N rows, K conditions.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from hf_trainpipe.metrics.base import Floats
from hf_trainpipe.metrics.errors import Bools, Errors
from hf_trainpipe.metrics.slices import Condition, RowFacts, Slice

_PARTS = 5
"""Of a column of numbers."""
_WORDS, _PAIRED, _WEAK = 5_000, 150, 50
"""Words that are looked at, the most frequent; of these in pairs; and single conditions that are paired, the weakest."""
_BEYOND = 3.3
"""Standard errors by which a pair must be worse than each of its conditions, once in 2,000 by luck: of each condition there are hundreds
of pairs."""
_BLOCK = 16_384
"""Rows at a time of the table of conditions."""
_ALIKE = 0.5
"""Of the rows of two slices, from which the weaker one is enough."""


@dataclass(frozen=True)
class _Single:
    """A condition, its rows among those that choose, and their residuals, summed."""

    condition: Condition
    size: int
    sum: float


def _singles(errors: Errors, facts: RowFacts, within: Bools, least: int) -> list[_Single]:
    """Conditions that hold in ``least`` of some rows or more, and do not in as many."""
    residuals, num = np.zeros(facts.size), len(errors)
    residuals[within] = errors.residuals()
    most = num - least
    found = []

    def add(condition: Condition, size: int, total: float) -> None:
        if least <= size <= most:
            found.append(_Single(condition, size, total))

    plain = [
        Condition(kind="from", name=name, low=low, high=high)
        for name, numbers in sorted(facts.numbers.items())
        for low, high in _ranges(numbers[within])
    ]
    plain += [
        Condition(kind="is", name=name, value=str(value))
        for name, values in sorted(facts.values.items())
        for value in np.unique(values[within])
    ]
    for condition in plain:
        inside = condition.rows(facts) & within
        add(condition, int(inside.sum()), float(residuals[inside].sum()))
    frequent = [word for word, rows in facts.words.items() if len(rows) >= least]
    for word in sorted(frequent, key=lambda word: (-len(facts.words[word]), word))[:_WORDS]:
        rows = facts.words[word]
        size, total = int(within[rows].sum()), float(residuals[rows].sum())
        add(Condition(kind="has", name=word), size, total)
        add(Condition(kind="lacks", name=word), num - size, -total)
    return found


def _ranges(numbers: Floats) -> Iterator[tuple[float, float]]:
    """Fifths of a column of numbers, and what lies below and above their borders."""
    known = numbers[~np.isnan(numbers)]
    if not len(known):
        return
    edges = np.unique(np.quantile(known, np.linspace(0, 1, _PARTS + 1)[1:-1], method="lower"))
    for edge in edges:
        above = known[known > edge]
        yield -math.inf, float(edge)
        if len(above):
            yield float(above.min()), math.inf
    for low, high in pairwise(edges):
        yield float(known[known > low].min()), float(high)


def ranked(errors: Errors, facts: RowFacts, within: Bools, least: int, *, with_pairs: bool) -> tuple[list[Slice], int]:
    """Slices worse than the rest of these rows, the least likely ones first; and how many were looked at."""
    singles = _singles(errors, facts, within, least)
    if not singles:
        return [], 0
    tails = errors.tails(np.array([one.size for one in singles]), np.array([one.sum for one in singles]))
    found = [
        (tail, str(one.condition), Slice((one.condition,)))
        for tail, one in zip(tails.tolist(), singles, strict=True)
        if one.sum > 0
    ]
    looked_at = len(singles)
    if with_pairs:
        pairs, more = _pairs(errors, facts, within, _to_pair(singles, tails), least)
        found += pairs
        looked_at += more
    return [one for _, _, one in sorted(found, key=lambda entry: entry[:2])], looked_at


def _to_pair(singles: Sequence[_Single], tails: Floats) -> list[_Single]:
    """Frequent words, present and absent, and the weakest conditions."""
    words = [one.condition.name for one in singles if one.condition.kind == "has"][:_PAIRED]
    weakest = set(np.argsort(tails, kind="stable")[:_WEAK].tolist())
    is_paired = set(words)
    return [
        one
        for at, one in enumerate(singles)
        if at in weakest or (one.condition.kind in ("has", "lacks") and one.condition.name in is_paired)
    ]


def _pairs(
    errors: Errors, facts: RowFacts, within: Bools, singles: Sequence[_Single], least: int
) -> tuple[list[tuple[float, str, Slice]], int]:
    """Pairs of conditions that are worse than each of the two; and how many were looked at."""
    table = np.stack([one.condition.rows(facts)[within] for one in singles], axis=1)  # a byte a row and condition
    residuals = errors.residuals()
    both, sums = np.zeros((2, len(singles), len(singles)))
    squares = np.zeros(len(singles))
    for start in range(0, len(table), _BLOCK):
        held, part = table[start : start + _BLOCK].astype(np.float32), residuals[start : start + _BLOCK, None]
        both += held.T @ held
        sums += held.T @ (held * part.astype(np.float32))
        squares += (held * part**2).sum(axis=0)
    sizes, first_sums = np.diag(both), np.diag(sums)
    first, second = np.triu_indices(len(singles), 1)
    count, total = both[first, second], sums[first, second]
    fits = (count >= least) & (count < sizes[first]) & (count < sizes[second])
    worse = fits & (total > 0)
    for side in (first, second):
        of, own = sizes[side], first_sums[side]
        spread = count * (of - count) / (of * np.maximum(of - 1, 1)) * (squares[side] - own * own / of)
        worse &= total - count * own / of >= _BEYOND * np.sqrt(np.maximum(spread, 1e-12))
    places = np.flatnonzero(worse)
    chances = errors.tails(count[places].astype(np.int64), total[places]) if len(places) else np.zeros(0)
    found = []
    for chance, at in zip(chances.tolist(), places.tolist(), strict=True):
        pair = Slice((singles[first[at]].condition, singles[second[at]].condition))
        found.append((chance, str(pair), pair))
    return found, int(fits.sum())


def unlike(ranked: Sequence[Slice], facts: RowFacts, within: Bools, most: int) -> list[Slice]:
    """The first of these that share less than half of their rows with those before them."""
    chosen: list[tuple[Slice, Bools]] = []
    for one in ranked:
        if len(chosen) == most:
            break
        inside = one.rows(facts)[within]
        if all((inside & other).sum() < _ALIKE * (inside | other).sum() for _, other in chosen):
            chosen.append((one, inside))
    return [one for one, _ in chosen]
