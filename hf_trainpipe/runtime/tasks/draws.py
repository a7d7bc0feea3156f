"""Random numbers of a micro-batch that do not depend on how it was cut."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from ..tokens.encoder import Encoder


def generator(seed: int, epoch: int, feature: int) -> np.random.Generator:
    """Random numbers of one feature in one epoch: Philox with a key and a counter, so that no two share any.

    The third word of the counter keeps them apart from the order of the epoch, which has the same key.
    """
    return np.random.Generator(np.random.Philox(key=[seed, epoch], counter=[0, 0, 1, feature]))


@dataclass(frozen=True)
class Draws:
    """What :meth:`.base.Task.vary` draws from."""

    seed: int
    """Of the recipe."""
    epoch: int
    features: npt.NDArray[np.int64]
    """[B] the features of the micro-batch, as numbers in their split."""
    encoder: Encoder
    """What they were encoded with."""

    def of(self, position: int) -> np.random.Generator:
        """Random numbers of the feature at a position of the micro-batch: a function of (seed, epoch, feature)."""
        return generator(self.seed, self.epoch, int(self.features[position]))
