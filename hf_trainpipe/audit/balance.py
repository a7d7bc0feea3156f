"""Findings about labels: missing ones, labels that only one split has, rare ones, one that is nearly everywhere."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np

from hf_trainpipe.audit.finding import Finding, Level, of_rows, share
from hf_trainpipe.data.label_notes import DOMINANT
from hf_trainpipe.utils.brief import listed

if TYPE_CHECKING:
    from hf_trainpipe.audit.corpus import Corpus

_MANY = 20
_SAID = 100
"""Labels that are listed."""
RARE = 5
"""Examples below which a label is rare: a fifth of them is none."""


def balance(corpus: Corpus) -> Iterator[Finding]:
    """What the numbers of the labels tell."""
    yield from _missing(corpus)
    if corpus.kind not in ("class", "set", "tags"):
        return
    counts = {split: label_counts(corpus, split) for split in corpus.names}
    if "train" in counts:
        yield from _of_training(corpus, counts["train"])
        for split in corpus.names:
            if split != "train":
                yield from _of_other(corpus, split, counts[split], counts["train"])


def label_counts(corpus: Corpus, split: str) -> Counter[str]:
    """How often a split has each label; of tags how many rows have it."""
    targets = (corpus.targets[row] for row in corpus.rows_of(split).tolist())
    found: Counter[str] = Counter()
    for target in targets:
        found.update([target] if isinstance(target, str) else sorted(set(target or ())))
    return found


def _missing(corpus: Corpus) -> Iterator[Finding]:
    if corpus.kind is None:
        return
    for split in corpus.names:
        rows = corpus.rows_of(split)
        without = [row for row in rows.tolist() if corpus.targets[row] is None]
        if without:
            yield of_rows(
                corpus,
                without,
                len(rows),
                kind="unlabelled",
                level=Level.WRONG,
                split=split,
                told="have no label that can be read: training refuses them",
                fix="Label them or take them out; --fix leaves them out.",
            )


def _of_training(corpus: Corpus, counts: Counter[str]) -> Iterator[Finding]:
    total = len(corpus.rows_of("train"))
    if corpus.kind == "class" and len(counts) == 1:
        yield Finding(
            kind="one-label",
            level=Level.WRONG,
            split="train",
            line=f"all rows have the label {next(iter(counts))!r}: there is nothing to learn",
            fix="Name the column that holds the label, or add rows with other labels.",
            count=total,
            total=total,
        )
        return
    if corpus.kind == "class" and counts:
        name, most = min(counts.items(), key=lambda item: (-item[1], item[0]))
        if most >= DOMINANT * total:
            yield Finding(
                kind="dominant",
                level=Level.COSTS,
                split="train",
                line=f"{share(most, total)} have the label {name!r}: an accuracy of {most / total:.1%} says nothing",
                fix="Choose the best step by evaluation.select='macro_f1' or 'mcc'.",
                count=most,
                total=total,
                facts={"label": name},
            )
    if corpus.kind == "class" and len(counts) > _MANY and 2 * len(counts) > total:
        yield Finding(
            kind="many-labels",
            level=Level.WRONG,
            split="train",
            line=f"{len(counts):,} labels for {total:,} rows: is {getattr(corpus.task.target, 'name', '')!r} the label?",
            fix="Name the column that holds the label.",
            count=len(counts),
            total=total,
        )
        return
    rare = sorted(name for name, count in counts.items() if count < RARE and name != "O")
    if rare:
        yield Finding(
            kind="rare",
            level=Level.COSTS,
            split="train",
            line=f"{len(rare)} of {len(counts)} labels have fewer than {RARE} rows: {_counted(rare, counts)}",
            fix="Label more of them, or put them together: they are hardly learnt, and their scores are luck.",
            count=sum(counts[name] for name in rare),
            total=total,
            facts={"labels": {name: counts[name] for name in rare[:_SAID]}},
        )


def _of_other(corpus: Corpus, split: str, counts: Counter[str], learnt: Counter[str]) -> Iterator[Finding]:
    total, unknown = sum(counts.values()), sorted(set(counts) - set(learnt))
    rows = corpus.rows_of(split)
    if unknown:
        concerned = [row for row in rows.tolist() if _has(corpus.targets[row], set(unknown))]
        yield of_rows(
            corpus,
            concerned,
            len(rows),
            kind="unlearnt",
            level=Level.WRONG,
            split=split,
            told=f"have labels that train lacks: {_counted(unknown, counts)}",
            fix="Add such rows to train, cut the splits by data.stratify, or correct the labels.",
            facts={"labels": {name: counts[name] for name in unknown[:_SAID]}},
        )
    if corpus.kind != "class" or not total or not learnt:
        return
    names = sorted(set(counts) & set(learnt))
    here = np.array([counts[name] for name in names]) / total
    there = np.array([learnt[name] for name in names]) / learnt.total()
    spread = np.sqrt(there * (1 - there) * (1 / total + 1 / learnt.total()))
    apart = np.abs(here - there)
    at = int(np.argmax(apart)) if names else -1
    if names and apart[at] > max(0.05, 5 * spread[at]):
        yield Finding(
            kind="shifted",
            level=Level.LOOK,
            split=split,
            line=f"the label {names[at]!r} has {here[at]:.1%} of the rows, and {there[at]:.1%} of train",
            fix="If both should be drawn alike, cut the splits by data.stratify.",
            count=round(float(apart[at]) * total),
            total=total,
            facts={"label": names[at], "here": float(here[at]), "train": float(there[at])},
        )


def _has(target: Any, names: set[str]) -> bool:
    return target is not None and not names.isdisjoint([target] if isinstance(target, str) else target)


def _counted(names: list[str], counts: Counter[str]) -> str:
    return listed([f"{name} ({counts[name]})" for name in names], 6)
