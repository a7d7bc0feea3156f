"""Slips of the keyboard."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal, get_args

import numpy as np

from hf_trainpipe.augmentation.words import chosen
from hf_trainpipe.recipe.interfaces import Augmentation, Changes
from hf_trainpipe.recipe.settings import check_share, refused
from hf_trainpipe.runtime.text.edits import Edit

_Kind = Literal["swapped", "left out", "doubled", "neighbour"]
KINDS: tuple[_Kind, ...] = get_args(_Kind)
_ROWS = ("qwertyuiop", "asdfghjkl", "zxcvbnm")
_SHORTEST = 4
"""Letters of a word that may get a slip: shorter ones become other words."""


def _neighbours() -> dict[str, str]:
    found: dict[str, str] = {}
    for row in _ROWS:
        for at, letter in enumerate(row):
            found[letter] = row[max(0, at - 1) : at] + row[at + 1 : at + 2]
    return found


_BESIDE = _neighbours()


@dataclass(frozen=True, kw_only=True)
class Typos(Augmentation):
    """One slip of the keyboard in some words of four letters or more; the first letter stays."""

    changes: ClassVar[Changes] = "words"
    share: float = 0.05
    """The probability of each word, in (0, 1]."""
    kinds: tuple[_Kind, ...] = ("swapped", "left out", "doubled", "neighbour")
    """Letters swapped with the next one, left out, written twice, or exchanged for a neighbour on an English keyboard."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check_share("Typos.share", self.share, closed=True)
        if not self.kinds or any(kind not in KINDS for kind in self.kinds):
            known = ", ".join(map(repr, KINDS))
            raise refused("Typos.kinds", f"some of {known}", self.kinds, "Choose among them.")

    def edits(self, text: str, draws: np.random.Generator) -> list[Edit]:
        found = []
        for word in chosen(text, draws, self.share):
            inside = [
                at for at in range(word.start() + 1, word.end() - 1) if text[at].isalpha() and text[at + 1].isalpha()
            ]
            if len(word[0]) >= _SHORTEST and inside:
                kind = self.kinds[int(draws.integers(len(self.kinds)))]
                found.append(slip(text, inside[int(draws.integers(len(inside)))], kind, draws))
        return found


def slip(text: str, at: int, kind: _Kind, draws: np.random.Generator) -> Edit:
    """A slip at a letter, which has another one behind it."""
    letter = text[at]
    if kind == "swapped":
        return Edit(at, at + 2, text[at + 1] + letter)
    if kind == "left out":
        return Edit(at, at + 1, "")
    if kind == "neighbour" and (beside := _BESIDE.get(letter.lower())):
        new = beside[int(draws.integers(len(beside)))]
        return Edit(at, at + 1, new.upper() if letter.isupper() else new)
    return Edit(at, at + 1, letter * 2)
