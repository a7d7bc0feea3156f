"""Seeds as a function of (seed, step, micro-batch, rank), so that no random state has to be saved."""

from __future__ import annotations

import numpy as np


def derive(*key: int) -> int:
    """A 63-bit seed from a tuple of non-negative integers; neighbouring keys give unrelated seeds.

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
    torch.manual_seed(seed)
    dropout.reseed(seed)
    random.seed(seed)
    np.random.seed(seed % 2**32)
