"""New labels held against what is frozen and what is known, before anything is trained on them.

A row that the test or validation split has too, exactly, the same in normal form or nearly (docs/audit.md), is never trained on: a
score on such rows says nothing. What repeats a training row adds nothing; what contradicts one is told, and the older row stays
unless newer labels are said to be right. A share of what is left is held out for the gate, by the content of the rows alone, so that
a row is always on the same side, whatever comes with it.

Shapes: N rows of all splits and the new ones.
"""

from __future__ import annotations

import csv
import hashlib
import json
from collections import Counter
from dataclasses import dataclass, field
from io import StringIO
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from hf_trainpipe.audit.corpus import Corpus
from hf_trainpipe.audit.twins import Twins
from hf_trainpipe.data.added_rows import ADDED
from hf_trainpipe.data.audit import audit
from hf_trainpipe.data.chosen_rows import write as write_rows
from hf_trainpipe.data.columns import names_in_feature
from hf_trainpipe.data.rows import Rows
from hf_trainpipe.data.spelling import key
from hf_trainpipe.data.unread import UnreadEncoder
from hf_trainpipe.errors import DataError
from hf_trainpipe.utils.atomic import write_bytes, write_json
from hf_trainpipe.utils.brief import listed

if TYPE_CHECKING:
    from datasets import Dataset

    from hf_trainpipe.recipe import Recipe

Conflicts = Literal["old", "new"]
_FROZEN = ("test", "validation")
SELECTED = 0.1
"""Share of the new rows that joins validation, where there is one: without them the best step might be one before they are learnt."""


@dataclass
class Merged:
    """What becomes of new labels and of training rows."""

    corpus: Corpus
    trained: list[int] = field(default_factory=list)
    """New rows that are trained on, ascending."""
    selected: list[int] = field(default_factory=list)
    """New rows that join validation, so that the best step is one that has learnt from the others."""
    fresh: list[int] = field(default_factory=list)
    """New rows that are held out for the gate."""
    left_out: dict[int, str] = field(default_factory=dict)
    """Other new rows, and why."""
    replaced: dict[int, int] = field(default_factory=dict)
    """Training rows that a newer label contradicts and replaces, and by which row."""
    conflicts: list[tuple[int, str, str, str]] = field(default_factory=list)
    """New rows whose text has another label elsewhere: the row, its label, where, and that label."""

    @property
    def counts(self) -> dict[str, Any]:
        """For people and programs."""
        return {
            "labels": len(self.corpus.rows_of(ADDED)),
            "trained_on": len(self.trained),
            "selected_on": len(self.selected),
            "held_out": len(self.fresh),
            "left_out": dict(sorted(Counter(self.left_out.values()).items())),
            "replaced": len(self.replaced),
            "conflicts": len(self.conflicts),
            "training_rows": len(self.corpus.rows_of("train")) - len(self.replaced) + len(self.trained),
        }


def merge(
    recipe: Recipe, new: Dataset, *, hold_out: float, conflicts: Conflicts, frozen: Dataset | None = None
) -> Merged:
    """Decide about each new row.

    Args:
        new: With the columns of the recipe's task.
        hold_out: Share of the rows that is held out.
        conflicts: Whose label counts where a new row contradicts a training row.
        frozen: Further test rows.

    Raises:
        DataError: the recipe's data cannot be read, is streamed, or nothing is left to train on.
    """
    if recipe.data.stream() is not None:
        raise DataError(
            f"{recipe.data.describe()} is streamed: its rows cannot be held against new ones.",
            fix="Set data.streaming to false, or data.take to read so many rows.",
        )
    splits = dict(recipe.data.splits())
    audit(recipe.task, splits)
    fit = Rows(splits["train"], "train", encoder=UnreadEncoder(steps=()), others=splits, is_training=True)
    task = recipe.task.fit(fit)
    there = {**splits, **({"frozen": frozen} if frozen is not None else {})}
    corpus = Corpus(task, {**there, ADDED: new})
    twins = Twins.of(corpus)
    found = Merged(corpus)
    _unusable(found, set(task.label_names))
    for split in (*(name for name in _FROZEN if name in there), *(["frozen"] if frozen is not None else [])):
        _seen(found, twins, split)
    _against_training(found, twins, conflicts)
    _among_themselves(found, twins)
    kept = [row for row in corpus.rows_of(ADDED).tolist() if row not in found.left_out]
    names = twins.names
    selects = hold_out + (SELECTED if "validation" in there else 0.0)
    for row in kept:
        share = _share(names[row], recipe.seed)
        (found.fresh if share < hold_out else found.selected if share < selects else found.trained).append(row)
    if not found.trained:
        told = ", ".join(f"{count:,} {why}" for why, count in found.counts["left_out"].items())
        raise DataError(
            f"none of the {len(new):,} new labels is left to train on: {told or 'all are held out'}.",
            fix="Give other rows, or hold less out: --hold-out 0.2",
        )
    return found


