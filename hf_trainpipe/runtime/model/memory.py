"""Memory that was freed, given back to the system.

Batches differ in size, so each frees blocks of other sizes, and glibc keeps the holes between them: a process grows
though it holds no more than before.
"""

from __future__ import annotations

import ctypes
import platform
from collections.abc import Callable
from functools import cache
from typing import Any


def give_back() -> None:
    """Give freed memory back. Takes some milliseconds, and as long again until the pages are there anew.

    Does nothing where the C library is not glibc.
    """
    if (trim := _malloc_trim()) is not None:
        trim(0)


@cache
def _malloc_trim() -> Callable[[int], Any] | None:
    return ctypes.CDLL(None).malloc_trim if platform.libc_ver()[0] == "glibc" else None
