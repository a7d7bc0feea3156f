"""Where the tokens of a batch are, once its padding is left out.

Legend: B features of a batch, L longest of them, T tokens of all, H hidden size.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from ..tokens.ragged import ends_of, ranges


class Layout:
    """How a batch [B, L] becomes a row of flat tokens [1, T], and the other way round."""

    width: int
    """L"""
    count: int
    """B"""
    longest: int
    """Tokens of the longest feature, or more: kernels are told."""
    num_tokens: int
    """T"""
    starts: torch.Tensor
    """int32[B + 1] where each feature starts among the flat tokens."""
    positions_T: torch.Tensor
    """int64[T] the place of each token in its feature."""
    source_T: torch.Tensor
    """int64[T] the place of each token in the batch, flattened to [B * L]."""

    @staticmethod
    def of(lengths: Sequence[int] | npt.NDArray[Any], width: int, device: torch.device) -> KnownLengths:
        """The layout of features of these lengths [B], in the order of the batch; padding is on the right."""
        given = np.asarray(lengths, dtype=np.int64)
        rows = np.argsort(-given, kind="stable")
        return KnownLengths(width, tuple(given[rows].tolist()), rows, device)

    def flatten(self, tensor: torch.Tensor) -> torch.Tensor:
        """[B, L] -> [1, T]"""
        return tensor.reshape(-1).index_select(0, self.source_T)[None]

    def restore(self, hidden: torch.Tensor) -> torch.Tensor:
        """[1, T, H] -> [B, L, H], zeros where there is no token."""
        flat = hidden.new_zeros(self.count * self.width, hidden.shape[-1])
        return flat.index_copy(0, self.source_T, hidden[0]).view(self.count, self.width, -1)


@dataclass(frozen=True)
class KnownLengths(Layout):
    """Longest feature first, so that features of one length lie side by side."""

    width: int
    lengths: tuple[int, ...]
    """Tokens of each feature [B], in the order of the flat tokens: falling."""
    rows: npt.NDArray[np.int64]
    """[B] the row of the batch that each of them comes from."""
    device: torch.device

    @property
    def count(self) -> int:  # type: ignore[override]
        return len(self.lengths)

    @property
    def longest(self) -> int:  # type: ignore[override]
        return self.lengths[0]

    @cached_property
    def num_tokens(self) -> int:  # type: ignore[override]
        return sum(self.lengths)

    @cached_property
    def groups(self) -> tuple[tuple[int, int], ...]:
        """(length, how many features have it), in the order of the flat tokens; features without tokens left out."""
        lengths, counts = np.unique(np.asarray(self.lengths), return_counts=True)
        pairs = zip(lengths[::-1].tolist(), counts[::-1].tolist(), strict=True)
        return tuple((length, count) for length, count in pairs if length > 0)

    @cached_property
    def positions_T(self) -> torch.Tensor:  # type: ignore[override]
        return self._put(ranges(np.zeros(len(self.lengths), dtype=np.int64), np.asarray(self.lengths)))

    @cached_property
    def source_T(self) -> torch.Tensor:  # type: ignore[override]
        return self._put(ranges(self.rows * self.width, np.asarray(self.lengths)))

    @cached_property
    def starts(self) -> torch.Tensor:  # type: ignore[override]
        return self._put(ends_of(np.asarray(self.lengths)).astype(np.int32))

    def on_device(self) -> FixedLayout:
        """The same with every tensor there already, as compiled layers read it; without the groups."""
        return FixedLayout(
            self.width, self.count, self.longest, self.num_tokens, self.starts, self.positions_T, self.source_T
        )

    def _put(self, array: npt.NDArray[Any]) -> torch.Tensor:
        tensor = torch.from_numpy(array)
        if self.device.type == "cuda":
            return tensor.pin_memory().to(self.device, non_blocking=True)
        return tensor.to(self.device)


@dataclass(frozen=True)
class Branched(KnownLengths):
    """Features that have a beginning and two ends, one behind the other: each end sees the beginning and itself alone."""

    parts: npt.NDArray[np.int64]
    """[B, 3] tokens of the beginning, of the first and of the second end, in the order of the flat tokens."""

    @staticmethod
    def of_parts(parts: npt.NDArray[np.int64], width: int, device: torch.device) -> Branched:
        """The layout of features of such parts [B, 3], in the order of the batch; padding is on the right."""
        totals = parts.sum(axis=1)
        rows = np.argsort(-totals, kind="stable")
        return Branched(width, tuple(totals[rows].tolist()), rows, device, parts[rows])

    @cached_property
    def positions_T(self) -> torch.Tensor:  # type: ignore[override]
        begins, firsts, seconds = self.parts.T
        first = np.stack([np.zeros_like(begins), begins], axis=1).reshape(-1)
        return self._put(ranges(first, np.stack([begins + firsts, seconds], axis=1).reshape(-1)))

    def sees(self, window: int | None) -> torch.Tensor:
        """bool[B, L, L], in the order of the batch: which tokens a token sees, ``window`` positions back at most."""
        known: dict[int | None, torch.Tensor] = self.__dict__.setdefault("_seen", {})  # of one layer after the other
        if window not in known:
            known[window] = self._sees(window)
        return known[window]

    def _sees(self, window: int | None) -> torch.Tensor:
        parts = np.empty_like(self.parts)
        parts[self.rows] = self.parts
        begin, first = parts[:, :1], parts[:, 1:2]
        places = np.arange(self.width)[None]
        end_BL = np.where(places < begin, 0, np.where(places < begin + first, 1, 2))
        position_BL = np.where(end_BL == 2, places - first, places)
        behind = position_BL[:, :, None] - position_BL[:, None, :]
        same = (end_BL[:, None, :] == 0) | (end_BL[:, :, None] == end_BL[:, None, :])
        return self._put(same & (behind >= 0) & (behind < (window or self.width)))


@dataclass(frozen=True)
class FixedLayout(Layout):
    """A layout of sizes and tensors alone. Those of a CUDA graph are filled for one batch after the other."""

    width: int
    count: int
    longest: int
    num_tokens: int
    starts: torch.Tensor
    positions_T: torch.Tensor
    source_T: torch.Tensor
