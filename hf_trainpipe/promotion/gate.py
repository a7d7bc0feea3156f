"""Whether a challenger may replace the champion: paired one-sided tests on each set of rows, and floors that it may not fall below.

Every set of rows has to show it by itself (an intersection-union test: each at the level, none corrected), so wrong new labels
cannot outvote the frozen test. Shapes: N rows.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from hf_trainpipe.errors import DataError
from hf_trainpipe.metrics.margin import NoWorse, by_resamples, by_rows
from hf_trainpipe.metrics.paired import differences, holm, mcnemar, right
from hf_trainpipe.metrics.parts import by_length
from hf_trainpipe.metrics.registry import LOSS, greater_is_better, is_external
from hf_trainpipe.metrics.reliability import reliability
from hf_trainpipe.metrics.saved import Predicted, taken
from hf_trainpipe.package.layout import finite
from hf_trainpipe.report.comparison import BY_ROW
from hf_trainpipe.report.gate import Margin

if TYPE_CHECKING:
    from hf_trainpipe.metrics import Predictions
    from hf_trainpipe.promotion.evidence import Pair
    from hf_trainpipe.recipe import Recipe

FEWEST = 20
"""Rows of a slice that is looked at."""
_RESAMPLES = 1000
"""Of a slice."""
_MOST_ROWS = 1 << 24


@dataclass(frozen=True, kw_only=True)
class Terms:
    """What is asked of a challenger."""

    margin: float = 0.5
    """Hundredths of the score that it may lose on the frozen test; where less is better, percent of the champion's."""
    fresh_margin: float = 2.0
    """The same on fresh labels, which are fewer."""
    slice_floor: float = 5.0
    """A slice may not be shown to lose, and to lose more than so many hundredths."""
    calibration_floor: float = 2.0
    """So many hundredths the expected calibration error may rise, where the rise is shown."""
    metric: str | None = None
    """None: the one that selects the best model."""
    confidence: float = 0.95


@dataclass(frozen=True, kw_only=True)
class Test:
    """A score on one set of rows."""

    what: str
    metric: str
    rows: int
    champion: float
    challenger: float
    margin: float
    """In the unit of the score."""
    gain: float
    """Positive where the challenger is better."""
    least: float
    """Lower bound of the gain, one-sided."""
    p: float
    shown: bool
    """Whether it is shown to be no worse than the margin."""
    needed: int | None = None
    """Rows with which two models that answer alike would pass; where it is not shown and the rows are fewer."""

    def told(self) -> str:
        said = (
            f"{'' if self.shown else 'not '}shown to be no worse by {self.margin:.4g} in {self.metric} on {self.what}: "
            f"{self.gain:+.4f}, at least {self.least:+.4f} ({self.rows:,} rows, p {self.p:.4f})"
        )
        return said + (f"; even equal answers would need {self.needed:,} rows" if self.needed is not None else "")


@dataclass(frozen=True, kw_only=True)
class SliceTest:
    """Champion and challenger on a part of the rows."""

    what: str
    part: str
    rows: int
    champion: float
    challenger: float
    gain: float
    p: float
    """One-sided, of "not worse"."""
    adjusted: float = 1.0
    """By Holm's correction for all slices."""
    broken: bool = False

    def told(self) -> str:
        return (
            f"{self.part} on {self.what} falls from {self.champion:.4f} to {self.challenger:.4f} "
            f"({self.rows:,} rows, p {self.adjusted:.4f})"
        )


@dataclass(frozen=True, kw_only=True)
class Honesty:
    """Expected calibration errors on one set of rows."""

    what: str
    champion: float
    challenger: float
    low: float
    """Lower bound of the challenger's."""
    allowed: float
    broken: bool

    def told(self) -> str:
        return (
            f"the calibration error on {self.what} rises from {self.champion:.4f} to {self.challenger:.4f}, above the "
            f"{self.allowed:.4f} that are allowed"
        )


