"""Hard negatives: texts that a model finds near to an anchor and that do not belong to it.

A anchors, C candidates, H size of a vector.
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
