"""Scores of a ranked list: reciprocal rank, nDCG and recall, one number a query.

Equal scores count against the model: of documents that it cannot tell apart, the less relevant come first. So a model that gives
everything one score gains nothing from the order of the data.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from ..tokens.ragged import ends_of

Array = npt.NDArray[Any]

DEPTHS = (1, 5, 10)
"""The k of ``recall_at_k``."""
_ROWS = 2048
"""Queries compared with all documents at a time, so that an evaluation's matrix stays small."""
NAMES = ("mrr", "ndcg_at_10", *(f"recall_at_{depth}" for depth in DEPTHS))


def ranking_scores(scores: Array, gains: Array) -> dict[str, float]:
    """Scores of one query, by the names of :data:`NAMES`; NaN without a relevant document.

    nDCG has linear gains and a discount of log2(1 + rank), as trec_eval and scikit-learn (Järvelin and Kekäläinen, 2002); the
    reciprocal rank is of the first relevant document, at any depth.

    Args:
        scores: [M] of the model, one a document.
        gains: [M] how relevant each document is; 0: not at all.

    >>> round(ranking_scores(np.array([0.1, 0.9, 0.5]), np.array([1, 0, 0]))["mrr"], 3)
    0.333
    """
    is_relevant = gains > 0
    relevant = int(is_relevant.sum())
    if not relevant:
        return dict.fromkeys(NAMES, float("nan"))
    seen = scores >= scores[is_relevant].min()  # what stands behind them all changes nothing
    scores, gains = scores[seen], gains[seen]
    ranked = gains[np.lexsort((gains, -scores))]
    discounts = 1.0 / np.log2(np.arange(10) + 2.0)
    ideal = np.sort(gains[gains > 0])[::-1][:10]
    found = {
        "mrr": 1.0 / (1.0 + int(np.argmax(ranked > 0))),
        "ndcg_at_10": float(ranked[:10] @ discounts[: len(ranked)] / (ideal @ discounts[: len(ideal)])),
    }
    return found | {f"recall_at_{depth}": float((ranked[:depth] > 0).sum()) / relevant for depth in DEPTHS}


def search_scores(first: Array, second: Array, texts: Array) -> dict[str, Array]:
    """Scores of searching the pair of each text [N] among all pairs; NaN where a text stands again.

    Args:
        first: [N, H] vectors of length 1 of the texts, ``second`` of their pairs.
        texts: [N, 2] which text each of them is: equal texts have equal numbers.
    """
    _, queries = np.unique(texts[:, 0], return_index=True)
    documents, at = np.unique(texts[:, 1], return_index=True)
    order = np.argsort(texts[:, 0], kind="stable")
    begins = ends_of(np.unique(texts[:, 0], return_counts=True)[1].astype(np.int64))
    found = {name: np.full(len(texts), np.nan) for name in NAMES}
    held = second[at]
    for low in range(0, len(queries), _ROWS):
        chunk = queries[low : low + _ROWS]
        for place, scores in enumerate(first[chunk] @ held.T, low):
            right = texts[order[begins[place] : begins[place + 1]], 1]
            gains = np.zeros(len(documents), dtype=np.float32)
            gains[np.searchsorted(documents, right)] = 1.0
            for name, score in ranking_scores(scores, gains).items():
                found[name][queries[place]] = score
    return found
