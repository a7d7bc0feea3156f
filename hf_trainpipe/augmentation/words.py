"""Words left out, swapped, or replaced by others that mean the same (Wei and Zou 2019, arXiv 1901.11196)."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import ClassVar

import numpy as np

from hf_trainpipe.augmentation.wordnet import Synonyms as _Found
from hf_trainpipe.augmentation.wordnet import files
from hf_trainpipe.recipe.interfaces import Augmentation, Changes
from hf_trainpipe.recipe.settings import check_share, refused
from hf_trainpipe.runtime.text.edits import Edit, without

WORD = re.compile(r"[^\W_]+(?:['’][^\W_]+)*")


def chosen(text: str, draws: np.random.Generator, share: float) -> list[re.Match[str]]:
    """Words of a text, each taken with probability ``share``."""
    words = list(WORD.finditer(text))
    return [word for word, draw in zip(words, draws.random(len(words)), strict=True) if draw < share]


@dataclass(frozen=True, kw_only=True)
class WordDropout(Augmentation):
    """Leave words out; one at least stays."""

    changes: ClassVar[Changes] = "text"
    share: float = 0.1
    """The probability of each word, in (0, 1)."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check_share("WordDropout.share", self.share)

    def edits(self, text: str, draws: np.random.Generator) -> list[Edit]:
        words = list(WORD.finditer(text))
        goes = draws.random(len(words)) < self.share
        if len(words) and goes.all():
            goes[draws.integers(len(words))] = False
        return without(text, [word.span() for word, does in zip(words, goes, strict=True) if does])


@dataclass(frozen=True, kw_only=True)
class WordSwap(Augmentation):
    """Swap words with their right neighbours."""

    changes: ClassVar[Changes] = "text"
    share: float = 0.1
    """The probability of each word, in (0, 1)."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check_share("WordSwap.share", self.share)

    def edits(self, text: str, draws: np.random.Generator) -> list[Edit]:
        words = list(WORD.finditer(text))
        swaps = draws.random(len(words)) < self.share
        found: list[Edit] = []
        at = 0
        while at + 1 < len(words):
            if swaps[at]:
                left, right = words[at], words[at + 1]
                found += [Edit(*left.span(), right[0]), Edit(*right.span(), left[0])]
                at += 1
            at += 1
        return found


@dataclass(frozen=True, kw_only=True)
class SynonymReplacement(Augmentation):
    """Replace words by others that mean the same, from a table: ``{"film": ("movie", "picture")}``."""

    changes: ClassVar[Changes] = "words"
    table: Mapping[str, tuple[str, ...]]
    """Words in small letters, and what may stand for each."""
    share: float = 0.2
    """The probability of each word that the table has, in (0, 1]."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check_share("SynonymReplacement.share", self.share, closed=True)
        for word, others in self.table.items():
            if word != word.lower() or not WORD.fullmatch(word) or not isinstance(others, tuple) or not others:
                fix = 'Write words in small letters, each with a tuple: {"film": ("movie", "picture")}.'
                raise refused("SynonymReplacement.table", "a word and a tuple of others", (word, others), fix)

    def edits(self, text: str, draws: np.random.Generator) -> list[Edit]:
        return _replaced(text, draws, self.share, lambda word: self.table.get(word, ()))


@dataclass(frozen=True, kw_only=True)
class WordNetReplacement(Augmentation):
    """Replace English words by others of their most frequent meaning in WordNet (NLTK's data ``wordnet``; needs
    ``hf-trainpipe[nltk]``)."""

    changes: ClassVar[Changes] = "words"
    share: float = 0.1
    """The probability of each word that WordNet has others for, in (0, 1]."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check_share("WordNetReplacement.share", self.share, closed=True)

    @cached_property
    def _synonyms(self) -> _Found:
        return _Found(self.data_files())

    def data_files(self) -> dict[str, bytes]:
        return files(type(self).__name__)

    def edits(self, text: str, draws: np.random.Generator) -> list[Edit]:
        return _replaced(text, draws, self.share, self._synonyms.of)


def _replaced(
    text: str, draws: np.random.Generator, share: float, others: Callable[[str], Sequence[str]]
) -> list[Edit]:
    found = []
    for word in chosen(text, draws, share):
        if known := others(word[0].lower()):
            new = known[int(draws.integers(len(known)))]
            found.append(Edit(*word.span(), new[:1].upper() + new[1:] if word[0][0].isupper() else new))
    return found
