"""The learning rate as a function of the number of optimizer updates."""

from __future__ import annotations

import math
from typing import Literal


def rate_factor(update: int, *, total: int, warmup: int, schedule: Literal["linear", "cosine", "constant"]) -> float:
    """The factor on the peak learning rate at update ``update`` (from 0).

    Rises linearly over ``warmup`` updates, then falls to 0 at ``total`` along a line or half a
    cosine, or stays. The same curves as transformers' ``get_scheduler``.

    >>> [rate_factor(u, total=4, warmup=2, schedule="linear") for u in range(5)]
    [0.0, 0.5, 1.0, 0.5, 0.0]
    """
    if update < warmup:
        return update / max(1, warmup)
    if schedule == "constant":
        return 1.0
    progress = (update - warmup) / max(1, total - warmup)
    if schedule == "linear":
        return max(0.0, 1.0 - progress)
    return max(0.0, 0.5 * (1.0 + math.cos(math.pi * min(1.0, progress))))
