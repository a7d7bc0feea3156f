"""Hard negatives: texts that a model finds near to an anchor and that do not belong to it.

F features, A anchors, C candidates, H size of a vector.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]

_ROWS = 1024
"""Anchors compared with all candidates at a time."""


def nearest_strangers(
    anchors: Array,
    candidates: Array,
    *,
    own: Array,
    belongs: tuple[Array, Array],
    count: int,
    below: float,
) -> tuple[Array, Array]:
    """For each anchor the ``count`` nearest candidates that do not belong to it, the nearest first.

    A candidate nearly as near as the anchor's own pair most likely belongs to it without anybody having said so: those with a
    cosine of ``below`` times the pair's or more are passed over (https://arxiv.org/abs/2407.15831).

    Args:
        anchors: [A, H] of length 1, like ``candidates`` [C, H].
        own: [A] the cosine of each anchor and its pair.
        belongs: Places of anchors and of candidates that belong together.

    Returns:
        Places of anchors, ascending, and of the candidates found for them; fewer where there are not as many.
    """
    order = np.argsort(belongs[0], kind="stable")
    of_anchor, of_candidate = belongs[0][order], belongs[1][order]
    rows: list[Array] = []
    found: list[Array] = []
    for low in range(0, len(anchors), _ROWS):
        scores = anchors[low : low + _ROWS] @ candidates.T
        high = low + len(scores)
        scores[scores >= below * own[low:high, None]] = -np.inf
        begin, end = np.searchsorted(of_anchor, [low, high])
        scores[of_anchor[begin:end] - low, of_candidate[begin:end]] = -np.inf
        some = min(count, scores.shape[1])
        nearest = np.argpartition(-scores, some - 1, axis=1)[:, :some]
        nearness = np.take_along_axis(scores, nearest, axis=1)
        ranked = np.lexsort((nearest, -nearness))  # equal ones by place, so that the result does not depend on luck
        nearest, nearness = (np.take_along_axis(one, ranked, axis=1) for one in (nearest, nearness))
        kept = np.isfinite(nearness)
        rows.append(low + np.nonzero(kept)[0])
        found.append(nearest[kept])
    return np.concatenate(rows), np.concatenate(found)


def hard_negatives(vectors: Array, *, part: Array, same: Array, count: int, below: float) -> Array:
    """int64[F, count]: of the text of each example the features, pairs of others, that are its hard negatives, the nearest first;
    -1 where there is none, and of all other features.

    Args:
        vectors: [F, H] of length 1.
        part: [F] 0 the text of an example, 1 its pair, which comes right behind.
        same: [F] which text each is: equal texts have equal numbers.
        count: As of :func:`nearest_strangers`, like ``below``.
    """
    anchors = np.flatnonzero(part == 0)
    pairs = anchors + 1
    texts, first, of_pair = np.unique(same[pairs], return_index=True, return_inverse=True)
    candidates = pairs[first]
    # What belongs to a text, wherever in the split it stands, and the text itself.
    ids, of_anchor = np.unique(same[anchors], return_inverse=True)
    right = np.unique(np.stack([of_anchor, of_pair], axis=1), axis=0)
    itself = np.flatnonzero(np.isin(ids, texts))
    right = np.concatenate([right, np.stack([itself, np.searchsorted(texts, ids[itself])], axis=1)])
    by_id = np.split(right[np.argsort(right[:, 0], kind="stable"), 1], np.cumsum(np.bincount(right[:, 0]))[:-1])
    counts = np.array([len(by_id[number]) for number in of_anchor], dtype=np.int64)
    belongs = np.repeat(np.arange(len(anchors)), counts), np.concatenate([by_id[number] for number in of_anchor])
    row, candidate = nearest_strangers(
        vectors[anchors],
        vectors[candidates],
        own=(vectors[anchors] * vectors[pairs]).sum(axis=1),
        belongs=belongs,
        count=count,
        below=below,
    )
    nearest = np.full((len(part), count), -1, dtype=np.int64)
    nearest[anchors[row], np.arange(len(row)) - np.searchsorted(row, row)] = candidates[candidate]
    return nearest
