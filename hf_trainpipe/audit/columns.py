"""Findings about what gives the label away: a column that the task does not read, or a token in the text."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from hf_trainpipe.audit.finding import Finding, Level, examples
from hf_trainpipe.audit.twins import codes_of, digest

if TYPE_CHECKING:
    from hf_trainpipe.audit.corpus import Corpus

Ints = NDArray[np.int64]
_LEAST = 20
"""Rows that a rule has to be learnt from, and of a token's label."""
_RIGHT = 0.97
"""Share of rows that a rule gets right, and of the errors of the most frequent label that it removes 0.9."""
_BINS = 64
MOST_LABELS = 1000
"""Beyond, a column is hardly the label, and tables of labels would not fit."""
_PARTS = re.compile(r"[\W\d_]+")


def leaking_columns(corpus: Corpus) -> Iterator[Finding]:
    """Columns that the task does not read and from which alone the label, the labels or the number follow."""
    if corpus.kind not in ("class", "set", "number") or "train" not in corpus.names:
        return
    rows = np.array(
        [row for row in corpus.rows_of("train").tolist() if corpus.targets[row] is not None], dtype=np.int64
    )
    values = [corpus.targets[row] for row in rows.tolist()]
    labels = np.array(values) if corpus.kind == "number" else codes_of(list(map(str, values)))[0]
    if len(rows) < 2 * _LEAST or len(np.unique(labels)) < 2:
        return
    is_fit = np.array([int(digest(corpus.raw[row])[:8], 16) % 2 == 0 for row in rows.tolist()])
    judge = _explained if corpus.kind == "number" else _right
    most = 0.0 if corpus.kind == "number" else _most_frequent(labels, is_fit)
    told = "of the differences between the numbers" if corpus.kind == "number" else "of the labels"
    for name in corpus.unread:
        column = corpus.column(name)
        cells = [column[row] for row in rows.tolist()]
        right = max((judge(form, labels, is_fit) for form in _forms(cells)), default=0.0)
        if right >= _RIGHT and 1 - right <= 0.1 * (1 - most):
            yield Finding(
                kind="leaking-column",
                level=Level.WRONG,
                split="train",
                line=f"the column {name!r} alone gives {right:.1%} {told} away; the task does not read it",
                fix="Never let a model read it, in data.join or as text: it will not be there, or not be true, when it counts.",
                count=round(right * len(rows)),
                total=len(rows),
                rows=examples(corpus, rows, value=[str(cell)[:60] for cell in cells]),
                facts={"column": name, "accuracy": right, "majority": most},
            )


def leaking_tokens(corpus: Corpus) -> Iterator[Finding]:
    """Tokens that nearly all rows of a label have, and hardly any other row."""
    if corpus.kind != "class" or "train" not in corpus.names:
        return
    from sklearn.feature_extraction.text import CountVectorizer

    rows = corpus.rows_of("train")
    rows = rows[corpus.classes[rows] >= 0]
    labels = corpus.classes[rows]
    totals = np.bincount(labels, minlength=len(corpus.class_names))
    if (totals > 0).sum() < 2 or totals.max(initial=0) < _LEAST or len(totals) > MOST_LABELS:
        return
    counter = CountVectorizer(binary=True, token_pattern=r"\S+", min_df=_LEAST, dtype=np.int32)
    try:
        there = counter.fit_transform([corpus.shown[row] for row in rows.tolist()])
    except ValueError:  # no token is in so many rows
        return
    one_hot = np.zeros((len(rows), len(totals)), dtype=np.int32)
    one_hot[np.arange(len(rows)), labels] = 1
    counts = np.asarray(there.T @ one_hot)
    precision = counts / np.maximum(1, counts.sum(axis=1, keepdims=True))
    recall = counts / np.maximum(1, totals)
    names = counter.get_feature_names_out()
    found = (precision >= _RIGHT) & (recall >= _RIGHT) & (totals >= _LEAST) & (totals < _RIGHT * len(rows))
    for label in np.flatnonzero(found.any(axis=0)).tolist():
        token = int(np.argmax(np.where(found[:, label], precision[:, label] + recall[:, label], 0)))
        with_it = rows[np.asarray(there[:, [token]].todense()).ravel() > 0]
        yield Finding(
            kind="leaking-token",
            level=Level.WRONG,
            split="train",
            line=f"the token {names[token]!r} is in {recall[token, label]:.1%} of the rows of {corpus.class_names[label]!r} and in "
            f"{int(counts[token].sum() - counts[token, label]):,} others: it gives the label away",
            fix="If a template or an export left it there, take it out of the texts; a model learns it and nothing else.",
            count=int(counts[token, label]),
            total=len(rows),
            rows=examples(corpus, with_it),
            facts={"token": str(names[token]), "label": corpus.class_names[label]},
        )


def _forms(cells: list[Any]) -> Iterator[Ints]:
    """Ways to read a column: as it is, without its numbers and signs, in bins of its size."""
    texts = ["" if cell is None else str(cell) for cell in cells]
    yield codes_of(texts)[0]
    if any(cell is not None and not isinstance(cell, int | float) for cell in cells):
        words = [_PARTS.sub(" ", text).strip().casefold() for text in texts]
        if any(words):
            yield codes_of(words)[0]
    numbers = np.array([_number(text) for text in texts])
    if np.isfinite(numbers).mean() > 0.9:
        edges = np.unique(np.quantile(numbers[np.isfinite(numbers)], np.linspace(0, 1, _BINS + 1)[1:-1]))
        yield np.where(np.isfinite(numbers), np.searchsorted(edges, numbers, side="right"), -1) + 1


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return float("nan")


def _right(codes: Ints, labels: Ints, is_fit: NDArray[np.bool_]) -> float:
    """The share of rows whose label is the most frequent one of their value among the other half of the rows."""
    number, classes = int(codes.max(initial=0)) + 1, int(labels.max(initial=0)) + 1
    pairs, counts = np.unique(codes[is_fit] * classes + labels[is_fit], return_counts=True)
    order = np.lexsort((pairs, counts))  # the most frequent last
    best = np.full(number, -1, dtype=np.int64)
    best[pairs[order] // classes] = pairs[order] % classes
    tested = ~is_fit
    return float((best[codes[tested]] == labels[tested]).mean()) if tested.any() else 0.0


def _explained(codes: Ints, numbers: NDArray[Any], is_fit: NDArray[np.bool_]) -> float:
    """The share of the numbers' variance that the means of their values among the other half of the rows explain."""
    number = int(codes.max(initial=0)) + 1
    counts = np.bincount(codes[is_fit], minlength=number)
    sums = np.bincount(codes[is_fit], weights=numbers[is_fit], minlength=number)
    means = np.where(counts > 0, sums / np.maximum(counts, 1), numbers[is_fit].mean() if is_fit.any() else 0.0)
    tested = numbers[~is_fit]
    spread = float(((tested - tested.mean()) ** 2).sum()) if len(tested) else 0.0
    return 0.0 if spread == 0 else 1 - float(((tested - means[codes[~is_fit]]) ** 2).sum()) / spread


def _most_frequent(labels: Ints, is_fit: NDArray[np.bool_]) -> float:
    """The share of the most frequent label among the tested rows."""
    tested = labels[~is_fit]
    return float(np.bincount(tested).max() / len(tested)) if len(tested) else 0.0
