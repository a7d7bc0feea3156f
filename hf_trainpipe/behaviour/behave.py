"""Whether a package's answers hold under small changes of its inputs: pass rates with intervals, and the worst failures.

No labels are needed: the answer to a changed input is held against the answer to the input as it was. Places of entities are taken
back to the input as it was, through the edits, before they are compared.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from hf_trainpipe.behaviour.answers import Comparison, comparison_for
from hf_trainpipe.behaviour.perturbations import BUILT_IN, Draws, Perturbation
from hf_trainpipe.behaviour.perturbed import Perturbed, perturbed
from hf_trainpipe.errors import DataError, closest
from hf_trainpipe.metrics.discovery import wilson
from hf_trainpipe.package.predict import answer_rows

if TYPE_CHECKING:
    from hf_trainpipe.runtime.handler.predictor import Predictor

ROWS = 1_000
"""Rows that are changed, where nothing else is asked."""
_CHUNK, _WORST, _TEXT = 1_000, 5, 400


@dataclass(frozen=True)
class Asked:
    """A row."""

    row: int
    """Its number, by which changes are drawn."""
    place: str
    given: Any
    """The input, as a client sends it."""
    fields: Mapping[str, Any] = field(default_factory=dict)
    """Its columns; none of a line of text."""


@dataclass(frozen=True, kw_only=True)
class Failure:
    """A row whose answer was not as expected."""

    row: int
    place: str
    before: str
    """The input."""
    after: str
    """As it was changed."""
    answer_before: str
    answer_after: str
    moved: float
    """How far the answer moved: of a score, of a number, or in entities."""


@dataclass(frozen=True, kw_only=True)
class Held:
    """What one perturbation did."""

    perturbation: Perturbation
    rows: int
    """That it changed, and whose answers were compared."""
    passed: int
    low: float
    high: float
    """Of the pass rate (Wilson)."""
    unchanged: int
    """Rows in which it found nothing to change."""
    unanswered: int
    worst: tuple[Failure, ...]
    """Those whose answer moved most, first."""

    @property
    def rate(self) -> float:
        return self.passed / self.rows if self.rows else math.nan

    def to_json(self) -> dict[str, Any]:
        rate, low, high = (None if math.isnan(value) else value for value in (self.rate, self.low, self.high))
        one = self.perturbation
        return {
            "name": one.name, "about": one.about, "expect": one.expect, "label": one.label, "rows": self.rows, "passed": self.passed,
            "rate": rate, "low": low, "high": high, "unchanged": self.unchanged, "unanswered": self.unanswered,
            "worst": [vars(failure) for failure in self.worst],
        }  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Behaviour:
    """What :func:`behave` found."""

    name: str
    """The file or split."""
    rows: int
    """That were changed."""
    of: int
    seed: int
    confidence: float
    tolerance: float
    compared: str
    """What of the answers is compared."""
    held: tuple[Held, ...]
    left_out: Counter[str] = field(default_factory=Counter)
    """Rows that were not changed at all, by reason."""

    def to_json(self) -> dict[str, Any]:
        names = ("rows", "seed", "confidence", "tolerance", "compared")
        told = {name: getattr(self, name) for name in names}
        return {
            "of": self.name, "rows_of_all": self.of, **told, "left_out": dict(self.left_out),
            "perturbations": [one.to_json() for one in self.held],
        }  # fmt: skip


Write = Callable[[Asked, Perturbation, Perturbed], None]


def behave(
    predictor: Predictor,
    rows: Sequence[Asked],
    *,
    name: str,
    perturbations: Sequence[Perturbation] = BUILT_IN,
    most_rows: int = ROWS,
    tolerance: float | None = None,
    confidence: float = 0.95,
    seed: int = 0,
    write: Write | None = None,
    progress: Callable[[int], None] = lambda _: None,
) -> Behaviour:
    """Change inputs and hold the answers against those to the inputs as they were.

    Args:
        rows: Equal inputs are asked once, so that rows are independent.
        name: What messages call them.
        most_rows: Of more rows so many are drawn, by the seed.
        tolerance: How far a score, or a number that is answered, may move and still count as the same; None: 0.05 of a score; of
            numbers a tenth of the range between the 10th and the 90th percentile of the answers.
        write: Called with each changed row.
        progress: Called with the number of answers that are there.

    Raises:
        DataError: no row can be answered, or a perturbation names a label that there is not.
        RecipeError: the task's answers cannot be compared.
    """
    judge = comparison_for(predictor.task)
    made = [one for one in map(judge.asked, perturbations) if one is not None]
    left_out: Counter[str] = Counter()
    chosen = _drawn(rows, most_rows, seed, left_out)
    done = 0

    def answered(given: Sequence[Any]) -> list[tuple[Any, str | None]]:
        nonlocal done
        found: list[tuple[Any, str | None]] = []
        for start in range(0, len(given), _CHUNK):
            found += answer_rows(predictor, given[start : start + _CHUNK], {})
            progress(done := done + len(given[start : start + _CHUNK]))
        return found

    asked: list[Asked] = []
    before: list[Any] = []
    for row, (answer, reason) in zip(chosen, answered([one.given for one in chosen]), strict=True):
        if reason is None:
            asked.append(row)
            before.append(answer)
        else:
            left_out[reason] += 1
    if not asked:
        reasons = ", ".join(f"{count:,} {reason}" for reason, count in left_out.items()) or "it has none"
        raise DataError(
            f"{name}: none of its {len(rows):,} rows can be answered: {reasons}.",
            fix="Check the file, or choose the column that holds the text with --column NAME.",
        )
    allowed = judge.tolerance(before) if tolerance is None else tolerance
    held = []
    for perturbation in made:
        changed = [perturbed(one.given, perturbation, Draws.of(seed, one.row, perturbation.name)) for one in asked]
        places = [at for at, new in enumerate(changed) if new is not None]
        new = [one for one in changed if one is not None]
        if write is not None:
            for at, one in zip(places, new, strict=True):
                write(asked[at], perturbation, one)
        after = answered([one.given for one in new])
        compared = []
        for at, one, (answer, reason) in zip(places, new, after, strict=True):
            if reason is None:
                compared.append((asked[at], one, before[at], answer))
        held.append(
            _held(
                judge,
                perturbation,
                compared,
                allowed=allowed,
                confidence=confidence,
                asked=len(asked),
                changed=len(new),
            )
        )
    return Behaviour(
        name=name, rows=len(asked), of=len(rows), seed=seed, confidence=confidence, tolerance=allowed, compared=judge.compares,
        held=tuple(held), left_out=left_out,
    )  # fmt: skip


def chosen_perturbations(
    only: Sequence[str] = (), further: Sequence[Perturbation] = (), expect: Mapping[str, str] | None = None
) -> tuple[Perturbation, ...]:
    """The built-in perturbations and a person's own, or some of them, with other expectations.

    Raises:
        DataError: there is none of that name.
    """
    known = {one.name: one for one in (*BUILT_IN, *further)}
    for name in (*only, *(expect or {})):
        if name not in known:
            raise DataError(
                f"behave: expected a perturbation among {', '.join(known)}, found {name!r}.{closest(name, known)}",
                fix="Choose one of them, or write your own into a file: --perturbations FILE.",
            )
    taken = [known[name] for name in dict.fromkeys(only)] if only else list(known.values())
    return tuple(replace(one, expect=(expect or {}).get(one.name, one.expect)) for one in taken)  # type: ignore[arg-type]


def _drawn(rows: Sequence[Asked], most: int, seed: int, left_out: Counter[str]) -> list[Asked]:
    """Rows with an input that did not come before, at most so many, in their order."""
    seen: set[str] = set()
    found = []
    for one in rows:
        key = repr(one.given)
        if key in seen:
            left_out["repeats of another row"] += 1
            continue
        seen.add(key)
        found.append(one)
    if len(found) <= most:
        return found
    left_out["not drawn"] += len(found) - most
    places = np.random.Generator(np.random.Philox(seed)).permutation(len(found))[:most]
    return [found[at] for at in np.sort(places)]


def _held(
    judge: Comparison,
    perturbation: Perturbation,
    compared: Iterable[tuple[Asked, Perturbed, Any, Any]],
    *,
    allowed: float,
    confidence: float,
    asked: int,
    changed: int,
) -> Held:
    failures: list[tuple[float, Asked, Perturbed, Any, Any]] = []
    rows = 0
    for one, new, before, after in compared:
        rows += 1
        passes, moved = judge.holds(perturbation, before, after, new, allowed)
        if not passes:
            failures.append((moved, one, new, before, after))
    failures.sort(key=lambda failure: (-failure[0], failure[1].row))
    low, high = wilson(rows - len(failures), rows, confidence=confidence)
    worst = tuple(
        Failure(
            row=one.row, place=one.place, before=_shown(one.given), after=_shown(new.given), answer_before=judge.told(before),
            answer_after=judge.told(after), moved=moved,
        )
        for moved, one, new, before, after in failures[:_WORST]
    )  # fmt: skip
    return Held(
        perturbation=perturbation, rows=rows, passed=rows - len(failures), low=low, high=high, unchanged=asked - changed,
        unanswered=changed - rows, worst=worst,
    )  # fmt: skip


def _shown(given: Any) -> str:
    if isinstance(given, dict):
        values = [value for value in given.values() if value is not None]
        return " | ".join(" ".join(value) if isinstance(value, list) else str(value) for value in values)[:_TEXT]
    return str(given)[:_TEXT]
