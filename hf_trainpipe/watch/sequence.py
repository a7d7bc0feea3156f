"""The sequential test: windows of texts, one after the other, each ranked among all texts before it.

An alarm is raised once the money of one signal exceeds the number of signals over the false alarm rate: the chance of an
alarm without a drift is at most that rate, over the whole horizon and all signals together (Ville's inequality, and the sum over
signals). After the horizon a new one begins: money and texts as in the profile.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from hf_trainpipe.watch.bets import Evidence
from hf_trainpipe.watch.profile import FALSE_ALARMS, HORIZON, WINDOW
from hf_trainpipe.watch.signals import SIGNALS, Ranked, rank

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from hf_trainpipe.watch.profile import Profile

Array = NDArray[Any]
NAMED = 10
"""Texts that are named of a window."""


@dataclass(frozen=True, kw_only=True)
class Promise:
    """What a sequence of windows is held to."""

    window: int = WINDOW
    """Texts of a window."""
    false_alarms: float = FALSE_ALARMS
    """How likely an alarm without a drift is, over the horizon."""
    horizon: int = HORIZON
    """Windows."""

    def needed(self, signals: int) -> float:
        """The money at which a signal alarms."""
        return signals / self.false_alarms


@dataclass(frozen=True, kw_only=True)
class Mover:
    """A text that moved a signal."""

    signal: str
    place: str
    """Where it stands: ``monday.jsonl, line 17``."""
    number: int
    """Of all texts of the sequence, from 1."""
    why: str
    """What is said of it, for people."""
    rank: float
    """Among the texts before it, from 0 to 1; of signals that compare directions among those of its window."""


@dataclass(kw_only=True)
class Windows:
    """Windows that were watched with one profile."""

    profile: Profile
    promise: Promise
    seed: int
    """Of chance: ties, and the halves of a window. The same windows give the same evidence."""
    windows: int = 0
    """Over all years."""
    evidence: dict[str, Evidence] = field(default_factory=dict)
    pool: dict[str, list[Array]] = field(default_factory=dict)
    """By signal the readings of the traffic's windows of this year."""
    history: list[dict[str, Any]] = field(default_factory=list)
    """Of each window of this year its evidence by signal, and where it begins."""
    alarm: dict[str, Any] | None = None
    """The first one: its window, signals that alarmed then or later, since when, where that window begins, and texts."""

    def __post_init__(self) -> None:
        if not self.evidence:
            self._begin_year()

    def _begin_year(self) -> None:
        horizon = self.promise.horizon
        self.evidence = {name: Evidence(SIGNALS[name].two_sided, horizon) for name in self.profile.signals}
        self.pool = {name: [] for name in self.profile.signals}
        self.history = []

    @property
    def needed(self) -> float:
        """The money at which a signal alarms."""
        return self.promise.needed(len(self.profile.signals))

    @property
    def in_year(self) -> int:
        """Windows of this year."""
        return self.windows % self.promise.horizon if self.windows else 0

    @property
    def of_year(self) -> range:
        """The numbers of this year's windows, over all years; a new year begins with its first window."""
        count = next(iter(self.evidence.values())).windows
        return range(self.windows - count + 1, self.windows + 1)

    def earlier(self, name: str) -> Array:
        """What the next window is ranked among."""
        return np.concatenate([self.profile.pool[name], *self.pool[name]])

    def take(self, readings: Mapping[str, Array], places: Sequence[str]) -> list[Mover]:
        """Take the next window; returns the texts that move the signals with the most evidence.

        Args:
            readings: By signal, of :meth:`.Profile.read`: of as many texts as a window has.
            places: Where each of them stands.
        """
        if self.windows and self.in_year == 0:
            self._begin_year()
        generator = np.random.default_rng([self.seed, self.windows])
        order = generator.permutation(len(places))
        self.windows += 1
        ranked: dict[str, Ranked] = {}
        for name, evidence in self.evidence.items():
            ranked[name] = rank(
                SIGNALS[name], [self.profile.pool[name], *self.pool[name]], readings[name], order, generator
            )
            evidence.take(ranked[name].ranks)
        for name, held in self.pool.items():
            held.append(readings[name])
        money = {name: evidence.log for name, evidence in self.evidence.items()}
        self.history.append({"log_money": money, "first": places[0]})
        alarming = [name for name in money if money[name] >= np.log(self.needed)]
        leading = alarming or [max(money, key=lambda name: money[name])]
        first = (self.windows - 1) * self.promise.window + 1
        movers = [
            mover for name in leading for mover in _movers(name, self.evidence[name], ranked[name], places, first)
        ]
        fresh = [name for name in alarming if self.alarm is None or name not in self.alarm["signals"]]
        if fresh:
            if self.alarm is None:
                self.alarm = {"window": self.windows, "signals": [], "since": {}, "from": {}, "texts": []}
            for name in fresh:
                began = int(self.evidence[name].since[self.evidence[name].best]) - 1
                self.alarm["signals"].append(name)
                self.alarm["since"][name] = self.of_year[began]
                self.alarm["from"][name] = self.history[began]["first"]
            self.alarm["texts"] += [vars(mover) for mover in movers if mover.signal in fresh]
        return movers


def _movers(name: str, evidence: Evidence, ranked: Ranked, places: Sequence[str], first: int) -> list[Mover]:
    signal = SIGNALS[name]
    up = evidence.looks_up
    order = np.argsort(-ranked.scores if up else ranked.scores, kind="stable")[:NAMED]
    if len(ranked.ranks) == len(places):
        of_text = ranked.ranks
    else:
        of_text = (np.argsort(np.argsort(ranked.scores, kind="stable"), kind="stable") + 0.5) / len(places)
    return [
        Mover(
            signal=name,
            place=places[at],
            number=first + int(at),
            why=signal.high if up else signal.low,
            rank=float(of_text[at]),
        )
        for at in order.tolist()
    ]
