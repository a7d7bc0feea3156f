"""Learning curves: forecasts hold what a law gives, gains and prices agree with it, flat curves are called flat."""

from __future__ import annotations

import numpy as np
import pytest

from hf_trainpipe.metrics.power_law import fit

SIZES = (250, 500, 1000, 2000)


def measured(floor: float, slope: float, *, noise: float, seed: int, sizes=SIZES) -> list[list[float]]:
    draw = np.random.default_rng(seed)
    return [[(floor + 2 * size**-slope) * (1 + noise * draw.normal()) for _ in range(3)] for size in sizes]


def test_nine_of_ten_intervals_hold_what_one_run_on_four_times_the_rows_gives() -> None:
    draw, inside, nearer = np.random.default_rng(0), 0, 0
    for seed in range(50):
        floor, slope = draw.uniform(0, 0.1), draw.uniform(0.2, 0.7)
        errors = measured(floor, slope, noise=0.03, seed=seed)
        truth = (floor + 2 * 8000**-slope) * (1 + 0.03 * draw.normal())
        found = fit(SIZES, errors, confidence=0.9).at(8000)
        inside += found.low <= truth <= found.high
        nearer += abs(found.value - truth) < abs(np.mean(errors[-1]) - truth)
    assert inside >= 41
    assert nearer >= 45


def test_prices_agree_with_the_law() -> None:
    law = fit(SIZES, measured(0.02, 0.4, noise=0.002, seed=1))
    needed, chance = law.rows_for(0.01)
    assert needed is not None
    assert chance > 0.9
    truth = ((2 * 2000**-0.4 - 0.01) / 2) ** (-1 / 0.4)
    assert abs(needed / truth - 1) < 0.15
    assert abs(law.gain(needed).value - 0.01) < 0.002


def test_a_flat_curve_promises_nothing() -> None:
    law = fit(SIZES, [[0.2, 0.205, 0.195]] * 4)
    assert law.gain(4000).value < 0.01
    assert law.rows_for(0.1)[0] is None


def test_no_errors_at_all_are_no_error() -> None:
    found = fit(SIZES, [[0.0, 0.0]] * 4, one_row=0.002).at(8000)
    assert 0 <= found.low <= found.value <= found.high < 0.01


def test_one_size_is_no_curve() -> None:
    with pytest.raises(ValueError, match="two sizes"):
        fit([10], [[0.1]])


def test_a_slow_beginning_near_chance_is_no_flat_law() -> None:
    def error(rows: int) -> float:
        odds = 30 * rows**-0.6
        return (0.05 + 0.5 * odds) / (1 + odds)

    found = fit((60, 120, 240, 480), [[error(rows)] for rows in (60, 120, 240, 480)], chance=0.5)
    assert abs(found.at(2000).value - error(2000)) < 0.02
    needed, _ = found.rows_for(0.05)
    assert needed is not None
    assert abs(found.drawn(needed).mean() - (error(480) - 0.05)) < 0.02
