"""Texts and words into flat arrays of token ids, with the same policy for long ones everywhere.

Legend: N examples, F features (windows), T tokens of all features, B features of a batch, L longest of them.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import chain
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import numpy as np
import numpy.typing as npt

from ..bounds import check_tokens
from ..errors import InputError
from .backend import ahead, copy_backend, flatten, unknown_id, word_backend
from .ragged import Cut, Part, Template, assemble, cut_pairs, ends_of, own_words, ranges, windows

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    import torch

__all__ = [
    "Encoded",
    "Overflow",
    "OverflowPolicy",
    "TextEncoder",
    "features_of",
    "pad",
    "pad_arrays",
    "token_budget_batches",
]

OverflowPolicy = Literal["truncate", "window", "drop", "error"]
Ints = npt.NDArray[np.int64]

_POLICIES = ("truncate", "window", "drop", "error")
_BATCH = 8192
"""Texts that the tokenizer gets in one call."""
_UNLIMITED = 1 << 30


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
class Encoded:
    """Features of examples, flat and without padding; special tokens included."""

    ids: npt.NDArray[np.int32]
    """[T]"""
    types: npt.NDArray[np.uint8] | None
    """[T] token types, or None where all are 0 or the model takes none."""
    starts: Ints
    """[F + 1] where each feature starts in ``ids``."""
    example: npt.NDArray[np.int32]
    """[F] the example of each feature, ascending."""
    words: npt.NDArray[np.int32] | None
    """[T] at the first token of a word, in the one window that answers for it: the word's number inside its
    example; else -1. None for texts."""
    num_examples: int
    overflow: Overflow


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
        room = max_length - self._single.num_specials
        if room < 1 or stride < 0 or (overflow == "window" and stride >= room):
            raise InputError(
                f"tokens: max_length {max_length} leaves {room} tokens for text; the stride is {stride}.",
                fix="Raise max_length, or set stride to 0 or more and below that room.",
            )
        self._room = room

    def texts(self, first: Sequence[str], second: Sequence[str] | None = None) -> Encoded:
        """Encode texts, or pairs of texts.

        Raises:
            InputError: An example is too long and ``overflow`` is ``error``; ``position`` says which.
        """
        if second is None:
            return self._encode_single(self._tokenize(first), self._room)
        assert len(first) == len(second), (len(first), len(second))
        return self._encode_pairs(self._tokenize(first), self._tokenize(second))

    def words(self, sentences: Sequence[Sequence[str]]) -> Encoded:
        """Encode sentences given as words. A word without any token gets the unknown token.

        Raises:
            InputError: As :meth:`texts`.
        """
        tokens, word_lengths, word_counts = self._tokenize_words(sentences)
        encoded, cut = self._cut_single(tokens, self._room)
        word_place = ends_of(word_lengths)[:-1]
        word, feature = own_words(cut, tokens.counts, word_place, word_lengths)
        words = np.full(len(encoded.ids), -1, dtype=np.int32)
        prefix = len(self._single.specials[0])
        inside = word_place[word] - tokens.starts[cut.example[feature]] - cut.begin[feature]
        words[encoded.starts[feature] + prefix + inside] = word - ends_of(word_counts)[cut.example[feature]]
        return Encoded(
            encoded.ids,
            encoded.types,
            encoded.starts,
            encoded.example,
            words,
            encoded.num_examples,
            encoded.overflow,
        )

    def _tokenize(self, texts: Sequence[str]) -> _Tokens:
        ids: list[npt.NDArray[np.int32]] = [np.zeros(0, dtype=np.int32)]
        counts: list[Ints] = [np.zeros(0, dtype=np.int64)]
        batches = (list(texts[start : start + _BATCH]) for start in range(0, len(texts), _BATCH))
        for encodings in ahead(self._encode, batches):
            flatten(encodings, ids, counts)
        return _Tokens(np.concatenate(ids), np.concatenate(counts))

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
        distinct = list(numbers)
        ids: list[npt.NDArray[np.int32]] = [np.zeros(0, dtype=np.int32)]
        counts: list[Ints] = [np.zeros(0, dtype=np.int64)]
        for start in range(0, len(distinct), _BATCH):
            batch = [[word] for word in distinct[start : start + _BATCH]]
            encodings = self._word_backend.encode_batch_fast(batch, is_pretokenized=True, add_special_tokens=False)
            flatten(encodings, ids, counts)
        known, lengths = np.concatenate(ids), np.concatenate(counts)
        begins = ends_of(lengths)[:-1]
        known = np.append(known, np.int32(self._unknown))  # the place of words without tokens
        begins = np.where(lengths == 0, len(known) - 1, begins)
        lengths = np.maximum(lengths, 1)
        word_lengths = lengths[occurrences]
        token_ids = known[ranges(begins[occurrences], word_lengths)]
        word_ends = ends_of(word_lengths)
        return _Tokens(token_ids, np.diff(word_ends[ends_of(word_counts)])), word_lengths, word_counts

    def _encode_single(self, tokens: _Tokens, room: int) -> Encoded:
        return self._cut_single(tokens, room)[0]

    def _cut_single(self, tokens: _Tokens, room: int) -> tuple[Encoded, Cut]:
        counts = tokens.counts
        over = counts > room
        self._refuse_over(over, counts, room)
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
        return self._finish(self._single, [text], cut.example, counts, over, lost), cut

    def _encode_pairs(self, first: _Tokens, second: _Tokens) -> Encoded:
        template = Template.probe(self._backend, pair=True)
        room = self._max_length - template.num_specials
        if room < 2:
            raise InputError(
                f"tokens: max_length {self._max_length} leaves {room} tokens for a pair of texts.",
                fix="Raise max_length.",
            )
        a, b = first.counts, second.counts
        over = a + b > room
        self._refuse_over(over, a + b, room)
        example = np.arange(len(a), dtype=np.int64)
        begin_a, begin_b = np.zeros_like(a), np.zeros_like(b)
        if self._overflow == "window":
            short, long = np.minimum(a, b), np.maximum(a, b)
            kept_short = np.where(over, np.minimum(short, room // 2), short)
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
        return self._finish(template, parts, example, a + b, over, lost)

    def _refuse_over(self, over: npt.NDArray[np.bool_], counts: Ints, room: int) -> None:
        if self._overflow == "error" and over.any():
            position = int(np.argmax(over))
            raise InputError(
                f"Example {position} has {int(counts[position])} tokens; {room} fit into max_length "
                f"{self._max_length} beside the special tokens ({int(over.sum())} such examples in all).",
                fix="Shorten it, raise max_length, or set overflow to 'truncate' or 'window'.",
                position=position,
            )

    def _finish(
        self,
        template: Template,
        texts: Sequence[Part],
        example: Ints,
        counts: Ints,
        over: npt.NDArray[np.bool_],
        lost: int,
    ) -> Encoded:
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
        if not template.num_specials and (nothing := starts[1:] == starts[:-1]).any():
            places = starts[:-1][nothing]
            ids = np.insert(ids, places, self._unknown)
            types_T = None if types_T is None else np.insert(types_T, places, 0)
            starts = starts + ends_of(nothing)
        overflow = Overflow(
            examples=len(counts),
            over_length=int(over.sum()),
            dropped=int(over.sum()) if self._overflow == "drop" else 0,
            tokens=int(counts.sum()),
            tokens_lost=lost,
            empty=int((counts == 0).sum()),
        )
        return Encoded(ids, types_T, starts, example.astype(np.int32), None, len(counts), overflow)


def features_of(encoded: Encoded, examples: Sequence[int] | npt.NDArray[Any]) -> Ints:
    """Indices of the features of these examples, in the order of ``examples``; int64."""
    wanted = np.asarray(examples, dtype=np.int64)
    low = np.searchsorted(encoded.example, wanted, side="left").astype(np.int64)
    high = np.searchsorted(encoded.example, wanted, side="right").astype(np.int64)
    return ranges(low, high - low)


def token_budget_batches(lengths: npt.NDArray[Any], *, max_tokens: int) -> Iterator[npt.NDArray[np.int64]]:
    """Positions in batches of similar length, the longest first; padded, a batch has at most ``max_tokens``.

    A feature longer than that is a batch of its own.
    """
    order = np.argsort(-lengths, kind="stable")
    start = 0
    while start < len(order):
        size = max(1, max_tokens // max(1, int(lengths[order[start]])))
        yield order[start : start + size]
        start += size


def pad(encoded: Encoded, feature_indices: Sequence[int] | npt.NDArray[Any], pad_id: int) -> dict[str, torch.Tensor]:
    """A batch of features as tensors; see :func:`pad_arrays`."""
    import torch

    return {name: torch.from_numpy(array) for name, array in pad_arrays(encoded, feature_indices, pad_id).items()}


def pad_arrays(encoded: Encoded, feature_indices: Sequence[int] | npt.NDArray[Any], pad_id: int) -> dict[str, Ints]:
    """A batch of features, padded on the right to the longest.

    Returns:
        ``input_ids`` and ``attention_mask``, and ``token_type_ids`` where there are types; int64[B, L].
    """
    features = np.asarray(feature_indices, dtype=np.int64)
    begin = encoded.starts[features]
    lengths = encoded.starts[features + 1] - begin
    is_token_BL = np.arange(int(lengths.max(initial=0)))[None, :] < lengths[:, None]
    source = ranges(begin, lengths)
    ids_BL = np.full(is_token_BL.shape, pad_id, dtype=np.int64)
    ids_BL[is_token_BL] = encoded.ids[source]
    batch = {"input_ids": ids_BL, "attention_mask": is_token_BL.astype(np.int64)}
    if encoded.types is not None:
        types_BL = np.zeros_like(ids_BL)
        types_BL[is_token_BL] = encoded.types[source]
        batch["token_type_ids"] = types_BL
    return batch
