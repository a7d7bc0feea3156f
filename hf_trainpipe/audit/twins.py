"""Rows that repeat each other: exactly, the same after normalising, or nearly; and the clusters that they make.

Shapes: N rows, U distinct inputs (by their same form).
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from hf_trainpipe.audit.near import near_pairs

if TYPE_CHECKING:
    from hf_trainpipe.audit.corpus import Corpus

Ints = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Twins:
    """Which rows repeat which."""

    corpus: Corpus
    exact: Ints
    """[N]: equal where inputs are equal."""
    same: Ints
    """[N]: equal where inputs are the same; the number of a distinct input, from 0."""
    near: Ints
    """[P, 2]: pairs of distinct inputs that are near."""
    skipped: int
    """Pairs that were not compared (:attr:`.near.NearPairs.skipped`)."""

    @classmethod
    def of(cls, corpus: Corpus, *, near: bool = True) -> Twins:
        """Find them; without ``near`` only those that are the same."""
        same, distinct = codes_of(corpus.same)
        pairs, skipped = _near(corpus, same, len(distinct) if near else 0)
        return cls(corpus, codes_of(corpus.raw)[0], same, pairs, skipped)

    @cached_property
    def component(self) -> Ints:
        """[U]: the cluster of each distinct input."""
        from scipy.sparse import coo_array
        from scipy.sparse.csgraph import connected_components

        number = int(self.same.max(initial=-1)) + 1
        ones = np.ones(len(self.near), dtype=bool)
        graph = coo_array((ones, (self.near[:, 0], self.near[:, 1])), shape=(number, number))
        found: Ints = connected_components(graph, directed=False)[1].astype(np.int64)
        return found

    @cached_property
    def cluster(self) -> Ints:
        """[N]: the cluster of each row, through the same and the near."""
        return self.component[self.same]

    @cached_property
    def names(self) -> list[str]:
        """[N]: the name of each row's cluster, which depends on its inputs alone, not on the order of rows."""
        first: dict[int, str] = {}
        for cluster, text in zip(self.cluster.tolist(), self.corpus.same, strict=True):
            known = first.get(cluster)
            if known is None or text < known:
                first[cluster] = text
        named = {cluster: digest(text) for cluster, text in first.items()}
        return [named[cluster] for cluster in self.cluster.tolist()]

    def repeats(self, codes: Ints, split: str) -> Ints:
        """Rows of a split that repeat an earlier one."""
        rows = self.corpus.rows_of(split)
        _, first = np.unique(codes[rows], return_index=True)
        return np.delete(rows, first)

    def near_within(self, split: str) -> tuple[Ints, int]:
        """Rows of a split with a near one in it, and the number of such pairs."""
        rows = self.corpus.rows_of(split)
        counts = np.bincount(self.same[rows], minlength=len(self.component))
        there = self.near[(counts[self.near] > 0).all(axis=1)]
        has = np.zeros(len(counts), dtype=bool)
        has[there] = True
        return rows[has[self.same[rows]]], int((counts[there[:, 0]] * counts[there[:, 1]]).sum())

    def across(self, split: str, other: str) -> dict[str, Ints]:
        """Rows of a split whose input another split has: ``exact``, else ``same``, else ``near``; a row counts once."""
        rows, others = self.corpus.rows_of(split), self.corpus.rows_of(other)
        is_exact = np.isin(self.exact[rows], self.exact[others])
        is_there = np.zeros(len(self.component), dtype=bool)
        is_there[self.same[others]] = True
        is_same = is_there[self.same[rows]]
        beside = np.zeros(len(self.component), dtype=bool)
        for one, two in ((0, 1), (1, 0)):
            beside[self.near[is_there[self.near[:, two]], one]] = True
        is_near = beside[self.same[rows]]
        return {
            "exact": rows[is_exact],
            "same": rows[is_same & ~is_exact],
            "near": rows[is_near & ~is_same & ~is_exact],
        }


def codes_of(values: Iterable[str]) -> tuple[Ints, list[str]]:
    """[N] a number for each distinct value, and the values: sorted, so that the order of rows does not matter."""
    held = values if isinstance(values, Sequence) else list(values)
    distinct = sorted(set(held))
    number = {value: at for at, value in enumerate(distinct)}
    return np.fromiter((number[value] for value in held), dtype=np.int64, count=len(held)), distinct


def digest(text: str) -> str:
    """A short name for a text."""
    return hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=8).hexdigest()


def _near(corpus: Corpus, same: Ints, num_distinct: int) -> tuple[Ints, int]:
    """[P, 2] distinct inputs that are near: each text of one is the same as the other's, or near it."""
    if not num_distinct:
        return np.zeros((0, 2), dtype=np.int64), 0
    _, first = np.unique(same, return_index=True)
    forms = [codes_of([texts[row] for row in first.tolist()]) for texts in corpus.normals.values()]
    joined = [near_pairs(distinct) for _, distinct in forms]
    skipped = sum(found.skipped for found in joined)
    rows_of = [np.bincount(codes, minlength=len(distinct)) for codes, distinct in forms]
    if len(forms) == 1 and rows_of[0].max() == 1:
        return np.sort(np.argsort(forms[0][0])[joined[0].pairs], axis=1), skipped
    cost = [
        int((counts.astype(object) ** 2).sum()) + int((counts[found.pairs[:, 0]] * counts[found.pairs[:, 1]]).sum())
        for counts, found in zip(rows_of, joined, strict=True)
    ]
    chosen = int(np.argmin(cost))  # the text that parts inputs best gives the candidates
    codes = forms[chosen][0]
    order = np.argsort(codes, kind="stable")
    starts = np.searchsorted(codes[order], np.arange(len(rows_of[chosen]) + 1))
    kept = [np.zeros((0, 2), dtype=np.int64)]
    close = [{(one, two) for one, two in found.pairs.tolist()} for found in joined]

    def is_near(one: int, two: int) -> bool:
        for at, (role, _) in enumerate(forms):
            a, b = int(role[one]), int(role[two])
            if at != chosen and a != b and (min(a, b), max(a, b)) not in close[at]:
                return False
        return True

    groups = [(at, at) for at in np.flatnonzero(rows_of[chosen] > 1).tolist()] + joined[chosen].pairs.tolist()
    for one, two in groups:
        left, right = order[starts[one] : starts[one + 1]].tolist(), order[starts[two] : starts[two + 1]].tolist()
        pairs = [(a, b) for a in left for b in right if (a < b if one == two else True) and is_near(a, b)]
        if pairs:
            kept.append(np.sort(np.array(pairs, dtype=np.int64), axis=1))
    found = np.concatenate(kept)
    return found[np.lexsort((found[:, 1], found[:, 0]))], skipped
