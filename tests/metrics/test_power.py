"""Seeds, almost stochastic order, margins and smallest differences against what they must give."""

from __future__ import annotations

import math

import numpy as np
import pytest

from hf_trainpipe.metrics import Predictions
from hf_trainpipe.metrics.margin import by_error, by_resamples, by_rows
from hf_trainpipe.metrics.multiple import Family, step_down
from hf_trainpipe.metrics.paired import holm, mcnemar
from hf_trainpipe.metrics.power import smallest_by_error, smallest_by_rows
from hf_trainpipe.metrics.seeds import seed_differences
from hf_trainpipe.metrics.stochastic_order import almost_stochastic_order, violation_ratio


@pytest.mark.parametrize(
    ("rows", "disagreement", "points"), [(872, 0.06, 2.4), (872, 0.08, 2.75), (872, 0.10, 3.05), (3080, 0.08, 1.45)]
)
def test_the_smallest_difference_is_shown_four_times_in_five(rows: int, disagreement: float, points: float) -> None:
    found = smallest_by_rows(rows, disagreement)
    assert 100 * found == pytest.approx(points, abs=0.06)
    rng = np.random.default_rng(0)
    shares = [(disagreement + found) / 2, (disagreement - found) / 2, 1 - disagreement]
    wins = rng.multinomial(rows, shares, 1500)
    shown = np.mean([2 * _tail(int(better), int(worse)) < 0.05 for better, worse, _ in wins])
    assert shown == pytest.approx(0.8, abs=0.035)


def _tail(better: int, worse: int) -> float:
    from scipy.stats import binom

    return float(binom.sf(better - 1, better + worse, 0.5))


def test_too_few_rows_show_nothing() -> None:
    assert smallest_by_rows(20, 0.1) == math.inf
    assert smallest_by_rows(500, 0.0) == math.inf
    assert smallest_by_error(0.01, freedom=4) > smallest_by_error(0.01) == pytest.approx(0.028016, abs=1e-5)


def test_violation_ratios_are_those_of_the_integrals() -> None:
    always, never = np.array([2.0, 3.0]), np.array([1.0, 0.0])
    assert violation_ratio(always, never) == 0
    assert violation_ratio(never, always) == 1
    # Quantiles of (0, 2) and (1, 1): -1 on one half, +1 on the other.
    assert violation_ratio(np.array([0.0, 2.0]), np.array([1.0])) == 0.5
    # (0, 5) against (1, 1): violated by 1 where p < 1/2, better by 4 above: 1 / (1 + 16).
    assert violation_ratio(np.array([0.0, 5.0]), np.array([1.0, 1.0])) == pytest.approx(1 / 17)
    rng = np.random.default_rng(0)
    one, two = rng.normal(0.3, 1, 7), rng.normal(0, 1, 5)
    grid = (np.arange(200_000) + 0.5) / 200_000
    gaps = np.sort(two)[(grid * 5).astype(int)] - np.sort(one)[(grid * 7).astype(int)]
    assert float(violation_ratio(one, two)) == pytest.approx(
        (np.maximum(gaps, 0) ** 2).sum() / (gaps**2).sum(), abs=1e-4
    )


def test_almost_stochastic_order_bounds_the_violation() -> None:
    rng = np.random.default_rng(1)
    low, high = rng.normal(0.80, 0.01, 5), rng.normal(0.85, 0.01, 5)
    assert almost_stochastic_order(low, high).bound == 0
    assert almost_stochastic_order(high, low).bound == 1
    same = almost_stochastic_order(low, rng.normal(0.80, 0.01, 5))
    assert same.violation < same.bound
    assert same.bound > 0.5
    assert almost_stochastic_order(low, low).violation == 0.5


def runs(
    rng: np.random.Generator, gold: np.ndarray, logits: np.ndarray, number: int, spread: float
) -> list[Predictions]:
    """Runs whose seed moves the skill on all rows alike."""
    made = []
    for _ in range(number):
        hit = rng.random(len(gold)) < 1 / (1 + np.exp(-logits - rng.normal(0, spread)))
        answers = np.where(hit, gold, 1 - gold)
        made.append(Predictions("single_label", outputs=np.eye(2)[answers], references=gold, labels=("a", "b")))
    return made


