"""Which of many rows to label next: those that a model is least sure of, unlike each other.

The ten times as many rows with the smallest margins are clustered by their vectors, weighted by uncertainty, and of each cluster
the row nearest to its centre is chosen (Zhdanov 2019, arXiv 1901.05954).

Shapes: N rows, S of the shortlist, W numbers of a vector.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

SHORTLIST = 10
"""Uncertain rows that are looked at for each that is chosen."""


def diverse(
    vectors: Callable[[NDArray[np.int64]], NDArray[np.float32]], uncertain: NDArray[np.float64], count: int, seed: int
) -> NDArray[np.int64]:
    """[count] places of uncertain rows that differ: of each cluster of the shortlist the row nearest to its centre.

    Args:
        vectors: float32[S, W] of some places.
        uncertain: [N]; rows that may not be chosen are below 0.
    """
    allowed = int((uncertain >= 0).sum())
    short: NDArray[np.int64] = np.argsort(-uncertain, kind="stable")[: min(allowed, SHORTLIST * count)]
    if count >= len(short):
        return short
    if not count:
        return short[:0]
    from sklearn.cluster import KMeans
    from sklearn.exceptions import ConvergenceWarning

    found = vectors(short)
    weights = uncertain[short] + 1e-6
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # equal vectors: some clusters stay empty, see below
        means = KMeans(count, n_init=1, random_state=seed).fit(found, sample_weight=weights)
    gaps = np.linalg.norm(found - means.cluster_centers_[means.labels_], axis=1)
    order = np.lexsort((gaps, means.labels_))
    first = order[np.concatenate([[True], np.diff(means.labels_[order]) > 0])]
    left = np.setdiff1d(np.arange(len(short)), first)[: count - len(first)]
    picked: NDArray[np.int64] = short[np.concatenate([first, left])]
    return picked
