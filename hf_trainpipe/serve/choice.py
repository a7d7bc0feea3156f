"""Which waiting features make the next batch."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

__all__ = ["CALL_TOKENS", "choose"]

CALL_TOKENS = 48
"""What one call of the model costs whatever it computes, in tokens: 6 ms beside 0.13 ms a token, measured with MiniLM
on one core from 96 tokens on. Larger models have a smaller share of it, so the number errs towards fuller batches."""


def choose(lengths: npt.NDArray[np.int64], *, max_tokens: int, call_tokens: int = CALL_TOKENS) -> npt.NDArray[np.int64]:
    """Positions of the batch that computes most real tokens for its cost, the first feature always among them.

    A batch costs ``call_tokens`` and its size times its longest feature: similar lengths go together, and few
    features go together where the call itself would cost more than their padding. The first one is the oldest, so
    that none waits for ever; it goes alone where it is longer than ``max_tokens``.

    Args:
        lengths: Tokens of the features that wait, oldest first; not empty.
        max_tokens: Tokens of a batch, padding included.
    """
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
