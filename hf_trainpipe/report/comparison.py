"""Runs held against the first of them: scores on the same rows by paired tests, and what differs in their recipes."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from hf_trainpipe.errors import DataError
from hf_trainpipe.metrics import margin as no_worse
from hf_trainpipe.metrics.base import Predictions
from hf_trainpipe.metrics.multiple import Family, step_down
from hf_trainpipe.metrics.paired import Difference, McNemar, differences, mcnemar, right
from hf_trainpipe.metrics.power import POWER, smallest_by_error, smallest_by_rows
from hf_trainpipe.metrics.registry import LOSS, greater_is_better, is_external
from hf_trainpipe.metrics.stochastic_order import StochasticOrder
from hf_trainpipe.package.card import flatten
from hf_trainpipe.package.layout import finite
from hf_trainpipe.report.facts import Facts
from hf_trainpipe.report.gate import Gate, Margin, decide, gate
from hf_trainpipe.report.same_rows import in_common

SPLITS = ("validation", "test")
BY_ROW = ("accuracy", "exact_match")
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
    adjusted: float = math.nan
    """The same by Holm's correction for all scores that are compared."""
    test: str = "paired bootstrap"
    different: bool = False
    better: bool | None = None
    """Whether the second is better, of those that differ."""
    greater_is_better: bool = True
    rows: int = 0
    error: float = math.nan
    """Standard error of the difference."""
    freedom: float = math.inf
    """Its degrees of freedom."""
    disagreement: float | None = None
    """Share of the rows that one of the two gets right and the other does not, where whole answers are counted."""
    smallest: float = math.nan
    """The smallest difference that this comparison shows with 80 % probability, all scores together; None: none."""
    first_seeds: tuple[float, ...] = ()
    """Of sides with several runs: the score of each."""
    second_seeds: tuple[float, ...] = ()
    order: StochasticOrder | None = None
    """Of sides with several runs: whether the second's scores are better at almost every quantile."""


@dataclass(kw_only=True)
class Comparison:
    """What :func:`compare` found."""

    runs: list[str]
    confidence: float
    sides: list[str] = field(default_factory=list)
    """What is held against each other, the first first: the runs, or groups of them that differ in the seed."""
    scores: list[Held] = field(default_factory=list)
    by_row: list[dict[str, Any]] = field(default_factory=list)
    """Of each run and split the rows that only one of the two gets right."""
    gates: list[Gate] = field(default_factory=list)
    """With a margin: a decision a run."""
    notes: list[str] = field(default_factory=list)
    """Rows that are not in both, and whatever else limits what is said."""
    recipe: list[dict[str, Any]] = field(default_factory=list)
    """Fields that differ: ``field``, and ``values`` of each run."""

    @property
    def against(self) -> str:
        """What the first side is called."""
        return self.sides[0]

    @property
    def passed(self) -> bool:
        """Whether every run is shown to be no worse than the margin; True without one."""
        return all(one.shown for one in self.gates)

    @property
    def verdict(self) -> str:
        """The result in a sentence."""
        found = [one for one in self.scores if one.different]
        if not self.scores:
            return "Nothing could be compared: no two runs recorded predictions of the same rows."
        level = f"{100 * self.confidence:g} %"
        if not found:
            return f"No difference shown, in {len(self.scores)} scores at {level} confidence.{self._could_be_shown()}"
        said = [
            f"{one.run} is {'better' if one.better else 'worse'} than {self.against} in {one.metric} on {one.split}: "
            f"{one.difference:+.4f}, between {one.low:+.4f} and {one.high:+.4f} (p {_p(one.adjusted)})"
            for one in found
        ]
        more = f"; and in {len(said) - 3} more scores" if len(said) > 3 else ""
        return f"{'; '.join(said[:3])}{more}. {level} confidence, over all {len(self.scores)} scores together."

    def _could_be_shown(self) -> str:
        """What a difference had to be for this comparison to show it, in the first score of each split."""
        firsts = {one.split: one for one in reversed(self.scores) if one.run == self.scores[0].run}
        said = []
        for one in reversed(firsts.values()):
            why = f"{one.rows:,} rows"
            if one.disagreement is not None:
                why += f", of which {100 * one.disagreement:.1f} % are answered right by one of the two"
            said.append(f"{spelt_smallest(one)} in {one.metric} on {one.split} ({why})")
        return f" The smallest difference that it shows with {100 * POWER:g} % probability: {'; '.join(said)}."

    def to_json(self) -> dict[str, Any]:
        """For programs; undefined numbers are None."""
        return {
            **asdict(self),
            "scores": [
                finite({**asdict(one), "freedom": one.freedom if math.isfinite(one.freedom) else None})
                for one in self.scores
            ],
            "gates": [finite(asdict(one)) for one in self.gates],
            "passed": self.passed,
            "verdict": self.verdict,
        }


def spelt_smallest(one: Held) -> str:
    """The smallest difference that a score's comparison shows."""
    return f"{one.smallest:.4f}" if math.isfinite(one.smallest) else "none that the rows allow"


