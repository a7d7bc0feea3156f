"""Seeds as a function of (seed, step, micro-batch, rank), so that no random state has to be saved."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

import numpy as np


def derive(*key: int) -> int:
    """A 63-bit seed from a tuple of non-negative integers; neighbouring keys give unrelated seeds. Zeros at its end do not count.

    >>> derive(1, 2) == derive(1, 2), derive(1, 2) == derive(2, 1)
    (True, False)
    """
    state = np.random.SeedSequence(key).generate_state(1, np.uint64)
    return int(state[0] >> np.uint64(1))


def seed_everything(*key: int) -> None:
    """Seed torch on every device, and the global generators of Python and NumPy, from ``key``."""
    import random

    import torch

    from hf_trainpipe.engine.cpu import dropout

    seed = derive(*key)
    torch.default_generator.manual_seed(seed)
    for seed_devices in _of_devices():
        seed_devices(seed)
    dropout.reseed(seed)
    random.seed(seed)
    np.random.seed(seed % 2**32)


@cache
def _of_devices() -> list[Callable[[int], None]]:
    """What seeds the accelerators of this machine.

    ``torch.manual_seed`` also asks those that are not there, and writes down the stack of calls for each: half a
    millisecond of every micro-batch.
    """
    import torch

    found: list[Callable[[int], None]] = []
    if torch.cuda.is_available():
        found.append(torch.cuda.manual_seed_all)
    if torch.backends.mps.is_available():
        found.append(torch.mps.manual_seed)
    if torch.xpu.is_available():
        found.append(torch.xpu.manual_seed_all)
    return found
