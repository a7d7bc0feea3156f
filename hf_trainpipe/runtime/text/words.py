"""Text into words with their places: the units of tagging."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cache

from .pipelines import check_pipeline_name, load_pipeline, pipe

Word = tuple[str, int, int]
"""A word, and the characters ``[start, end)`` of the text that it takes."""

BUILT_IN_SPLITTERS = ("regex", "regex-2", "whitespace")
"""Kinds that need no spaCy. ``regex`` stays as packages were trained with it before there was ``regex-2``."""

_SOLID = re.compile(r"\S+")
_JOINERS = "\u00ad\u200c\u200d"
"""Soft hyphen and the (non-)joiners: written between letters of one word, and alone they are nothing."""
_ZERO_WIDTH = "\u200b\u2060\ufeff"
"""Part words (or nothing) like a space; the same characters as in ``NormalizeSpace``."""
_ASTRAL_MARKS = "\U000e0100-\U000e01ef"
_LAST_LETTER = 0x20000
"""Beyond are ideographs, which are words one by one, and marks."""

# Blocks of scripts that are written without spaces between words, from Blocks.txt of Unicode 15.
_UNSPACED_BLOCKS = (
    (0x0E00, 0x0EFF),  # Thai, Lao
    (0x1000, 0x109F),  # Myanmar
    (0x1780, 0x17FF),  # Khmer
    (0x1950, 0x19DF),  # Tai Le, New Tai Lue
    (0x1A20, 0x1AAF),  # Tai Tham
    (0x1B00, 0x1B7F),  # Balinese
    (0x3005, 0x3007),  # ideographic iteration mark, closing mark and zero
    (0x3021, 0x303C),  # Hangzhou numerals, kana repeat marks
    (0x3040, 0x312F),  # Hiragana, Katakana, Bopomofo
    (0x31A0, 0x31BF),  # Bopomofo
    (0x31F0, 0x31FF),  # Katakana
    (0x3400, 0x4DBF),  # Han
    (0x4E00, 0x9FFF),  # Han
    (0xA000, 0xA48F),  # Yi
    (0xA980, 0xA9DF),  # Javanese
    (0xA9E0, 0xA9FF),  # Myanmar
    (0xAA60, 0xAADF),  # Myanmar, Tai Viet
    (0xF900, 0xFAFF),  # Han
    (0xFF66, 0xFF9D),  # Katakana of half width
    (0x1AFF0, 0x1B16F),  # Kana
    (0x20000, 0x3FFFF),  # Han
)
_VOICED = "\uff9e\uff9f"
"""Voice marks of half width: letters by their category, yet they belong to the sign before them."""


@dataclass(frozen=True)
class WordSplitter:
    """Splits texts into words; white space belongs to none.

    >>> WordSplitter("regex-2")(["It's on."])
    [[('It', 0, 2), ("'", 2, 3), ('s', 3, 4), ('on', 5, 7), ('.', 7, 8)]]
    >>> [word for word, _, _ in WordSplitter("regex-2")(["iPhone15在北京"])[0]]
    ['iPhone15', '在', '北', '京']
    """

    kind: str = "regex-2"
    """``regex-2`` (letters and digits together, each letter of a script without spaces by itself with its marks,
    other signs one by one), ``regex`` (that of earlier packages: a clause of such a script is one word),
    ``whitespace``, ``blank:xx`` or the name of a spaCy pipeline (its tokenizer)."""

    def __post_init__(self) -> None:
        check_pipeline_name(self.kind, "splitter")

    def __call__(self, texts: Sequence[str]) -> list[list[Word]]:
        """The words of each text, in order.

        Raises:
            MissingPipeline: ``kind`` names a pipeline that is not installed.
        """
        if self.kind in _PATTERNS:
            pattern = _PATTERNS[self.kind]()
            return [[(m[0], *m.span()) for m in pattern.finditer(text)] for text in texts]
        docs = pipe(load_pipeline(self.kind, "tokens"), texts)
        return [[(t.text, t.idx, t.idx + len(t)) for t in doc if not t.is_space] for doc in docs]


def newest(kind: str) -> str:
    """The version of a splitter that new runs train with, as a package names it.

    >>> newest("regex"), newest("blank:ja")
    ('regex-2', 'blank:ja')
    """
    return "regex-2" if kind == "regex" else kind


@cache
def _word_pattern() -> re.Pattern[str]:
    """Letters and digits with the marks that follow them; else any one sign.

    ``\\w`` alone would cut words of many scripts (Devanagari, decomposed accents) at their marks.
    """
    marks = _as_class(code for code in range(0x300, _LAST_LETTER) if _is_mark(code))
    return re.compile(rf"[\w{marks}]+|[^\w\s]")


@cache
def _unspaced_pattern() -> re.Pattern[str]:
    """As :func:`_word_pattern`, where a letter of a script without spaces is a word with the marks that follow it.

    Digits of such scripts make numbers. A joiner between letters is part of their word.
    """
    alone: list[int] = []
    letters: list[int] = []
    marks: list[int] = []
    blocks = [code for low, high in _UNSPACED_BLOCKS for code in range(low, min(high + 1, _LAST_LETTER))]
    unspaced = frozenset(blocks)
    for code in range(_LAST_LETTER):
        if code >= 0x300 and _is_mark(code):
            marks.append(code)
        elif code in unspaced and (unicodedata.category(chr(code)) in ("Lo", "Lm", "Nl")):
            alone.append(code)
        elif chr(code).isalnum() or chr(code) == "_":
            letters.append(code)
    with_marks = f"[{_as_class(marks)}{_VOICED}{_ASTRAL_MARKS}]*"
    word = f"[{_as_class(letters)}{_as_class(marks)}{_ASTRAL_MARKS}]+"
    one = f"[{_as_class(alone)}{chr(_LAST_LETTER)}-\U0003ffff]{with_marks}"
    return re.compile(rf"{word}(?:[{_JOINERS}]+{word})*+|{one}|[^\s{_ZERO_WIDTH}{_JOINERS}]{with_marks}")


_PATTERNS: dict[str, Callable[[], re.Pattern[str]]] = {
    "regex": _word_pattern,
    "regex-2": _unspaced_pattern,
    "whitespace": lambda: _SOLID,
}


def _is_mark(code: int) -> bool:
    return unicodedata.category(chr(code)).startswith("M")


def _as_class(codes: Iterable[int]) -> str:
    """Ascending code points as the inside of a character class."""
    ranges: list[list[int]] = []
    for code in codes:
        if ranges and ranges[-1][1] == code - 1:
            ranges[-1][1] = code
        else:
            ranges.append([code, code])
    return "".join(f"{re.escape(chr(low))}-{re.escape(chr(high))}" for low, high in ranges)
