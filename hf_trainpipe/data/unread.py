"""An encoder for rows whose model is not here: every word is one token, so that targets can be looked at."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from hf_trainpipe.runtime.tokens.encoder import Encoder
from hf_trainpipe.runtime.tokens.features import Features, Ragged, Stream
from hf_trainpipe.runtime.tokens.masking import Masker
from hf_trainpipe.runtime.tokens.ragged import ends_of, ranges

if TYPE_CHECKING:
    from collections.abc import Sequence

    from hf_trainpipe.runtime.text.edits import Aligned
    from hf_trainpipe.runtime.text.preprocessor import Preprocessor


class UnreadEncoder(Encoder):
    """Features in which a text is one token, and each word one: no tokenizer is loaded.

    Args:
        steps: The preprocessing.
    """

    def __init__(self, *, steps: Sequence[Preprocessor] = ()) -> None:
        super().__init__(None, steps=steps, max_length=None)

    def _text_encoder(self) -> Any:
        return _Unread()

    def texts(
        self,
        first: Sequence[str],
        second: Sequence[str] | None = None,
        *,
        with_places: bool = False,
        with_words: bool = False,
        owners: np.ndarray | None = None,
    ) -> Features:
        if with_places:
            return super().texts(first, second, with_places=True)
        found = _features(np.ones(len(first), dtype=np.int64))
        if with_words:
            word = Ragged(np.zeros(len(first), dtype=np.int32), to_model=False)
            return found.with_stream("input", found.input.with_column("word", word))
        if owners is None:
            return found
        number = (np.arange(len(owners)) - np.searchsorted(owners, owners)).astype(np.int32)
        stream = found.input.with_column("text", Ragged(number, to_model=False))
        return Features({"input": stream}, owners.astype(np.int32), len(np.unique(owners)))

    def plain_ids(self, texts: Sequence[str]) -> tuple[Any, Any]:
        return np.zeros(len(texts), dtype=np.int32), np.ones(len(texts), dtype=np.int64)

    @property
    def masker(self) -> Masker:
        return Masker("[MASK]", -1, np.zeros(1, dtype=np.int64))

    def but(self, **_: Any) -> UnreadEncoder:
        return self


class _Unread:
    """What :class:`.encoding.TextEncoder` does, without tokens."""

    def aligned(self, columns: Sequence[Sequence[Aligned]]) -> Features:
        texts = columns[-1]  # that of a question is not where an answer is
        features = _features(np.ones(len(texts), dtype=np.int64))
        ends = np.array([len(text.original) for text in texts], dtype=np.int32)
        part = np.full(len(texts), len(columns) - 1, dtype=np.int32)
        stream = features.input
        for name, values in (("part", part), ("start", np.zeros_like(ends)), ("end", ends)):
            stream = stream.with_column(name, Ragged(values, to_model=False))
        return features.with_stream("input", stream)

    def words(self, sentences: Sequence[Sequence[str]]) -> Features:
        counts = np.fromiter(map(len, sentences), dtype=np.int64, count=len(sentences))
        features = _features(counts)
        numbers = ranges(np.zeros_like(counts), counts).astype(np.int32)
        stream = features.input.with_column("words", Ragged(numbers, to_model=False))
        return features.with_stream("input", stream)


def _features(counts: Any) -> Features:
    ids = Ragged(np.zeros(int(counts.sum()), dtype=np.int32))
    stream = Stream(ends_of(counts), {"input_ids": ids}, mask="attention_mask")
    return Features({"input": stream}, np.arange(len(counts), dtype=np.int32), len(counts))
