"""Cleaned files beside the old ones: what is surely wrong is taken out, what wants a person is listed. Nothing is changed in place.

Shapes: N rows of all splits.
"""

from __future__ import annotations

import csv
import json
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from hf_trainpipe.audit.finding import example
from hf_trainpipe.audit.tags import repaired_tags
from hf_trainpipe.audit.texts import CONTROL, repaired
from hf_trainpipe.data.columns import names_in_feature
from hf_trainpipe.data.place import FILE, LINE
from hf_trainpipe.errors import DataError
from hf_trainpipe.runtime.tasks.columns import TEXT
from hf_trainpipe.utils.atomic import new_folder

if TYPE_CHECKING:
    from hf_trainpipe.audit.whole import Audit

GROUP = "group"
"""The column of group ids: rows of a cluster have the same."""
_NEAR = 0.1
"""Share of a split up to which rows that nearly leak are taken out; beyond, splits should be cut anew by the groups."""


@dataclass
class Fixed:
    """What was written."""

    folder: Path
    data: str
    """The data of a recipe that reads it."""
    rows: dict[str, int]
    changes: Counter[str] = field(default_factory=Counter)
    review: int = 0
    notes: list[str] = field(default_factory=list)

    def to_json(self) -> dict[str, Any]:
        return {**vars(self), "folder": str(self.folder), "changes": dict(sorted(self.changes.items()))}

    def lines(self) -> list[tuple[str, str]]:
        """For the screen."""
        kept = ", ".join(f"{split} {count:,}" for split, count in self.rows.items())
        done = ", ".join(f"{count:,} {what}" for what, count in sorted(self.changes.items())) or "nothing to change"
        return [
            ("written", f"{self.folder}: {kept}; {done} (changes.csv)"),
            *([("review", f"{self.review:,} rows want a person: review.csv")] if self.review else []),
            *(("note", note) for note in self.notes),
            ("read it by", self.data),
        ]


