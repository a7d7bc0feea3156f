"""Texts and words into features, with the same policy for long ones everywhere.

Legend: N examples, F features (windows), T tokens of all features.
"""

from __future__ import annotations

from dataclasses import replace
from itertools import chain
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import numpy as np
import numpy.typing as npt

from ..bounds import check_tokens
from ..errors import InputError
from .backend import ahead, chunks, copy_backend, tokens_of, unknown_id, word_backend
from .features import Features, Overflow, Ragged, Stream
from .ragged import Cut, Part, Template, assemble, cut_pairs, ends_of, own_words, ranges, windows

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from ..text.edits import Aligned

OverflowPolicy = Literal["truncate", "window", "drop", "error"]
Ints = npt.NDArray[np.int64]

_POLICIES = ("truncate", "window", "drop", "error")
_BATCH = 8192
"""Texts that the tokenizer gets in one call."""
_UNLIMITED = 1 << 30
_SPACE = "\u2581"
"""With which SentencePiece writes a space."""
_LONGEST_WORD = 10


class _Tokens(NamedTuple):
    """Tokens of examples without special tokens."""

    ids: npt.NDArray[np.int32]
    counts: Ints
    """[N]"""

    @property
    def starts(self) -> Ints:
        return ends_of(self.counts)[:-1]


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
        if overflow not in _POLICIES:
            raise InputError(
                f"overflow: expected one of {', '.join(_POLICIES)}, found {overflow!r}.",
                fix="Choose one of them.",
            )
        self._backend = copy_backend(tokenizer)
        self._word_backend = word_backend(self._backend)
        if max_length is None:
            own = int(getattr(tokenizer, "model_max_length", _UNLIMITED))
            max_length = own if own < _UNLIMITED else _UNLIMITED
        self._max_length = max_length
        self._overflow = overflow
        self._stride = stride
        self._cuts_left = getattr(tokenizer, "truncation_side", "right") == "left"
        self._takes_types = "token_type_ids" in getattr(tokenizer, "model_input_names", ())
        self._single = Template.probe(self._backend, pair=False)
        self._unknown = unknown_id(tokenizer)
        self._pad_id = int(tokenizer.pad_token_id or 0)
        room = max_length - self._single.num_specials
        if room < 1 or stride < 0 or (overflow == "window" and stride >= room):
            raise InputError(
                f"tokens: max_length {max_length} leaves {room} tokens for text; the stride is {stride}.",
                fix="Raise max_length, or set stride to 0 or more and below that room.",
            )
        self._room = room

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
            found = self._cut_single(self._tokenize(first), self._room, owners=owners)[0]
        else:
            found = self._encode_pairs(self._tokenize(first), self._tokenize(second), owners=owners)
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
        tokens = _Tokens(np.concatenate([*nothing, *ids]), np.array(counts, dtype=np.int64))
        features = self._cut_single(tokens, self._room, with_source=True)[0]
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
            features = self._cut_single(tokens[0], self._room, with_source=True)[0]
        else:
            features = self._encode_pairs(*tokens, with_source=True)
        stream = features.input
        source = np.asarray(stream["source"])  # -1 of a special token: the last row of the tables below
        part_of = np.append(np.repeat(np.arange(len(tokens)), [len(one.ids) for one in tokens]), -1)
        places = np.concatenate([*(place for _, place in found), [[-1, -1]]])
        told = {"part": part_of[source], "start": places[source, 0], "end": places[source, 1]}
        columns_T = {name: column for name, column in stream.columns.items() if name != "source"}
        for name, values in told.items():
            columns_T[name] = Ragged(values.astype(np.int32), to_model=False)
        return features.with_stream("input", replace(stream, columns=columns_T))

    def _tokenize_aligned(self, texts: Sequence[Aligned]) -> tuple[_Tokens, npt.NDArray[np.int64]]:
        """Tokens, and for each of them its characters [T, 2] in the text as it was given."""
        places: list[tuple[int, int]] = []

        def encoded() -> Iterator[Any]:
            for batch in chunks(texts, _BATCH):
                encodings = self._backend.encode_batch([text.text for text in batch], add_special_tokens=False)
                for text, encoding in zip(batch, encodings, strict=True):
                    places.extend(text.to_original(*offsets) for offsets in encoding.offsets)
                yield encodings

        tokens = _Tokens(*tokens_of(encoded()))
        return tokens, np.array(places, dtype=np.int64).reshape(-1, 2)

    def words(self, sentences: Sequence[Sequence[str]]) -> Features:
        """Encode sentences given as words. A word without any token gets the unknown token.

        Raises:
            InputError: As :meth:`texts`.
        """
        tokens, word_lengths, word_counts = self._tokenize_words(sentences)
        features, cut = self._cut_single(tokens, self._room)
        stream = features.input
        word_place = ends_of(word_lengths)[:-1]
        word, feature = own_words(cut, tokens.counts, word_place, word_lengths)
        words = np.full(int(stream.starts[-1]), -1, dtype=np.int32)
        prefix = len(self._single.specials[0])
        inside = word_place[word] - tokens.starts[cut.example[feature]] - cut.begin[feature]
        words[stream.starts[feature] + prefix + inside] = word - ends_of(word_counts)[cut.example[feature]]
        return features.with_stream("input", stream.with_column("words", Ragged(words, fill=-1, to_model=False)))

    def _tokenize(self, texts: Sequence[str]) -> _Tokens:
        batches = map(list, chunks(texts, _BATCH))
        encoded = map(self._encode, batches) if len(texts) <= _BATCH else ahead(self._encode, batches)
        return _Tokens(*tokens_of(encoded))

    def _encode(self, batch: list[str]) -> Any:
        return self._backend.encode_batch_fast(batch, add_special_tokens=False)

    def _tokenize_words(self, sentences: Sequence[Sequence[str]]) -> tuple[_Tokens, Ints, Ints]:
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
        return _Tokens(token_ids, np.diff(word_ends[ends_of(word_counts)])), word_lengths, word_counts

    def _cut_single(
        self, tokens: _Tokens, room: int, *, with_source: bool = False, owners: Ints | None = None
    ) -> tuple[Features, Cut]:
        counts = tokens.counts
        over = self._over(counts, room, owners)
        everyone = np.arange(len(counts), dtype=np.int64)
        if self._overflow == "window":
            cut = windows(counts, np.full_like(counts, room), np.full_like(counts, self._stride))
            lost = 0
        else:
            example = everyone[~over] if self._overflow == "drop" else everyone
            kept = np.minimum(counts, room)[example]
            begin = (counts[example] - kept) if self._cuts_left else np.zeros_like(kept)
            cut = Cut(example, begin, kept)
            lost = int(counts.sum() - kept.sum())
        text = Part(tokens.ids, tokens.starts[cut.example] + cut.begin, cut.length, self._single.text_types[0])
        finished = self._finish(
            self._single, [text], cut.example, counts, over, lost, with_source=with_source, owners=owners
        )
        return finished, cut

    def _encode_pairs(
        self, first: _Tokens, second: _Tokens, *, with_source: bool = False, owners: Ints | None = None
    ) -> Features:
        template = Template.probe(self._backend, pair=True)
        room = self._max_length - template.num_specials
        if room < 2:
            raise InputError(
                f"tokens: max_length {self._max_length} leaves {room} tokens for a pair of texts.",
                fix="Raise max_length.",
            )
        a, b = first.counts, second.counts
        over = self._over(a + b, room, owners)
        example = np.arange(len(a), dtype=np.int64)
        begin_a, begin_b = np.zeros_like(a), np.zeros_like(b)
        if self._overflow == "window":
            short, long = np.minimum(a, b), np.maximum(a, b)
            kept_short = np.where(a + b > room, np.minimum(short, room // 2), short)
            capacity = room - kept_short
            cut = windows(long, capacity, np.minimum(self._stride, capacity // 2))
            example = cut.example
            first_is_long = (a > b)[example]
            short_length = kept_short[example]
            begin_a, begin_b = np.where(first_is_long, cut.begin, 0), np.where(first_is_long, 0, cut.begin)
            kept_a = np.where(first_is_long, cut.length, short_length)
            kept_b = np.where(first_is_long, short_length, cut.length)
            lost = int((short - kept_short).sum())
        else:
            kept_a, kept_b = cut_pairs(a, b, room)
            if self._cuts_left:
                begin_a, begin_b = a - kept_a, b - kept_b
            if self._overflow == "drop":
                example = example[~over]
                begin_a, begin_b, kept_a, kept_b = (x[example] for x in (begin_a, begin_b, kept_a, kept_b))
            lost = int(a.sum() + b.sum() - kept_a.sum() - kept_b.sum())
        parts = [
            Part(first.ids, first.starts[example] + begin_a, kept_a, template.text_types[0]),
            Part(second.ids, second.starts[example] + begin_b, kept_b, template.text_types[1]),
        ]
        return self._finish(template, parts, example, a + b, over, lost, with_source=with_source, owners=owners)

    def _over(self, counts: Ints, room: int, owners: Ints | None) -> npt.NDArray[np.bool_]:
        """bool[n]: of which texts the example is too long: it is where one of its texts is.

        Raises:
            InputError: there is one, and ``overflow`` is ``error``.
        """
        is_long = counts > room
        over = is_long if owners is None else _any_of(is_long, owners)[owners]
        if self._overflow == "error" and is_long.any():
            at = int(np.argmax(is_long))
            position = at if owners is None else int(owners[at])
            many = int((is_long if owners is None else _any_of(is_long, owners)).sum())
            raise InputError(
                f"Example {position} has {int(counts[at])} tokens; {room} fit into max_length "
                f"{self._max_length} beside the special tokens ({many} such examples in all).",
                fix="Shorten it, raise max_length, or set overflow to 'truncate' or 'window'.",
                position=position,
            )
        return over

    def _finish(
        self,
        template: Template,
        texts: Sequence[Part],
        example: Ints,
        counts: Ints,
        over: npt.NDArray[np.bool_],
        lost: int,
        *,
        with_source: bool,
        owners: Ints | None,
    ) -> Features:
        """Lay special tokens and texts out.

        Args:
            example: The text, or pair, of each feature; ``counts`` and ``over`` have a row each.
            with_source: Also a column ``source``: the place of each token among all tokens of the texts, -1 of special ones.
            owners: As of :meth:`texts`.
        """
        parts: list[Part] = []
        for number, (group, types) in enumerate(zip(template.specials, template.special_types, strict=True)):
            constant = np.array(group, dtype=np.int32)
            parts.append(
                Part(
                    constant,
                    np.zeros(len(example), dtype=np.int64),
                    np.full(len(example), len(constant), dtype=np.int64),
                    np.array(types, dtype=np.uint8),
                )
            )
            parts.extend(texts[number : number + 1])
        check_tokens(sum(int(part.length.sum()) for part in parts))
        ids, types_T, starts = assemble(parts, has_types=self._takes_types and template.has_types)
        nothing = starts[:-1][starts[1:] == starts[:-1]] if not template.num_specials else starts[:0]
        if len(nothing):
            lengths = np.maximum(np.diff(starts), 1)
            ids = np.insert(ids, nothing, np.int32(self._unknown))
            types_T = None if types_T is None else np.insert(types_T, nothing, 0)
            starts = ends_of(lengths)
        columns = {"input_ids": Ragged(ids, fill=self._pad_id)}
        if types_T is not None:
            columns["token_type_ids"] = Ragged(types_T)
        if owners is not None:
            firsts = np.searchsorted(owners, owners)
            of_example = (np.arange(len(owners)) - firsts)[example]
            columns["text"] = Ragged(np.repeat(of_example, np.diff(starts)).astype(np.int32), fill=-1, to_model=False)
            over, counts = _any_of(over, owners), np.bincount(owners, weights=counts).astype(np.int64)
            example = owners[example]
        overflow = Overflow(
            examples=len(counts),
            over_length=int(over.sum()),
            dropped=int(over.sum()) if self._overflow == "drop" else 0,
            tokens=int(counts.sum()),
            tokens_lost=lost,
            empty=int((counts == 0).sum()),
        )
        if with_source:
            columns["source"] = Ragged(_sources(parts, texts, nothing), fill=-1, to_model=False)
        stream = Stream(starts, columns, mask="attention_mask")
        return Features({"input": stream}, example.astype(np.int32), len(counts), overflow)


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


def _any_of(mask: npt.NDArray[np.bool_], owners: Ints) -> npt.NDArray[np.bool_]:
    """bool[N]: of which examples it holds for any text."""
    found: npt.NDArray[np.bool_] = np.bincount(owners, weights=mask) > 0
    return found


def _sources(parts: Sequence[Part], texts: Sequence[Part], nothing: Ints) -> npt.NDArray[np.int32]:
    """Where each token of the features stands among all tokens of the texts; -1 of special ones."""
    first, numbered = 0, []
    for part in parts:
        if any(part is text for text in texts):
            source = np.arange(first, first + len(part.source), dtype=np.int32)
            first += len(part.source)
        else:
            source = np.full(len(part.source), -1, dtype=np.int32)
        numbered.append(part._replace(source=source))
    sources, _, _ = assemble(numbered, has_types=False)
    return np.insert(sources, nothing, -1) if len(nothing) else sources
