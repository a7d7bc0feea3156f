"""What ``train`` says of its data by itself: the worst findings of an audit that takes a second, kept by the data's content."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from hf_trainpipe.audit import balance, columns, repeats, tags, texts
from hf_trainpipe.audit.corpus import Corpus
from hf_trainpipe.audit.finding import Finding, Level
from hf_trainpipe.audit.twins import Twins
from hf_trainpipe.utils.atomic import write_bytes

if TYPE_CHECKING:
    from datasets import Dataset

    from hf_trainpipe.runtime.tasks.base import Task

VERSION = 1
MOST = 3
"""Findings that are said."""
_ROWS, _CHARACTERS = 30_000, 4_000_000
"""Beyond either the data are not looked at here: ``audit`` is."""
_SAID = ("repeated", "leak", "unlearnt", "dominant", "one-label", "empty", "unlabelled")
"""Kinds that preparing the data says or refuses already."""


def worst(task: Task, splits: Mapping[str, Dataset], *, known_by: str, root: Path) -> list[str]:
    """Sentences about the worst findings, three at most.

    Near duplicates and wrong labels take longer, and are not looked for.

    Args:
        known_by: The fingerprint of the data.
        root: The cache folder.
    """
    if sum(map(len, splits.values())) > _ROWS:
        return []
    settings = json.dumps([VERSION, known_by, task.to_json()], sort_keys=True, default=str)
    file = root / "audit" / f"{hashlib.sha256(settings.encode()).hexdigest()[:32]}.json"
    try:
        kept = json.loads(file.read_bytes())
        return [str(line) for line in kept["lines"]]
    except (OSError, ValueError, KeyError, TypeError):
        pass
    lines = _looked(task, splits)
    file.parent.mkdir(parents=True, exist_ok=True)
    write_bytes(file, json.dumps({"lines": lines}, ensure_ascii=False).encode(), durable=False)
    return lines


def _looked(task: Task, splits: Mapping[str, Dataset]) -> list[str]:
    corpus = Corpus(task, splits)
    if sum(map(len, corpus.shown)) > _CHARACTERS:
        return []
    twins = Twins.of(corpus, near=False)
    looks: list[Callable[[], Iterator[Finding]]] = [
        *(partial(look, twins) for look in (repeats.conflicts, repeats.crossed)),
        *(
            partial(look, corpus)
            for look in (
                texts.odd, texts.scripts, balance.balance, columns.leaking_columns, tags.broken_tags, tags.broken_spans,
            )
        ),
    ]  # fmt: skip
    found = [finding for look in looks for finding in look()]
    bad = sorted(
        (finding for finding in found if finding.level > Level.LOOK and finding.kind not in _SAID),
        key=lambda finding: finding.order,
    )
    return [f"{finding.split}: {finding.line}" for finding in bad[:MOST]]
