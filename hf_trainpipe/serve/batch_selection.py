"""Which waiting features make the next batch."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt


def choose(lengths: npt.NDArray[np.int64], *, max_tokens: int, call_tokens: int | None) -> npt.NDArray[np.int64]:
    """Positions of the batch that computes most real tokens for its cost, the first feature always among them.

    A batch costs ``call_tokens`` and its size times its longest feature: similar lengths go together, and few
    features go together where the call itself would cost more than their padding. The first one is the oldest, so
    that none waits for ever; it goes alone where it is longer than ``max_tokens``.

    Args:
        lengths: Tokens of the features that wait, oldest first; not empty.
        max_tokens: Tokens of a batch, padding included.
        call_tokens: What a call costs whatever it computes; None: padding is not computed, and the oldest that fit
            go together.
    """
    if call_tokens is None:
        return np.arange(max(1, int(np.searchsorted(np.cumsum(lengths), max_tokens, side="right"))))
    order = np.argsort(-lengths, kind="stable")
    sorted_lengths = lengths[order]
    count = len(order)
    place = int(np.argmax(order == 0))
    first = np.arange(place + 1)[:, None]  # the longest of the batch
    beyond = np.arange(place + 1, count + 1)[None, :]
    real_until = np.concatenate([[0], np.cumsum(sorted_lengths)])
    padded = (beyond - first) * sorted_lengths[first]
    worth = (real_until[beyond] - real_until[first]) / (call_tokens + padded)
    allowed = padded <= max_tokens
    allowed[place, 0] = True
    low, high = np.unravel_index(int(np.argmax(np.where(allowed, worth, -1.0))), worth.shape)
    return order[low : place + 1 + high]