def _share(name: str, seed: int) -> float:
    """A number in [0, 1) that follows from a cluster of rows alone."""
    digest = hashlib.blake2b(f"{seed} {name}".encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") / 2**64


def _unusable(found: Merged, labels: set[str]) -> None:
    corpus = found.corpus
    for row in corpus.rows_of(ADDED).tolist():
        target = corpus.targets[row]
        if corpus.is_empty[row]:
            found.left_out[row] = "without a text"
        elif corpus.kind is not None and target is None:
            found.left_out[row] = "without a label that can be read"
        elif corpus.kind in ("class", "set", "tags") and labels:
            said = {target} if corpus.kind == "class" else set(target)
            if unknown := sorted(said - labels):
                found.left_out[row] = f"with labels that training has not: {listed(unknown, 3, quoted=True)}"


def _seen(found: Merged, twins: Twins, split: str) -> None:
    """New rows that a frozen split has; where its label is another one, that is told."""
    corpus = found.corpus
    rights: dict[int, set[Any]] = {}
    for row in corpus.rows_of(split).tolist():
        rights.setdefault(int(twins.same[row]), set()).add(_right(corpus, row))
    across = twins.across(ADDED, split)
    name = "test" if split == "frozen" else split
    for how, rows in across.items():
        for row in rows.tolist():
            known = rights.get(int(twins.same[row]), set())
            if known and _right(corpus, row) not in known and row not in found.left_out:
                found.conflicts.append((row, _told(_right(corpus, row)), name, " or ".join(sorted(map(_told, known)))))
            found.left_out.setdefault(row, f"nearly in {name}" if how == "near" else f"in {name}")


def _against_training(found: Merged, twins: Twins, conflicts: Conflicts) -> None:
    corpus = found.corpus
    known: dict[int, list[int]] = {}
    for row in corpus.rows_of("train").tolist():
        known.setdefault(int(twins.same[row]), []).append(row)
    for row in corpus.rows_of(ADDED).tolist():
        olds = known.get(int(twins.same[row]), [])
        if row in found.left_out or not olds:
            continue
        others = [old for old in olds if _right(corpus, old) != _right(corpus, row)]
        if len(others) < len(olds):
            found.left_out[row] = "in train with the same label"
            continue
        labels = " or ".join(sorted({_told(_right(corpus, old)) for old in others}))
        found.conflicts.append((row, _told(_right(corpus, row)), "train", labels))
        if conflicts == "old":
            found.left_out[row] = "in train with another label"
        else:
            found.replaced |= dict.fromkeys(others, row)


def _among_themselves(found: Merged, twins: Twins) -> None:
    """Of new rows that are the same one stays; where they contradict each other none does."""
    corpus = found.corpus
    groups: dict[int, list[int]] = {}
    for row in corpus.rows_of(ADDED).tolist():
        if row not in found.left_out:
            groups.setdefault(int(twins.same[row]), []).append(row)
    for rows in groups.values():
        rights = {_told(_right(corpus, row)) for row in rows}
        if len(rights) == 1:
            found.left_out |= dict.fromkeys(rows[1:], "twice among the new ones")
            continue
        for row in rows:
            mine = _told(_right(corpus, row))
            found.conflicts.append((row, mine, "new labels", " or ".join(sorted(rights - {mine}))))
            found.left_out[row] = "with several labels among the new ones"
        found.replaced = {old: row for old, row in found.replaced.items() if row not in rows}


def _right(corpus: Corpus, row: int) -> Any:
    """What is right of a row, so that equal labels are equal; as JSON where the audit does not read it."""
    target = corpus.targets[row]
    if corpus.kind not in (None, "spans"):
        return target
    if corpus.kind == "spans":
        return json.dumps(target, default=str)
    column = corpus.task.target
    return None if column is None else json.dumps([corpus.column(name)[row] for name in column.columns], default=str)


def _told(right: Any) -> str:
    return right if isinstance(right, str) else json.dumps(right, ensure_ascii=False, default=str)


# -- files -------------------------------------------------------------------------------------------------------------


def write(found: Merged, folder: Path) -> None:
    """Write what a run reads: ``added.jsonl``, ``rows.json``; what the gate reads: ``fresh.jsonl``; and for people
    ``conflicts.csv`` and ``merge.json``. The same labels give the same bytes."""
    corpus = found.corpus
    folder.mkdir(parents=True, exist_ok=True)
    start = int(corpus.starts[corpus.names.index(ADDED)])
    added = sorted([*found.trained, *found.selected])
    for name, rows in (("added", added), ("fresh", found.fresh)):
        write_bytes(folder / f"{name}.jsonl", "".join(_lines(corpus, [row - start for row in rows])).encode())
    old = [at for at, row in enumerate(corpus.rows_of("train").tolist()) if row not in found.replaced]
    places = {row: at for at, row in enumerate(added)}
    chosen: dict[str, Any] = {"train": [("train", old), (ADDED, [places[row] for row in found.trained])]}
    chosen |= {name: [(name, range(len(corpus.splits[name])))] for name in _FROZEN if name in corpus.splits}
    if found.selected:
        chosen["validation"].append((ADDED, [places[row] for row in found.selected]))
    write_rows(folder / "rows.json", chosen)
    table = StringIO()
    writer = csv.writer(table, lineterminator="\n")
    writer.writerow(["place", "label", "where", "other", "text"])
    writer.writerows(
        [corpus.place(row), label, where, other, corpus.shown[row][:500]]
        for row, label, where, other in found.conflicts
    )
    write_bytes(folder / "conflicts.csv", table.getvalue().encode())
    write_json(folder / "merge.json", {"schema": 1, **found.counts}, sort_keys=False)


def _lines(corpus: Corpus, rows: list[int]) -> list[str]:
    """New rows as JSON, rows counted among the new ones; ids of a ``ClassLabel`` by their names."""
    dataset = corpus.splits[ADDED].with_format(None)
    start = int(corpus.starts[corpus.names.index(ADDED)])
    names = {name: names_in_feature(dataset, name) for name in dataset.column_names}
    spelling = _names_in_training(corpus)
    lines = []
    for row in rows:
        cells = {
            name: (names[name] or ())[cell] if names[name] and isinstance(cell, int) and cell >= 0 else cell
            for name, cell in dataset[row].items()
        }
        if spelling and corpus.task.target is not None:
            right = corpus.targets[start + row]
            cells[corpus.task.target.name] = (
                spelling.get(right, right)
                if isinstance(right, str)
                else [spelling.get(name, name) for name in right or ()]
            )
        lines.append(json.dumps(cells, ensure_ascii=False, default=str) + "\n")
    return lines


def _names_in_training(corpus: Corpus) -> dict[str, str]:
    """Label to its name in the ``ClassLabel`` of the training data; empty where that has none.

    Ids of a file without one are positions among the recipe's labels, which may be in another order than the names of the
    ``ClassLabel``: written as ids they would become other labels (docs/labels.md).
    """
    target = corpus.task.target
    if target is None or target.parts or corpus.kind not in ("class", "set", "tags"):
        return {}
    feature = names_in_feature(corpus.splits["train"], target.name) or ()
    by_name = {key(name): name for name in feature}
    labels = [key(name) for name in corpus.task.label_names]
    return by_name if any(label in by_name for label in labels) else dict(zip(labels, feature, strict=False))
