"""Runs held against the first of them: scores on the same rows by paired tests, and what differs in their recipes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hf_trainpipe.errors import DataError
from hf_trainpipe.metrics.paired import McNemar, differences, holm, mcnemar, right
from hf_trainpipe.metrics.registry import LOSS, greater_is_better, is_external
from hf_trainpipe.metrics.saved import Predicted, taken
from hf_trainpipe.package.card import flatten
from hf_trainpipe.package.layout import finite
from hf_trainpipe.report.facts import Facts

_BY_ROW = ("accuracy", "exact_match")
"""Scores that count whole answers: their p-value is McNemar's exact one."""


@dataclass(kw_only=True)
class Held:
    """A score of a run held against that of the first run."""

    run: str
    split: str
    metric: str
    first: float
    second: float
    difference: float
    """Of the second minus the first."""
    low: float
    high: float
    p: float
    """Of this score alone."""
    adjusted: float = float("nan")
    """The same by Holm's correction for all scores that are compared."""
    test: str = "paired bootstrap"
    different: bool = False
    better: bool | None = None
    """Whether the second is better, of those that differ."""


@dataclass(kw_only=True)
class Comparison:
    """What :func:`compare` found."""

    runs: list[str]
    confidence: float
    scores: list[Held] = field(default_factory=list)
    by_row: list[dict[str, Any]] = field(default_factory=list)
    """Of each run and split the rows that only one of the two gets right."""
    notes: list[str] = field(default_factory=list)
    """Rows that are not in both, and whatever else limits what is said."""
    recipe: list[dict[str, Any]] = field(default_factory=list)
    """Fields that differ: ``field``, and ``values`` of each run."""

    @property
    def verdict(self) -> str:
        """The result in a sentence."""
        found = [one for one in self.scores if one.different]
        if not self.scores:
            return "Nothing could be compared: no two runs recorded predictions of the same rows."
        level = f"{100 * self.confidence:g} %"
        if not found:
            return f"No difference shown, in {len(self.scores)} scores at {level} confidence."
        said = [
            f"{one.run} is {'better' if one.better else 'worse'} than {self.runs[0]} in {one.metric} on {one.split}: "
            f"{one.difference:+.4f}, between {one.low:+.4f} and {one.high:+.4f} (p {_p(one.adjusted)})"
            for one in found
        ]
        more = f"; and in {len(said) - 3} more scores" if len(said) > 3 else ""
        return f"{'; '.join(said[:3])}{more}. {level} confidence, over all {len(self.scores)} scores together."

    def to_json(self) -> dict[str, Any]:
        """For programs; undefined numbers are None."""
        return {
            **asdict(self),
            "scores": [finite(asdict(one)) for one in self.scores],
            "verdict": self.verdict,
        }


def compare(
    runs: Sequence[Facts], *, confidence: float = 0.95, resamples: int | None = None, seed: int = 0
) -> Comparison:
    """Hold each run against the first.

    A score differs where its p-value, by Holm's correction for all that are compared, is below ``1 - confidence``.

    Raises:
        DataError: fewer than two runs, or of other tasks.
    """
    if len(runs) < 2:
        raise DataError("compare needs two runs or more.", fix="Name their folders: hf-trainpipe compare runs/a runs/b")
    names = _names(runs)
    found = Comparison(runs=names, confidence=confidence, recipe=_recipes(runs))
    first = runs[0]
    for name, other in zip(names[1:], runs[1:], strict=True):
        for split in ("validation", "test"):
            pair = _pair(found, first, other, split, name=name)
            if pair is not None:
                _hold(found, first, other, pair, split, name=name, resamples=resamples, seed=seed)
    for one, adjusted in zip(found.scores, holm([one.p for one in found.scores]), strict=True):
        one.adjusted, one.different = adjusted, adjusted < 1 - confidence
        one.better = (one.difference > 0) == greater_is_better(one.metric) if one.different else None
    if found.recipe and all(entry["field"] in ("seed", "name") for entry in found.recipe):
        found.notes.append("The settings are the same: only the seed differs.")
    if found.scores:
        found.notes.append(
            "The tests are over rows: they tell of these trained models. Another seed gives other models."
        )
    return found


def _names(runs: Sequence[Facts]) -> list[str]:
    """The folders' names; whole paths where two are called the same."""
    short = [run.path.resolve().name for run in runs]
    return short if len(set(short)) == len(short) else [str(run.path) for run in runs]


