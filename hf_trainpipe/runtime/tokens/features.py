"""Features: what a model reads, as flat arrays, in training and in serving.

Legend: N examples, F features (one an example, or several windows), T tokens of all features in one stream.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from .ragged import ends_of, ranges

Ints = npt.NDArray[np.int64]
Array = npt.NDArray[Any]


@dataclass(frozen=True)
class Overflow:
    """What became of long examples. Tokens are counted without special tokens."""

    examples: int = 0
    """All examples."""
    over_length: int = 0
    """Examples with more tokens than a feature holds."""
    dropped: int = 0
    """Examples left out."""
    tokens: int = 0
    """Tokens of all examples before any cut."""
    tokens_lost: int = 0
    """Tokens that no feature holds."""
    empty: int = 0
    """Examples without any token: nothing was left of them."""


@dataclass(frozen=True)
class Ragged:
    """A column of a stream: a value a token."""

    values: Array
    """[T]"""
    fill: int = 0
    """What padding holds."""
    to_model: bool = True
    """Whether the model is called with it."""
    to_loss: bool = False
    """Whether it is a target: then ``fill`` stands for what is not scored."""


@dataclass(frozen=True)
class Stream:
    """Columns over one array of offsets: the tokens of a text, of a source, of a query."""

    starts: Ints
    """[F + 1] where each feature starts; of columns of examples [N + 1]."""
    columns: Mapping[str, Ragged]
    """By the name that a batch has for it."""
    mask: str | None = None
    """The name of the mask of real tokens that a batch gets; None: none."""
    side: Literal["right", "left"] = "right"
    """Where padding goes."""

    def __getitem__(self, name: str) -> Array:
        """The values of a column."""
        return self.columns[name].values

    def get(self, name: str) -> Array | None:
        return self.columns[name].values if name in self.columns else None

    @cached_property
    def lengths(self) -> Ints:
        """[F] tokens of each feature."""
        return np.diff(self.starts)

    @property
    def ids(self) -> str | None:
        """The name of the column of tokens that the model reads; None: there is none."""
        return next((name for name in self.columns if name.endswith("input_ids")), None)

    def with_column(self, name: str, column: Ragged) -> Stream:
        return replace(self, columns={**self.columns, name: column})

    def part(self, low: int, high: int) -> Stream:
        """Of the features from ``low`` to before ``high``."""
        begin, end = int(self.starts[low]), int(self.starts[high])
        return self._with(self.starts[low : high + 1] - begin, slice(begin, end))

    def take(self, items: Ints) -> Stream:
        """Of some features, in this order."""
        lengths = self.lengths[items]
        return self._with(ends_of(lengths), ranges(np.asarray(self.starts[items]), lengths))

    def _with(self, starts: Ints, tokens: slice | Ints) -> Stream:
        held = {name: replace(column, values=column.values[tokens]) for name, column in self.columns.items()}
        return replace(self, starts=starts, columns=held)


@dataclass(frozen=True)
class Features:
    """Features of examples, flat and without padding; special tokens included."""

    streams: Mapping[str, Stream]
    """What the model reads: ``input``, or ``source`` and ``target``, or others."""
    example: npt.NDArray[np.int32]
    """[F] the example of each feature, ascending."""
    num_examples: int
    overflow: Overflow = Overflow()
    dense: Mapping[str, Array] = field(default_factory=dict)
    """One row a feature: targets, which the loss sees and the model does not."""
    of_examples: Mapping[str, Array] = field(default_factory=dict)
    """One row an example: what is right, as metrics take it."""
    asked: Mapping[str, Array] = field(default_factory=dict)
    """One row a feature: what a request asks of its answers, which the model's call gets too (:meth:`.Task.asked`)."""
    within: Stream | None = None
    """Columns of examples with any number of rows each, such as the places of their words; for answers and metrics."""
    together: bool = False
    """Whether the loss sees all features of an example at once, such as its choices: they are then in one micro-batch, which
    says where (``members``, of :func:`~.batch.pad`)."""

    @property
    def input(self) -> Stream:
        """The stream of a model that reads one text, or a pair as one."""
        return self.streams["input"]

    @property
    def num_features(self) -> int:
        return len(self.example)

    @cached_property
    def widths(self) -> Ints:
        """[F, S] tokens of each feature in each stream: in a batch every stream is padded to its own longest."""
        return np.stack([stream.lengths for stream in self.streams.values()], axis=1)

    @cached_property
    def lengths(self) -> Ints:
        """[F] tokens of each feature, over all streams."""
        total: Ints = self.widths.sum(axis=1)
        return total

    @property
    def num_tokens(self) -> int:
        return sum(int(stream.starts[-1]) for stream in self.streams.values())

    @cached_property
    def windows(self) -> Ints:
        """[N] how many features each example has; 0 where it was dropped."""
        return np.bincount(self.example, minlength=self.num_examples)

    @cached_property
    def first(self) -> Ints:
        """[N] the first feature of each example; of one that was dropped, that of the next."""
        return np.searchsorted(self.example, np.arange(self.num_examples))

    def with_stream(self, name: str, stream: Stream) -> Features:
        return replace(self, streams={**self.streams, name: stream})

    def with_targets(self, *, of_examples: Mapping[str, Array] | None = None, **dense: Array) -> Features:
        """With columns of a row a feature for the loss, and of a row an example for metrics."""
        return replace(self, dense={**self.dense, **dense}, of_examples={**self.of_examples, **(of_examples or {})})

    def keep(self, kept: Ints) -> Features:
        """Some of the features, ascending; examples of which none is left are dropped ones."""
        return replace(
            self,
            streams={name: stream.take(kept) for name, stream in self.streams.items()},
            example=self.example[kept],
            dense={name: rows[kept] for name, rows in self.dense.items()},
        )

    def part(self, first: int, count: int) -> Features:
        """The features of ``count`` examples from ``first`` on, as if there were no others."""
        low, high = (int(place) for place in np.searchsorted(self.example, [first, first + count]))
        return replace(
            self,
            streams={name: stream.part(low, high) for name, stream in self.streams.items()},
            example=self.example[low:high] - np.int32(first),
            num_examples=count,
            dense={name: rows[low:high] for name, rows in self.dense.items()},
            of_examples={name: rows[first : first + count] for name, rows in self.of_examples.items()},
            asked={name: rows[low:high] for name, rows in self.asked.items()},
            within=None if self.within is None else self.within.part(first, first + count),
        )


