"""Preprocessing steps that need nothing but the standard library."""

from __future__ import annotations

import html
import itertools
import re
import unicodedata
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from typing import ClassVar, Literal

from ..bounds import check_characters
from ..errors import InputError
from .edits import Edit
from .preprocessor import Preprocessor

_Form = Literal["NFC", "NFD", "NFKC", "NFKD"]
_LONG_RUN = 32
_PIECE = 1024
"""Characters that are normalised at a time."""
_BLANKS = re.compile(r"[\s\u200b\u2060\ufeff]+")
_ZERO_WIDTH = re.compile(r"[\u200b\u2060\ufeff]")

# No alternative backs up, or reads past the next start of its own kind: hostile text costs linear time.
_HTML = re.compile(
    r"<!--(?:[^<-]|-(?!->)|<(?!!--))*+-->"
    r"|<(?P<dead>script|style)\b[^<>]*+>(?:[^<]|<(?!/?(?:script|style)\b))*+</(?P=dead)\s*+>"
    r"|<!doctype[^<>]*+>"
    r"|</?(?P<tag>[a-z][a-z0-9:-]*+)(?:[\s/](?:[^<>\"']|\"[^\"<]*\"|'[^'<]*')*+)?>"
    r"|(?P<entity>&(?:#[0-9]{1,7}|#x[0-9a-f]{1,6}|[a-z][a-z0-9]{1,31});)",
    re.IGNORECASE | re.DOTALL,
)
_INLINE_TAGS = frozenset(
    re.findall(
        r"\w+",
        "a abbr acronym b bdi bdo big cite code data del dfn em font i ins kbd label mark nobr q s samp "
        "small span strike strong sub sup time tt u var wbr",
    )
)
_URL = re.compile(r"(?:\b(?:https?|ftp)://|\bwww\.)[^\s<>\"]*[^\s<>\"'`.,;:!?)\]}»”’…]", re.IGNORECASE)


def _replaced(pattern: re.Pattern[str], text: str, new: Callable[[re.Match[str]], str]) -> list[Edit]:
    """Edits that put ``new`` of each match in its place, where it differs."""
    return [Edit(*match.span(), put) for match in pattern.finditer(text) if (put := new(match)) != match[0]]


@dataclass(frozen=True)
class NormalizeSpace(Preprocessor):
    """Runs of white space become one space; both ends are trimmed; zero-width characters go."""

    word_safe: ClassVar[bool] = True

    def edits(self, texts: Sequence[str]) -> Iterator[list[Edit]]:
        for text in texts:
            yield _replaced(_BLANKS, text, _space_of)

    def transform(self, texts: Sequence[str]) -> list[str]:
        return [" ".join((_ZERO_WIDTH.sub("", t) if not t.isascii() else t).split()) for t in texts]


def _space_of(match: re.Match[str]) -> str:
    is_inside = match.start() > 0 and match.end() < len(match.string)
    return " " if is_inside and match[0].strip("\u200b\u2060\ufeff") else ""


@dataclass(frozen=True)
class NormalizeUnicode(Preprocessor):
    """One of Unicode's four normal forms (UAX 15), aligned cluster by cluster."""

    word_safe: ClassVar[bool] = True
    form: Literal["NFC", "NFD", "NFKC", "NFKD"] = "NFKC"
    """The normal form: ``NFKC`` also replaces compatibility characters such as ligatures and full-width letters."""

    def __post_init__(self) -> None:
        forms = ("NFC", "NFD", "NFKC", "NFKD")
        if self.form not in forms:
            raise InputError(
                f"NormalizeUnicode.form: expected one of {', '.join(forms)}, found {self.form!r}.",
                fix="Choose one of them.",
            )

    def edits(self, texts: Sequence[str]) -> Iterator[list[Edit]]:
        for text in texts:
            yield [] if (whole := _normal(self.form, text)) == text else self._clusters(text, whole)

    def _clusters(self, text: str, whole: str) -> list[Edit]:
        cuts = [0, *(i for i in range(1, len(text)) if _starts_cluster(text[i])), len(text)]
        found: list[Edit] = []
        pieces: list[str] = []
        for start, end in itertools.pairwise(cuts):
            new = _normal(self.form, text[start:end])
            pieces.append(new)
            if new != text[start:end]:
                found.append(Edit(start, end, new))
        # Should clusters ever interact in a way not known here, correct text comes before fine alignment.
        return found if "".join(pieces) == whole else [Edit(0, len(text), whole)]

    def transform(self, texts: Sequence[str]) -> list[str]:
        return [_normal(self.form, text) for text in texts]


