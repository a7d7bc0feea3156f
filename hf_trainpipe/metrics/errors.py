"""What slices are tested by: the errors of each row, out of what could be wrong in it.

Shapes: N rows, S rows of a slice.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from hf_trainpipe.metrics import tagging
from hf_trainpipe.metrics.base import Floats, Predictions
from hf_trainpipe.metrics.discovery import tail_of_counts, tail_of_draws, wilson
from hf_trainpipe.metrics.paired import right

Bools = NDArray[np.bool_]


@dataclass(frozen=True, eq=False, kw_only=True)
class Errors:
    """The errors of each row. Its score is a ratio of sums, so that long rows count as much as they do in the score of the split."""

    score: str
    """The score that is told, such as ``accuracy``."""
    wrong: Floats
    """[N] 1 for a wrong answer; of tags the wrong ones in the row; of numbers how far off they are."""
    units: Floats
    """[N] of how many: 1, or words, or entities; 0 where the row has none."""
    shift: float = 1.0
    """The score is ``shift`` + ``scale`` times errors by units."""
    scale: float = -1.0

    def __len__(self) -> int:
        return len(self.wrong)

    @property
    def is_counted(self) -> bool:
        """Whether each row is right or wrong as a whole."""
        return bool((self.units == 1).all() and np.isin(self.wrong, (0, 1)).all())

    @property
    def greater_is_better(self) -> bool:
        return self.scale < 0

    def residuals(self, inside: Bools | None = None) -> Floats:
        """[S] errors beyond what the rate of these rows lets expect; they add up to 0."""
        wrong, units = (self.wrong, self.units) if inside is None else (self.wrong[inside], self.units[inside])
        return wrong - (wrong.sum() / units.sum() if units.sum() else 0.0) * units

    def part(self, inside: Bools) -> Errors:
        """Those of some rows."""
        return Errors(
            score=self.score, wrong=self.wrong[inside], units=self.units[inside], shift=self.shift, scale=self.scale
        )

    def value(self, inside: Bools) -> float:
        """The score of some rows; NaN where they have nothing to score."""
        units = float(self.units[inside].sum())
        return self.shift + self.scale * float(self.wrong[inside].sum()) / units if units else math.nan

    def interval(self, inside: Bools, *, confidence: float) -> tuple[float, float]:
        """Of the score of some rows: Wilson's of counted answers, else Student's over rows for a ratio of sums (Cochran 1977, 6.4)."""
        from scipy.stats import t

        count, units = int(inside.sum()), float(self.units[inside].sum())
        if self.is_counted:
            ends = wilson(int(self.wrong[inside].sum()), count, confidence=confidence)
        elif count < 2 or not units:
            return math.nan, math.nan
        else:
            rate = float(self.wrong[inside].sum()) / units
            error = math.sqrt(count * float(self.residuals(inside).var(ddof=1))) / units
            half = float(t.ppf(0.5 + confidence / 2, count - 1)) * error
            ends = (rate - half, rate + half)
        low, high = sorted(self.shift + self.scale * end for end in ends)
        return (max(0.0, low), min(1.0, high)) if self.shift == 1.0 else (low, high)

    def tails(self, sizes: NDArray[np.int64], sums: Floats) -> Floats:
        """For each slice the chance of so many errors beyond what is expected, if it were drawn at random.

        Args:
            sizes: Rows of each.
            sums: Residuals of each, summed.
        """
        if self.is_counted:
            total = round(float(self.wrong.sum()))
            wrong = np.rint(sums + sizes * total / max(len(self), 1)).astype(np.int64)
            return tail_of_counts(sizes, wrong, count=len(self), total=total)
        return tail_of_draws(sizes, sums, self.residuals())

    def p_value(self, inside: Bools) -> float:
        """Whether some rows are worse than the rest, one-sided.

        Counted answers: Fisher's exact test. Else the larger of two, so that either may be in doubt: by rows drawn at random, and
        Welch's, since long rows vary more than short ones.
        """
        residuals = self.residuals()
        drawn = float(self.tails(np.array([inside.sum()]), np.array([residuals[inside].sum()]))[0])
        return drawn if self.is_counted else max(drawn, _welch(residuals[inside], residuals[~inside]))


def _welch(one: Floats, other: Floats) -> float:
    from scipy.stats import t

    if min(len(one), len(other)) < 2:
        return 1.0
    first, second = one.var(ddof=1) / len(one), other.var(ddof=1) / len(other)
    if not first + second:
        return 1.0
    freedom = (first + second) ** 2 / (first**2 / (len(one) - 1) + second**2 / (len(other) - 1))
    return float(t.sf((one.mean() - other.mean()) / math.sqrt(first + second), freedom))


def errors_of(predictions: Predictions, *, select: str | None = None, greater_is_better: bool = True) -> Errors | None:
    """The errors that suit predictions; None where nothing is known of single rows.

    Args:
        select: Of a task with metrics of its own the one to prefer.
        greater_is_better: Whether more of that one is better.
    """
    own = {name: column for name, column in predictions.own.items() if column.ndim == 1}
    if predictions.kind == "own":
        if select not in own:
            return None
        column = own[select]
        known = ~np.isnan(column)
        sign = -1.0 if greater_is_better else 1.0
        wrong = np.where(known, sign * column, 0.0)
        return Errors(score=str(select), wrong=wrong, units=known.astype(np.float64), shift=0.0, scale=sign)
    ones = np.ones(len(predictions))
    if predictions.kind == "regression":
        off = np.abs(predictions.outputs.astype(np.float64) - predictions.references)
        return None if np.isnan(off).any() else Errors(score="mae", wrong=off, units=ones, shift=0.0, scale=1.0)
    if predictions.kind == "tags":
        return _of_tags(predictions)
    is_right = right(predictions)
    assert is_right is not None
    name = "accuracy" if predictions.kind == "single_label" else "subset_accuracy"
    return Errors(score=name, wrong=(~is_right).astype(np.float64), units=ones)


def _of_tags(predictions: Predictions) -> Errors:
    """Entities that are wrong or missed among those predicted and gold: 1 less their share is F1; or words."""
    assert predictions.word_starts is not None
    if predictions.has_entities:
        counts = tagging.entity_counts(predictions)
        found, predicted, gold = counts.reshape(len(counts), 3, -1).sum(axis=2).T
        return Errors(score="entity_f1", wrong=predicted + gold - 2 * found, units=predicted + gold)
    scored = predictions.references >= 0
    wrong = scored & (predictions.outputs != predictions.references)
    sums = [np.concatenate([[0], np.cumsum(one)])[predictions.word_starts] for one in (wrong, scored)]
    words_wrong, words = (np.diff(one).astype(np.float64) for one in sums)
    return Errors(score="tag_accuracy", wrong=words_wrong, units=words)
