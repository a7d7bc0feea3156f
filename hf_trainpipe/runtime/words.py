"""Text into words with their places: the units of tagging."""

from __future__ import annotations

import re
import sys
import unicodedata
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING

from .pipelines import check_pipeline_name, load_pipeline, pipe

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["Word", "WordSplitter"]

Word = tuple[str, int, int]
"""A word, and the characters ``[start, end)`` of the text that it takes."""

_SOLID = re.compile(r"\S+")


@dataclass(frozen=True)
class WordSplitter:
    """Splits texts into words; white space belongs to none.

    >>> WordSplitter("regex")(["It's on."])
    [[('It', 0, 2), ("'", 2, 3), ('s', 3, 4), ('on', 5, 7), ('.', 7, 8)]]
    """

    kind: str = "regex"
    """``regex`` (letters and digits together, other signs one by one), ``whitespace``, ``blank:xx`` or the
    name of a spaCy pipeline (its tokenizer)."""

    def __post_init__(self) -> None:
        check_pipeline_name(self.kind, "splitter")

    def __call__(self, texts: Sequence[str]) -> list[list[Word]]:
        """The words of each text, in order.

        Raises:
            MissingPipeline: ``kind`` names a pipeline that is not installed.
        """
        if self.kind in ("regex", "whitespace"):
            pattern = _SOLID if self.kind == "whitespace" else _word_pattern()
            return [[(m[0], *m.span()) for m in pattern.finditer(text)] for text in texts]
        docs = pipe(load_pipeline(self.kind, "tokens"), texts)
        return [[(t.text, t.idx, t.idx + len(t)) for t in doc if not t.is_space] for doc in docs]


@cache
def _word_pattern() -> re.Pattern[str]:
    """Letters and digits with the marks that follow them; else any one sign.

    ``\\w`` alone would cut words of many scripts (Devanagari, Thai, decomposed accents) at their marks.
    """
    ranges: list[list[int]] = []
    for code in range(0x300, min(0x20000, sys.maxunicode)):
        if unicodedata.category(chr(code)).startswith("M"):
            if ranges and ranges[-1][1] == code - 1:
                ranges[-1][1] = code
            else:
                ranges.append([code, code])
    marks = "".join(f"{re.escape(chr(low))}-{re.escape(chr(high))}" for low, high in ranges)
    return re.compile(rf"[\w{marks}]+|[^\w\s]")
