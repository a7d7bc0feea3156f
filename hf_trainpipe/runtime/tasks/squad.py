"""Scores of an answer by the official script of SQuAD 2.0."""

from __future__ import annotations

import re
import string
from collections import Counter
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

_ARTICLES = re.compile(r"\b(a|an|the)\b", re.UNICODE)
_PUNCTUATION = frozenset(string.punctuation)


def _normalized(text: str) -> str:
    """SQuAD's: lower case, without punctuation, articles and further space."""
    kept = "".join(character for character in text.lower() if character not in _PUNCTUATION)
    return " ".join(_ARTICLES.sub(" ", kept).split())


def squad_scores(answer: str, gold: Sequence[str]) -> tuple[float, float]:
    """Exact match and F1 of an answer by the official script of SQuAD 2.0: the best over what is right.

    No gold answer: the empty one is right. Gold answers of which nothing is left by the normalising are left out.
    """
    right = [text for text in gold if _normalized(text)] or [""]
    words, found = _normalized(answer), _normalized(answer).split()
    exact, f1 = 0.0, 0.0
    for text in right:
        expected = _normalized(text).split()
        exact = max(exact, float(words == _normalized(text)))
        if not found or not expected:
            f1 = max(f1, float(found == expected))
            continue
        same = sum((Counter(found) & Counter(expected)).values())
        f1 = max(f1, 2 * same / (len(found) + len(expected)))
    return exact, f1
