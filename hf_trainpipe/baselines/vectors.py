"""Texts as vectors that a linear model reads: TF-IDF of words and characters, fitted on the training texts alone.

Shapes: N examples, F features of a text; of a pair there are four times as many.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

Columns = Sequence[Sequence[str]]
"""The texts of examples, and of pairs the second texts behind them."""

_ROWS = 20_000
"""Texts that are transformed at a time."""


class Unfit(Exception):
    """A baseline that these data give nothing to learn from; says why."""


@dataclass(kw_only=True)
class TfIdf:
    """Sublinear TF-IDF of words and pairs of words; with ``characters`` also of 2 to 5 characters.

    Of pairs of texts the matching features: the first, the second, their absolute difference, their product.
    """

    characters: bool = False
    min_df: int = 1
    """Training texts that a word is in at least; one alone counts otherwise."""
    ngrams: tuple[int, int] = (1, 2)
    most: int = 500_000
    """Words, and strings of characters, that are kept: the most frequent ones."""
    _fitted: list[Any] = field(default_factory=list, init=False)

    def fit(self, columns: Columns) -> Any:
        """Learn words and their weights; the training texts as :meth:`transform` gives them.

        Raises:
            Unfit: no word is left.
        """
        from scipy.sparse import hstack
        from sklearn.feature_extraction.text import TfidfVectorizer

        options = {"sublinear_tf": True, "dtype": np.float32, "max_features": self.most}
        self._fitted = [TfidfVectorizer(ngram_range=self.ngrams, min_df=self.min_df, **options)]
        if self.characters:
            self._fitted.append(TfidfVectorizer(analyzer="char", ngram_range=(2, 5), min_df=2, **options))
        texts = [text for column in columns for text in column]
        try:
            found = hstack([vectorizer.fit_transform(texts) for vectorizer in self._fitted], format="csr")
        except ValueError as error:  # an empty vocabulary
            raise Unfit("the training texts have no words that a model could learn from") from error
        size = len(columns[0])
        return _matched([found[at : at + size] for at in range(0, len(texts), size)])

    def transform(self, columns: Columns) -> Any:
        """A sparse float32 matrix [N, F], or [N, 4 F] of pairs."""
        from scipy.sparse import hstack, vstack

        def of(texts: Sequence[str]) -> Any:
            return hstack([vectorizer.transform(texts) for vectorizer in self._fitted], format="csr")

        starts = range(0, max(1, len(columns[0])), _ROWS)
        blocks = [_matched([of(column[start : start + _ROWS]) for column in columns]) for start in starts]
        return vstack(blocks, format="csr")


def _matched(sides: Sequence[Any]) -> Any:
    """Sparse :func:`matching`."""
    from scipy.sparse import hstack

    if len(sides) == 1:
        return sides[0]
    first, second = sides
    return hstack([first, second, abs(first - second), first.multiply(second)], format="csr")


def matching(sides: Sequence[Any]) -> Any:
    """float32[N, W] of texts as they are; of pairs of vectors [N, 4 W]: both, their absolute difference, their product."""
    if len(sides) == 1:
        return sides[0]
    first, second = sides
    return np.concatenate([first, second, np.abs(first - second), first * second], axis=1)
