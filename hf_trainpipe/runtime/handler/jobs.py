"""Requests that share the model: each is encoded, run in pieces beside others, and answered on its own.

Legend: F features of a request, C outputs of the model, R rows of logits (one a feature, or for tags one a word).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from ..text.words import Word
from ..tokens.encoding import Encoded
from ..tokens.ragged import ends_of
from .requests import Example

__all__ = ["Job", "Piece", "Prepared", "cut", "join"]


@dataclass(frozen=True)
class Prepared:
    """Examples that the model can read, and what their answers are told in."""

    encoded: Encoded
    words: list[list[Word]] | None = None
    """Tags: places in the original text, or word numbers."""
    texts: list[str | None] | None = None


@dataclass(eq=False)
class Job:
    """One request. :meth:`.predictor.Predictor.open` checks it, ``encode`` tokenises it, ``run`` computes any of its
    features, and once ``missing`` is 0 ``answer`` gives what ``predict`` would have given."""

    examples: Sequence[Example]
    parameters: Mapping[str, Any]
    prepared: Prepared | None = None
    missing: int = 0
    """Features without logits."""
    parts: list[Prepared] = field(default_factory=list)
    """Of a request that is encoded in parts: those that are."""
    _row_of: npt.NDArray[np.int64] = field(default_factory=lambda: np.zeros(1, dtype=np.int64))
    """[F + 1] the first row of each feature."""
    _logits_RC: npt.NDArray[np.float32] | None = None

    @property
    def characters(self) -> int:
        """Characters of its texts and words."""
        return sum(example.characters for example in self.examples)

    @property
    def lengths(self) -> npt.NDArray[np.int64]:
        """[F] tokens of each feature, special tokens included."""
        if self.prepared is None:
            assert not self.examples, "encode comes first"
            return np.zeros(0, dtype=np.int64)
        return np.diff(self.prepared.encoded.starts)

    @property
    def num_read(self) -> int:
        """Examples that are encoded."""
        return len(self.examples) if self.prepared else sum(part.encoded.num_examples for part in self.parts)

    @property
    def num_tokens(self) -> int:
        """Tokens of the examples that are encoded."""
        return sum(len(one.encoded.ids) for one in ([self.prepared] if self.prepared else self.parts))

    def add(self, part: Prepared) -> None:
        """Take the next part; with the last one the request is encoded."""
        self.parts.append(part)
        if self.num_read == len(self.examples):
            whole = self.parts[0] if len(self.parts) == 1 else _together(self.parts)
            self.parts = []
            self.set(whole)

    def set(self, prepared: Prepared) -> None:
        encoded = prepared.encoded
        self.prepared = prepared
        self.missing = len(encoded.starts) - 1
        if encoded.words is None:
            self._row_of = np.arange(self.missing + 1, dtype=np.int64)
        else:
            self._row_of = ends_of(encoded.words >= 0)[encoded.starts]

    def rows(self, feature: int) -> int:
        """Rows of logits that a feature has."""
        return int(self._row_of[feature + 1] - self._row_of[feature])

    def put(self, feature: int, logits: npt.NDArray[np.float32]) -> None:
        if self._logits_RC is None:
            self._logits_RC = np.empty((int(self._row_of[-1]), logits.shape[1]), dtype=np.float32)
        self._logits_RC[self._row_of[feature] : self._row_of[feature + 1]] = logits
        self.missing -= 1

    @property
    def logits(self) -> npt.NDArray[np.float32]:
        """[R, C] of all features, in their order."""
        assert not self.missing, f"{self.missing} features are not computed"
        assert self._logits_RC is not None, "no feature"
        return self._logits_RC


Piece = tuple[Job, int]
"""A job and the number of one of its features."""


def cut(prepared: Prepared, counts: Sequence[int]) -> list[Prepared]:
    """The parts of ``prepared`` that belong to the first ``counts[0]`` examples, the next ``counts[1]``, and so on.

    Every example must have a feature. What the parts say about long examples (``overflow``) is that of the whole.
    """
    whole = prepared.encoded
    parts = []
    first = 0
    for count in counts:
        low, high = np.searchsorted(whole.example, [first, first + count])
        begin, end = whole.starts[low], whole.starts[high]
        encoded = Encoded(
            ids=whole.ids[begin:end],
            types=None if whole.types is None else whole.types[begin:end],
            starts=whole.starts[low : high + 1] - begin,
            example=whole.example[low:high] - np.int32(first),
            words=None if whole.words is None else whole.words[begin:end],
            num_examples=count,
            overflow=whole.overflow,
        )
        words = None if prepared.words is None else prepared.words[first : first + count]
        texts = None if prepared.texts is None else prepared.texts[first : first + count]
        parts.append(Prepared(encoded, words, texts))
        first += count
    return parts


def _together(parts: Sequence[Prepared]) -> Prepared:
    """Parts of one request, one after the other: what :func:`cut` takes apart."""
    encoded = [part.encoded for part in parts]
    first = ends_of(np.array([one.num_examples for one in encoded]))
    types = [one.types for one in encoded if one.types is not None]
    words = [one.words for one in encoded if one.words is not None]
    return Prepared(
        Encoded(
            ids=np.concatenate([one.ids for one in encoded]),
            types=np.concatenate(types) if types else None,
            starts=ends_of(np.concatenate([np.diff(one.starts) for one in encoded])),
            example=np.concatenate([one.example + np.int32(first[place]) for place, one in enumerate(encoded)]),
            words=np.concatenate(words) if words else None,
            num_examples=int(first[-1]),
            overflow=encoded[0].overflow,
        ),
        None if parts[0].words is None else [words for part in parts for words in part.words or ()],
        None if parts[0].texts is None else [text for part in parts for text in part.texts or ()],
    )


def join(pieces: Sequence[Piece]) -> Encoded:
    """The features of ``pieces`` as one encoding, in their order; each counts as an example."""
    found: list[tuple[Encoded, slice]] = []
    for job, feature in pieces:
        assert job.prepared is not None, "encode comes first"
        encoded = job.prepared.encoded
        found.append((encoded, slice(int(encoded.starts[feature]), int(encoded.starts[feature + 1]))))
    first = found[0][0]
    types = [encoded.types[place] for encoded, place in found if encoded.types is not None]
    words = [encoded.words[place] for encoded, place in found if encoded.words is not None]
    return Encoded(
        ids=np.concatenate([encoded.ids[place] for encoded, place in found]),
        types=np.concatenate(types) if types else None,
        starts=ends_of(np.array([place.stop - place.start for _, place in found], dtype=np.int64)),
        example=np.arange(len(found), dtype=np.int32),
        words=np.concatenate(words) if words else None,
        num_examples=len(found),
        overflow=first.overflow,
    )
