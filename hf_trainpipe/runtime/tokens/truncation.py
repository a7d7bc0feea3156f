"""Tokens of examples as features of at most so many: long ones are cut, become windows, are dropped or refused.

Legend: N examples, F features (windows), T tokens of all features.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import numpy as np
import numpy.typing as npt

from ..bounds import check_tokens
from ..errors import InputError
from .backend import unknown_id
from .features import Features, Overflow, Ragged, Stream
from .ragged import Cut, Part, Template, assemble, cut_pairs, ends_of, windows

if TYPE_CHECKING:
    from collections.abc import Sequence

OverflowPolicy = Literal["truncate", "window", "drop", "error"]
Ints = npt.NDArray[np.int64]

_POLICIES = ("truncate", "window", "drop", "error")
_UNLIMITED = 1 << 30


class Tokens(NamedTuple):
    """Tokens of examples without special tokens."""

    ids: npt.NDArray[np.int32]
    counts: Ints
    """[N]"""

    @property
    def starts(self) -> Ints:
        return ends_of(self.counts)[:-1]


class Truncation:
    """What happens to examples that are longer than the model takes, and the special tokens around all of them.

    Args:
        tokenizer: A fast tokenizer of transformers.
        backend: A copy of its backend.
        max_length: As of :class:`.encoding.TextEncoder`, like ``overflow`` and ``stride``.

    Raises:
        InputError: the numbers leave no room for text; later, with ``overflow="error"``, an example is too long.
    """

    def __init__(
        self, tokenizer: Any, backend: Any, *, max_length: int | None, overflow: OverflowPolicy, stride: int
    ) -> None:
        if overflow not in _POLICIES:
            raise InputError(
                f"overflow: expected one of {', '.join(_POLICIES)}, found {overflow!r}.",
                fix="Choose one of them.",
            )
        self._backend = backend
        if max_length is None:
            own = int(getattr(tokenizer, "model_max_length", _UNLIMITED))
            max_length = own if own < _UNLIMITED else _UNLIMITED
        self._max_length = max_length
        self._overflow = overflow
        self._stride = stride
        self._cuts_left = getattr(tokenizer, "truncation_side", "right") == "left"
        self._takes_types = "token_type_ids" in getattr(tokenizer, "model_input_names", ())
        self.single = Template.probe(backend, pair=False)
        """The special tokens around one text."""
        self._unknown = unknown_id(tokenizer)
        self._pad_id = int(tokenizer.pad_token_id or 0)
        room = max_length - self.single.num_specials
        if room < 1 or stride < 0 or (overflow == "window" and stride >= room):
            raise InputError(
                f"tokens: max_length {max_length} leaves {room} tokens for text; the stride is {stride}.",
                fix="Raise max_length, or set stride to 0 or more and below that room.",
            )
        self._room = room

    def texts(self, tokens: Tokens, *, with_source: bool = False, owners: Ints | None = None) -> tuple[Features, Cut]:
        """Features of texts, and which tokens each of them holds.

        Args:
            with_source: Also a column ``source``: the place of each token among all tokens of the texts, -1 of special ones.
            owners: int64[n] ascending without a gap: the example that each text belongs to; None: each is an example.

        Raises:
            InputError: as the class says.
        """
        counts, room = tokens.counts, self._room
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
        text = Part(tokens.ids, tokens.starts[cut.example] + cut.begin, cut.length, self.single.text_types[0])
        finished = self._finish(
            self.single, [text], cut.example, counts, over, lost, with_source=with_source, owners=owners
        )
        return finished, cut

    def pairs(
        self, first: Tokens, second: Tokens, *, with_source: bool = False, owners: Ints | None = None
    ) -> Features:
        """Features of pairs of texts; as :meth:`texts`."""
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
            with_source: As of :meth:`texts`, like ``owners``.
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
