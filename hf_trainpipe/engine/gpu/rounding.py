"""Micro-batches of few shapes: tokens, features and width rounded up; the rest are features of weight 0.

A CUDA graph has fixed shapes. Tokens are rounded up by at most 64, or by a sixteenth of their number, so about 2 % of a large
micro-batch is computed for nothing; with finer steps, recording more shapes costs more than that. The features that fill it up hold padding's token, see each other no more than
others do, and have weight 0 (target columns: what is not scored), so they add nothing to a loss or a gradient.

Legend: B features of a batch, L longest of them, T tokens of all.
"""

from __future__ import annotations

from collections.abc import Mapping
from copy import copy
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import numpy.typing as npt
import torch

from hf_trainpipe.runtime.model.layout import FixedLayout
from hf_trainpipe.runtime.tokens.batch import Batch
from hf_trainpipe.runtime.tokens.ragged import ends_of, ranges

if TYPE_CHECKING:
    from typing import Self

    from hf_trainpipe.runtime.tokens.features import Features

STREAM = "input"
"""The one stream of batches that are rounded."""
LEAST_WIDTH = 32
LEAST_TOKENS = 64
FEATURES = 8
"""The number of features is rounded up to a multiple of this."""


class Shape(NamedTuple):
    """Sizes of a rounded micro-batch."""

    tokens: int
    features: int
    width: int


def shape_of(lengths: npt.NDArray[np.int64]) -> Shape:
    """The shape that features of these lengths [B] are rounded up to; at least one more feature fits in.

    >>> shape_of(np.full(32, 25))
    Shape(tokens=832, features=40, width=32)
    """
    width = _width(int(lengths.max(initial=1)))
    tokens = int(lengths.sum())
    grain = max(LEAST_TOKENS, 2 ** (max(tokens, 1).bit_length() - 1) // 16)
    fillers = -(-grain // (width - 1))
    features = -(-(len(lengths) + fillers) // FEATURES) * FEATURES
    return Shape(-(-(tokens + features - len(lengths)) // grain) * grain, features, width)


def _width(longest: int) -> int:
    """The next of 32, 48, 64, 96, 128, 192, ..."""
    power = max(LEAST_WIDTH, 1 << (longest - 1).bit_length())
    three_quarters = power // 4 * 3
    return three_quarters if power > LEAST_WIDTH and longest <= three_quarters else power


class RoundedBatch(Batch):
    """A batch [B', L'] on the CPU whose last features fill it up to a shape.

    Its ``lengths`` are those of the real features, as counts of tokens in reports are.

    Args:
        batch: The batch without them.
        fills: What padding holds, by column of the stream.
    """

    def __init__(self, batch: Batch, fills: Mapping[str, int]) -> None:
        lengths = np.asarray(batch.lengths[STREAM])
        self.shape = shape = shape_of(lengths)
        lengths_B = np.concatenate([lengths, _fillers(shape, lengths)])
        tensors: dict[str, torch.Tensor] = {}
        for name, tensor in batch.items():
            of_tokens = name in fills
            size = (shape.features, shape.width) if of_tokens else (shape.features, *tensor.shape[1:])
            wide = torch.full(size, fills.get(name, 0), dtype=tensor.dtype)
            wide[tuple(slice(edge) for edge in tensor.shape)] = tensor
            tensors[name] = wide
        if (mask := batch.masks.get(STREAM)) is not None:
            tensors[mask] = torch.from_numpy((np.arange(shape.width)[None] < lengths_B[:, None]).astype(np.int64))
        lengths_of, masks, for_model, targets = batch.lengths, batch.masks, batch.for_model, batch.targets
        super().__init__(tensors, lengths=lengths_of, masks=masks, for_model=for_model, targets=targets)
        positions = ranges(np.zeros_like(lengths_B), lengths_B)
        positions[int(lengths.sum()) :] = 0  # the width may be more than the model has positions
        self.places: dict[str, torch.Tensor] = {
            "source_T": torch.from_numpy(ranges(np.arange(len(lengths_B), dtype=np.int64) * shape.width, lengths_B)),
            "positions_T": torch.from_numpy(positions),
            "starts": torch.from_numpy(ends_of(lengths_B).astype(np.int32)),
        }
        """The tensors of its :class:`~hf_trainpipe.runtime.model.layout.FixedLayout`."""
        self._spread(self._packed())

    def _packed(self) -> torch.Tensor:
        """uint8[...]: all its tensors one after the other, each from a multiple of 16 bytes on."""
        parts = []
        for tensor in (*self.values(), *self.places.values()):
            flat = tensor.contiguous().reshape(-1).view(torch.uint8)
            parts += [flat, flat.new_zeros(-len(flat) % 16)]
        return torch.cat(parts)

    def _spread(self, memory: torch.Tensor) -> None:
        """Take the tensors from there: one copy then moves them all."""
        self.memory, begin = memory, 0
        for held in (self, self.places):
            for name, tensor in held.items():
                size = tensor.numel() * tensor.element_size()
                held[name] = memory[begin : begin + size].view(tensor.dtype).view(tensor.shape)
                begin += size + -size % 16

    def to(self, device: torch.device | str) -> RoundedBatch:
        there = copy(self)
        there.places = dict(self.places)
        there._spread(self.memory.to(device, non_blocking=True, copy=True))
        return there

    def pinned(self) -> Self:
        self._spread(self.memory.pin_memory())
        return self

    def where(self, stream: str) -> FixedLayout:
        shape = self.shape
        return FixedLayout(
            width=shape.width,
            count=shape.features,
            longest=shape.width,
            num_tokens=shape.tokens,
            **self.places,
        )


def fills_of(features: Features) -> dict[str, int]:
    """What padding holds in each column of the stream that is rounded, its mask included."""
    stream = features.streams[STREAM]
    found = {name: column.fill for name, column in stream.columns.items()}
    return {**found, **({} if stream.mask is None else {stream.mask: 0})}


def _fillers(shape: Shape, lengths: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """Tokens of each feature that fills up, at least one."""
    count = shape.features - len(lengths)
    found = np.ones(count, dtype=np.int64)
    rest = shape.tokens - int(lengths.sum()) - count
    more = np.minimum(shape.width - 1, np.maximum(0, rest - np.arange(count) * (shape.width - 1)))
    return np.asarray(found + more, dtype=np.int64)
