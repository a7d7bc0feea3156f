"""Findings about rows that repeat each other, within a split and across splits, and about the same text with other labels."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from hf_trainpipe.audit.finding import Finding, Level, level_of, of_rows
from hf_trainpipe.data.splits import as_codes

if TYPE_CHECKING:
    from hf_trainpipe.audit.twins import Twins

Ints = NDArray[np.int64]
_OFTEN = 0.01
"""Share of a split from which a repetition changes what a score says."""


def within(twins: Twins) -> Iterator[Finding]:
    """Rows that repeat an earlier row of their split."""
    corpus = twins.corpus
    for split in corpus.names:
        total = len(corpus.rows_of(split))
        exact, same = twins.repeats(twins.exact, split), twins.repeats(twins.same, split)
        near, pairs = twins.near_within(split)
        counts = {"exact": len(exact), "same": len(same) - len(exact), "near_rows": len(near), "near_pairs": pairs}
        if len(same):
            of = "exactly" if len(same) == len(exact) else f"{len(exact):,} exactly, the others but for case and signs"
            yield of_rows(
                corpus,
                same,
                total,
                kind="repeated",
                level=Level.LOOK if split == "train" else level_of(len(same), total),
                split=split,
                told=f"repeat another row: {of}",
                fix="They count as often as they are there; --fix keeps one of each.",
                facts=counts,
            )
        if len(near):
            yield of_rows(
                corpus,
                near,
                total,
                kind="near-repeated",
                level=Level.LOOK,
                split=split,
                told=f"are nearly another row of the split ({pairs:,} pairs)",
                fix="Keep each cluster in one split or fold: --fix writes group ids for data.group.",
                facts=counts,
            )


def across(twins: Twins) -> Iterator[Finding]:
    """Rows of a split that an earlier one has too."""
    corpus = twins.corpus
    for at, split in enumerate(corpus.names):
        for other in corpus.names[:at]:
            found = twins.across(split, other)
            total, counts = len(corpus.rows_of(split)), {kind: len(rows) for kind, rows in found.items()}
            equal = np.concatenate([found["exact"], found["same"]])
            fix = f"--fix takes them out of {other}; the scores of {split} are too high by what was learnt by heart."
            if len(equal):
                told = (
                    "exactly"
                    if not counts["same"]
                    else f"{counts['exact']:,} exactly, the others but for case and signs"
                )
                yield of_rows(
                    corpus,
                    equal,
                    total,
                    kind="leak",
                    level=Level.WRONG if len(equal) > _OFTEN * total else level_of(len(equal), total),
                    split=split,
                    told=f"are in {other} too: {told}",
                    fix=fix,
                    facts={"other": other, **counts},
                )
            if counts["near"]:
                yield of_rows(
                    corpus,
                    found["near"],
                    total,
                    kind="near-leak",
                    level=level_of(counts["near"], total),
                    split=split,
                    told=f"are nearly a row of {other}",
                    fix=fix,
                    facts={"other": other, **counts},
                )


def conflicts(twins: Twins) -> Iterator[Finding]:
    """The same input under different labels, and what that leaves to reach."""
    corpus = twins.corpus
    if corpus.kind not in ("class", "set", "number", "tags"):
        return
    for split in corpus.names:
        rows = np.array([row for row in corpus.rows_of(split) if corpus.targets[row] is not None], dtype=np.int64)
        if not len(rows):
            continue
        exact, same = (_torn(codes, rows, corpus.targets) for codes in (twins.exact, twins.same))
        if not len(same):
            continue
        facts: dict[str, Any] = {"exact_rows": len(exact), "same_rows": len(same)}
        if corpus.kind == "number":
            bound = _spread(twins.same, rows, corpus.targets)
            facts["least_rmse"] = bound
            told = f"no model can have an RMSE below {bound:.3g} on this split"
        else:
            facts["ceiling"] = _ceiling(twins.exact, rows, corpus.targets)
            facts["ceiling_same"] = _ceiling(twins.same, rows, corpus.targets)
            most = facts["ceiling_same"]
            told = (
                f"no model can get more than {most:.2%} of whole answers right"
                if corpus.kind != "class"
                else (f"no model can have an accuracy above {most:.2%} on this split")
            )
        yield of_rows(
            corpus,
            same,
            len(rows),
            kind="conflict",
            level=level_of(len(same), len(rows)),
            split=split,
            told=f"have the text of another row and another label: {told}",
            fix="Decide which label is right; --fix lists them in review.csv.",
            label=[_told(corpus.targets[row]) for row in same.tolist()],
            facts=facts,
        )


def crossed(twins: Twins) -> Iterator[Finding]:
    """Rows of a split whose text train has with other labels alone."""
    corpus = twins.corpus
    if corpus.kind not in ("class", "set", "tags") or "train" not in corpus.names:
        return
    learnt: dict[int, set[Any]] = {}
    for row in corpus.rows_of("train").tolist():
        if corpus.targets[row] is not None:
            learnt.setdefault(int(twins.same[row]), set()).add(corpus.targets[row])
    for split in corpus.names:
        rows = corpus.rows_of(split)
        torn = [
            row
            for row in (rows.tolist() if split != "train" else ())
            if corpus.targets[row] is not None
            and corpus.targets[row] not in learnt.get(int(twins.same[row]), {corpus.targets[row]})
        ]
        if torn:
            yield of_rows(
                corpus,
                torn,
                len(rows),
                kind="crossed",
                level=level_of(len(torn), len(rows)),
                split=split,
                told="are in train with another label",
                fix=f"One of the two is wrong: look at them before you believe a score of {split}.",
                label=[_told(corpus.targets[row]) for row in torn],
            )


def _torn(codes: Ints, rows: Ints, targets: list[Any]) -> Ints:
    """Rows whose group has more than one label."""
    label = _numbered(rows, targets)
    pairs = np.unique(np.stack([codes[rows], label], axis=1), axis=0)
    labels_of = np.bincount(pairs[:, 0], minlength=int(codes.max()) + 1)
    return rows[labels_of[codes[rows]] > 1]


def _ceiling(codes: Ints, rows: Ints, targets: list[Any]) -> float:
    """The accuracy of whoever answers each text with its most frequent label."""
    pairs, counts = np.unique(np.stack([codes[rows], _numbered(rows, targets)], axis=1), axis=0, return_counts=True)
    best = np.zeros(int(codes.max()) + 1, dtype=np.int64)
    np.maximum.at(best, pairs[:, 0], counts)
    return float(best.sum() / len(rows))


def _spread(codes: Ints, rows: Ints, targets: list[Any]) -> float:
    """The RMSE of whoever answers each text with its mean."""
    values = np.array([targets[row] for row in rows], dtype=np.float64)
    _, group = np.unique(codes[rows], return_inverse=True)
    counts = np.bincount(group)
    means = np.bincount(group, weights=values) / counts
    return float(np.sqrt(np.mean((values - means[group]) ** 2)))


def _numbered(rows: Ints, targets: list[Any]) -> Ints:
    return as_codes([targets[row] for row in rows.tolist()])


def _told(target: Any) -> str:
    return (
        target
        if isinstance(target, str)
        else " ".join(map(str, target))
        if isinstance(target, tuple)
        else f"{target:g}"
    )
