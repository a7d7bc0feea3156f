"""Small samples of the public data sets for scripts/golden: the same file names, fewer rows, and 64 inputs."""

from __future__ import annotations

import csv
import gzip
import io
import json
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

TRAIN_ROWS = 240
HELD_OUT_ROWS = 64
Kind = Literal["lines", "csv", "blocks"]
"""Rows of a file: lines, csv records (which may contain line breaks), or blocks separated by blank lines."""


@dataclass(frozen=True)
class Cut:
    """The files of a data set, and what an input of the package is."""

    kind: Kind
    train: str
    held_out: tuple[str, ...]
    """The first of them gives the inputs."""
    headed: bool
    """Whether a file's first row names its columns."""
    read: Callable[[str], dict[str, Any]]
    """One held-out row, as it stands in its file -> the columns that the recipe answers."""
    train_rows: int = TRAIN_ROWS


def _delimited(delimiter: str, **columns: int) -> Callable[[str], dict[str, Any]]:
    """Column names to the positions of their fields in a line without quotes."""
    return lambda row: {name: row.rstrip("\n").split(delimiter)[position] for name, position in columns.items()}


def _csv(*positions: int) -> Callable[[str], dict[str, Any]]:
    def read(row: str) -> dict[str, Any]:
        [fields] = csv.reader(io.StringIO(row))
        return {"text": " ".join(fields[position] for position in positions)}

    return read


def _words(block: str) -> list[list[str]]:
    """The fields of each word: a line of CoNLL, without comments, multi-word tokens and empty nodes."""
    lines = [line.split("\t") for line in block.splitlines() if line.strip() and not line.startswith("# ")]
    return [fields for fields in lines if len(fields) == 2 or fields[0].isdecimal()]


def _column(position: int) -> Callable[[str], dict[str, Any]]:
    return lambda block: {"tokens": [fields[position] for fields in _words(block)]}


CUTS: dict[str, Cut] = {
    "ag_news": Cut("csv", "train_sample.csv.gz", ("test.csv.gz",), False, _csv(1, 2)),
    "banking77": Cut("csv", "train.csv.gz", ("test.csv.gz",), True, _csv(0), 400),
    "go_emotions": Cut("lines", "train.tsv.gz", ("dev.tsv.gz", "test.tsv.gz"), False, _delimited("\t", text=0)),
    "sick": Cut(
        "lines",
        "SICK_train.txt.gz",
        ("SICK_trial.txt", "SICK_test_annotated.txt.gz"),
        True,
        _delimited("\t", sentence_A=1, sentence_B=2),
    ),
    "sst2": Cut(
        "lines",
        "sentences/stsa.binary.train.gz",
        ("sentences/stsa.binary.dev", "sentences/stsa.binary.test"),
        False,
        lambda row: {"sentence": row.strip().split(" ", 1)[1]},
    ),
    "stsb": Cut("lines", "train.tsv.gz", ("dev.tsv.gz",), True, _delimited("\t", sentence1=7, sentence2=8)),
    "ud_english_ewt": Cut(
        "blocks",
        "en_ewt-ud-train.conllu.gz",
        ("en_ewt-ud-dev.conllu.gz", "en_ewt-ud-test.conllu.gz"),
        False,
        _column(1),
    ),
    "wnut17": Cut(
        "blocks", "wnut17train.conll.gz", ("emerging.dev.conll", "emerging.test.annotated"), False, _column(0)
    ),
}


def cut(name: str, source: Path, target: Path) -> list[dict[str, Any]]:
    """Write a cut of the data set in ``source`` to ``target``; returns the inputs to answer."""
    how = CUTS[name]
    inputs: list[str] = []
    for file in (how.train, *how.held_out):
        headed = how.headed or (name == "ag_news" and file == how.train)
        rows = _rows(_text(source / file), how.kind)
        head, rows = (rows[:1], rows[1:]) if headed else ([], rows)
        if name == "wnut17":  # a name in every sentence, else none is learnt in a few steps
            rows = [row for row in rows if "\tB-" in row]
        chosen = _spread(rows, how.train_rows if file == how.train else HELD_OUT_ROWS)
        if file == how.held_out[0]:
            inputs = chosen
        _write(target / file, "".join([*head, *chosen]))
    return [how.read(row) for row in inputs]


def cut_spans(source: Path, target: Path) -> list[dict[str, Any]]:
    """WNUT-17's tweets, words joined by blanks and tags as character spans; returns the inputs to answer.

    Those with a name, of which many have an address too: preprocessing and spans meet.
    """
    blocks = [block for block in _rows(_text(source / CUTS["wnut17"].train), "blocks") if "\tB-" in block]
    rows = [_spanned(_words(block)) for block in _spread(blocks, TRAIN_ROWS + HELD_OUT_ROWS)]
    train, held_out = rows[:TRAIN_ROWS], rows[TRAIN_ROWS:]
    for split, chosen in (("train", train), ("validation", held_out)):
        _write(target / f"{split}.jsonl", "".join(json.dumps(row) + "\n" for row in chosen))
    return [{"text": row["text"]} for row in held_out]


def _spanned(words: list[list[str]]) -> dict[str, Any]:
    text, spans = "", []
    for word, tag in words:
        start = len(text) + 1 if text else 0
        text = f"{text} {word}" if text else word
        if tag.startswith("I-") and spans:
            spans[-1]["end"] = len(text)
        elif tag != "O":
            spans.append({"start": start, "end": len(text), "label": "name"})  # one type: learnt in a few steps
    return {"text": text, "spans": spans}


def _text(path: Path) -> str:
    data = path.read_bytes()
    return (gzip.decompress(data) if path.suffix == ".gz" else data).decode("utf-8").replace("\r\n", "\n")


def _write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    data = text.encode("utf-8")
    path.write_bytes(gzip.compress(data, mtime=0) if path.suffix == ".gz" else data)


def _rows(text: str, kind: Kind) -> list[str]:
    """Texts whose concatenation is ``text``, but for blank lines at its ends."""
    if kind == "blocks":
        return [block.strip("\n") + "\n\n" for block in re.split(r"\n[ \t]*\n", text) if block.strip()]
    lines = text.splitlines(keepends=True) if kind == "csv" else [f"{line}\n" for line in text.split("\n") if line]
    return list(_joined(lines)) if kind == "csv" else lines


def _joined(lines: Iterable[str]) -> Iterable[str]:
    """Lines of csv -> its rows: a row ends where its quotes are even."""
    row = ""
    for line in lines:
        row += line
        if row.count('"') % 2 == 0:
            yield row
            row = ""


def _spread(rows: list[str], count: int) -> list[str]:
    """``count`` rows, evenly over all of them."""
    return [rows[position * len(rows) // count] for position in range(min(count, len(rows)))]
