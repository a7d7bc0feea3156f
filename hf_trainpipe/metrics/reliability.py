"""Whether probabilities are honest: how often answers of each confidence are right, beside what chance alone would show.

Shapes: N examples, C labels, B bins, R simulations.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hf_trainpipe.metrics.base import Floats, Predictions, sigmoid

BINS = 10
"""Of probabilities, equally wide."""
SIMULATIONS, _FEWEST, _DRAWS = 1000, 250, 5_000_000
"""Fewer of large splits, whose intervals are short."""


@dataclass(frozen=True, kw_only=True)
class Reliability:
    """How often answers of each confidence are right."""

    confidence: Floats
    """[B] mean probability of the answers in each bin; NaN of an empty one."""
    right: Floats
    """[B] share of them that is right."""
    count: NDArray[np.int64]
    """[B]"""
    error: float
    """Expected calibration error: the mean gap of the two, weighted by the counts (Naeini et al. 2015)."""
    low: float
    high: float
    """Its interval over the examples: the basic bootstrap, since the error of a sample, and of a resample more so, is too large."""
    perfect: float
    """The error that these probabilities would show on average if each were exactly right."""
    perfect_high: float
    """What it would stay below with 95 % probability."""
    band_low: Floats
    band_high: Floats
    """[B] shares of right answers in which 95 % of the simulations of exact probabilities lie; NaN of an empty bin."""

    @property
    def is_perfect(self) -> bool:
        """Whether the error is not above what exact probabilities would show."""
        return self.error <= self.perfect_high


def to_json(found: Reliability | None) -> dict[str, Any] | None:
    """As JSON; NaN as None."""
    if found is None:
        return None
    listed = {name: value.tolist() if isinstance(value, np.ndarray) else value for name, value in vars(found).items()}
    return {
        name: [None if one != one else one for one in value] if isinstance(value, list) else value
        for name, value in listed.items()
    }


def from_json(value: Mapping[str, Any]) -> Reliability:
    """Read what :func:`to_json` wrote."""
    arrays = {name: np.array(held, dtype=np.float64) for name, held in value.items() if isinstance(held, list)}
    arrays["count"] = arrays["count"].astype(np.int64)
    read: dict[str, Any] = {**value, **arrays}
    return Reliability(**read)


def chances_of(predictions: Predictions) -> tuple[Floats, NDArray[np.bool_]] | None:
    """Probabilities of answers and whether they are right: [N, 1] of single labels, that of the label that is given; [N, C] of
    several, of each label whether it holds; None of others."""
    if predictions.decided or not len(predictions) or not predictions.answered():
        return None
    if predictions.kind == "single_label":
        shifted = np.exp(predictions.outputs.astype(np.float64) - predictions.outputs.max(axis=1, keepdims=True))
        given = predictions.decisions()
        chances = shifted[np.arange(len(given)), given] / shifted.sum(axis=1)
        return chances[:, None], (given == predictions.references)[:, None]
    if predictions.kind == "multi_label":
        return sigmoid(predictions.outputs), predictions.references > 0
    return None


def evidence_of(predictions: Predictions) -> Floats | None:
    """What speaks for a label or number of each example: [N, C] the logarithm of each label's probability, of single labels; [N, 1] numbers;
    None of others, and where decisions alone are known."""
    outputs = predictions.outputs.astype(np.float64)
    if predictions.kind == "regression":
        return outputs[:, None]
    if predictions.kind != "single_label" or predictions.decided:
        return None
    top = outputs - outputs.max(axis=1, keepdims=True)
    found: Floats = top - np.log(np.exp(top).sum(axis=1, keepdims=True))
    return found


def reliability(predictions: Predictions, *, confidence: float = 0.95, seed: int = 0) -> Reliability | None:
    """Of predictions with probabilities: single labels by that of the answer, several by that of each label; else None."""
    found = chances_of(predictions)
    if found is None:
        return None
    chances, is_right = found
    rows, labels = chances.shape
    place = np.minimum((chances * BINS).astype(np.int64), BINS - 1)
    flat = place.reshape(-1)
    count = np.bincount(flat, minlength=BINS)
    sums = np.bincount(flat, weights=chances.reshape(-1), minlength=BINS)
    hits = np.bincount(flat, weights=is_right.reshape(-1).astype(np.float64), minlength=BINS)
    # Of each row how far the labels in each bin are off: the error of a resample is that of sums over its rows.
    off = np.zeros((rows, BINS))
    np.add.at(off, (np.repeat(np.arange(rows), labels), flat), (chances - is_right).reshape(-1))
    error = float(np.abs(sums - hits).sum() / (rows * labels))
    random = np.random.Generator(np.random.Philox(seed))
    simulations = max(_FEWEST, min(SIMULATIONS, _DRAWS // (rows * labels)))
    drawn = np.empty(simulations)
    for at in range(simulations):
        weights = np.bincount(random.integers(0, rows, rows), minlength=rows)
        drawn[at] = np.abs(weights @ off).sum() / (rows * labels)
    tail = (1 - confidence) / 2
    low, high = np.quantile(drawn, (tail, 1 - tail))
    lucky = _simulated(chances.reshape(-1), flat, simulations, random)
    with np.errstate(invalid="ignore", divide="ignore"):
        band = np.quantile(lucky / count, (0.025, 0.975), axis=0)
        perfect = np.abs(lucky - sums).sum(axis=1) / (rows * labels)
        return Reliability(
            confidence=sums / count,
            right=hits / count,
            count=count,
            error=error,
            low=float(np.clip(2 * error - high, 0, 1)),
            high=float(np.clip(2 * error - low, 0, 1)),
            perfect=float(perfect.mean()),
            perfect_high=float(np.quantile(perfect, 0.95)),
            band_low=band[0],
            band_high=band[1],
        )


def _simulated(chances: Floats, place: NDArray[np.int64], simulations: int, random: np.random.Generator) -> Floats:
    """[R, B]: right answers in each bin, where each chance is exactly that."""
    found = np.empty((simulations, BINS))
    for at in range(simulations):
        hits = random.random(len(chances)) < chances
        found[at] = np.bincount(place[hits], minlength=BINS)
    return found
