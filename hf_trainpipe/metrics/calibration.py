"""Temperature (Guo et al. 2017), chosen and judged on rows that it was not fitted on; and from which score an answer keeps a promise.

Shapes: N examples, C labels.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from hf_trainpipe.metrics.base import Floats, Predictions, ratio
from hf_trainpipe.metrics.paired import Difference, differences

FOLDS = 5
_LOGS = (-4.0, 4.0)
"""Natural logarithms of the temperatures that are looked through."""
_STARTS = (0.1, 0.3, 0.6, 0.9)
"""Shares of the rows from which answering more is tried, each with a part of the error that is allowed."""
_STEPS = 200
"""Shares that are tried."""


def row_losses(predictions: Predictions) -> Floats:
    """[N]: the negative log-likelihood of what is right; of several labels its mean over them."""
    logits = predictions.outputs.astype(np.float64)
    if predictions.kind == "multi_label":
        signed = np.where(predictions.references > 0, logits, -logits)
        losses: Floats = np.logaddexp(0.0, -signed).mean(axis=1)
        return losses
    top = logits.max(axis=1, keepdims=True)
    whole = top[:, 0] + np.log(np.exp(logits - top).sum(axis=1))
    result: Floats = whole - logits[np.arange(len(logits)), predictions.references]
    return result


def cooled(predictions: Predictions, temperature: float | Floats) -> Predictions:
    """Predictions whose logits are divided by a temperature, or by one [N, 1] each."""
    return replace(predictions, outputs=predictions.outputs.astype(np.float64) / temperature)


def fit_temperature(predictions: Predictions) -> float:
    """The temperature with the smallest negative log-likelihood: a convex search in its inverse."""
    from scipy.optimize import minimize_scalar

    found = minimize_scalar(
        lambda log: float(row_losses(cooled(predictions, math.exp(log))).mean()),
        bounds=_LOGS,
        method="bounded",
        options={"xatol": 1e-6},
    )
    return float(math.exp(found.x))


@dataclass(frozen=True, kw_only=True)
class Temperature:
    """A temperature, and what it gains on rows that it was not fitted on."""

    value: float
    held_out: Predictions
    """Predictions of each row by the temperature that the other folds give."""
    gain: Difference
    """Of the mean negative log-likelihood without it, and of the held-out one; below 0 it helps."""

    def helps(self, *, level: float = 0.05) -> bool:
        """Whether the gain is shown by the paired bootstrap."""
        return self.gain.value < 0 and self.gain.p < level


def nested_temperature(
    predictions: Predictions,
    *,
    seed: int = 0,
    folds: int = FOLDS,
    dealt: NDArray[np.int64] | None = None,
    groups: NDArray[np.int64] | None = None,
) -> Temperature | None:
    """Fit a temperature on all rows, and judge it on each fold by the one that the others give.

    Args:
        dealt: [N] the fold of each row; None: so many are dealt by the seed.
        groups: [N] equal for rows that the bootstrap draws together; None: it draws rows.

    Returns:
        None with fewer rows than folds, or without logits.
    """
    count = len(predictions)
    if count < 2 * folds or predictions.decided or not predictions.answered():
        return None
    temperatures = np.ones((count, 1))
    if dealt is None:
        order = np.random.Generator(np.random.Philox(seed)).permutation(count)
        parts = [order[fold::folds] for fold in range(folds)]
    else:
        order = np.arange(count)
        parts = [np.flatnonzero(dealt == fold) for fold in np.unique(dealt)]
    for held in parts:
        temperatures[held] = fit_temperature(_rows(predictions, np.setdiff1d(order, held)))
    held_out = cooled(predictions, temperatures)
    losses = [_losses(one, groups) for one in (predictions, held_out)]
    gain = differences(losses[0], losses[1], ["nll"], seed=seed)["nll"]
    return Temperature(value=fit_temperature(predictions), held_out=held_out, gain=gain)


def _losses(predictions: Predictions, groups: NDArray[np.int64] | None) -> Predictions:
    """The loss of each row, or its sum and the number of rows of each group."""
    losses = row_losses(predictions)
    if groups is None:
        return Predictions.of_own({"nll": losses}, examples=np.arange(len(losses)))
    _, at = np.unique(groups, return_inverse=True)
    sums = np.stack([np.bincount(at, weights=losses), np.bincount(at).astype(np.float64)], axis=1)
    return Predictions.of_own({"nll": sums}, examples=np.arange(len(sums)), finishes={"nll": ratio(0, 1)})


def _rows(predictions: Predictions, rows: NDArray[np.int64]) -> Predictions:
    return replace(
        predictions, outputs=predictions.outputs[rows], references=predictions.references[rows], examples=None
    )


@dataclass(frozen=True, kw_only=True)
class Promise:
    """Scores from which answers keep a precision."""

    least: float
    """An answer is given where its score is at least this; above 1: none keeps the promise."""
    answered: float
    """Share of the rows that get an answer."""
    right: float
    """Share of those that is right; NaN of none."""
    at_least: float
    """Lower bound of it, at the confidence that was asked; NaN of none."""


def keep_promise(scores: Floats, is_right: NDArray[np.bool_], precision: float, *, confidence: float = 0.95) -> Promise:
    """The least score from which answers are right as often as promised, with confidence.

    The rows with the highest scores are answered first. From a tenth, three, six and nine tenths of them on, ever more are
    answered for as long as the bound of Clopper & Pearson 1934 keeps the promise: a fixed sequence of tests from each of four
    starts, each with a quarter of the error that is allowed, so that all of them together hold (Angelopoulos et al. 2021, learn then
    test).

    Args:
        scores: [N] probability of the answer to each row.
        is_right: [N]
        precision: Promised share of right answers among those that are given.
    """
    from scipy.special import betaincinv

    count, level = len(scores), (1 - confidence) / len(_STARTS)
    order = np.argsort(-scores, kind="stable")
    sorted_scores, rights = scores[order], np.cumsum(is_right[order])
    # A share ends where the score changes: rows of one score are answered together.
    ends = np.flatnonzero(np.append(np.diff(sorted_scores) < 0, True)) + 1 if count else np.zeros(0, np.int64)
    grid = np.unique(
        [ends[np.searchsorted(ends, max(1, math.ceil(count * step / _STEPS)))] for step in range(1, _STEPS + 1)]
        if count
        else []
    )
    best, bound_of_best = 0, math.nan
    for start in _STARTS:
        for size in grid[np.searchsorted(grid, math.ceil(start * count)) :]:
            right = int(rights[size - 1])
            bound = float(betaincinv(right, size - right + 1, level)) if right else 0.0
            if bound < precision:
                break
            if size > best:
                best, bound_of_best = int(size), bound
    if not best:
        return Promise(least=2.0, answered=0.0, right=math.nan, at_least=math.nan)
    return Promise(
        least=float(sorted_scores[best - 1]),
        answered=best / count,
        right=float(rights[best - 1] / best),
        at_least=bound_of_best,
    )
