"""Which stages come before which, at whatever distance."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from graphlib import TopologicalSorter


def ancestors(needs: Mapping[str, Collection[str]]) -> dict[str, frozenset[str]]:
    """For each stage all that come before it, directly or not.

    Args:
        needs: For each stage those right before it, without circles.

    >>> sorted(ancestors({"push": ["evaluate"], "evaluate": ["train"], "train": []})["push"])
    ['evaluate', 'train']
    """
    found: dict[str, frozenset[str]] = {}
    for name in TopologicalSorter(needs).static_order():
        found[name] = frozenset(needs[name]).union(*(found[need] for need in needs[name]))
    return found
