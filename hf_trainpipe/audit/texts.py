"""Findings about texts: empty ones, characters that are no text, HTML rests, and scripts that differ between splits."""

from __future__ import annotations

import html
import re
import unicodedata
from collections import Counter
from collections.abc import Callable, Iterator
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np

from hf_trainpipe.audit.finding import Finding, Level, of_rows

if TYPE_CHECKING:
    from hf_trainpipe.audit.corpus import Corpus

CONTROL = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u200b\u2060\ufeff\u202a-\u202e\ufff9-\ufffb\ud800-\udfff]")
"""Characters that nobody sees and a tokenizer reads; halves of characters."""
REPLACEMENT = re.compile("\ufffd")
_TAIL = "\u0080-\u00bf" + bytes(set(range(0x80, 0xA0)) - {0x81, 0x8D, 0x8F, 0x90, 0x9D}).decode("cp1252")
MOJIBAKE = re.compile(f"[\u00c2\u00c3][{_TAIL}]|[\u00e1-\u00ef][{_TAIL}]{{2}}|\u00f0[{_TAIL}]{{3}}")
"""UTF-8 that was read as cp1252 or Latin-1, where that is the likely reading."""
HTML = re.compile(
    r"</?(?:a|b|br|div|em|font|h[1-6]|i|img|li|ol|p|script|span|strong|style|table|td|th|tr|ul)\b[^<>]*>"
    r"|&(?:[a-zA-Z]{2,8}|#[0-9]{1,6}|#x[0-9a-fA-F]{1,5});|\b(?:quot|amp|lt|gt|nbsp|apos);|(?<!\w)#[0-9]{2,4};",
    re.IGNORECASE,
)
_DIFFERENT = 0.05
"""By how much the share of a script has to differ between splits."""


def odd(corpus: Corpus) -> Iterator[Finding]:
    """Texts that are empty or hold what is no text."""
    looks: list[tuple[str, Level, str, str, Callable[[str], bool]]] = [
        (
            "control", Level.LOOK, "hold control or invisible characters",
            "--fix removes them; a model reads them, and a person does not see them.", lambda text: bool(CONTROL.search(text)),
        ),
        (
            "replacement", Level.COSTS, "hold the replacement character \ufffd: what stood there is lost",
            "Read the original file again in its own encoding: data.encoding='cp1252'.",
            lambda text: bool(REPLACEMENT.search(text)),
        ),
        (
            "mojibake", Level.COSTS, "hold UTF-8 that was read in another encoding, such as Ã© for é",
            "--fix decodes it; better is the original file, read as utf-8.", lambda text: repaired(text) != text,
        ),
        (
            "html", Level.LOOK, "hold rests of HTML",
            "Remove tags and entities from the data, or with a preprocessing step, which then also serves.", has_html,
        ),
    ]  # fmt: skip
    for split in corpus.names:
        rows, total = corpus.rows_of(split), len(corpus.rows_of(split))
        empty = rows[corpus.is_empty[rows]]
        if len(empty):
            yield of_rows(
                corpus,
                empty,
                total,
                kind="empty",
                level=Level.WRONG,
                split=split,
                told="have an empty or missing text: training refuses them",
                fix=f"Drop them: data.drop_missing=({_columns(corpus)},), or --fix.",
            )
        for kind, level, told, fix, is_odd in looks:
            found = [row for row in rows.tolist() if any(is_odd(texts[row]) for texts in corpus.texts.values())]
            if found:
                yield of_rows(corpus, found, total, kind=kind, level=level, split=split, told=told, fix=fix)


def repaired(text: str) -> str:
    """The text with UTF-8 that was read as cp1252 decoded.

    >>> repaired("caf\u00c3\u00a9 it\u00e2\u20ac\u2122s")
    'café it’s'
    """
    return text if text.isascii() else MOJIBAKE.sub(lambda found: _decoded(found[0]), text)


def _decoded(run: str) -> str:
    try:
        parts = [
            character.encode("latin-1" if "\x80" <= character <= "\xbf" else "cp1252", "strict") for character in run
        ]
        return b"".join(parts).decode("utf-8")
    except UnicodeError:
        return run


def has_html(text: str) -> bool:
    """Whether a text holds tags or entities."""
    if "<" not in text and ";" not in text:
        return False
    return any(not found[0].startswith("&") or html.unescape(found[0]) != found[0] for found in HTML.finditer(text))


def scripts(corpus: Corpus) -> Iterator[Finding]:
    """Scripts whose share of the rows differs between the training and another split."""
    if "train" not in corpus.names or len(corpus.names) < 2:
        return
    found = list(map(script_of, corpus.shown))
    counts = {split: Counter(found[row] for row in corpus.rows_of(split).tolist()) for split in corpus.names}
    learnt, num_learnt = counts["train"], max(1, len(corpus.rows_of("train")))
    for split in corpus.names:
        total = max(1, len(corpus.rows_of(split)))
        for script, count in sorted(counts[split].items()):
            here, there = count / total, learnt[script] / num_learnt
            spread = 4 * np.sqrt(max(here * (1 - here), 1e-9) / total + there * (1 - there) / num_learnt)
            if split != "train" and script and here - there > max(_DIFFERENT, spread):
                rows = [row for row in corpus.rows_of(split).tolist() if found[row] == script]
                yield of_rows(
                    corpus,
                    rows,
                    total,
                    kind="script",
                    level=Level.COSTS,
                    split=split,
                    told=f"are written in {script.title()}, and {there:.1%} of train",
                    fix=f"Add such texts to train, or score them by themselves: a score of {split} mixes two languages.",
                    facts={"script": script, "train": there},
                )


def script_of(text: str) -> str:
    """The script of most letters of a text: ``LATIN``, ``CYRILLIC``, ``CJK``, ...; empty: it has none."""
    if text.isascii():
        return "LATIN" if any(map(str.isalpha, text)) else ""
    counts = Counter(_script(character) for character in text if character.isalpha())
    return min(counts, key=lambda script: (-counts[script], script)) if counts else ""


@lru_cache(maxsize=1 << 16)
def _script(character: str) -> str:
    name = unicodedata.name(character, "UNKNOWN").split()[0]
    return "LATIN" if name in ("FULLWIDTH", "FEMININE", "MASCULINE", "MICRO") else name


def _columns(corpus: Corpus) -> str:
    return ", ".join(repr(column.name) for column in corpus.task.inputs.values())
