"""Small changes of a text as edits, so that places in the changed text are known in the one that was given.

Each is a function of the text and of draws that belong to (seed, row, name): the same file gives the same changes. A change that
finds nothing to change gives no edits. They are written for English and for scripts with spaces and small letters; others stay as
they are.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Literal, get_args

import numpy as np

from hf_trainpipe.augmentation.letters import KINDS, slip
from hf_trainpipe.runtime.text.edits import Edit

Expectation = Literal["same", "changes", "falls", "rises"]
"""Of the answer: that it stays or becomes another; or of the score of a label, that it does not rise or does not fall."""
EXPECTATIONS: tuple[str, ...] = get_args(Expectation)


@dataclass
class Draws:
    """What is drawn for one row and perturbation."""

    random: np.random.Generator
    names: dict[str, str] = field(default_factory=dict)
    """What stands for names and numbers, so that both texts of a pair, and all places, have the same."""

    @classmethod
    def of(cls, seed: int, row: int, name: str) -> Draws:
        """By seed, row and name alone."""
        key = hashlib.blake2b(f"{seed}/{row}/{name}".encode(), digest_size=16).digest()
        return cls(np.random.Generator(np.random.Philox(key=int.from_bytes(key, "little"))))

    def one_of(self, listed: Sequence[str]) -> str:
        """One of these."""
        return listed[int(self.random.integers(len(listed)))]


@dataclass(frozen=True, kw_only=True)
class Perturbation:
    """A change, and what is expected of the answer."""

    name: str
    about: str
    """What it does, in a few words."""
    edits: Callable[[str, Draws], list[Edit]]
    """Of a text: sorted, without overlaps; empty where there is nothing to change."""
    expect: Expectation = "same"
    label: str | None = None
    """Whose score ``falls`` or ``rises``; None: of the label that was answered before."""
    is_of_last: bool = False
    """Whether only the last text of a pair is changed."""


_WORD = re.compile(r"[^\W\d_]{4,}")
_EVERY = 10


def typos(text: str, draws: Draws) -> list[Edit]:
    """One word of four letters or more in ten, at least one, gets a letter swapped, left out, doubled or hit beside."""
    words = list(_WORD.finditer(text))
    count = min(len(words), max(1, round(len(words) / _EVERY)))
    found = []
    for word in sorted(draws.random.choice(len(words), size=count, replace=False).tolist()) if words else ():
        at = int(draws.random.integers(words[word].start() + 1, words[word].end() - 1))  # the first letter stays
        kind = KINDS[int(draws.random.integers(len(KINDS)))]
        found.append(
            slip(text, at, "doubled" if kind == "swapped" and text[at] == text[at + 1] else kind, draws.random)
        )
    return found


def lower(text: str, draws: Draws) -> list[Edit]:
    """All letters small."""
    return [Edit(at, at + 1, new) for at, one in enumerate(text) if (new := one.lower()) != one]


def upper(text: str, draws: Draws) -> list[Edit]:
    """All letters capital."""
    return [Edit(at, at + 1, new) for at, one in enumerate(text) if (new := one.upper()) != one]


_BLANK = re.compile(r"[ \t]+")


def spaces(text: str, draws: Draws) -> list[Edit]:
    """A space more in one place in three, at least one, and one behind the text."""
    found = list(_BLANK.finditer(text))
    kept = [match for match in found if draws.random.random() < 1 / 3] or found[:1]
    return [
        *(Edit(match.end(), match.end(), " ") for match in kept if match.end() < len(text)),
        Edit(len(text), len(text), " "),
    ]


_LAST_SIGN = re.compile(r"(?<=\S)\s*[.!?…。！？]+(?=\s*$)")


def punctuation(text: str, draws: Draws) -> list[Edit]:
    """The sign at the end goes; where there is none a full stop comes."""
    if (match := _LAST_SIGN.search(text)) is not None:
        return [Edit(*match.span(), "")]
    end = len(text.rstrip())
    return [Edit(end, end, ".")] if end else []


_DIGITS = re.compile(r"\d+")


def numbers(text: str, draws: Draws) -> list[Edit]:
    """Each number becomes another of as many digits, the same everywhere in the row."""

    def other(said: str) -> str:
        while (new := "".join(_digit(draws.random, said[0] if not at else "") for at in range(len(said)))) == said:
            pass
        return new

    return [
        Edit(*match.span(), _instead(match[0], draws, other)) for match in _DIGITS.finditer(text) if match[0].isascii()
    ]


def _digit(drawn: np.random.Generator, first: str) -> str:
    return str(drawn.integers(1 if first and first != "0" else 0, 10))


def names(text: str, draws: Draws) -> list[Edit]:
    """Each first name from a list of usual ones becomes another of it, the same everywhere in the row."""
    found = []
    for match in _NAME.finditer(text):
        known = next(listed for listed in FIRST_NAMES if match[0].title() in listed)

        def other(said: str, known: Sequence[str] = known) -> str:
            new = draws.one_of([name for name in known if name != said.title()])
            return new.upper() if said.isupper() else new

        found.append(Edit(*match.span(), _instead(match[0], draws, other)))
    return found


def _instead(said: str, draws: Draws, other: Callable[[str], str]) -> str:
    if said not in draws.names:
        draws.names[said] = other(said)
    return draws.names[said]


FIRST_NAMES: tuple[tuple[str, ...], ...] = (
    ("Aisha", "Alice", "Amanda", "Amy", "Andrea", "Angela", "Anna", "Anne", "Barbara", "Catherine", "Chloe", "Claire", "Deborah",
     "Diana", "Elena", "Elizabeth", "Emily", "Emma", "Fatima", "Fiona", "Hannah", "Helen", "Ingrid", "Isabella", "Jane", "Jennifer",
     "Jessica", "Julia", "Karen", "Katherine", "Keisha", "Laura", "Linda", "Lisa", "Maria", "Mary", "Mei", "Michelle", "Nadia",
     "Nancy", "Olivia", "Patricia", "Priya", "Rachel", "Rebecca", "Samantha", "Sandra", "Sarah", "Sophia", "Susan", "Yuki", "Zainab"),
    ("Aaron", "Adam", "Ahmed", "Alan", "Alexander", "Andrew", "Anthony", "Arthur", "Benjamin", "Brian", "Carlos", "Charles",
     "Christopher", "Daniel", "David", "Diego", "Edward", "Eric", "Ethan", "George", "Gregory", "Hassan", "Henry", "Hiroshi", "Ivan",
     "James", "Jamal", "Jason", "John", "Joseph", "Joshua", "Kevin", "Kofi", "Kumar", "Luis", "Matthew", "Michael", "Mohammed",
     "Nicholas", "Oliver", "Paul", "Peter", "Richard", "Robert", "Samuel", "Stephen", "Steven", "Thomas", "Timothy", "William"),
)  # fmt: skip
"""Usual first names, women's and men's; without those that are words, such as Grace and Mark."""
_NAME = re.compile(
    rf"\b(?:{'|'.join(form for listed in FIRST_NAMES for name in listed for form in (name, name.upper()))})\b"
)

_AUXILIARY = "am|is|are|was|were|do|does|did|have|has|had|can|could|will|would|should|may|might|must"
_INSERT = re.compile(rf"\b(?:{_AUXILIARY})\b(?!\s*n['’]t\b)(?!\s+(?:not|never)\b)", re.IGNORECASE)
_REMOVE = re.compile(
    rf"\b(?:(?P<irregular>ca|wo)(?P<of>\s?n['’]t)|(?:{_AUXILIARY})(?P<short>\s?n['’]t)|(?:{_AUXILIARY})(?P<long>\s+not))\b",
    re.IGNORECASE,
)  # fmt: skip


def negation(text: str, draws: Draws) -> list[Edit]:
    """The first ``not`` or ``n't`` behind an auxiliary verb goes; where there is none the first auxiliary gets one."""
    if (match := _REMOVE.search(text)) is None:
        found = _INSERT.search(text)
        return [] if found is None else [Edit(found.end(), found.end(), " not")]
    if match["irregular"]:
        whole = {"ca": "can", "wo": "will"}[match["irregular"].lower()]
        kept = match["irregular"]
        new = whole.upper() if kept.isupper() else whole.capitalize() if kept[0].isupper() else whole
        return [Edit(*match.span("irregular"), new), Edit(*match.span("of"), "")]
    return [Edit(*match.span("short" if match["short"] else "long"), "")]


NEGATION = Perturbation(
    name="negation", about="“not” put in, or taken out", edits=negation, expect="falls", is_of_last=True
)
BUILT_IN: tuple[Perturbation, ...] = (
    Perturbation(name="typos", about="a letter wrong in one long word of ten", edits=typos),
    Perturbation(name="lower", about="all letters small", edits=lower),
    Perturbation(name="upper", about="all letters capital", edits=upper),
    Perturbation(name="spaces", about="further spaces, and one at the end", edits=spaces),
    Perturbation(name="punctuation", about="the sign at the end gone, or a full stop there", edits=punctuation),
    Perturbation(name="numbers", about="other numbers of as many digits", edits=numbers),
    Perturbation(name="names", about="other first names", edits=names),
    NEGATION,
)
"""Those that are made without being asked for."""