@dataclass
class _Plan:
    """What becomes of the rows."""

    out: dict[int, str] = field(default_factory=dict)
    """Rows that are left out, and why."""
    cells: dict[int, dict[str, Any]] = field(default_factory=dict)
    """New cells by row and column."""
    edits: list[tuple[int, str]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def write(found: Audit, folder: Path) -> Fixed:
    """Write cleaned files, group ids and lists of what was changed and what is left to decide.

    Raises:
        DataError: the folder exists.
    """
    if folder.exists():
        raise DataError(
            f"{folder}: expected a folder that does not exist yet.", fix="Name another one: nothing is overwritten."
        )
    corpus, plan = found.corpus, _plan(found)
    group = GROUP if GROUP not in _columns(found) else f"duplicate_{GROUP}"
    fixed = Fixed(folder=folder, data="", rows={}, notes=plan.notes)
    names = found.twins.names
    folder.parent.mkdir(parents=True, exist_ok=True)
    with new_folder(folder) as building:
        for split in corpus.names:
            kept = 0
            with (building / f"{split}.jsonl").open("w", encoding="utf-8") as file:
                for row, cells in _rows(found, split):
                    if row not in plan.out:
                        line = {**cells, **plan.cells.get(row, {}), group: names[row]}
                        file.write(json.dumps(line, ensure_ascii=False, default=str) + "\n")
                        kept += 1
            fixed.rows[split] = kept
        changed = sorted([*plan.out.items(), *plan.edits])
        fixed.changes = Counter(f"rows left out: {why}" for why in plan.out.values()) + Counter(
            what for _, what in plan.edits
        )
        _list(building / "changes.csv", ("change",), ((row, (why,)) for row, why in changed), found)
        review = list(_for_review(found, plan))
        fixed.review = len(review)
        if review:
            _list(building / "review.csv", ("why", "label", "likely"), review, found)
    fixed.data = _source(fixed, group)
    return fixed


def _source(fixed: Fixed, group: str) -> str:
    files = [f"{split}='{split}.jsonl'" for split, count in fixed.rows.items() if count]
    cut = [] if "validation" in fixed.rows or "test" in fixed.rows else [f"validation=0.1, group={group!r}"]
    return f"Files({', '.join([*files, *cut])}, root={str(fixed.folder)!r})"


def _columns(found: Audit) -> set[str]:
    return {name for dataset in found.corpus.splits.values() for name in dataset.column_names}


def _plan(found: Audit) -> _Plan:
    corpus, twins, plan = found.corpus, found.twins, _Plan()
    for row in np.flatnonzero(corpus.is_empty).tolist():
        plan.out[row] = "its text is empty"
    if corpus.kind is not None:
        for row in range(len(corpus)):
            if corpus.targets[row] is None:
                plan.out.setdefault(row, "it has no label that can be read")
            elif corpus.kind == "tags" and len(corpus.targets[row]) != len(corpus.words[row]):
                plan.out.setdefault(row, "it has more words than tags, or fewer")
    for at, split in enumerate(corpus.names):
        for other in corpus.names[at + 1 :]:
            leaks = twins.across(split, other)
            for row in np.concatenate([leaks["exact"], leaks["same"]]).tolist():
                plan.out.setdefault(row, f"{other} has it too")
            if len(leaks["near"]) > _NEAR * len(corpus.rows_of(split)):
                plan.notes.append(
                    f"{len(leaks['near']):,} rows of {split} are nearly rows of {other} and stay: cut the splits anew by the groups"
                )
                continue
            for row in leaks["near"].tolist():
                plan.out.setdefault(row, f"{other} has nearly the same")
    _repeated(found, plan)
    _edited(found, plan)
    return plan


def _repeated(found: Audit, plan: _Plan) -> None:
    """One row stays of those with the same text and label in a split: the first by content."""
    corpus = found.corpus
    first: dict[tuple[int, int, Any], int] = {}
    order = sorted(range(len(corpus)), key=lambda row: (corpus.raw[row], row))
    for row in order:
        if row not in plan.out:
            target = corpus.targets[row] if corpus.kind != "spans" else json.dumps(corpus.targets[row], default=str)
            if corpus.kind is None and corpus.task.target is not None:  # what is right may be any of several
                continue
            known = (int(corpus.split_of[row]), int(found.twins.same[row]), target)
            if first.setdefault(known, row) != row:
                plan.out[row] = "it repeats another row with the same label"


def _edited(found: Audit, plan: _Plan) -> None:
    corpus = found.corpus
    if corpus.kind == "spans":  # places count characters
        return
    if corpus.kind == "tags":
        column = corpus.task.target
        if column is None or corpus.task.fields().get("scheme") != "BIO":
            return
        for row, tags in enumerate(corpus.targets):
            if row not in plan.out and (new := repaired_tags(tags)) != list(tags):
                plan.cells[row] = {column.name: new}
                plan.edits.append((row, "rows whose I- tags that begin an entity are B- now"))
        return
    for role, column in corpus.task.inputs.items():
        if column.cell != TEXT:
            continue
        for row, text in enumerate(corpus.texts[role]):
            clean = CONTROL.sub("", repaired(text))
            if row not in plan.out and clean != text and clean.strip():
                plan.cells.setdefault(row, {})[column.name] = clean
                plan.edits.append((row, "texts decoded, or without invisible characters"))


def _rows(found: Audit, split: str) -> Iterator[tuple[int, dict[str, Any]]]:
    """The rows of a split with their cells; ids of a ``ClassLabel`` by their names."""
    corpus = found.corpus
    dataset = corpus.splits[split].with_format(None)
    names = {name: names_in_feature(dataset, name) for name in dataset.column_names}
    for row, cells in zip(corpus.rows_of(split).tolist(), dataset, strict=True):
        yield (
            row,
            {
                name: names[name][cell] if names[name] and isinstance(cell, int) and cell >= 0 else cell  # type: ignore[index]
                for name, cell in cells.items()
                if name not in (FILE, LINE)
            },
        )


def _for_review(found: Audit, plan: _Plan) -> Iterator[tuple[int, tuple[str, str, str]]]:
    """Rows that stay and that a person should look at."""
    corpus = found.corpus
    if corpus.kind not in ("class", "set", "number", "tags"):
        return
    groups: dict[tuple[int, int], set[Any]] = {}
    rows = [row for row in range(len(corpus)) if row not in plan.out]
    for row in rows:
        groups.setdefault((int(corpus.split_of[row]), int(found.twins.same[row])), set()).add(corpus.targets[row])
    for row in rows:
        if len(groups[int(corpus.split_of[row]), int(found.twins.same[row])]) > 1:
            yield row, ("the same text has another label too", str(corpus.targets[row]), "")
    if found.suspects is not None:
        for row, given, likely in found.suspects.listed_rows():
            if row not in plan.out:
                yield row, ("its label is probably wrong", given, likely)


def _list(file: Path, head: tuple[str, ...], rows: Any, found: Audit) -> None:
    with file.open("w", encoding="utf-8", newline="") as stream:
        table = csv.writer(stream)
        table.writerow(["split", "row", "place", *head, "text"])
        for row, said in rows:
            told = example(found.corpus, row)
            table.writerow([told["split"], told["row"], told["place"], *said, told["text"]])
