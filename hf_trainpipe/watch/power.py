"""The smallest drift that would have been seen: planted into texts of the pool, by simulation.

Of each signal, what is planted is of its own kind: a share of texts unlike all others, answers that all become one label, numbers
that shift by a part of their standard deviation. Found means: an alarm within three windows, in nine of ten simulations.

Shapes: R simulations, T windows, n texts of a window, P texts of the pool, J bets.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hf_trainpipe.watch.bets import Floats, log_bets, stake_of
from hf_trainpipe.watch.sequence import Promise, Windows
from hf_trainpipe.watch.signals import SIGNALS, Signal

Array = NDArray[Any]

SHARES = (0.005, 0.01, 0.02, 0.03, 0.05, 0.07, 0.1, 0.15, 0.2, 0.3, 0.5, 0.7, 1.0)
"""Shares of texts that are planted."""
SHIFTS = (0.05, 0.1, 0.15, 0.2, 0.25, 0.3, 0.4, 0.5, 0.7, 1.0, 1.5, 2.0, 3.0)
"""Shifts in standard deviations."""
WITHIN, OFTEN = 3, 0.9
"""Windows within which it is found, and how often."""
_TIMES = 40
_POOL = 2000
_CORNER = 0.05
"""Share of the pool that is nearest to a text of it: what a share of new texts comes from."""


@dataclass(frozen=True, kw_only=True)
class Smallest:
    """The smallest drift of a kind that is found."""

    value: float | None
    """None: not even the largest that was tried."""
    kind: str
    """What it is a number of, for people."""

    def __str__(self) -> str:
        if self.value is None:
            return "nothing"
        is_share = self.kind.startswith("of the")
        return f"{self.value:.1%} {self.kind}" if is_share else f"{self.value:g} {self.kind}"


def smallest(windows: Windows, name: str) -> Smallest:
    """The smallest drift of one signal that would be found in the next windows."""
    signal, generator = SIGNALS[name], np.random.default_rng(0)
    pool, promise = windows.earlier(name), windows.promise
    if len(pool) > _POOL:
        pool = pool[generator.choice(len(pool), _POOL, replace=False)]
    values: Sequence[float]
    if signal.directed and pool.shape[1] > 1:
        plant, kind = (_rarest(pool, windows.profile.reads["answers"]), "of the answers become the rarest one") if name == "answers" else (
            _corner(pool, generator), "of the texts come from one corner")  # fmt: skip
        values, found = SHARES, lambda size: _directed(signal, pool, plant, size, promise, generator)
    elif name == "novelty":
        values, kind = SHARES, "of the texts are unlike all others"
        found = lambda size: _among(signal, pool, size, 0.0, promise, generator)  # noqa: E731
    else:
        pool = pool.reshape(len(pool)).astype(np.float32)
        sign = -1.0 if name == "confidence" else 1.0
        values, kind = SHIFTS, f"standard deviations {'down' if sign < 0 else 'up'}"
        spread = float(pool.std())
        found = lambda size: _among(signal, pool, 0.0, sign * size * spread, promise, generator)  # noqa: E731
    stakes = [stake_of(window, promise.horizon) for window in _next(windows)]
    at = bisect_left(values, True, key=_enough(found, stakes, promise.needed(len(windows.profile.signals))))
    return Smallest(value=values[at] if at < len(values) else None, kind=kind)


def _next(windows: Windows) -> list[int]:
    """The next windows by their numbers in the year; where it ends sooner, those that a new one begins with."""
    first = windows.in_year + 1
    first = first if first + WITHIN - 1 <= windows.promise.horizon else 1
    return list(range(first, min(first + WITHIN - 1, windows.promise.horizon) + 1))


def _enough(
    ranks_of: Callable[[float], tuple[Floats, bool]], stakes: Sequence[float], needed: float
) -> Callable[[float], bool]:
    def enough(size: float) -> bool:
        ranks, two_sided = ranks_of(size)
        return _found(ranks, two_sided, stakes, needed) >= OFTEN

    return enough


def _found(ranks: Floats, two_sided: bool, stakes: Sequence[float], needed: float) -> float:
    """The share of simulations [R, T, n] with an alarm, where so much is put down with each window."""
    won = log_bets(ranks, two_sided=two_sided).sum(axis=-1)  # [J, R, T]
    money = np.full(won.shape[:2], -np.inf)
    alarmed = np.zeros(won.shape[1], dtype=bool)
    for window, stake in enumerate(stakes):
        money = np.logaddexp(money, np.log(stake)) + won[:, :, window]
        alarmed |= np.logaddexp.reduce(money, axis=0) - np.log(len(money)) >= np.log(needed)
    return float(alarmed.mean())


def _among(
    signal: Signal, pool: Array, share: float, shift: float, promise: Promise, generator: np.random.Generator
) -> tuple[Floats, bool]:
    """Ranks [R, T, n] of texts of the pool, shifted, a share of them beyond all."""
    shape = (_TIMES, WITHIN, promise.window)
    new = generator.choice(pool, shape) + np.float32(shift)
    new[generator.random(shape) < share] = np.inf
    known = np.sort(pool)
    low, high = np.searchsorted(known, new, "left"), np.searchsorted(known, new, "right")
    return (low + generator.random(shape) * (high - low + 1)) / (len(known) + 1), signal.two_sided


def _directed(
    signal: Signal, pool: Array, plant: Array, share: float, promise: Promise, generator: np.random.Generator
) -> tuple[Floats, bool]:
    """Ranks [R, T, n / 2] of windows in which a share of the texts is drawn from ``plant``."""
    half = promise.window // 2
    shape = (_TIMES * WITHIN, promise.window)
    new = pool[generator.integers(0, len(pool), shape)]
    planted = generator.random(shape) < share
    new[planted] = plant[generator.integers(0, len(plant), int(planted.sum()))]
    found = np.empty((len(new), promise.window - half))
    for at, window in enumerate(new):
        direction = window[:half].mean(axis=0)
        known, scores = np.sort(pool @ direction), window[half:] @ direction
        low, high = np.searchsorted(known, scores, "left"), np.searchsorted(known, scores, "right")
        found[at] = (low + generator.random(len(scores)) * (high - low + 1)) / (len(known) + 1)
    return found.reshape(_TIMES, WITHIN, -1), signal.two_sided


def _rarest(pool: Array, center: Array) -> Array:
    """The texts of the pool whose answer is the rarest one."""
    answer = np.argmax(pool + center, axis=1)
    given, counts = np.unique(answer, return_counts=True)
    rarest: Array = pool[answer == given[np.argmin(counts)]]
    return rarest


def _corner(pool: Array, generator: np.random.Generator) -> Array:
    """The texts of the pool that are nearest to one of them."""
    distance = ((pool - pool[generator.integers(len(pool))]) ** 2).sum(axis=1)
    return pool[np.argsort(distance)[: max(1, round(_CORNER * len(pool)))]]
