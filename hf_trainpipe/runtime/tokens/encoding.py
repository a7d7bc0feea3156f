"""Texts and words into tokens, and these into features, with the same policy for long ones everywhere.

Legend: N examples, F features (windows), T tokens of all features.
"""

from __future__ import annotations

from dataclasses import replace
from itertools import chain
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from .backend import ahead, chunks, copy_backend, tokens_of, unknown_id, word_backend
from .features import Features, Ragged
from .ragged import ends_of, own_words, ranges
from .truncation import Ints, OverflowPolicy, Tokens, Truncation

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from ..text.edits import Aligned

_BATCH = 8192
"""Texts that the tokenizer gets in one call."""
_SPACE = "\u2581"
"""With which SentencePiece writes a space."""
_LONGEST_WORD = 10


class TextEncoder:
    """Encodes by a copy of a fast tokenizer's backend; the tokenizer itself stays as it is.

    An example without any token is its special tokens; where the tokenizer puts none, it is one unknown token, so that
    the model reads the same of it alone and beside others.

    Args:
        tokenizer: A fast tokenizer of transformers.
        max_length: Tokens a feature holds at most, special tokens included; None: the tokenizer's own limit.
        overflow: What happens to longer examples. ``truncate`` cuts them (pairs: the longer text first),
            ``window`` makes overlapping features (pairs: over the longer text, while the shorter one keeps up
            to half of the room), ``drop`` gives them no feature, ``error`` refuses them.
        stride: Tokens by which neighbouring windows overlap.

    Raises:
        InputError: Not a fast tokenizer, or the numbers leave no room for text.
    """

    def __init__(
        self,
        tokenizer: Any,
        *,
        max_length: int | None,
        overflow: OverflowPolicy = "truncate",
        stride: int = 0,
    ) -> None:
        self._backend = copy_backend(tokenizer)
        self._word_backend = word_backend(self._backend)
        self._unknown = unknown_id(tokenizer)
        self._truncation = Truncation(tokenizer, self._backend, max_length=max_length, overflow=overflow, stride=stride)

    def texts(
        self, first: Sequence[str], second: Sequence[str] | None = None, *, owners: Ints | None = None
    ) -> Features:
        """Encode texts, or pairs of texts.

        Args:
            owners: int64[n] ascending without a gap: the example that each text, or pair, belongs to, where an example has
                several. Column ``text`` then tells which of them a token is of. None: each is an example.

        Raises:
            InputError: An example is too long and ``overflow`` is ``error``; ``position`` says which.
        """
        assert second is None or len(first) == len(second), (len(first), len(second))
        if second is None:
            found = self._truncation.texts(self._tokenize(first), owners=owners)[0]
        else:
            found = self._truncation.pairs(self._tokenize(first), self._tokenize(second), owners=owners)
        return found

    def ids(self, texts: Sequence[str], *, plain: bool) -> tuple[npt.NDArray[np.int32], Ints]:
        """Token ids of texts, one text after the other, and how many each has; not cut, without special tokens.

        Args:
            plain: Whether special tokens written in a text are ordinary text.
        """
        before, self._backend.encode_special_tokens = self._backend.encode_special_tokens, plain
        try:
            return self._tokenize(texts)
        finally:
            self._backend.encode_special_tokens = before

    def numbered(self, texts: Sequence[str]) -> Features:
        """As :meth:`texts`, with the column ``word``: which word of its text a token is of, -1 of special ones and of
        those that an earlier window holds too.

        Words are those of the tokenizer (WordPiece, BPE), cut where a token begins with its sign of a space (Unigram). More than
        ten tokens without a space, as in scripts that write none, are no word: each is one.
        """
        ids, counts, numbers = [], [], []
        spaces = {number for token, number in self._backend.get_vocab().items() if token.startswith(_SPACE)}
        for batch in chunks(texts, _BATCH):
            for encoding in self._backend.encode_batch(list(batch), add_special_tokens=False):
                ids.append(np.array(encoding.ids, dtype=np.int32))
                counts.append(len(encoding.ids))
                numbers.append(_words_of(encoding.ids, encoding.word_ids, spaces))
        nothing = [np.zeros(0, dtype=np.int32)]
        tokens = Tokens(np.concatenate([*nothing, *ids]), np.array(counts, dtype=np.int64))
        features = self._truncation.texts(tokens, with_source=True)[0]
        source = np.asarray(features.input["source"])
        word = np.append(np.concatenate([*nothing, *numbers]), np.int32(-1))[source]  # -1 takes the last one
        seen = np.maximum.accumulate(np.append(np.int32(-1), source))[:-1]
        word = np.where(source > seen, word, -1)
        columns = {name: column for name, column in features.input.columns.items() if name != "source"}
        columns["word"] = Ragged(word.astype(np.int32), fill=-1, to_model=False)
        return features.with_stream("input", replace(features.input, columns=columns))

    def aligned(self, columns: Sequence[Sequence[Aligned]]) -> Features:
        """As :meth:`texts`, of edited texts, or pairs of them, with the columns ``part``, ``start`` and ``end``: the text
        that each token comes from (-1: special), and its characters in it as it was given."""
        found = [self._tokenize_aligned(texts) for texts in columns]
        tokens = [one for one, _ in found]
        if len(tokens) == 1:
            features = self._truncation.texts(tokens[0], with_source=True)[0]
        else:
            features = self._truncation.pairs(*tokens, with_source=True)
        stream = features.input
        source = np.asarray(stream["source"])  # -1 of a special token: the last row of the tables below
        part_of = np.append(np.repeat(np.arange(len(tokens)), [len(one.ids) for one in tokens]), -1)
        places = np.concatenate([*(place for _, place in found), [[-1, -1]]])
        told = {"part": part_of[source], "start": places[source, 0], "end": places[source, 1]}
        columns_T = {name: column for name, column in stream.columns.items() if name != "source"}
        for name, values in told.items():
            columns_T[name] = Ragged(values.astype(np.int32), to_model=False)
        return features.with_stream("input", replace(stream, columns=columns_T))

    def _tokenize_aligned(self, texts: Sequence[Aligned]) -> tuple[Tokens, npt.NDArray[np.int64]]:
        """Tokens, and for each of them its characters [T, 2] in the text as it was given."""
        places: list[tuple[int, int]] = []

        def encoded() -> Iterator[Any]:
            for batch in chunks(texts, _BATCH):
                encodings = self._backend.encode_batch([text.text for text in batch], add_special_tokens=False)
                for text, encoding in zip(batch, encodings, strict=True):
                    places.extend(text.to_original(*offsets) for offsets in encoding.offsets)
                yield encodings

        tokens = Tokens(*tokens_of(encoded()))
        return tokens, np.array(places, dtype=np.int64).reshape(-1, 2)

    def words(self, sentences: Sequence[Sequence[str]]) -> Features:
        """Encode sentences given as words. A word without any token gets the unknown token.

        Raises:
            InputError: As :meth:`texts`.
        """
        tokens, word_lengths, word_counts = self._tokenize_words(sentences)
        features, cut = self._truncation.texts(tokens)
        stream = features.input
        word_place = ends_of(word_lengths)[:-1]
        word, feature = own_words(cut, tokens.counts, word_place, word_lengths)
        words = np.full(int(stream.starts[-1]), -1, dtype=np.int32)
        prefix = len(self._truncation.single.specials[0])
        inside = word_place[word] - tokens.starts[cut.example[feature]] - cut.begin[feature]
        words[stream.starts[feature] + prefix + inside] = word - ends_of(word_counts)[cut.example[feature]]
        return features.with_stream("input", stream.with_column("words", Ragged(words, fill=-1, to_model=False)))

    def _tokenize(self, texts: Sequence[str]) -> Tokens:
        batches = map(list, chunks(texts, _BATCH))
        encoded = map(self._encode, batches) if len(texts) <= _BATCH else ahead(self._encode, batches)
        return Tokens(*tokens_of(encoded))

    def _encode(self, batch: list[str]) -> Any:
        return self._backend.encode_batch_fast(batch, add_special_tokens=False)

    def _tokenize_words(self, sentences: Sequence[Sequence[str]]) -> tuple[Tokens, Ints, Ints]:
        """Tokens of the sentences, tokens of each word [W], words of each sentence [N].

        Backends tokenize the words of a sentence one by one, so each different word is done once.
        """
        numbers: dict[str, int] = {}
        word_counts = np.fromiter(map(len, sentences), dtype=np.int64, count=len(sentences))
        flat = chain.from_iterable(sentences)
        total = int(word_counts.sum())
        occurrences = np.fromiter(
            (numbers.setdefault(word, len(numbers)) for word in flat), dtype=np.int64, count=total
        )
        known, lengths = tokens_of(
            self._word_backend.encode_batch_fast(batch, is_pretokenized=True, add_special_tokens=False)
            for batch in chunks([[word] for word in numbers], _BATCH)
        )
        begins = ends_of(lengths)[:-1]
        known = np.append(known, np.int32(self._unknown))  # the place of words without tokens
        begins = np.where(lengths == 0, len(known) - 1, begins)
        lengths = np.maximum(lengths, 1)
        word_lengths = lengths[occurrences]
        token_ids = known[ranges(begins[occurrences], word_lengths)]
        word_ends = ends_of(word_lengths)
        return Tokens(token_ids, np.diff(word_ends[ends_of(word_counts)])), word_lengths, word_counts


def _words_of(ids: Sequence[int], words: Sequence[int | None], spaces: set[int]) -> npt.NDArray[np.int32]:
    """int32[n]: the number of the word of each token.

    Args:
        words: What the tokenizer calls the word of each.
        spaces: Tokens that begin with a space, and so a word.
    """
    if not len(ids):
        return np.zeros(0, dtype=np.int32)
    named = np.array([-1 if word is None else word for word in words], dtype=np.int64)
    begins = np.append(True, named[1:] != named[:-1]) | np.array([number in spaces for number in ids])
    word = np.cumsum(begins) - 1
    is_long = np.bincount(word)[word] > _LONGEST_WORD
    alone: npt.NDArray[np.int32] = (np.cumsum(begins | is_long) - 1).astype(np.int32)
    return alone
