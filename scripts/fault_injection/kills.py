"""kill -9 of everything at random instants, the same command again, and the bytes at the end."""

from __future__ import annotations

import random
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from typing import Any

from .lab import Lab
from .process import Ended, Process, Unexpected

PACE = "100"
"""Milliseconds a step: wide enough to be hit between saves."""
KILLS_A_RUN = 10
INSTANTS = {"any": 5, "save": 3, "resume": 2}
"""How kills are aimed, and how often: anywhere in the run, inside a save, inside a start."""
SAVE_SECONDS = 0.0015
"""From the appearance of a save's folder to the kill, at most."""


@dataclass
class Kill:
    """One kill: how it was aimed, where it landed, what became of it."""

    ranks: int
    aimed: str
    landed: str
    outcome: str = "open"
    note: str = ""


@dataclass
class Campaign:
    """All kills of a session."""

    seed: int
    kills: list[Kill] = field(default_factory=list)
    runs: int = 0
    seconds: float = 0.0

    def count(self, outcome: str, *, ranks: int | None = None) -> int:
        """Kills with an outcome: identical, lost, hand."""
        return sum(kill.outcome == outcome and ranks in (None, kill.ranks) for kill in self.kills)

    @property
    def line(self) -> str:
        """The figure."""
        landed = ", ".join(f"{place} {number}" for place, number in Counter(k.landed for k in self.kills).items())
        return (
            f"{len(self.kills)} kills in {self.runs} runs: {self.count('identical')} bit-identical, "
            f"{self.count('lost')} lost, {self.count('hand')} needing a hand (landed in: {landed})"
        )

    def to_json(self) -> dict[str, Any]:
        """For a file."""
        return {**asdict(self), "line": self.line}


def campaign(
    lab: Lab,
    *,
    kills: int,
    seed: int,
    ranks: tuple[int, ...] = (1, 2),
    say: Callable[[str], None] = lambda line: None,
) -> Campaign:
    """Kill until there are ``kills`` of them, in turn on each number of ranks, up to ten a run."""
    started, chance = time.monotonic(), random.Random(seed)
    result = Campaign(seed)
    shares = [kills // len(ranks) + (place < kills % len(ranks)) for place in range(len(ranks))]
    for size, share in zip(ranks, shares, strict=True):
        left = share
        while left > 0:
            one = Series(lab, ranks=size, chance=chance)
            made = one.run(min(left, KILLS_A_RUN))
            result.kills += made
            result.runs += 1
            left -= len(made)
            outcomes = ", ".join(f"{number} {name}" for name, number in Counter(k.outcome for k in made).items())
            places = ", ".join(f"{kill.aimed}: {kill.landed}" for kill in made)
            say(f"{one.name} ({size} rank{'s' * (size > 1)}): {outcomes or 'no kill landed'} [{places}]")
    result.seconds = time.monotonic() - started
    return result


class Series:
    """The kills of one run, until it is allowed to end."""

    def __init__(self, lab: Lab, *, ranks: int, chance: random.Random) -> None:
        self.lab = lab
        self.ranks = ranks
        self.chance = chance
        self.name = lab.name(f"killed-{ranks}")
        self.folder = lab.folder / self.name
        self.reference = lab.whole(ranks, PACE=PACE)
        self.duration = lab.duration(ranks, PACE=PACE)
        self.kills: list[Kill] = []
        self.family: list[int] = []
        """The processes to kill, where they were looked up before the instant."""

    def run(self, most: int) -> list[Kill]:
        """Kill up to ``most`` times, then let it end; judge every kill by what came after it."""
        while len(self.kills) < most:
            process = self._start()
            aim = self.chance.choices([*INSTANTS], [*INSTANTS.values()])[0]
            before, self.family = self._newest(), []
            getattr(self, f"_wait_{aim}")(process)
            alive = process.running
            attempt = process.kill_all(self.family)
            self._judge_resume(attempt, before)
            if not alive:
                if attempt.code == 0:
                    break  # it had ended before the kill: compare, and start another
                self._blame("hand", f"ended by itself with {attempt.code}: {attempt.last}")
                continue
            self.kills.append(Kill(self.ranks, aim, self._where(attempt)))
        self._complete()
        return self.kills

    def _start(self) -> Process:
        return self.lab.start(self.name, ranks=self.ranks, PACE=PACE)

    def _complete(self) -> None:
        before = self._newest()
        try:
            done = self._start().end()
        except Unexpected as error:
            return self._blame("hand", str(error))
        self._judge_resume(done, before)
        if done.code != 0:
            return self._blame("hand", f"ended with {done.code}: {done.last}")
        try:
            differing = self.lab.differing(self.name, self.reference)
        except (AssertionError, OSError, ValueError) as error:
            differing = [f"{type(error).__name__}: {error}"]
        for kill in self.kills:
            if kill.outcome == "open":
                kill.outcome, kill.note = ("lost", ", ".join(differing)) if differing else ("identical", "")
        return None

    def _blame(self, outcome: str, note: str) -> None:
        """The kill before this attempt is what it failed of."""
        if self.kills and self.kills[-1].outcome == "open":
            self.kills[-1].outcome, self.kills[-1].note = outcome, note
        elif not self.kills:
            raise Unexpected(f"a run that was not killed yet failed: {note}")
        else:
            raise Unexpected(f"the same command fails again and again: {note}")

    def _judge_resume(self, attempt: Ended, before: int) -> None:
        """A resume that goes on from before the newest checkpoint has lost work."""
        for line in attempt.said.splitlines():
            if "continuing after step" in line:
                step = int(line.split("step")[1].split("(")[0].replace(",", ""))
                if step < before:
                    self._blame("lost", f"went on from step {step}, although step {before} had been saved")
            if "set aside" in line:
                self._blame("lost", line)

    # Instants

    def _wait_any(self, process: Process) -> None:
        _wait(process, self.chance.uniform(0.0, self.duration))

    def _wait_resume(self, process: Process) -> None:
        _wait(process, self.chance.uniform(0.15, 0.45) * self.duration)

    def _wait_save(self, process: Process) -> None:
        """Inside the next save but one at the earliest: who is to be killed is looked up during the one before."""
        for number in range(self.chance.randint(2, 3)):
            if number and not self._wait_folder(process, there=False):
                return
            if not self._wait_folder(process, there=True):
                return
            if number == 0:
                self.family = process.family()
        last = time.monotonic() + self.chance.uniform(0, SAVE_SECONDS)
        while time.monotonic() < last:
            pass

    def _wait_folder(self, process: Process, *, there: bool) -> bool:
        while process.running:
            if self._saving() == there:
                return True
            time.sleep(0.0003)
        return False

    # Where a kill landed

    def _saving(self) -> bool:
        return any((self.folder / "checkpoints").glob(".tmp-0*"))

    def _newest(self) -> int:
        return max(self.lab.steps(self.name), default=0)

    def _where(self, attempt: Ended) -> str:
        if self._saving():
            return "a save"
        steps = [line for line in attempt.said.splitlines() if line.startswith("step ")]
        if self._newest() == 26:
            return "packaging" if "eval 26/" in attempt.said or "continuing after" in attempt.said else "the start"
        if not steps:
            return "a resume" if "continuing after" in attempt.said else "the start"
        return "training"


def _wait(process: Process, seconds: float) -> None:
    end = time.monotonic() + seconds
    while time.monotonic() < end and process.running:
        time.sleep(0.002)
