"""The statistics: what a bet is worth, how often there is an alarm without a drift, what is found."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from hf_trainpipe.errors import DataError
from hf_trainpipe.watch.bets import Evidence, log_bets, ranks, stake_of
from hf_trainpipe.watch.power import smallest
from hf_trainpipe.watch.profile import Profile
from hf_trainpipe.watch.sequence import Promise, Windows
from hf_trainpipe.watch.state import FILE, open_state

PROMISE = Promise(window=50, false_alarms=0.05, horizon=20)

MOVED = 15
"""Texts of a window that drift."""


def profile(random: np.random.Generator, size: int = 120) -> Profile:
    """Signals that are numbers of no text."""
    pool = {
        "embeddings": random.normal(size=(size, 4)).astype(np.float32),
        "novelty": random.normal(size=size).astype(np.float32),
        "length": random.integers(3, 9, size).astype(np.float32),
    }
    return Profile(facts={}, reads={}, pool=pool)


def window(random: np.random.Generator, size: int = PROMISE.window) -> dict[str, np.ndarray]:
    return dict(profile(random, size).pool)


def watched(seed: int, windows: int, *, from_window: int = 10**9, moves: str = "") -> Windows:
    random = np.random.default_rng(seed)
    found = Windows(profile=profile(random), promise=PROMISE, seed=seed)
    for number in range(1, windows + 1):
        readings = window(random)
        if number >= from_window:
            readings[moves][:MOVED] += 6
        found.take(readings, [f"{number}:{text}" for text in range(PROMISE.window)])
    return found


@pytest.mark.parametrize("two_sided", [False, True])
def test_what_a_bet_is_paid_has_mean_1_under_uniform_ranks(two_sided: bool) -> None:
    middle = (np.arange(100_000) + 0.5) / 100_000
    assert np.exp(log_bets(middle, two_sided=two_sided)).mean(axis=1) == pytest.approx(1.0, abs=1e-3)


def test_ranks_are_uniform_among_few_texts_with_ties() -> None:
    random = np.random.default_rng(0)
    found = np.concatenate([ranks(random.integers(0, 3, 7), random.integers(0, 3, 5), random) for _ in range(1_000)])
    counts = np.histogram(found, bins=10, range=(0, 1))[0]
    assert abs(counts - 500).max() < 5 * np.sqrt(450)


def test_a_year_without_a_drift_raises_an_alarm_as_rarely_as_promised_which_the_reference_alone_would_not() -> None:
    alarms = frozen = 0
    for seed in range(30):
        random = np.random.default_rng(seed)
        found = Windows(profile=profile(random), promise=PROMISE, seed=seed)
        alone = Evidence(False, PROMISE.horizon)
        alarmed = False
        for _ in range(PROMISE.horizon):
            readings = window(random)
            found.take(readings, ["-"] * PROMISE.window)
            pool = np.sort(found.profile.pool["novelty"])
            place = np.searchsorted(pool, readings["novelty"]) + random.random(PROMISE.window)
            alone.take(place / (len(pool) + 1))
            alarmed |= alone.log >= np.log(found.needed)
        alarms += found.alarm is not None
        frozen += alarmed
    assert alarms <= 30 * 0.05 + 3
    assert frozen >= 5  # ranked among the 120 texts of the profile alone, its own chance comes back in every window


@pytest.mark.parametrize("moves", ["embeddings", "novelty"])
def test_a_drift_is_found_its_beginning_is_told_and_the_texts_that_moved_it_are_named(moves: str) -> None:
    found = watched(1, 8, from_window=6, moves=moves)
    assert found.alarm is not None
    assert found.alarm["window"] in (6, 7, 8)
    assert moves in found.alarm["signals"]
    assert found.alarm["since"][moves] in (5, 6, 7)
    named = [mover["place"].split(":") for mover in found.alarm["texts"] if mover["signal"] == moves]
    assert sum(int(text) < MOVED for _, text in named) >= 8


def test_after_the_horizon_a_new_one_begins() -> None:
    found = watched(2, PROMISE.horizon + 1)
    assert found.evidence["novelty"].windows == 1
    assert len(found.earlier("novelty")) == 120 + PROMISE.window


def test_the_smallest_drift_is_smaller_in_larger_windows() -> None:
    random = np.random.default_rng(3)
    of = {
        size: smallest(Windows(profile=profile(random, 500), promise=Promise(window=size), seed=0), "novelty")
        for size in (50, 400)
    }
    small, large = of[400].value, of[50].value
    assert small is not None
    assert large is not None
    assert small < large
    assert str(of[400]).endswith("of the texts are unlike all others")


def test_the_smallest_drift_is_told_for_what_is_put_down_with_the_next_windows() -> None:
    assert sum(stake_of(window, 365) for window in range(1, 366)) == pytest.approx(1.0)
    reference, rare = profile(np.random.default_rng(3), 500), Promise(window=60, horizon=10_000)
    fresh, later = (
        smallest(Windows(profile=reference, promise=rare, seed=0, windows=done), "novelty").value for done in (0, 7)
    )
    assert fresh is not None
    assert later is not None
    assert fresh < later  # a tenth is put down with the first window, of the rest a ten-thousandth with each


def test_a_state_on_disk_has_the_windows_of_one_year_and_goes_on_as_one_that_was_never_saved(tmp_path: Path) -> None:
    random = np.random.default_rng(4)
    reference, promised = profile(random), {"window": 20, "horizon": 3}
    kept, _ = open_state(tmp_path / "no", reference, promised)
    for step in range(8):
        state, note = open_state(tmp_path, reference, promised)
        assert note is None
        readings, places = window(random, 17), [f"{step}:{text}" for text in range(17)]
        for one in (state, kept):
            list(one.add(readings, places))
        state.save(tmp_path)
    found, _ = open_state(tmp_path, reference, promised)
    assert found.windows.windows == kept.windows.windows == 6
    assert (found.places, found.windows.history) == (kept.places, kept.windows.history)
    assert found.windows.of_year == range(4, 7)
    for name, evidence in kept.windows.evidence.items():
        assert found.windows.evidence[name].log_money == pytest.approx(evidence.log_money)
    windows = sorted(tmp_path.glob("*-window-*"))
    assert [path.stem[-1] for path in windows] == ["4", "5", "6"]
    assert len(list(tmp_path.glob("*-waits-*"))) == 1
    windows[1].write_bytes(b"x")
    with pytest.raises(DataError, match=r"window-5\.safetensors: cannot be read"):
        open_state(tmp_path, reference, promised)
    (tmp_path / FILE).write_text('{"version": 1, "arrays": "texts-1.safetensors"}')
    with pytest.raises(DataError, match="expected version 2, found 1"):
        open_state(tmp_path, reference, promised)
