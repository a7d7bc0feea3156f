"""Batches: which features go together, and their tensors, padded to the longest.

Legend: N examples, F features, B features of a batch, L the longest of them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from .features import Array, Features, Ints
from .ragged import Groups, ranges

if TYPE_CHECKING:
    from typing import Self

    import torch


def token_budget_batches(lengths: Array, *, max_tokens: int, together: Array | None = None) -> Iterator[Ints]:
    """Positions in batches of similar length, the longest first; padded, a batch has at most ``max_tokens``.

    A feature longer than that is a batch of its own.

    Args:
        lengths: Tokens of each feature, [n]; or in several streams [n, S], each padded to its own longest.
        together: Neighbours with the same number here stay in one batch, whatever its size; None: none has to.
    """
    groups = Groups.of(lengths, together).longest_first()
    until, start = np.concatenate([[0], np.cumsum(groups.counts)]), 0
    while start < len(groups.starts):
        size = max(1, max_tokens // max(1, int(groups.longest[start].sum())))
        end = max(start + 1, int(np.searchsorted(until, until[start] + size, side="right")) - 1)
        if groups.longest.shape[1] > 1:  # another may have the longest in one of the streams
            padded = np.maximum.accumulate(groups.longest[start:end], axis=0).sum(axis=1)
            end = start + max(1, int((padded * (until[start + 1 : end + 1] - until[start]) <= max_tokens).sum()))
        yield groups.take(np.arange(start, end)).items()
        start = end


class Batch(dict[str, "torch.Tensor"]):
    """The tensors of some features by name, which knows how long each of them is.

    Args:
        lengths: [B] tokens of each feature, by stream.
        masks: The name of each stream's mask, where it has one.
        for_model: What the model is called with.
        targets: Target columns with a value a token, and what stands there for "not scored".
    """

    def __init__(
        self,
        tensors: Mapping[str, torch.Tensor],
        *,
        lengths: Mapping[str, Ints],
        masks: Mapping[str, str],
        for_model: frozenset[str],
        targets: Mapping[str, int],
    ) -> None:
        super().__init__(tensors)
        self.lengths, self.masks, self.for_model, self.targets = lengths, masks, for_model, targets

    @property
    def inputs(self) -> dict[str, torch.Tensor]:
        """What the model is called with."""
        return {name: tensor for name, tensor in self.items() if name in self.for_model}

    @property
    def tokens(self) -> int:
        """Real tokens of all streams."""
        return sum(int(lengths.sum()) for lengths in self.lengths.values())

    @property
    def padded_tokens(self) -> int:
        """The same with padding to the longest."""
        return sum(len(lengths) * int(lengths.max(initial=0)) for lengths in self.lengths.values())

    def to(self, device: torch.device | str) -> Batch:
        """The same with its tensors on a device."""
        return self.with_tensors({name: tensor.to(device, non_blocking=True) for name, tensor in self.items()})

    def pinned(self) -> Self:
        """The same, in place, in page-locked memory, from which copies to a GPU need no wait."""
        self.update({name: tensor.pin_memory() for name, tensor in self.items()})
        return self

    def where(self, stream: str) -> Any:
        """What tells the path without padding where a stream's tokens are: the lengths [B]."""
        return self.lengths[stream]

    def with_tensors(self, tensors: Mapping[str, torch.Tensor]) -> Batch:
        """The same features with other tensors: on a device, or of weight 0."""
        return Batch(tensors, lengths=self.lengths, masks=self.masks, for_model=self.for_model, targets=self.targets)

    def weightless(self) -> Batch:
        """The same features, of which nothing is scored."""
        empty = {name: tensor * 0 + self.targets.get(name, 0) for name, tensor in self.items() if name in self.targets}
        return self.with_tensors({**self, **empty, "weights": self["weights"] * 0.0})


def pad(features: Features, chosen: Sequence[int] | Array, *, with_targets: bool = False) -> Batch:
    """A batch of features; see :func:`pad_arrays`.

    Args:
        with_targets: Whether it holds what the loss sees: target columns, the dense ones, and ``weights``, the share of
            its example that a feature stands for, so that an example cut into k windows counts once. Of features that
            stay together also ``members``: int64[E, M], the places in the batch of the features of each of its E examples,
            -1 behind them.
    """
    import torch

    features_B = np.asarray(chosen, dtype=np.int64)
    arrays = pad_arrays(features, features_B, with_targets=with_targets)
    lengths = {name: stream.lengths[features_B] for name, stream in features.streams.items()}
    for_model: set[str] = set(features.asked)
    targets: dict[str, int] = {}
    for stream in features.streams.values():
        for_model |= {name for name, column in stream.columns.items() if column.to_model} | {stream.mask or ""}
        targets |= {name: column.fill for name, column in stream.columns.items() if column.to_loss}
    arrays |= {name: np.asarray(rows[features_B]) for name, rows in features.asked.items()}
    tensors = {name: torch.from_numpy(array) for name, array in arrays.items()}
    return Batch(
        {**tensors, **(dense_batch(features, features_B) if with_targets else {})},
        lengths=lengths,
        masks={name: stream.mask for name, stream in features.streams.items() if stream.mask is not None},
        for_model=frozenset(for_model),
        targets=targets,
    )


def members_of(owners: Array) -> Ints:
    """int64[E, M]: the places of the items [n] of each owner, whose items are neighbours; -1 behind them."""
    groups = Groups.of(np.zeros(len(owners), dtype=np.int64), np.asarray(owners))
    place = np.arange(int(groups.counts.max(initial=0)))[None]
    return np.where(place < groups.counts[:, None], groups.starts[:, None] + place, -1).astype(np.int64)


def dense_batch(features: Features, chosen: Array) -> dict[str, torch.Tensor]:
    """The dense columns of some features, ``weights`` and ``members``, as :func:`pad` has them."""
    import torch

    weights = (1.0 / features.windows[np.asarray(features.example[chosen])]).astype(np.float32)
    columns = {name: np.asarray(rows[chosen]) for name, rows in features.dense.items()}
    if features.together:
        columns["members"] = members_of(np.asarray(features.example[chosen]))
    return {name: torch.from_numpy(array) for name, array in {"weights": weights, **columns}.items()}


def pad_arrays(features: Features, chosen: Array, *, with_targets: bool = False) -> dict[str, Array]:
    """Columns of some features, each stream padded to its longest.

    Returns:
        The columns that the model is called with (with targets those of the loss too), and the masks; int64[B, L].
    """
    batch: dict[str, Array] = {}
    features_B = np.asarray(chosen, dtype=np.int64)
    for stream in features.streams.values():
        lengths = stream.lengths[features_B]
        places = np.arange(int(lengths.max(initial=0)))[None, :]
        width = places.shape[1]
        is_token_BL = places < lengths[:, None] if stream.side == "right" else places >= width - lengths[:, None]
        source = ranges(np.asarray(stream.starts[features_B]), lengths)
        for name, column in stream.columns.items():
            if column.to_model or (with_targets and column.to_loss):
                padded_BL = np.full(is_token_BL.shape, column.fill, dtype=np.int64)
                padded_BL[is_token_BL] = column.values[source]
                batch[name] = padded_BL
        if stream.mask is not None:
            batch[stream.mask] = is_token_BL.astype(np.int64)
    return batch