def test_settings_without_a_difference_are_called_different_in_five_percent() -> None:
    """Three seeds a side; 120 pairs: 12 or more come with a chance of 0.02 at 5 %."""
    rng, found = np.random.default_rng(2), 0
    for number in range(120):
        gold, logits = rng.integers(0, 2, 200), rng.normal(2, 2, 200)
        sides = [runs(rng, gold, logits, 3, 0.3) for _ in range(2)]
        found += seed_differences(*sides, ["accuracy"], resamples=200, seed=number)["accuracy"].p < 0.05
    assert found < 12


def test_better_settings_are_found_with_their_interval() -> None:
    rng = np.random.default_rng(3)
    gold, logits = rng.integers(0, 2, 800), rng.normal(1, 1, 800)
    one, two = runs(rng, gold, logits, 3, 0.1), runs(rng, gold, logits + 1.5, 4, 0.1)
    gap = seed_differences(one, two, ["accuracy", "f1_macro"], resamples=500)["accuracy"]
    assert gap.p < 0.01
    assert 0 < gap.low < gap.value < gap.high
    assert gap.value == pytest.approx(np.mean(gap.second) - np.mean(gap.first))
    assert 2 < gap.freedom < 30
    alone = seed_differences(one[:1], two, ["accuracy"], resamples=500)["accuracy"]
    assert alone.error**2 > np.var(gap.second, ddof=1) * (1 + 1 / 4)  # a run more of the other side's spread
    same = seed_differences([one[0]] * 2, [one[0]] * 2, ["accuracy"], resamples=100)["accuracy"]
    assert (same.value, same.low, same.high, same.p) == (0, 0, 0, 1)


def test_the_score_test_of_a_margin_is_that_of_the_likelihood() -> None:
    """Tango 1998: the variance under the margin, by the most likely shares, here found on a grid."""
    only_first, only_second, rows, margin = 18, 12, 400, 0.03
    shares = (
        np.linspace(1e-6, 0.3, 400_000) + margin
    )  # of rows that only the first gets right; the second's are less by the margin
    second = shares - margin
    likelihood = only_first * np.log(shares) + only_second * np.log(second)
    likelihood += (rows - only_first - only_second) * np.log(1 - shares - second)
    best = int(likelihood.argmax())
    z = (only_second - only_first + rows * margin) / np.sqrt(rows * (shares[best] + second[best] - margin**2))
    from scipy.stats import norm

    found = by_rows(only_first, only_second, rows, margin=margin)
    assert found.p == pytest.approx(norm.sf(z), abs=1e-4)
    edge = by_rows(only_first, only_second, rows, margin=-found.least)
    assert edge.p == pytest.approx(0.05, abs=1e-6)
    assert found.least < found.gain == pytest.approx(-0.015)


def test_equal_answers_pass_a_margin_only_with_enough_rows() -> None:
    assert by_rows(0, 0, 2000, margin=0.005).p < 0.05 < by_rows(0, 0, 300, margin=0.005).p
    drawn = np.random.default_rng(4).normal(0.01, 0.01, 10_000)
    assert by_resamples(0.01, drawn, margin=0.02).p == pytest.approx(0.0013, abs=0.001)
    assert by_resamples(0.01, drawn, margin=0.02).least == pytest.approx(0.01 - 0.01645, abs=0.001)
    by_t = by_error(0.0, 0.01, 4, margin=0.02)
    assert by_t.least == pytest.approx(-2.1318 * 0.01, abs=1e-5)
    assert by_t.p > by_error(0.0, 0.01, 1e6, margin=0.02).p


def test_scores_that_say_the_same_count_once_and_others_as_by_holm() -> None:
    rng = np.random.default_rng(5)
    one = rng.normal(size=5000)
    assert step_down([Family(p_values=[0.01, 0.01], drawn=[one, one])])[0] == pytest.approx([0.01, 0.01], abs=1e-3)
    apart = step_down([Family(p_values=[0.01, 0.04], drawn=[one, rng.normal(size=5000)])])[0]
    assert apart == pytest.approx([0.02, 0.04], abs=2e-3)
    p_values = [0.01, 0.2, 0.03, float("nan")]
    alone = [p for [p] in step_down([Family(p_values=[p], drawn=[one]) for p in p_values])]
    assert alone == pytest.approx(holm(p_values), nan_ok=True)
    assert mcnemar(np.zeros(3, bool), np.zeros(3, bool)).p == 1
