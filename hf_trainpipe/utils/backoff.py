"""How long to wait before the next try."""

from __future__ import annotations


def backoff(failures: int, *, first_s: float, longest_s: float) -> float:
    """Seconds to wait after so many failures in a row: doubled with each, up to a limit.

    >>> [backoff(failures, first_s=1.0, longest_s=60.0) for failures in (1, 2, 6, 7, 5000)]
    [1.0, 2.0, 32.0, 60.0, 60.0]
    """
    return min(first_s * 2.0 ** min(failures - 1, 64), longest_s)
