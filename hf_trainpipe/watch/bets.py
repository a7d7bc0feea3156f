"""Bets that ranks are not uniform, the evidence of one signal.

A new text is ranked among all texts before it: those of the profile and those of the traffic so far. As long as all of them come
from one source, whatever it is, these ranks are independent and uniform in (0, 1), exactly and for any number of reference texts
(Vovk, Gammerman and Shafer, Algorithmic Learning in a Random World, 2005, chapter 8). Comparing with the reference alone would
not do: its own chance deviation comes back in every window, and with a year of them any test would find it.

A bet multiplies a stake by a number whose mean under a uniform rank is 1. Of a stake of 1 a
tenth is put down with the first window and the rest in equal parts with each later one that the promise holds for, so that what has
happened before a drift begins costs nothing. The money is then a martingale that begins with 1, and exceeds 1/alpha with
probability alpha at most, at any time (Ville's inequality).

Shapes: J bets, n texts.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

TAILS = (0.01, 0.03, 0.1, 0.3)
"""Parts of the ranks, from an end, that a bet is about."""
EXTRA = (0.03, 0.1, 0.3)
"""Shares of the texts that lie there, beside those that belong there, if a bet is right."""
FIRST = 0.1
"""The part of the stake that is put down at once: that traffic differs from the first day on is likelier than on any other."""
_UPPER = np.array([(tail, extra) for tail in TAILS for extra in EXTRA])


def log_bets(ranks: Floats, *, two_sided: bool) -> Floats:
    """[J, ...]: the logarithm of what each bet multiplies its money by; first those on high ranks, then those on low ones."""
    tail, extra = (column.reshape(-1, *(1,) * ranks.ndim) for column in _UPPER.T)
    won, lost = np.log1p(extra / tail - extra), np.log1p(-extra)
    upper = np.where(ranks[None] > 1 - tail, won, lost)
    return np.concatenate([upper, np.where(ranks[None] < tail, won, lost)]) if two_sided else upper


def ranks(earlier: NDArray[Any], new: NDArray[Any], generator: np.random.Generator) -> Floats:
    """[n] in (0, 1): each new number among the earlier ones, the new ones before it, and itself; ties are broken by chance."""
    known = np.sort(earlier)
    low, high = np.searchsorted(known, new, "left"), np.searchsorted(known, new, "right")
    low = low + np.tril(new[None, :] < new[:, None], -1).sum(axis=1)
    equal = high - np.searchsorted(known, new, "left") + np.tril(new[None, :] == new[:, None], -1).sum(axis=1)
    place: Floats = (low + generator.random(len(new)) * (equal + 1)) / (len(known) + np.arange(1, len(new) + 1))
    return place


def stake_of(window: int, horizon: int) -> float:
    """What is put down of a stake of 1 at the beginning of a window, from 1."""
    if horizon == 1:
        return 1.0
    return FIRST if window == 1 else (1 - FIRST) / (horizon - 1)


@dataclass
class Evidence:
    """The money of one signal's bets."""

    two_sided: bool
    horizon: int
    """Windows that the promise holds for."""
    windows: int = 0
    log_money: Floats = field(default_factory=lambda: np.zeros(0))
    """[J] of each bet, as if it had had the whole stake of 1."""
    since: NDArray[np.int64] = field(default_factory=lambda: np.zeros(0, dtype=np.int64))
    """[J] the window, from 1, with which most of a bet's money began."""

    def __post_init__(self) -> None:
        if not len(self.log_money):
            count = len(_UPPER) * (2 if self.two_sided else 1)
            self.log_money = np.full(count, -np.inf)
            self.since = np.ones(count, dtype=np.int64)

    def take(self, of_window: Floats) -> None:
        """Bet on the ranks [n] of a window."""
        self.windows += 1
        stake = np.log(stake_of(self.windows, self.horizon))
        self.since = np.where(self.log_money < stake, self.windows, self.since)
        self.log_money = np.logaddexp(self.log_money, stake) + log_bets(of_window, two_sided=self.two_sided).sum(axis=1)

    @property
    def log(self) -> float:
        """The logarithm of all the money, stakes that are not put down yet included."""
        first, later = (stake_of(window, self.horizon) for window in (1, 2))
        put_down = first + (self.windows - 1) * later if self.windows else 0.0
        waiting = max(0.0, 1.0 - put_down) if self.windows < self.horizon else 0.0
        won = np.logaddexp.reduce(self.log_money) - np.log(len(self.log_money))
        return float(won if waiting == 0.0 else np.logaddexp(won, np.log(waiting)))

    @property
    def money(self) -> float:
        """All of it: 1 at the beginning."""
        return float(np.exp(min(self.log, 700.0)))

    @property
    def best(self) -> int:
        """The bet that won most."""
        return int(np.argmax(self.log_money))

    @property
    def looks_up(self) -> bool:
        """Whether that bet is on high ranks."""
        return self.best < len(_UPPER)

    def to_json(self) -> dict[str, Any]:
        """JSON has no infinity: a bet without money is null."""
        money = [None if np.isinf(one) else float(one) for one in self.log_money]
        return {"windows": self.windows, "log_money": money, "since": self.since.tolist()}

    @classmethod
    def from_json(cls, value: Any, *, two_sided: bool, horizon: int) -> Evidence:
        """As :meth:`to_json` wrote it."""
        money = np.array([-np.inf if one is None else one for one in value["log_money"]], dtype=np.float64)
        return cls(two_sided, horizon, int(value["windows"]), money, np.array(value["since"], dtype=np.int64))
