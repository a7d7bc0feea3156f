"""What an audit finds: each finding with how bad it is, where, and what to do."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from enum import IntEnum
from heapq import nsmallest
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from hf_trainpipe.audit.corpus import Corpus

_EXAMPLES = 5
_SHOWN = 160
_NOTICED = 0.005
"""Share of a split from which a score moves by more than is said of it: half a point."""


class Level(IntEnum):
    """How bad a finding is."""

    LOOK = 1
    """Worth a look."""
    COSTS = 2
    """Costs part of a score, or of what it says."""
    WRONG = 3
    """Training refuses it, or a score says something else than it seems to."""


@dataclass(frozen=True, kw_only=True)
class Finding:
    """One thing that was found."""

    kind: str
    """What it is, in a word: ``leak``, ``near-leak``, ``conflict``, ..."""
    level: Level
    split: str
    """Where; empty: in all."""
    line: str
    """What was found, a sentence."""
    fix: str
    """What to do about it."""
    count: int
    """Rows that it concerns."""
    total: int
    """Of how many."""
    rows: tuple[dict[str, Any], ...] = ()
    """Some of them: ``split``, ``row`` (from 0), ``place``, ``text``, and what else is worth saying."""
    facts: dict[str, Any] = field(default_factory=dict)
    """Further numbers."""

    @property
    def order(self) -> tuple[int, float, str, str]:
        """By what findings are sorted: the worst first."""
        share = self.count / max(1, self.total)
        return -self.level, -round(share, 9), self.kind, self.split

    def to_json(self) -> dict[str, Any]:
        return {**asdict(self), "level": self.level.name.lower(), "rows": list(self.rows)}


def of_rows(
    corpus: Corpus,
    rows: Sequence[int] | NDArray[np.int64],
    total: int,
    *,
    kind: str,
    level: Level,
    split: str,
    told: str,
    fix: str,
    facts: dict[str, Any] | None = None,
    **further: Sequence[Any],
) -> Finding:
    """A finding about some of the ``total`` rows of a split.

    Args:
        told: What follows "137 of 1,115 rows (12.3%)".
        further: More to say of each of ``rows``.
    """
    return Finding(
        kind=kind,
        level=level,
        split=split,
        line=f"{share(len(rows), total)} {told}",
        fix=fix,
        count=len(rows),
        total=total,
        rows=examples(corpus, rows, most=_EXAMPLES, **further),
        facts=facts or {},
    )


def examples(
    corpus: Corpus, rows: Sequence[int] | NDArray[np.int64], *, most: int = _EXAMPLES, **further: Sequence[Any]
) -> tuple[dict[str, Any], ...]:
    """Some rows for a person, chosen by what they say, so that the order of rows does not matter.

    Args:
        further: More to say of each of ``rows``.
    """
    found = [int(row) for row in rows]
    order = nsmallest(most, range(len(found)), key=lambda at: (corpus.raw[found[at]], found[at]))
    return tuple(
        {**example(corpus, found[at]), **{name: values[at] for name, values in further.items()}} for at in order
    )


def example(corpus: Corpus, row: int) -> dict[str, Any]:
    """One row for a person."""
    split, number = corpus.home(row)
    text = " ".join(corpus.shown[row].split())
    shown = text if len(text) <= _SHOWN else f"{text[: _SHOWN - 1]}…"
    return {"split": split, "row": number, "place": corpus.place(row), "text": shown}


def level_of(count: int, total: int) -> Level:
    """Of what spoils a score by its share of the rows."""
    return Level.COSTS if count >= _NOTICED * total else Level.LOOK


def share(count: int, total: int) -> str:
    """``137 of 1,115 rows (12.3%)``."""
    return f"{count:,} of {total:,} rows ({count / max(1, total):.1%})"
