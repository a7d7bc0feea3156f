"""An input with edits, in each of its forms, and the way back: which place of the given input a place of the changed one is.

Gold labels go the other way: character spans and tags of words are put where they belong in the changed input.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np

from hf_trainpipe.behaviour.perturbations import Draws, Perturbation
from hf_trainpipe.runtime.text.edits import Aligned, Edit, apply_edits

Place = tuple[int, int]
_SOLID = re.compile(r"\S+")
_SIGNS = re.compile(r"[^\w\s]+")


@dataclass(frozen=True, eq=False)
class Perturbed:
    """A changed input."""

    given: Any
    """As a client sends it."""
    text: Aligned | None = None
    """Of an input that is one text."""
    owners: tuple[int, ...] | None = None
    """Of an input that comes as words: of each word the number of the given word that it is of."""
    put_in: frozenset[int] = frozenset()
    """Of these words the ones that were put in."""

    def back(self, start: int, end: int) -> Place | None:
        """The place in the given input: characters of a text, or numbers of words; None of what was put in."""
        if self.owners is not None:
            kept = [self.owners[word] for word in range(start, end) if word not in self.put_in]
            return (kept[0], kept[-1] + 1) if kept else None
        place = (start, end) if self.text is None else self.text.to_original(start, end)
        return place if place[0] < place[1] else None

    def forth(self, start: int, end: int) -> Place | None:
        """Where a stretch of the given input is now; None where nothing is left of it."""
        if self.owners is not None:
            words = [word for word, owner in enumerate(self.owners) if start <= owner < end and word not in self.put_in]
            return (words[0], words[-1] + 1) if words else None
        return (start, end) if self.text is None else self.text.from_original(start, end)

    def tags(self, given: Sequence[Any], *, inside: Mapping[Any, Any] | None = None, outside: Any = None) -> list[Any]:
        """A tag for each word, of those of the given words.

        Args:
            inside: What the tag of a word's further parts is, where it differs: ``{"B-PER": "I-PER"}``.
            outside: The tag of words that were put in; None: that of the word before.
        """
        owners = tuple(range(len(given))) if self.owners is None else self.owners
        found = []
        for word, (last, owner) in enumerate(pairwise((-1, *owners))):
            if word in self.put_in and outside is not None:
                found.append(outside)
            else:
                found.append((inside or {}).get(given[owner], given[owner]) if owner == last else given[owner])
        return found


def perturbed(given: Any, perturbation: Perturbation, draws: Draws) -> Perturbed | None:
    """An input as a perturbation changes it; None where it finds nothing to change.

    Args:
        given: A text, ``{"words": [...]}``, or texts by role.
    """
    if isinstance(given, str):
        edits = perturbation.edits(given, draws)
        changed = Aligned(given).edited(edits)
        return None if changed.text == given or not changed.text.strip() else Perturbed(changed.text, text=changed)
    if not isinstance(given, dict):
        return None
    if isinstance(given.get("words"), list):
        return _words(given["words"], perturbation, draws)
    if set(given) == {"text"} and isinstance(given["text"], str):
        found = perturbed(given["text"], perturbation, draws)
        return None if found is None else Perturbed({"text": found.given}, text=found.text)
    roles = [role for role, value in given.items() if isinstance(value, str)]
    new = dict(given)
    for role in roles[-1:] if perturbation.is_of_last else roles:
        text = apply_edits(given[role], perturbation.edits(given[role], draws))
        new[role] = text if text.strip() else given[role]
    return None if new == given else Perturbed(new)


def _words(words: Sequence[str], perturbation: Perturbation, draws: Draws) -> Perturbed | None:
    """The words joined by spaces, changed, and parted again; a new word belongs to the one before it.

    A sign that is put behind a word is a word of its own.
    """
    if not all(_SOLID.fullmatch(word) for word in words):
        return None
    text = " ".join(words)
    starts = np.cumsum([0, *(len(word) + 1 for word in words)])
    ends = set((starts[1:] - 1).tolist())
    edits = [
        Edit(edit.start, edit.end, f" {edit.text}")
        if edit.start == edit.end and edit.end in ends and _SIGNS.fullmatch(edit.text)
        else edit
        for edit in perturbation.edits(text, draws)
    ]
    changed = Aligned(text).edited(edits)
    parts = list(_SOLID.finditer(changed.text))
    found = [part[0] for part in parts]
    if not found or found == list(words):
        return None
    places = np.array([changed.to_original(*part.span()) for part in parts])
    owners = np.searchsorted(starts[:-1], places[:, 0], side="right") - 1
    put_in = np.flatnonzero(places[:, 0] == places[:, 1])
    return Perturbed({"words": found}, owners=tuple(owners.tolist()), put_in=frozenset(put_in.tolist()))
