"""Readers of annotated words: CoNLL columns, CoNLL-U and spaCy's DocBin.

CoNLL-U is defined at https://universaldependencies.org/format.html.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import chain
from pathlib import Path
from typing import Any

from hf_trainpipe.data.readers_base import ReadOptions, RowAt, Rows, empty_file, read_bytes, wrong_file, wrong_line
from hf_trainpipe.data.readers_text import numbered

CONLLU_COLUMNS = {"words": 1, "lemmas": 2, "upos": 3, "xpos": 4}
CONLLU_WIDTH = 10


def read_conll(blocks: Iterator[str], *, shown: str, options: ReadOptions) -> Iterator[RowAt]:
    """A word a line, a blank line between sentences, as ``words`` and ``tags``.

    Columns are separated by tabs if the first line has one, else by spaces. ``-DOCSTART-`` lines
    and ``# key = value`` comments are skipped.

    Raises:
        DataError: with file and line: a line with another number of columns than the first.
    """
    start, words, tags = 0, list[str](), list[str]()
    delimiter, width = options.delimiter, 0
    for number, raw in chain(numbered(blocks), ((0, ""),)):
        line = raw.rstrip("\r")
        if not line.strip():
            if words:
                yield start, {"words": words, "tags": tags}
            words, tags = [], []
            continue
        if line.startswith("-DOCSTART-") or (line.startswith("# ") and " = " in line):
            continue
        if not width:
            delimiter = delimiter or ("\t" if "\t" in line else None)
        fields = line.split(delimiter)
        width = width or _first_width(fields, shown, number, options)
        if len(fields) != width:
            raise wrong_line(
                shown,
                number,
                f"expected {width} columns, found {len(fields)} ({line[:60]!r}).",
                fix="Correct the line; set data.delimiter='\\t' or ' ' if that is what separates the columns.",
            )
        start = start if words else number
        words.append(fields[options.words_column])
        tags.append(fields[options.tags_column])


def _first_width(fields: list[str], shown: str, line: int, options: ReadOptions) -> int:
    for name, position in (("words_column", options.words_column), ("tags_column", options.tags_column)):
        if not -len(fields) <= position < len(fields):
            raise wrong_line(
                shown,
                line,
                f"data.{name}: expected a column below {len(fields)}, found {position}.",
                fix="Columns count from 0; -1 is the last.",
            )
    if len(fields) < 2:
        raise wrong_line(
            shown,
            line,
            f"expected a word and a tag, found {fields[0][:60]!r}.",
            fix="Correct the line or the delimiter.",
        )
    return len(fields)


def read_conllu(blocks: Iterator[str], *, shown: str, options: ReadOptions) -> Iterator[RowAt]:
    """CoNLL-U as ``words``, ``lemmas``, ``upos`` and ``xpos``.

    Multiword ranges and empty nodes are skipped.

    Raises:
        DataError: with file and line: a line without exactly ten columns.
    """
    start, sentence = 0, dict[str, list[str]]()
    for number, raw in chain(numbered(blocks), ((0, ""),)):
        line = raw.rstrip("\r")
        if not line:
            if sentence:
                yield start, sentence
            sentence = {}
            continue
        if line[0] == "#":
            continue
        fields = line.split("\t")
        if len(fields) != CONLLU_WIDTH:
            raise wrong_line(
                shown,
                number,
                f"expected {CONLLU_WIDTH} columns separated by tabs, found {len(fields)} ({line[:60]!r}).",
                fix="Correct the line; a plain word-and-tag file needs data.format='conll'.",
            )
        if not fields[0].isdigit():
            continue
        start = start if sentence else number
        for name, position in CONLLU_COLUMNS.items():
            sentence.setdefault(name, []).append(fields[position])


def read_spacy(path: Path, *, shown: str, options: ReadOptions) -> Rows:
    """Read a spaCy DocBin into ``text``, ``words``, ``spans`` (from ``doc.ents``) and, where set, ``cats``.

    ``spans`` holds ``{"start", "end", "label"}`` in characters. ``cats`` holds the categories of
    0.5 and above; ``label`` is added where each document has exactly one.
    """
    data = read_bytes(path, shown=shown)
    import spacy
    from spacy.tokens import DocBin

    try:
        docs = list(DocBin().from_bytes(data).get_docs(spacy.blank("xx").vocab))
    except Exception as error:  # the decoder raises many kinds of errors
        raise wrong_file(
            shown,
            f"expected a spaCy DocBin, found bytes that do not decode: {error}.",
            fix="Write the file with DocBin.to_disk, with the spaCy of this environment.",
        ) from None
    if not docs:
        raise empty_file(shown, "no documents")
    columns: dict[str, list[Any]] = {
        "text": [doc.text for doc in docs],
        "words": [[token.text for token in doc if not token.is_space] for doc in docs],
        "spans": [
            [{"start": ent.start_char, "end": ent.end_char, "label": ent.label_} for ent in doc.ents] for doc in docs
        ],
    }
    cats = [[name for name, value in doc.cats.items() if value >= 0.5] for doc in docs]
    if any(doc.cats for doc in docs):
        columns["cats"] = cats
        if all(len(names) == 1 for names in cats):
            columns["label"] = [names[0] for names in cats]
    return Rows(columns=columns, lines=list(range(1, len(docs) + 1)))