@dataclass(frozen=True, kw_only=True)
class Decision:
    """What a gate found."""

    tests: tuple[Test, ...]
    slices: tuple[SliceTest, ...] = ()
    honesty: tuple[Honesty, ...] = ()
    notes: tuple[str, ...] = field(default=())

    @property
    def passed(self) -> bool:
        return all(one.shown for one in self.tests) and not self.broken

    @property
    def broken(self) -> list[str]:
        """Floors that it falls below."""
        slices = [one.told() for one in self.slices if one.broken]
        return slices + [one.told() for one in self.honesty if one.broken]

    def verdict(self) -> str:
        """In a sentence."""
        missing = [one.told() for one in self.tests if not one.shown]
        if reasons := [*missing, *self.broken]:
            return "; ".join(reasons)
        return "; ".join(one.told() for one in self.tests)

    def to_json(self) -> dict[str, Any]:
        """For programs; undefined numbers are None."""
        listed: dict[str, Any] = {
            name: [finite(asdict(one)) for one in getattr(self, name)] for name in ("tests", "slices", "honesty")
        }
        return {**listed, "passed": self.passed, "verdict": self.verdict(), "notes": list(self.notes)}

    def brief(self) -> dict[str, Any]:
        """What a log keeps: all tests, and of slices those that are broken or the worst."""
        whole = self.to_json()
        worst = sorted(whole["slices"], key=lambda one: (not one["broken"], one["p"]))[:5]
        return {**whole, "slices": worst, "looked_at": len(self.slices), "notes": whole["notes"][:5]}


def decide(pairs: Sequence[Pair], recipe: Recipe, terms: Terms, *, seed: int = 0) -> Decision:
    """Hold a challenger against the champion.

    Args:
        pairs: On the frozen test first, then on fresh labels where there are some.

    Raises:
        DataError: the metric does not follow from predictions.
    """
    tests: list[Test] = []
    slices: list[SliceTest] = []
    honesty: list[Honesty] = []
    notes: list[str] = []
    for one in pairs:
        metric = _metric(one.champion.found.predictions, recipe, terms)
        margin = terms.margin if one.what == "test" else terms.fresh_margin
        tests.append(_test(one, metric, Margin(points=margin), recipe, terms, seed=seed))
        slices += list(_slices(one, metric, recipe, seed=seed))
        if (found := _honesty(one, terms, seed=seed)) is not None:
            honesty.append(found)
        notes += one.notes
    return Decision(tests=tuple(tests), slices=_settled(slices, terms), honesty=tuple(honesty), notes=tuple(notes))


def _metric(predictions: Predictions, recipe: Recipe, terms: Terms) -> str:
    asked = terms.metric or recipe.selected_metric
    known = [name for name in recipe.scored_metrics if _follows(name, predictions)]
    if _follows(asked, predictions) and (asked in known or terms.metric is not None):
        return asked
    if terms.metric is None and known:
        return known[0]
    raise DataError(
        f"{asked}: expected a score that follows from predictions, found one that does not; those that do: "
        f"{', '.join(known) or 'none'}.",
        fix="Name one of them: --metric NAME",
    )


def _follows(name: str, predictions: Predictions) -> bool:
    return name != LOSS and not is_external(name) and (predictions.kind != "own" or name in predictions.own)


def _held(
    one: Predicted, two: Predicted, metric: str, *, points: Margin, better: bool, confidence: float, seed: int,
    resamples: int | None = None,
) -> tuple[float, float, float, NoWorse]:  # fmt: skip
    """Both scores, the margin in their unit, and the test."""
    first, second = one.predictions, two.predictions
    rights = right(first), right(second)
    counted = metric in BY_ROW and first.kind != "tags" and rights[0] is not None and rights[1] is not None
    if counted:
        assert rights[0] is not None
        assert rights[1] is not None
        scores = float(rights[0].mean()), float(rights[1].mean())
        margin = points.of(scores[0], metric, greater_is_better=better)
        found = mcnemar(rights[0], rights[1])
        test = by_rows(found.only_first, found.only_second, len(first), margin=margin, confidence=confidence)
        return *scores, margin, test
    gap = differences(first, second, [metric], confidence=confidence, resamples=resamples, seed=seed)[metric]
    margin, sign = points.of(gap.first, metric, greater_is_better=better), 1 if better else -1
    test = by_resamples(sign * gap.value, sign * gap.drawn, margin=margin, confidence=confidence)
    return gap.first, gap.second, margin, test


def _test(one: Pair, metric: str, points: Margin, recipe: Recipe, terms: Terms, *, seed: int) -> Test:
    better = greater_is_better(metric, recipe.task)
    champion, challenger, margin, test = _held(
        one.champion.found, one.challenger.found, metric, points=points, better=better,
        confidence=terms.confidence, seed=seed,
    )  # fmt: skip
    shown = test.p < 1 - terms.confidence
    needed = None
    if not shown and metric in BY_ROW:
        needed = rows_needed(margin, confidence=terms.confidence)
    return Test(
        what=one.what, metric=metric, rows=len(one), champion=champion, challenger=challenger, margin=margin,
        gain=test.gain, least=test.least, p=test.p, shown=shown,
        needed=needed if needed is not None and needed > len(one) else None,
    )  # fmt: skip


