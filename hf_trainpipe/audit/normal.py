"""Normal forms of texts: equal for texts that a person would call the same."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence

PARTS = "\x1e"
"""Between the texts of a row."""
TOKENS = "\x1f"
"""Between the words of a text that comes as words."""
_OTHER = re.compile(r"[^a-z0-9]+")
_SIGNS = (0, 7, 9)
"""Canonical combining classes of the vowel signs, nuktas and viramas of Indic scripts, without which words become others."""


def normal(text: str) -> str:
    """NFKC, case folded, only letters and digits; a text of which nothing is left keeps its raw form.

    >>> normal("It's  GOOD!"), normal("ﬁne №5"), normal(":)")
    ('itsgood', 'fineno5', ':)')
    """
    if text.isascii():
        return _OTHER.sub("", text.lower()) or text
    folded = unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", text).casefold())
    kept: list[str] = []
    for character in folded:
        if character.isalnum() or (kept and _is_sign(character)):
            kept.append(character)
    return "".join(kept) or text


def normal_words(words: Sequence[str]) -> str:
    """The same of words that have tags: NFKC and case folded, and still as many words."""
    return TOKENS.join(unicodedata.normalize("NFKC", word).casefold() for word in words)


def _is_sign(character: str) -> bool:
    is_mark = unicodedata.category(character) in ("Mn", "Mc")
    return is_mark and unicodedata.combining(character) in _SIGNS and not "\ufe00" <= character <= "\ufe0f"