def _pair(
    found: Comparison, first: Facts, other: Facts, split: str, *, name: str
) -> tuple[Predicted, Predicted] | None:
    """The rows of a split that both runs predicted, in one order and with one order of labels; what is left out is noted."""
    lacking = [run for run in (first, other) if split not in run.predicted]
    if lacking:
        if any((run.result.get("scores") or {}).get(split) for run in lacking):
            paths = " and ".join(str(run.path) for run in lacking)
            found.notes.append(
                f"{split} is not compared: {paths} recorded no predictions of its rows (`hf-trainpipe package RUN` scores it once more)."
            )
        return None
    one, two = first.predicted[split], other.predicted[split]
    if one.predictions.kind != two.predictions.kind:
        raise DataError(
            f"{first.path} and {other.path} have other tasks: {one.predictions.kind} and {two.predictions.kind}.",
            fix="Compare runs of the same task.",
        )
    places = _same_rows(one.rows, two.rows)
    if not len(places):
        found.notes.append(f"{split} is not compared: {name} was scored on other rows than {found.runs[0]}.")
        return None
    if len(places) < max(len(one), len(two)):
        found.notes.append(
            f"{split}: {len(places):,} rows are in both; {len(one) - len(places):,} only in {found.runs[0]} and "
            f"{len(two) - len(places):,} only in {name} are left out."
        )
    one, two = taken(one, places[:, 0]), taken(two, places[:, 1])
    aligned = _in_order_of(two, one.predictions.labels)
    if aligned is None:
        found.notes.append(f"{split} is not compared: {name} has other labels than {found.runs[0]}.")
        return None
    same = _same_gold(one, aligned)
    if not same.all():
        found.notes.append(f"{split}: {int((~same).sum()):,} rows have other gold labels in {name} and are left out.")
        kept = np.flatnonzero(same)
        one, aligned = taken(one, kept), taken(aligned, kept)
    return (one, aligned) if len(one) else None


def _same_rows(first: NDArray[np.uint64], second: NDArray[np.uint64]) -> NDArray[np.int64]:
    """[M, 2] positions of the same rows; of equal texts the first with the first, and so on."""

    def numbered(rows: NDArray[np.uint64]) -> dict[tuple[int, int], int]:
        seen: Counter[int] = Counter()
        found = {}
        for position, row in enumerate(rows.tolist()):
            found[row, seen[row]] = position
            seen[row] += 1
        return found

    others = numbered(second)
    pairs = [(position, others[key]) for key, position in numbered(first).items() if key in others]
    return np.array(pairs, dtype=np.int64).reshape(-1, 2)


def _in_order_of(found: Predicted, labels: Sequence[str]) -> Predicted | None:
    """Predictions with their labels in another order; None where they are not the same labels."""
    held = found.predictions
    if tuple(held.labels) == tuple(labels):
        return found
    if sorted(held.labels) != sorted(labels):
        return None
    order = [list(held.labels).index(label) for label in labels]
    place = np.argsort(order)

    def renamed(ids: NDArray[Any]) -> NDArray[Any]:
        return np.where(ids >= 0, place[ids], ids)

    outputs = held.outputs[:, order] if held.outputs.ndim == 2 else renamed(held.outputs)
    references = held.references[:, order] if held.references.ndim == 2 else renamed(held.references)
    threshold = held.threshold if np.ndim(held.threshold) == 0 else np.asarray(held.threshold)[order]
    changed = replace(held, outputs=outputs, references=references, labels=tuple(labels), threshold=threshold)
    return replace(found, predictions=changed)


def _same_gold(one: Predicted, two: Predicted) -> NDArray[np.bool_]:
    gold, other = one.predictions.references, two.predictions.references
    starts, starts_two = one.predictions.word_starts, two.predictions.word_starts
    if starts is None or starts_two is None:
        same = np.isclose(gold, other)
        return np.asarray(same.all(axis=1) if same.ndim == 2 else same)
    return np.array(
        [
            np.array_equal(gold[starts[at] : starts[at + 1]], other[starts_two[at] : starts_two[at + 1]])
            for at in range(len(one))
        ]
    )


def _hold(
    found: Comparison, first: Facts, other: Facts, pair: tuple[Predicted, Predicted], split: str, *, name: str, resamples: int | None,
    seed: int,
) -> None:  # fmt: skip
    one, two = (side.predictions for side in pair)
    scored = [list((run.result.get("scores") or {}).get(split) or {}) for run in (first, other)]
    both = [metric for metric in scored[0] if metric in scored[1]]
    own = (set(one.own) & set(two.own)) if one.kind == "own" else set()
    usable = [m for m in both if m != LOSS and not is_external(m) and (one.kind != "own" or m in own)]
    sides = right(one), right(two)
    rows: McNemar | None = None
    if sides[0] is not None and sides[1] is not None:
        rows = mcnemar(sides[0], sides[1])
        found.by_row.append({"run": name, "split": split, "rows": len(one), **asdict(rows)})
    for metric, gap in differences(
        one, two, usable, confidence=found.confidence, resamples=resamples, seed=seed
    ).items():
        exact = rows is not None and metric in _BY_ROW and one.kind != "tags"
        found.scores.append(
            Held(
                run=name,
                split=split,
                metric=metric,
                first=gap.first,
                second=gap.second,
                difference=gap.value,
                low=gap.low,
                high=gap.high,
                p=rows.p if exact and rows is not None else gap.p,
                test="McNemar" if exact else "paired bootstrap",
            )
        )


def _recipes(runs: Sequence[Facts]) -> list[dict[str, Any]]:
    """Fields that are not the same in all, in the order of the recipe."""
    flat = [
        dict(flatten({**(run.document.get("recipe") or {}), "fingerprints": run.document.get("fingerprints") or {}}))
        for run in runs
    ]
    fields = list(dict.fromkeys(name for one in flat for name in one))
    return [
        {"field": name, "values": [one.get(name) for one in flat]}
        for name in fields
        if any(one.get(name) != flat[0].get(name) for one in flat)
    ]


def _p(value: float) -> str:
    return f"{value:.4f}" if value >= 1e-4 else "below 0.0001"
