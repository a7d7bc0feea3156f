"""Texts into the words that a tagger reads: one way for training, evaluation, packages and servers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from .preprocessing import apply_aligned
from .words import Word, WordSplitter

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from .edits import Aligned
    from .preprocessor import Preprocessor


@dataclass(frozen=True)
class Sentence:
    """A text after preprocessing, cut into words, which knows the way to the text as it was given."""

    cleaned: Aligned
    words: Sequence[Word]
    """Words of the cleaned text, with their places in it."""

    @property
    def read(self) -> list[str]:
        """The words as the model reads them."""
        return [word for word, _, _ in self.words]

    @property
    def places(self) -> list[Word]:
        """The words with their places in the text as it was given."""
        return [(word, *self.cleaned.to_original(start, end)) for word, start, end in self.words]

    def place(self, first: int, after: int) -> tuple[int, int]:
        """The characters of the text as it was given that the words ``[first, after)`` came from."""
        return self.cleaned.to_original(self.words[first][1], self.words[after - 1][2])


def sentences_of(texts: Sequence[str], *, steps: Iterable[Preprocessor] = (), splitter: WordSplitter) -> list[Sentence]:
    """Preprocess texts and cut what comes out into words, in this order.

    >>> from .preprocessing import StripHtml
    >>> one, = sentences_of(["<b>Anna</b>'s"], steps=(StripHtml(),), splitter=WordSplitter("whitespace"))
    >>> one.read, one.places
    (["Anna's"], [("Anna's", 3, 13)])
    """
    cleaned = apply_aligned(steps, texts)
    cut = splitter([item.text for item in cleaned])
    return [Sentence(item, words) for item, words in zip(cleaned, cut, strict=True)]
