"""Which rows go where: folds, parts and nested subsets that keep groups together and every label in proportion.

One rule deals rows into parts of given sizes: the labels in turn, the rarest first, each group that has it to the part that
misses most of that label (Sechidis et al. 2011, for groups of rows). Of single rows with one label each this is stratification to
the row; of several labels a row, of entity types and of numbers in ten bins it is as near as groups allow. What is dealt where
depends on the seed and the order of the rows alone.

Shapes: N rows, M pairs of a row and a label it has.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hf_trainpipe.data.splits import row_keys
from hf_trainpipe.errors import DataError

Rows = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Strata:
    """What is to be spread evenly: which of some named properties each row has, one or several."""

    rows: Rows
    """[M]"""
    ids: Rows
    """[M] property of that row."""
    names: tuple[str, ...]
    count: int
    """N"""

    @classmethod
    def of_ids(cls, ids: Rows, names: Sequence[str]) -> Strata:
        """One property a row."""
        return cls(np.arange(len(ids)), ids.astype(np.int64), tuple(names), len(ids))

    @classmethod
    def of_pairs(cls, rows: Rows, ids: Rows, names: Sequence[str], count: int) -> Strata:
        """Any number a row; rows without one share a property of their own."""
        without = np.setdiff1d(np.arange(count), rows)
        rows, ids = np.concatenate([rows, without]), np.concatenate([ids, np.full(len(without), len(names))])
        return cls(rows.astype(np.int64), ids.astype(np.int64), (*names, "none"), count)

    @classmethod
    def of_numbers(cls, numbers: NDArray[Any], *, bins: int = 10) -> Strata:
        """Numbers, in bins with equally many rows."""
        edges = np.unique(np.quantile(numbers, np.linspace(0, 1, bins + 1)[1:-1])) if len(numbers) else numbers
        found = np.searchsorted(edges, numbers, side="right")
        return cls.of_ids(found, [f"bin {number + 1}" for number in range(len(edges) + 1)])

    def taken(self, rows: Rows) -> Strata:
        """Those of some rows, which are numbered anew."""
        place = np.full(self.count, -1, dtype=np.int64)
        place[rows] = np.arange(len(rows))
        kept = place[self.rows] >= 0
        return Strata(place[self.rows[kept]], self.ids[kept], self.names, len(rows))


def deal(strata: Strata, groups: Rows, shares: Sequence[float], *, seed: int) -> Rows:
    """Deal rows into parts.

    Args:
        groups: [N] rows with the same number stay together.
        shares: The size of each part, as a share of all rows.

    Returns:
        int64[N]: the part of each row.
    """
    _, group = np.unique(groups, return_inverse=True)
    sizes = np.bincount(group, minlength=0).tolist()
    held, amounts = _counts(group[strata.rows], strata.ids, len(sizes))
    totals = np.bincount(strata.ids, minlength=len(strata.names))
    keys = row_keys(len(sizes), seed=seed)
    by_size = np.lexsort((keys, -np.asarray(sizes)))
    rank = np.empty(len(sizes), dtype=np.int64)
    rank[by_size] = np.arange(len(sizes))
    having: list[list[int]] = [[] for _ in strata.names]
    for number in by_size.tolist():
        for label in held[number]:
            having[label].append(number)
    misses = [[float(total) * share for share in shares] for total in totals.tolist()]
    room = [strata.count * share for share in shares]
    part = [-1] * len(sizes)
    everywhere = range(len(shares))
    for label in np.argsort(totals, kind="stable").tolist():
        wanted = misses[label]
        for number in having[label]:
            if part[number] >= 0:
                continue
            chosen = max(everywhere, key=lambda at: (wanted[at], room[at]))
            part[number] = chosen
            room[chosen] -= sizes[number]
            for other, amount in zip(held[number], amounts[number], strict=True):
                misses[other][chosen] -= amount
    return np.asarray(part, dtype=np.int64)[group]


def _counts(groups: Rows, ids: Rows, num_groups: int) -> tuple[list[list[int]], list[list[int]]]:
    """Of each group: the labels that its rows have, and how many of its rows have each."""
    width = int(ids.max()) + 1 if len(ids) else 1
    pairs, counts = np.unique(groups * width + ids, return_counts=True)
    starts = np.searchsorted(pairs // width, np.arange(num_groups + 1))
    labels, amounts = (pairs % width).tolist(), counts.tolist()
    bounds = list(zip(starts[:-1].tolist(), starts[1:].tolist(), strict=True))
    return [labels[a:b] for a, b in bounds], [amounts[a:b] for a, b in bounds]


@dataclass(frozen=True, eq=False)
class Split:
    """The rows of one run, by their numbers, ascending."""

    train: Rows
    validation: Rows
    """None of them where the recipe selects on nothing."""
    test: Rows
    """Held out: neither trained nor selected on."""


def folds(strata: Strata, groups: Rows, *, count: int, validation: float, seed: int) -> list[Split]:
    """Folds that together hold out every row once.

    Args:
        validation: Share of the rows that are not held out that the model is selected on; 0: none.

    Raises:
        DataError: fewer groups than folds.
    """
    num_groups = len(np.unique(groups))
    if num_groups < count:
        what = "rows" if num_groups == strata.count else "groups of rows"
        raise DataError(
            f"{count} folds need {count} {what} at least, found {num_groups:,} (of {strata.count:,} rows).",
            fix="Take fewer folds (--folds), or add rows.",
        )
    part = deal(strata, groups, [1 / count] * count, seed=seed)
    return [
        _with_validation(
            np.flatnonzero(part != number), np.flatnonzero(part == number), strata, groups,
            validation=validation, seed=seed + 1 + number,
        )
        for number in range(count)
    ]  # fmt: skip


def _with_validation(rest: Rows, test: Rows, strata: Strata, groups: Rows, *, validation: float, seed: int) -> Split:
    if validation <= 0:
        return Split(rest, rest[:0], test)
    part = deal(strata.taken(rest), groups[rest], [1 - validation, validation], seed=seed)
    if not (part == 0).any() or not (part == 1).any():
        raise DataError(
            f"Of {len(rest):,} rows in {len(np.unique(groups[rest])):,} groups none can be kept apart to select on.",
            fix="Add rows, or leave data.validation out of the recipe: the last weights are then taken.",
        )
    return Split(rest[part == 0], rest[part == 1], test)


def forward(times: Sequence[Any], *, count: int, validation: float) -> list[Split]:
    """Folds by time: each trains on what was before, selects on the newest part of that, and holds out what comes next.

    Rows of one time stay on one side. The first block of time is never held out.

    Raises:
        DataError: fewer times than blocks.
    """
    known = sorted(set(times))
    code = {value: number for number, value in enumerate(known)}
    at = np.fromiter((code[value] for value in times), dtype=np.int64, count=len(times))
    block = _blocks(at, count + 1)
    if block.max(initial=-1) < count:
        raise DataError(
            f"{count} folds by time need {count + 1} different times at least, in which rows are spread; found {len(known):,}.",
            fix="Take fewer folds (--folds), or a finer column of times.",
        )
    splits = []
    for number in range(1, count + 1):
        before, test = np.flatnonzero(block < number), np.flatnonzero(block == number)
        train, selected = before, before[:0]
        if validation > 0:
            newest = _last(at[before], validation)
            train, selected = before[~newest], before[newest]
        splits.append(Split(train, selected, test))
    return splits


def _blocks(at: Rows, count: int) -> Rows:
    """[N] block of each row: about equally many rows each, equal times together."""
    sizes = np.bincount(at)
    before = np.cumsum(sizes) - sizes
    of_time = np.minimum((before + sizes / 2) * count // len(at), count - 1).astype(np.int64)
    _, dense = np.unique(of_time, return_inverse=True)
    return dense[at]


def _last(at: Rows, fraction: float) -> NDArray[np.bool_]:
    """The rows of the last times, about a fraction of all; some stay."""
    times = np.unique(at)
    if len(times) < 2:
        raise DataError(
            f"{len(at):,} rows of one time cannot be parted into what is trained on and what is selected on after it.",
            fix="Take fewer folds (--folds), or leave data.validation out of the recipe.",
        )
    after = [float((at >= time).mean()) for time in times[1:].tolist()]
    chosen = min(range(len(after)), key=lambda number: abs(after[number] - fraction))
    return np.asarray(at >= times[1 + chosen])


def nested(strata: Strata, groups: Rows, fractions: Sequence[float], *, seed: int) -> list[Rows]:
    """Subsets of about these fractions of all rows, each part of the next; ascending row numbers.

    Args:
        fractions: Ascending, in (0, 1].
    """
    edges = [0.0, *fractions, 1.0]
    shares = [high - low for low, high in pairwise(edges)]
    part = deal(strata, groups, shares, seed=seed)
    return [np.flatnonzero(part <= number) for number in range(len(fractions))]