def compare(
    runs: Sequence[Facts],
    *,
    confidence: float = 0.95,
    resamples: int | None = None,
    seed: int = 0,
    margin: Margin | None = None,
) -> Comparison:
    """Hold each run against the first.

    A score differs where its p-value, by Holm's correction for all that are compared, is below ``1 - confidence``.

    Args:
        margin: How much worse a run may be; each is then tested for it too.

    Raises:
        DataError: fewer than two runs, or of other tasks; or the margin's score is not compared.
    """
    if len(runs) < 2:
        raise DataError("compare needs two runs or more.", fix="Name their folders: hf-trainpipe compare runs/a runs/b")
    names = names_of(runs)
    found = Comparison(runs=names, sides=names, confidence=confidence, recipe=differing(runs))
    families: list[Family] = []
    for name, other in zip(names[1:], runs[1:], strict=True):
        for split in SPLITS:
            pair = in_common([runs[0], other], [names[0], name], split, found.notes)
            if pair is not None:
                one, two = (side.predictions for side in pair)
                metrics = comparable([one, two], [runs[0], other], split)
                families.append(_hold(found, one, two, metrics, split, name=name, resamples=resamples, seed=seed, margin=margin,
                                      of=runs[0]))  # fmt: skip
    settle(found, families, margin=margin)
    if found.recipe and all(entry["field"] in ("seed", "name") for entry in found.recipe):
        found.notes.append("The settings are the same: only the seed differs.")
    if found.scores:
        found.notes.append(
            "The tests are over rows: they tell of these trained models. Another seed gives other models."
        )
    return found


def names_of(runs: Sequence[Facts]) -> list[str]:
    """The folders' names; whole paths where two are called the same."""
    short = [run.path.resolve().name for run in runs]
    return short if len(set(short)) == len(short) else [str(run.path) for run in runs]


def comparable(sides: Sequence[Predictions], runs: Sequence[Facts], split: str) -> list[str]:
    """Scores that all runs have and that follow from predictions."""
    scored = [list((run.result.get("scores") or {}).get(split) or {}) for run in runs]
    own = set.intersection(*(set(side.own) for side in sides))
    is_own = sides[0].kind == "own"
    return [
        metric
        for metric in scored[0]
        if all(metric in one for one in scored)
        and metric != LOSS
        and not is_external(metric)
        and (not is_own or metric in own)
    ]


def _hold(
    found: Comparison, one: Predictions, two: Predictions, metrics: Sequence[str], split: str, *, name: str,
    resamples: int | None, seed: int, margin: Margin | None, of: Facts,
) -> Family:  # fmt: skip
    sides = right(one), right(two)
    rows: McNemar | None = None
    if sides[0] is not None and sides[1] is not None:
        rows = mcnemar(sides[0], sides[1])
        found.by_row.append({"run": name, "split": split, "rows": len(one), **asdict(rows)})
    gaps = differences(one, two, metrics, confidence=found.confidence, resamples=resamples, seed=seed)
    p_values = []
    for metric, gap in gaps.items():
        exact = rows if metric in BY_ROW and one.kind != "tags" else None
        p_values.append(gap.p if exact is None else exact.p)
        is_greater = greater_is_better(metric, of.task)
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
                p=p_values[-1],
                test="paired bootstrap" if exact is None else "McNemar",
                greater_is_better=is_greater,
                rows=len(one),
                error=gap.error,
                disagreement=None if exact is None else (exact.only_first + exact.only_second) / len(one),
            )
        )
        if margin is not None and metric == (margin.metric or of.select):
            found.gates.append(_gate(gap, exact, margin, found.scores[-1], confidence=found.confidence))
    return Family(p_values=p_values, drawn=[gap.drawn for gap in gaps.values()])


def _gate(gap: Difference, exact: McNemar | None, margin: Margin, held: Held, *, confidence: float) -> Gate:
    allowed = margin.of(gap.first, held.metric, greater_is_better=held.greater_is_better)
    if exact is not None:
        shown = no_worse.by_rows(exact.only_first, exact.only_second, held.rows, margin=allowed, confidence=confidence)
    else:
        sign = 1 if held.greater_is_better else -1
        shown = no_worse.by_resamples(sign * gap.value, sign * gap.drawn, margin=allowed, confidence=confidence)
    return gate(shown, run=held.run, split=held.split, metric=held.metric, margin=allowed)


def settle(found: Comparison, families: Sequence[Family], *, margin: Margin | None) -> None:
    """Correct all p-values together, say what could have been shown, and decide what a margin asks.

    Args:
        families: Of the scores in their order.
    """
    level, count = 1 - found.confidence, max(len(found.scores), 1)
    adjusted = [p for family in step_down(families) for p in family]
    for one, p in zip(found.scores, adjusted, strict=True):
        one.adjusted, one.different = p, p < level
        one.better = (one.difference > 0) == one.greater_is_better if one.different else None
        if one.disagreement is not None:
            one.smallest = smallest_by_rows(one.rows, one.disagreement, level=level / count)
        else:
            one.smallest = smallest_by_error(one.error, level=level / count, freedom=one.freedom)
    if margin is not None:
        _decide(found, margin)


def _decide(found: Comparison, margin: Margin) -> None:
    """One decision a run: on the test split where there is one."""
    tested = {one.run for one in found.gates if one.split == "test"}
    found.gates = [one for one in found.gates if one.split == "test" or one.run not in tested]
    missing = [side for side in found.sides[1:] if side not in {one.run for one in found.gates}]
    if missing:
        compared = ", ".join(dict.fromkeys(one.metric for one in found.scores)) or "none"
        raise DataError(
            f"--margin: {', '.join(missing)} cannot be held against {found.against} in "
            f"{margin.metric or 'the score that selects the best model'}; scores that both have on the same rows: {compared}.",
            fix="Name one of them with --metric, or compare runs that scored the same rows.",
        )
    decide(found.gates, confidence=found.confidence)


def differing(runs: Sequence[Facts]) -> list[dict[str, Any]]:
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
