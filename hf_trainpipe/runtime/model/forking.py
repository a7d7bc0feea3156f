"""Models that are loaded, or have answered, before their process forks (gunicorn --preload, a Pool of multiprocessing).

GNU OpenMP keeps the threads of a parallel region for the next one. A child of a fork has none of them, but the thread
that forked finds them in its books there, and its first parallel region waits for them for ever.
"""

from __future__ import annotations

import ctypes
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from pathlib import Path
from typing import Any, TypeVar

Result = TypeVar("Result")
_SOFT = 1
"""omp_pause_soft: threads go, settings stay."""


def apart(work: Callable[[], Result]) -> Result:
    """The result of ``work``, done in a thread of its own: the OpenMP threads that it starts end with it."""
    with ThreadPoolExecutor(max_workers=1) as pool:
        return pool.submit(work).result()


@cache
def make_forks_safe() -> None:
    """From now on let go of the forking thread's OpenMP threads before a fork; parent and child start new ones.

    Does nothing where torch runs another OpenMP: LLVM's and Intel's see to forks themselves.
    """
    import torch

    library = Path(torch.__file__).parent / "lib" / "libtorch_cpu.so"
    try:
        pause: Any = ctypes.CDLL(str(library)).omp_pause_resource_all  # of the OpenMP that torch is linked to
    except (OSError, AttributeError):
        return
    os.register_at_fork(before=lambda: pause(_SOFT))