def concatenate(parts: Sequence[Features]) -> Features:
    """Features of several groups of examples as those of one."""
    if len(parts) == 1:
        return parts[0]
    first = ends_of(np.array([part.num_examples for part in parts]))
    overflows = [part.overflow for part in parts]
    names = Overflow.__dataclass_fields__
    return Features(
        streams={name: _joined([part.streams[name] for part in parts]) for name in parts[0].streams},
        example=np.concatenate([part.example + np.int32(first[place]) for place, part in enumerate(parts)]),
        num_examples=int(first[-1]),
        overflow=Overflow(**{name: sum(getattr(one, name) for one in overflows) for name in names}),
        dense={name: np.concatenate([part.dense[name] for part in parts]) for name in parts[0].dense},
        of_examples={name: np.concatenate([part.of_examples[name] for part in parts]) for name in parts[0].of_examples},
        within=None if parts[0].within is None else _joined([part.within for part in parts if part.within is not None]),
        together=parts[0].together,
        asked={name: np.concatenate([part.asked[name] for part in parts]) for name in parts[0].asked},
    )


def _joined(streams: Sequence[Stream]) -> Stream:
    """Streams one after the other; a column that some lack (types that are all 0) holds its fill there."""
    known = {name: column for stream in streams for name, column in stream.columns.items()}
    columns = {}
    for name, column in known.items():
        empty = [np.full(int(one.starts[-1]), column.fill, column.values.dtype) for one in streams]
        found = [one.columns[name].values if name in one.columns else empty[at] for at, one in enumerate(streams)]
        columns[name] = replace(column, values=np.concatenate(found))
    lengths = np.concatenate([one.lengths for one in streams])
    return replace(streams[0], starts=ends_of(lengths), columns=columns)


def join(pieces: Sequence[tuple[Features, int]]) -> Features:
    """Single features of several groups as one group, in their order; each counts as an example."""
    streams = {}
    for name, first in pieces[0][0].streams.items():
        held = [(features.streams[name], feature) for features, feature in pieces]
        places = [slice(int(stream.starts[feature]), int(stream.starts[feature + 1])) for stream, feature in held]
        columns = {
            column: replace(
                known, values=np.concatenate([one[column][at] for (one, _), at in zip(held, places, strict=True)])
            )
            for column, known in first.columns.items()
        }
        starts = ends_of(np.array([at.stop - at.start for at in places], dtype=np.int64))
        streams[name] = replace(first, starts=starts, columns=columns)
    first_asked = pieces[0][0].asked
    asked = {name: np.stack([features.asked[name][feature] for features, feature in pieces]) for name in first_asked}
    return Features(streams, np.arange(len(pieces), dtype=np.int32), len(pieces), asked=asked)


def tokens_of(features: Features, chosen: Array) -> tuple[Ints, Ints]:
    """int64[T]: the tokens that a model reads of some features, stream after stream of each; and the place in ``chosen`` that each
    belongs to, ascending."""
    chosen = np.asarray(chosen, dtype=np.int64)
    found, owners = [np.zeros(0, dtype=np.int64)], [np.zeros(0, dtype=np.int64)]
    for stream in features.streams.values():
        if stream.ids is not None:
            lengths = stream.lengths[chosen]
            ids = np.asarray(stream[stream.ids])[ranges(np.asarray(stream.starts)[chosen], lengths)]
            found.append(ids.astype(np.int64))
            owners.append(np.repeat(np.arange(len(chosen), dtype=np.int64), lengths))
    owner = np.concatenate(owners)
    order = np.argsort(owner, kind="stable")
    return np.concatenate(found)[order], owner[order]


def features_of(features: Features, examples: Sequence[int] | Array) -> Ints:
    """int64: the features of these examples, in the order of ``examples``."""
    wanted = np.asarray(examples, dtype=np.int64)
    low = np.searchsorted(features.example, wanted, side="left").astype(np.int64)
    high = np.searchsorted(features.example, wanted, side="right").astype(np.int64)
    return ranges(low, high - low)
