"""Baselines of tagging: the most frequent tag of each word, and a linear model of words, their shapes and their neighbours.

Shapes: W words of all examples, C tags, F columns.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hf_trainpipe.baselines.vectors import Unfit

Ints = NDArray[np.int64]
EPOCHS = 8
_REACH = 2
"""Neighbours on each side that a word is told by."""
_OUTSIDE = "\x00"
"""In place of a word before the first or behind the last."""


@dataclass(frozen=True, kw_only=True)
class Sentences:
    """The words of examples."""

    words: Sequence[str]
    """[W]"""
    starts: Ints
    """[N + 1] where the words of each example begin, and the end."""


def most_frequent(train: Sentences, tags: NDArray[Any], *, num_labels: int) -> Callable[[Sentences], Ints]:
    """The tag that a word has most often in training, else that it has in lower case; of an unknown word the most frequent tag of
    words that are there once. Words with a tag below 0 teach nothing.

    Raises:
        Unfit: no word is tagged.
    """
    known = np.flatnonzero(tags >= 0)
    if not len(known):
        raise Unfit("no word has a tag")
    tables: list[dict[str, int]] = []
    once: Ints = tags[known]
    for spelt in (str, str.lower):
        numbers: dict[str, int] = {}
        place = np.array(
            [numbers.setdefault(spelt(train.words[at]), len(numbers)) for at in known.tolist()], dtype=np.int64
        )
        counts = np.zeros((len(numbers), num_labels), dtype=np.int64)
        np.add.at(counts, (place, tags[known]), 1)
        best = counts.argmax(axis=1)
        tables.append({word: int(best[number]) for word, number in numbers.items()})
        if spelt is str and (alone := counts.sum(axis=1) == 1).any():
            once = counts[alone].argmax(axis=1)
    usual = int(np.bincount(once, minlength=num_labels).argmax())
    exact, lower = tables

    def answer(asked: Sentences) -> Ints:
        return np.array([exact.get(w, lower.get(w.lower(), usual)) for w in asked.words], dtype=np.int64)

    return answer


def linear(train: Sentences, tags: NDArray[Any], *, num_labels: int) -> Callable[[Sentences], Ints]:
    """Averaged stochastic gradient descent over sparse 0/1 features; each word by itself.

    Raises:
        Unfit: fewer than two tags.
    """
    from sklearn.linear_model import SGDClassifier

    known = np.flatnonzero(tags >= 0)
    if len(np.unique(tags[known])) < 2:
        raise Unfit("all training words have the same tag")
    columns = _Columns()
    features = columns.fit(train)[known]
    model = SGDClassifier(
        loss="log_loss", alpha=1e-6, average=True, max_iter=EPOCHS, tol=None, random_state=0
    ).fit(features, tags[known])  # fmt: skip

    def answer(asked: Sentences) -> Ints:
        found: Ints = model.predict(columns.transform(asked)).astype(np.int64)
        return found

    return answer


def shape(word: str) -> str:
    """What a word looks like: runs of capitals, small letters and digits as one sign each.

    >>> shape("McDonald's"), shape("2026-11"), shape("iPhone15")
    ("XxXx'x", '0-0', 'xXx0')
    """
    signs: list[str] = []
    for letter in word:
        sign = "X" if letter.isupper() else "x" if letter.isalpha() else "0" if letter.isdigit() else letter
        if not signs or signs[-1] != sign:
            signs.append(sign)
    return "".join(signs)


def _own(word: str) -> dict[str, str]:
    """What a word is told by, apart from its neighbours."""
    low = word.lower()
    ends = {f"-{size}": low[-size:] for size in (1, 2, 3, 4)}
    begins = {f"{size}-": low[:size] for size in (1, 2, 3)}
    return {"word": word, "low": low, "shape": shape(word), **ends, **begins}


_OWN = tuple(_own("a"))
_OF_NEIGHBOURS = ("low", "shape", "-3")


class _Columns:
    """Features of words as columns of a 0/1 matrix: what a training word showed has a column, anything else has none."""

    def __init__(self) -> None:
        self._numbers: dict[tuple[str, int, str], int] = {}

    def fit(self, sentences: Sentences) -> Any:
        """Give columns to what is there; the matrix [W, F]."""
        return self._matrix(sentences, grow=True)

    def transform(self, sentences: Sentences) -> Any:
        """[W, F]"""
        return self._matrix(sentences, grow=False)

    def _matrix(self, sentences: Sentences, *, grow: bool) -> Any:
        from scipy.sparse import csr_matrix

        ids: dict[str, int] = {_OUTSIDE: 0}
        flat = np.fromiter(
            (ids.setdefault(word, len(ids)) for word in sentences.words), dtype=np.int64, count=len(sentences.words)
        )
        told = [_own(word) for word in ids]
        size = len(flat)
        example = np.repeat(np.arange(len(sentences.starts) - 1), np.diff(sentences.starts))
        found: list[Ints] = []
        for offset in range(-_REACH, _REACH + 1):
            at = np.arange(size) + offset
            inside = (at >= 0) & (at < size)
            inside[inside] = example[at[inside]] == example[inside]
            neighbour = np.where(inside, flat[np.clip(at, 0, max(size - 1, 0))], 0)
            for name in _OWN if offset == 0 else _OF_NEIGHBOURS:
                column = np.array([self._number((name, offset, one[name]), grow) for one in told], dtype=np.int64)
                found.append(column[neighbour])
        columns = np.stack(found, axis=1) if size else np.zeros((0, len(found)), dtype=np.int64)
        there = columns >= 0
        starts = np.concatenate([[0], np.cumsum(there.sum(axis=1))])
        values = np.ones(int(there.sum()), dtype=np.float32)
        return csr_matrix((values, columns[there], starts), shape=(size, len(self._numbers)))

    def _number(self, told: tuple[str, int, str], grow: bool) -> int:
        if grow:
            return self._numbers.setdefault(told, len(self._numbers))
        return self._numbers.get(told, -1)
