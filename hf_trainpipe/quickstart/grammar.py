"""A grammar of support messages, with typing errors.

Templates are strings: ``{a|b|}`` chooses one alternative (they nest), ``<slot>`` is filled from the words of
the split (wordings.json, written for this project; any likeness to real customers is chance). Every choice comes from
the ``random.Random`` that is passed in.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from importlib import resources
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from random import Random


@dataclass(frozen=True, kw_only=True)
class Intent:
    """Wordings of one intent in one split."""

    cores: Sequence[str]
    """Whole messages."""
    wishes: Sequence[str]
    """Verb phrases that follow "I want to"; another intent's follow "I don't want to"."""
    shorts: Sequence[str]
    """A few words, as in a subject line."""
    sides: Sequence[str]
    """Remarks that touch this intent while the message is about another one."""


@dataclass(frozen=True, kw_only=True)
class Wording:
    """Wordings of one split. Splits share no core, wish, short, side or frame."""

    intents: Mapping[str, Intent]
    slots: Mapping[str, Sequence[str]]
    greetings: Sequence[str]
    contexts: Sequence[str]
    closings: Sequence[str]
    asks: Sequence[str]
    """Frames around ``<wish>``."""
    contrasts: Sequence[str]
    """Frames around ``<other>``, which is not wanted, and ``<wish>``, which is."""
    dismissals: Sequence[str]
    """Frames around ``<other>``, which is not wanted, before or after ``<core>``."""
    doubles: Sequence[str]
    """Frames around ``<core>``, what the message is about, and ``<side>``, which can wait."""


def read_wordings() -> dict[str, Wording]:
    """Split to its wordings."""
    text = resources.files(__package__).joinpath("wordings.json").read_text("utf-8")
    return {
        split: Wording(**{**said, "intents": {name: Intent(**parts) for name, parts in said["intents"].items()}})
        for split, said in json.loads(text).items()
    }


_ALTERNATIVES = re.compile(r"\{([^{}]*)\}")
_SLOT = re.compile(r"<(\w+)>")


def expand(template: str, rng: Random, slots: Mapping[str, Sequence[str]]) -> str:
    """Choose alternatives from the inside out, then fill slots.

    >>> from random import Random
    >>> expand("{my|the} <item> is {late|not here {yet|so far}}", Random(1), {"item": ("kettle", "lamp")})
    'my lamp is late'
    """
    while "{" in template or "<" in template:
        before = template
        template = _ALTERNATIVES.sub(lambda match: rng.choice(match[1].split("|")), template)
        template = _SLOT.sub(lambda match: rng.choice(slots[match[1]]), template, count=1)
        assert template != before, f"unbalanced template: {template!r}"
    return template


_KINDS = {"plain": 42, "asks": 17, "contrasts": 12, "dismissals": 8, "doubles": 14, "short": 7}
"""How often each kind of message is written: most are named after the frames that they are put into."""


def compose(intent: str, wording: Wording, rng: Random) -> str:
    """One message whose main intent is ``intent``, before misspelling."""
    own = wording.intents[intent]
    other = wording.intents[rng.choice([name for name in wording.intents if name != intent])]
    kind = rng.choices(list(_KINDS), weights=list(_KINDS.values()))[0]
    if kind == "short":
        return expand(rng.choice(own.shorts), rng, wording.slots)
    frames = ("<core>",) if kind == "plain" else getattr(wording, kind)
    slots = {
        **wording.slots,
        "item": (rng.choice(wording.slots["item"]),),  # a message is about one thing
        "order": (rng.choice(wording.slots["order"]),),
        "core": own.cores,
        "wish": own.wishes,
        "other": other.wishes,
        "side": other.sides,
    }
    parts = [rng.choice(frames)]
    if rng.random() < 0.2:
        parts.insert(0, rng.choice(wording.contexts))
    if rng.random() < 0.4:
        parts.append(rng.choice(wording.closings))
    text = _sentences(expand(" ".join(parts), rng, slots))
    if rng.random() < 0.4:
        greeting = rng.choice(wording.greetings)
        if greeting.endswith(",") and re.match(r"(?!I\b)[A-Z][a-z]*\b", text):
            text = text[0].lower() + text[1:]
        text = f"{greeting} {text}"
    return text


def _sentences(text: str) -> str:
    """One space between words, none before a comma, a capital after a full stop, "an" before a vowel."""
    text = re.sub(r"\s+", " ", text).strip()
    text = re.sub(r"\s+([,.?!])", r"\1", text)
    text = re.sub(r"\b([Aa]) (?=[aeio])", r"\1n ", text)
    return re.sub(r"(^|[.?!:] )([a-z])", lambda match: match[1] + match[2].upper(), text)


_KEYBOARD = ("qwertyuiop", "asdfghjkl", "zxcvbnm")
_NEIGHBOURS = {  # of each letter, those left and right of it
    letter: row[max(at - 1, 0) : at] + row[at + 1 : at + 2] for row in _KEYBOARD for at, letter in enumerate(row)
}
_HABITS = (
    (r"\bplease\b", ("pls", "plz", "please")),
    (r"\byou\b", ("u", "you")),
    (r"\byour\b", ("ur", "your")),
    (r"\bbecause\b", ("cos", "bc")),
    (r"\bthanks\b", ("thx", "thanks", "tnx")),
    (r"\bthough\b", ("tho", "though")),
    (r"\breceive(d?)\b", (r"recieve\1",)),
    (r"\bdefinitely\b", ("definately",)),
    (r"\baddress\b", ("adress", "addres")),
    (r"\bsomething\b", ("smth", "somthing")),
    (r"\bwith\b", ("w/", "with")),
)


def mistype(text: str, rng: Random) -> str:
    """The message with typing errors: few in most messages, more in some.

    One in two keeps the text as it is; others drop capitals, apostrophes or the last full stop,
    abbreviate, or make up to two slips (a swapped, missing, doubled or neighbouring letter).
    """
    if rng.random() < 0.5:
        return text
    if rng.random() < 0.5:
        text = text.lower()
    if rng.random() < 0.4:
        text = text.replace("'", "")
    if rng.random() < 0.4:
        text = text.rstrip(".")
    if rng.random() < 0.3:
        for pattern, choices in _HABITS:
            text = re.sub(pattern, rng.choice(choices), text)
    for _ in range(rng.choice((0, 1, 1, 2))):
        text = _slip(text, rng)
    return text


def _slip(text: str, rng: Random) -> str:
    words = list(re.finditer(r"[A-Za-z]{4,}", text))
    if not words:
        return text
    word = rng.choice(words)
    at = rng.randrange(word.start() + 1, word.end() - 1)  # first and last letters are rarely wrong
    letter = text[at]
    slip = rng.choice(("swap", "drop", "double", "neighbour"))
    slips = {"swap": text[at + 1] + letter, "drop": "", "double": letter + letter}
    written = slips[slip] if slip in slips else rng.choice(_NEIGHBOURS.get(letter.lower(), letter))
    return text[:at] + written + text[at + (2 if slip == "swap" else 1) :]
