"""kill -9 of a run at random instants, the same command again, and a comparison of the final bytes."""

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
"""Milliseconds per step, so that kills between saves are likely."""
KILLS_A_RUN = 10
INSTANTS = {"any": 5, "save": 3, "resume": 2}
"""Targets of kills with their weights: anywhere in the run, during a save, during a start."""
SAVE_SECONDS = 0.0015
"""Maximum delay of a kill after the folder of a save appears."""


@dataclass
class Kill:
    """One kill: its target, where it landed, and the outcome."""

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
        """Kills with an outcome: identical, lost, manual."""
        return sum(kill.outcome == outcome and ranks in (None, kill.ranks) for kill in self.kills)

    @property
    def line(self) -> str:
        """A summary."""
        landed = ", ".join(f"{place} {number}" for place, number in Counter(k.landed for k in self.kills).items())
        return (
            f"{len(self.kills)} kills in {self.runs} runs: {self.count('identical')} bit-identical, "
            f"{self.count('lost')} lost, {self.count('hand')} needing manual work (landed in: {landed})"
        )

    def to_json(self) -> dict[str, Any]:
        """As JSON."""
        return {**asdict(self), "line": self.line}


def campaign(
    lab: Lab,
    *,
    kills: int,
    seed: int,
    ranks: tuple[int, ...] = (1, 2),
    say: Callable[[str], None] = lambda line: None,
) -> Campaign:
    """Kill runs ``kills`` times in all, for each number of ranks, up to ten times a run."""
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
    """The kills of one run, and its completion."""

    def __init__(self, lab: Lab, *, ranks: int, chance: random.Random) -> None:
        self.lab = lab
        self.ranks = ranks
        self.chance = chance
        self.name = lab.name(f"killed-{ranks}")
        self.folder = lab.folder / self.name
        self.reference = lab.uninterrupted(ranks, PACE=PACE)
        self.duration = lab.duration(ranks, PACE=PACE)
        self.kills: list[Kill] = []
        self.processes: list[int] = []
        """The processes to kill, if looked up in advance."""

    def run(self, most: int) -> list[Kill]:
        """Kill up to ``most`` times, then let the run complete; judge every kill by the attempt after it."""
        while len(self.kills) < most:
            process = self._start()
            aim = self.chance.choices([*INSTANTS], [*INSTANTS.values()])[0]
            before, self.processes = self._newest(), []
            getattr(self, f"_wait_{aim}")(process)
            alive = process.running
            attempt = process.kill_all(self.processes)
            self._judge_resume(attempt, before)
            if not alive:
                if attempt.code == 0:
                    break  # it completed before the kill
                self._blame("manual", f"ended by itself with {attempt.code}: {attempt.last}")
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
            return self._blame("manual", str(error))
        self._judge_resume(done, before)
        if done.code != 0:
            return self._blame("manual", f"ended with {done.code}: {done.last}")
        try:
            differing = self.lab.differing(self.name, self.reference)
        except (AssertionError, OSError, ValueError) as error:
            differing = [f"{type(error).__name__}: {error}"]
        for kill in self.kills:
            if kill.outcome == "open":
                kill.outcome, kill.note = ("lost", ", ".join(differing)) if differing else ("identical", "")
        return None

    def _blame(self, outcome: str, note: str) -> None:
        """Set the outcome of the last kill, which made this attempt fail."""
        if self.kills and self.kills[-1].outcome == "open":
            self.kills[-1].outcome, self.kills[-1].note = outcome, note
        elif not self.kills:
            raise Unexpected(f"a run failed without a kill: {note}")
        else:
            raise Unexpected(f"the same command failed again: {note}")

    def _judge_resume(self, attempt: Ended, before: int) -> None:
        """Work is lost if a resume does not start from the newest checkpoint."""
        for line in attempt.stderr.splitlines():
            if "continuing after step" in line:
                step = int(line.split("step")[1].split("(")[0].replace(",", ""))
                if step < before:
                    self._blame("lost", f"resumed from step {step}, although step {before} was saved")
            if "set aside" in line:
                self._blame("lost", line)

    # Instants

    def _wait_any(self, process: Process) -> None:
        _wait(process, self.chance.uniform(0.0, self.duration))

    def _wait_resume(self, process: Process) -> None:
        _wait(process, self.chance.uniform(0.15, 0.45) * self.duration)

    def _wait_save(self, process: Process) -> None:
        """Wait for the second or third save; the processes to kill are looked up during the first."""
        for number in range(self.chance.randint(2, 3)):
            if number and not self._wait_folder(process, there=False):
                return
            if not self._wait_folder(process, there=True):
                return
            if number == 0:
                self.processes = process.process_tree()
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
        steps = [line for line in attempt.stderr.splitlines() if line.startswith("step ")]
        if self._newest() == 26:
            return "packaging" if "eval 26/" in attempt.stderr or "continuing after" in attempt.stderr else "the start"
        if not steps:
            return "a resume" if "continuing after" in attempt.stderr else "the start"
        return "training"


def _wait(process: Process, seconds: float) -> None:
    end = time.monotonic() + seconds
    while time.monotonic() < end and process.running:
        time.sleep(0.002)
