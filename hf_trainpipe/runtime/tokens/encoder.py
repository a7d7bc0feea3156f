"""What a task encodes with: preprocessing, tokenizer and the policy for long texts, the same in training and in serving."""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING, Any

from ..text.preprocessing import apply, apply_aligned, apply_words
from .backend import chunks
from .encoding import TextEncoder
from .masking import Masker

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    import numpy as np
    import numpy.typing as npt

    from ..text.edits import Aligned
    from ..text.preprocessor import Preprocessor
    from ..text.words import Word, WordSplitter
    from .features import Features, Ints
    from .truncation import OverflowPolicy

_CHUNK = 10_000
"""Texts preprocessed at a time, so that what is in flight stays bounded."""
_CHUNK_ALIGNED = 2_000
"""The same where an edited text holds two numbers for each of its characters."""


class Encoder:
    """Texts and words into features.

    Args:
        tokenizer: A fast tokenizer of transformers.
        steps: The preprocessing.
        max_length: Tokens a feature holds at most; None: the tokenizer's own limit.
        overflow: What happens to longer examples; see :class:`.encoding.TextEncoder`.
        stride: Tokens by which neighbouring windows overlap.

    Raises:
        InputError: Not a fast tokenizer, or the numbers leave no room for text.
    """

    def __init__(
        self,
        tokenizer: Any,
        *,
        steps: Sequence[Preprocessor] = (),
        max_length: int | None,
        overflow: OverflowPolicy = "truncate",
        stride: int = 0,
    ) -> None:
        self.tokenizer = tokenizer
        self.steps = tuple(steps)
        self.max_length, self.overflow, self.stride = max_length, overflow, stride
        self._tokens = self._text_encoder()

    def _text_encoder(self) -> TextEncoder:
        return TextEncoder(self.tokenizer, max_length=self.max_length, overflow=self.overflow, stride=self.stride)

    def but(
        self,
        *,
        steps: Sequence[Preprocessor] | None = None,
        max_length: int | None = None,
        overflow: OverflowPolicy | None = None,
        stride: int | None = None,
    ) -> Encoder:
        """The same with something changed: a target of a length of its own, without preprocessing."""
        return type(self)(
            self.tokenizer,
            steps=self.steps if steps is None else steps,
            max_length=max_length or self.max_length,
            overflow=overflow or self.overflow,
            stride=self.stride if stride is None else stride,
        )

    @cached_property
    def masker(self) -> Masker:
        """What masking needs of the tokenizer.

        Raises:
            RecipeError: it has no mask token.
        """
        return Masker.of(self.tokenizer)

    def texts(
        self,
        first: Sequence[str],
        second: Sequence[str] | None = None,
        *,
        with_places: bool = False,
        with_words: bool = False,
        owners: Ints | None = None,
    ) -> Features:
        """Encode texts, or pairs of texts, as one stream ``input``.

        Args:
            with_places: Also where each token comes from: columns ``part`` (0 or 1, -1 of special tokens), and ``start``
                and ``end`` in characters of that text as it was given.
            with_words: Also the word that each token is of (texts alone): column ``word``, the word's number in its text, -1 of
                special tokens and of those that an earlier window holds too.
            owners: Where an example has several texts, or pairs: ascending without a gap, the example of each. Column
                ``text`` then tells which of them a token is of. An example is too long where one of its texts is.

        Raises:
            InputError: An example is too long and the policy is ``error``; ``position`` says which.
        """
        if with_words:
            return self._tokens.numbered(self.clean(first))
        if not with_places:
            return self._tokens.texts(self.clean(first), None if second is None else self.clean(second), owners=owners)
        texts = [first] if second is None else [first, second]
        return self._tokens.aligned([self._aligned(column) for column in texts])

    def plain_ids(self, texts: Sequence[str]) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.int64]]:
        """Token ids of texts as they are, one text after the other, and how many each has: not cut, without special tokens, and
        special tokens written in a text are ordinary text."""
        return self._tokens.ids(texts, plain=True)

    def template_ids(self, text: str) -> npt.NDArray[np.int32]:
        """Token ids of a text in which special tokens count, without any around it."""
        return self._tokens.ids([text], plain=False)[0]

    def words(self, sentences: Sequence[Sequence[str]]) -> Features:
        """Encode words that are preprocessed already. Column ``words``: at the first token of a word, in the one window
        that answers for it, the word's number inside its example; else -1."""
        return self._tokens.words(sentences)

    def clean(self, texts: Sequence[str]) -> list[str]:
        """Texts after preprocessing."""
        return [text for chunk in chunks(texts, _CHUNK) for text in apply(self.steps, list(chunk))]

    def clean_words(self, sentences: Sequence[Sequence[str]]) -> list[list[str]]:
        """Sentences given as words, each word preprocessed by itself.

        Raises:
            InputError: A step changes which words there are.
        """
        return [words for chunk in chunks(sentences, _CHUNK) for words in apply_words(self.steps, list(chunk))]

    def words_of(self, texts: Sequence[str], splitter: WordSplitter) -> Iterator[list[Word]]:
        """The words of each text, preprocessed and then cut, with their places in the text as it was given: one way for
        training, evaluation, packages and servers."""
        for chunk in chunks(texts, _CHUNK_ALIGNED):
            cleaned = apply_aligned(self.steps, chunk)
            cut = splitter([text.text for text in cleaned])
            for text, words in zip(cleaned, cut, strict=True):
                yield [(word, *text.to_original(start, end)) for word, start, end in words]

    def of_targets(self, *, max_length: int, overflow: OverflowPolicy) -> Encoder:
        """What encodes the texts that a model writes: without preprocessing, by a tokenizer of theirs where the model has one
        (``target_tokenizer``, in training alone)."""
        tokenizer = getattr(self.tokenizer, "target_tokenizer", self.tokenizer)
        return type(self)(tokenizer, max_length=max_length, overflow=overflow)

    def _aligned(self, texts: Sequence[str]) -> list[Aligned]:
        return [text for chunk in chunks(texts, _CHUNK_ALIGNED) for text in apply_aligned(self.steps, chunk)]
