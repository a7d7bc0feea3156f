"""Slopes with their intervals, and how often losses at rest are called overfitting."""

from __future__ import annotations

import math

import numpy as np
import pytest

from hf_trainpipe.metrics.overfitting import BLOCKS, Gaps, Trend, settled, steady
from hf_trainpipe.training.state import RunState


def trained(
    losses: list[float], *, train: list[float] | None = None, spread: float = 0.0, seed: int = 0
) -> list[Trend]:
    """What is known after each of some evaluations, every 100 steps."""
    draw, gaps = np.random.default_rng(seed), Gaps()
    base = draw.normal(0, 0.2, (2, BLOCKS))
    found = []
    for number, loss in enumerate(losses):
        learnt = 0.1 if train is None else train[number]
        blocks = [
            side + level + draw.normal(0, spread, BLOCKS) for side, level in zip(base, (loss, learnt), strict=True)
        ]
        found.append(gaps.add(100 * (number + 1), blocks[0].tolist(), blocks[1].tolist()))
    return found


def test_a_steady_rise_has_the_interval_of_sen_and_of_the_blocks() -> None:
    from scipy.stats import kendalltau, ttest_1samp

    steps = np.arange(9) / 10
    jumps = np.array([0, 0.02, -0.02, 0.01, -0.03, 0.03, -0.01, 0.02, -0.02])
    jumping = (0.3 * steps + jumps)[:, None].repeat(5, axis=1)  # all blocks alike: only jumps are unsure
    slope, low, high = steady(steps, [jumping], tail=0.05)
    pairs = [(jumping[b, 0] - jumping[a, 0]) / (steps[b] - steps[a]) for a in range(1, 9) for b in range(a + 1, 9)]
    assert slope == pytest.approx(np.median(pairs))
    assert low < 0.3 < high
    for tried, is_refused in ((low - 1e-6, True), (low + 1e-6, False)):
        tau = kendalltau(steps[1:], jumping[1:, 0] - tried * steps[1:], method="exact")
        assert bool(tau.statistic > 0 and tau.pvalue / 2 <= 0.05) == is_refused
    slopes = np.random.default_rng(1).normal(0.5, 0.1, 5)
    straight = steps[:, None] * slopes  # all on their lines: only the examples are unsure
    slope, low, high = steady(steps, [straight], tail=0.025)
    assert (low, high) == pytest.approx(tuple(ttest_1samp(slopes, 0).confidence_interval(0.95)), abs=1e-9)


def test_a_rise_that_has_come_to_rest_is_shown() -> None:
    losses = [2.0, 0.7, 0.8, 1.6, 1.4, 1.7, *(1.8 + 0.02 * (number % 3) for number in range(8))]
    assert trained(losses, spread=0.01)[-1].shown_from == 200
    steps, loss = np.array([0.0, 1, 2, 3, 4, 5, 6]), np.array([0.7, 1.6, 1.8, 1.8, 1.82, 1.8, 1.78])
    slope, low, high = settled(steps, [loss[:, None]], tail=0.025, among=1)
    assert slope == pytest.approx((1.8 - 0.7) / 5)
    half = 4.302653 * 0.02 * math.sqrt(4 / 3) / 5  # t of 2 degrees of freedom: three evaluations at rest
    assert (low, high) == pytest.approx((slope - half, slope + half))


def test_losses_that_rise_are_shown_from_the_lowest_on() -> None:
    losses = [2.0, 1.0, 0.8, *(0.8 + 0.05 * number for number in range(1, 11))]
    found = trained(losses, spread=0.005)
    assert all(trend.shown_from is None for trend in found[:6])
    assert found[-1].shown_from == 300
    assert found[-1].line == "shown from step 300"
    assert found[-1].low > 0
    assert found[-1].slope == pytest.approx(0.5, abs=0.1)
    assert math.isnan(found[4].slope)  # too few behind the lowest


def test_a_gap_that_grows_while_validation_rests_is_no_overfitting() -> None:
    learnt = [1 / (number + 1) for number in range(16)]
    draw = np.random.default_rng(2)
    found = trained([2.0, *(0.5 + draw.normal(0, 0.01) for _ in range(15))], train=learnt, spread=0.005)
    assert all(trend.shown_from is None for trend in found)


def test_losses_that_both_rise_are_no_overfitting() -> None:
    losses = [1.0, *(0.8 + 0.05 * number for number in range(12))]
    assert trained(losses, train=losses, spread=0.003)[-1].shown_from is None


def test_a_new_lowest_takes_it_back() -> None:
    losses = [1.0, 0.8, *(0.8 + 0.05 * number for number in range(1, 9)), 0.5]
    found = trained(losses, spread=0.003)
    assert found[-2].shown_from == 200
    assert found[-1].shown_from is None


def test_losses_at_rest_are_called_overfitting_in_at_most_five_percent_of_runs() -> None:
    """150 runs of 16 evaluations; of each jump half remains at the next evaluation."""
    false = 0
    for seed in range(150):
        draw, jump, losses = np.random.default_rng(seed), 0.0, []
        for number in range(16):
            jump = 0.5 * jump + 0.02 * draw.normal()
            losses.append(0.5 + 1.5 * math.exp(-2 * number) + jump)
        false += any(trend.shown_from is not None for trend in trained(losses, spread=0.01, seed=seed))
    assert false <= 7


def test_it_goes_on_where_a_run_is_resumed() -> None:
    state = RunState()
    losses = [1.0, 0.8, *(0.8 + 0.05 * number for number in range(1, 9))]
    blocks = [[loss + 0.01 * block * number for block in range(3)] for number, loss in enumerate(losses)]
    for number, one in enumerate(blocks):
        state = RunState.from_json(state.to_json())
        last = state.gaps.add(number, one, [0.1, 0.2, 0.3])
    straight = Gaps()
    for number, one in enumerate(blocks):
        trend = straight.add(number, one, [0.1, 0.2, 0.3])
    assert last == trend
    assert state.gaps == straight
    older = {name: value for name, value in state.to_json().items() if name != "gaps"}
    assert RunState.from_json(older).gaps == Gaps()
    straight.add(99, [1.0, 2.0], [0.1, 0.2, 0.3])  # other blocks: what was before cannot be held against them
    assert straight.steps == [99]