def _normal(form: _Form, text: str) -> str:
    """The normal form, in time that grows with the text alone, and never long without letting other threads run.

    Python sorts a run of combining marks by insertion: 40,000 of them take 10 s, in which nothing else runs. Sorted
    before, they are a run already; their order is that of Unicode's canonical ordering, which is stable.
    """
    if len(text) <= _PIECE or text.isascii():
        return unicodedata.normalize(form, text)
    pieces: list[str] = []
    start = 0
    while start < len(text):
        end = start + _PIECE
        while end < len(text) and not _starts_cluster(text[end]):
            end += 1
        piece = text[start:end]
        if len(piece) > 2 * _PIECE:  # it goes on and on without a character that starts anew
            piece = _runs().sub(lambda run: "".join(sorted(run[0], key=unicodedata.combining)), piece)
        pieces.append(unicodedata.normalize(form, piece))
        check_characters(pieces)
        start = end
    return "".join(pieces)


@cache
def _runs() -> re.Pattern[str]:
    marks = [chr(code) for code in range(0x300, 0x20000) if unicodedata.combining(chr(code))]
    return re.compile(f"[{''.join(marks)}]{{{_LONG_RUN},}}")


def _starts_cluster(character: str) -> bool:
    """Whether normalisation never joins ``character`` with what stands before it."""
    if character < "\u0300":
        return True
    first = unicodedata.normalize("NFKD", character)[0]
    is_mark = unicodedata.category(first).startswith("M")
    is_later_jamo = "\u1160" <= first <= "\u11ff"
    return not is_mark and not is_later_jamo and unicodedata.combining(first) == 0


@dataclass(frozen=True)
class StripHtml(Preprocessor):
    """Tags, comments, scripts and style sheets go; entities become their characters.

    Tags inside a line (``<b>``, ``<a>``) leave nothing, others a space. A ``<`` that opens no tag stays.
    """

    word_safe: ClassVar[bool] = True

    def edits(self, texts: Sequence[str]) -> Iterator[list[Edit]]:
        for text in texts:
            yield _replaced(_HTML, text, _html_text) if "<" in text or "&" in text else []

    def transform(self, texts: Sequence[str]) -> list[str]:
        return [_HTML.sub(_html_text, text) if "<" in text or "&" in text else text for text in texts]


def _html_text(match: re.Match[str]) -> str:
    if match["entity"] is not None:
        return html.unescape(match[0])
    return "" if (match["tag"] or "").lower() in _INLINE_TAGS else " "


@dataclass(frozen=True)
class CleanUrls(Preprocessor):
    """Addresses (http, https, ftp, www.) become ``replacement``; punctuation after them stays."""

    word_safe: ClassVar[bool] = True
    replacement: str = "[URL]"
    """What stands in place of an address."""

    def edits(self, texts: Sequence[str]) -> Iterator[list[Edit]]:
        for text in texts:
            yield [Edit(*match.span(), self.replacement) for match in _URL.finditer(text)]

    def transform(self, texts: Sequence[str]) -> list[str]:
        return [_URL.sub(lambda _: self.replacement, text) for text in texts]


@dataclass(frozen=True)
class Lowercase(Preprocessor):
    """Letters become small ones, as ``str.lower`` does it."""

    word_safe: ClassVar[bool] = True

    def edits(self, texts: Sequence[str]) -> Iterator[list[Edit]]:
        for text in texts:
            lower = text.lower()
            found: list[Edit] = []
            position = 0
            if lower != text:
                for at, character in enumerate(text):
                    width = len(character.lower())  # 2 for a dotted capital I, else 1
                    new = lower[position : position + width]
                    position += width
                    if new != character:
                        found.append(Edit(at, at + 1, new))
            yield found

    def transform(self, texts: Sequence[str]) -> list[str]:
        return [text.lower() for text in texts]
