"""What a model gives: arrays of numbers with a row, or any number of rows, for each item.

An item is a feature, or once windows are merged an example.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from ..tokens.ragged import ends_of, ranges

Ints = npt.NDArray[np.int64]
Array = npt.NDArray[Any]


@dataclass(frozen=True)
class Output:
    """How a tensor that a task's ``predict`` gives belongs to its features."""

    rows: Literal["feature", "token", "sequence"] = "feature"
    """``feature``: [B, ...], a row each. ``token``: [B, L, ...], a row a token of ``stream``. ``sequence``: [B, n], as many
    numbers as stand before the trailing ``fill``: generated ids."""
    stream: str = "input"
    where: str | None = None
    """Of tokens, only those for which this column of the stream is 0 or more; None: all."""
    picked: bool = False
    """Whether the tensor has those tokens alone, [R, ...] in the order of the batch, and not all [B, L, ...]."""
    fill: int = 0
    """What a shorter sequence of a batch ends with."""


@dataclass(frozen=True)
class Outputs:
    """Arrays by name, with rows for each item."""

    items: Ints
    """[n] features, or ascending examples; examples without a feature are absent."""
    arrays: Mapping[str, Array]
    """[n, ...], or [R, ...] where the item has any number of rows."""
    starts: Mapping[str, Ints] = field(default_factory=dict)
    """[n + 1] where the rows of each item start, of the arrays that have any number of them."""

    def __getitem__(self, name: str) -> Array:
        return self.arrays[name]

    def __len__(self) -> int:
        return len(self.items)

    def rows(self, name: str, position: int) -> Array:
        """The rows, or the one row, of an item."""
        if (starts := self.starts.get(name)) is None:
            row: Array = self.arrays[name][position]
            return row
        return self.arrays[name][int(starts[position]) : int(starts[position + 1])]

    def take(self, positions: Ints) -> Outputs:
        """Some of the items, in this order."""
        arrays, starts = {}, {}
        for name, array in self.arrays.items():
            begin = self.starts.get(name)
            if begin is None:
                arrays[name] = array[positions]
            else:
                lengths = begin[positions + 1] - begin[positions]
                arrays[name], starts[name] = array[ranges(begin[positions], lengths)], ends_of(lengths)
        return Outputs(self.items[positions], arrays, starts)

    def one(self, position: int, *, item: int) -> Outputs:
        """One of the items under another number, without a copy of its rows."""
        arrays, starts = {}, {}
        for name, array in self.arrays.items():
            if (begin := self.starts.get(name)) is None:
                arrays[name] = array[position : position + 1]
            else:
                arrays[name] = array[int(begin[position]) : int(begin[position + 1])]
                starts[name] = np.array([0, len(arrays[name])], dtype=np.int64)
        return Outputs(np.array([item], dtype=np.int64), arrays, starts)


def concatenate(parts: Sequence[Outputs]) -> Outputs:
    """The parts of several ranks or batches, sorted by item; each item must come exactly once.

    A part without items says nothing, not even which arrays there are.
    """
    parts = [part for part in parts if len(part)] or parts[:1]
    items = np.concatenate([part.items for part in parts])
    assert len(np.unique(items)) == len(items), "an item was computed twice"
    names = parts[0].arrays
    arrays = {name: np.concatenate([part.arrays[name] for part in parts]) for name in names}
    starts = {name: ends_of(np.concatenate([np.diff(part.starts[name]) for part in parts])) for name in parts[0].starts}
    joined = Outputs(items, arrays, starts)
    order = np.argsort(items, kind="stable")
    return joined if (order == np.arange(len(order))).all() else joined.take(order)


def as_lists(outputs: Outputs, names: Sequence[str], count: int) -> list[Any]:
    """Outputs of examples as JSON, one entry for each of ``count`` inputs; None where there are none.

    Of one array its rows (``[C]`` numbers of a text, ``[words][C]`` of tags), of several an object with the rows of each.
    """
    rows: list[Any] = [None] * count
    for position, item in enumerate(outputs.items.tolist()):
        found = {name: outputs.rows(name, position).tolist() for name in names}
        rows[item] = found if len(names) > 1 else found[names[0]]
    return rows