def rows_needed(margin: float, *, confidence: float = 0.95) -> int:
    """Rows on which two models that answer alike are shown to be no worse by a margin.

    >>> rows_needed(0.005)
    539
    """

    def passes(rows: int) -> bool:
        return by_rows(0, 0, rows, margin=margin, confidence=confidence).p < 1 - confidence

    high = 1
    while not passes(high) and high < _MOST_ROWS:
        high *= 2
    low = high // 2
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if passes(middle) else (middle, high)
    return high


def parts_of(found: Predicted) -> dict[str, NDArray[np.bool_]]:
    """Slices of the rows: columns of few values, what is right, lengths."""
    held = found.predictions
    parts: dict[str, NDArray[np.bool_]] = {}
    for column, values in found.slices.items():
        cells = np.asarray(values)
        parts |= {f"{column} = {value}": cells == value for value in dict.fromkeys(values)}
    if held.kind == "single_label":
        parts |= {f"label {name}": held.references == at for at, name in enumerate(held.labels)}
    elif held.kind == "multi_label":
        parts |= {f"label {name}": held.references[:, at] > 0 for at, name in enumerate(held.labels)}
    parts |= {f"length {name} tokens": inside for name, inside in by_length(found.lengths, num_parts=4).items()}
    return {name: inside for name, inside in parts.items() if FEWEST <= int(inside.sum()) < len(found)}


def _slices(one: Pair, metric: str, recipe: Recipe, *, seed: int) -> Iterator[SliceTest]:
    """Each slice by its share of right answers, or by the score where answers are not right or wrong."""
    first, second = one.champion.found, one.challenger.found
    rights = right(first.predictions), right(second.predictions)
    better = greater_is_better(metric, recipe.task)
    for part, inside in parts_of(first).items():
        rows = np.flatnonzero(inside).astype(np.int64)
        if rights[0] is not None and rights[1] is not None:
            sides = rights[0][rows], rights[1][rows]
            champion, challenger = float(sides[0].mean()), float(sides[1].mean())
            p = _worse(mcnemar(*sides).only_first, mcnemar(*sides).only_second)
            gain = challenger - champion
        else:
            champion, challenger, _, test = _held(
                taken(first, rows), taken(second, rows), metric, points=Margin(points=1e-9), better=better,
                confidence=0.95, seed=seed, resamples=_RESAMPLES,
            )  # fmt: skip
            gain, p = test.gain, 1 - test.p  # of "not worse": how often a resample is
        yield SliceTest(
            what=one.what, part=part, rows=len(rows), champion=champion, challenger=challenger, gain=gain, p=p
        )


def _worse(only_first: int, only_second: int) -> float:
    """One-sided exact binomial p-value of "the second is not right less often"."""
    from scipy.special import bdtrc

    total = only_first + only_second
    return float(bdtrc(only_first - 1, total, 0.5)) if only_first else 1.0


def _settled(slices: Sequence[SliceTest], terms: Terms) -> tuple[SliceTest, ...]:
    """Broken is what falls by more than the floor and is shown to fall, among all slices."""
    points = Margin(points=terms.slice_floor)
    adjusted = holm([one.p for one in slices])
    found = []
    for one, p in zip(slices, adjusted, strict=True):
        allowed = points.of(one.champion, "accuracy", greater_is_better=True)
        is_broken = one.gain < -allowed and p < 1 - terms.confidence
        found.append(SliceTest(**{**vars(one), "adjusted": p, "broken": is_broken}))
    return tuple(found)


def _honesty(one: Pair, terms: Terms, *, seed: int) -> Honesty | None:
    sides: Mapping[str, Any] = {
        name: reliability(side.honest, seed=seed)
        for name, side in (("champion", one.champion), ("challenger", one.challenger))
    }
    champion, challenger = sides["champion"], sides["challenger"]
    if champion is None or challenger is None:
        return None
    allowed = champion.error + terms.calibration_floor / 100
    return Honesty(
        what=one.what, champion=champion.error, challenger=challenger.error, low=challenger.low, allowed=allowed,
        broken=challenger.error > allowed and challenger.low > champion.error,
    )  # fmt: skip
