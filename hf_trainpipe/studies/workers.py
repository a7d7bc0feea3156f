"""The runs of a search: several at a time, each on its devices; ended early by decision, by a limit, or with the search."""

from __future__ import annotations

import math
import shutil
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from hf_trainpipe.errors import Interrupted
from hf_trainpipe.studies import runs
from hf_trainpipe.studies.runs import Ending, Launch, Started
from hf_trainpipe.training.run_files import earlier_seconds

if TYPE_CHECKING:
    from hf_trainpipe.recipe.source import RecipeSource
    from hf_trainpipe.training.signals import StopSignals

RESTARTS = 3
"""How often a run that died, was interrupted by somebody else, or failed is continued before that counts: with several ranks the others
fail where one was killed."""
OPTIONS = ("--validation-only",)
QUIET = ("--hub", "none", "--trackers", "none")
"""Fields of every run of a search: neither pushes nor trackers."""
CURVE_SECONDS, CURVE_SHARE = 0.5, 50
"""Between two looks at a run's curve: so many seconds, and so many times as long as a look takes."""


@dataclass(kw_only=True)
class Attempt:
    """A run of the search that is at work."""

    name: str
    """Its folder in the study's."""
    number: int
    fields: Sequence[str]
    options: Sequence[str]
    slot: int
    started: Started
    earlier: float
    """Seconds that attempts before this session took."""
    restarts: int = 0
    look_at: float = field(default=0.0)
    """When to look at its curve next."""

    @property
    def seconds(self) -> float:
        """Over all attempts."""
        return self.earlier + self.started.seconds


class Workers:
    """Places for runs; all of them end when this ends.

    Args:
        folder: The study's.
        launches: How a run in each place is launched.
        signals: Ask the search to stop.
    """

    def __init__(self, source: RecipeSource, folder: Path, *, launches: Sequence[Launch], signals: StopSignals) -> None:
        self.source = source
        self.folder = folder
        self.signals = signals
        self.at_work: dict[str, Attempt] = {}
        self._launches = launches

    @property
    def has_room(self) -> bool:
        return len(self.at_work) < len(self._launches)

    def begin(self, name: str, *, number: int, fields: Sequence[str], options: Sequence[str] = OPTIONS) -> None:
        """Start a run, or continue it, in a place that is free."""
        slot = min(set(range(len(self._launches))) - {attempt.slot for attempt in self.at_work.values()})
        place = self.folder / name
        earlier = earlier_seconds(place)
        started = runs.start(self.source, place, fields=[*fields, *QUIET], options=options, launch=self._launches[slot])
        self.at_work[name] = Attempt(
            name=name, number=number, fields=fields, options=options, slot=slot, started=started, earlier=earlier
        )

    def ended(self, until: Callable[[Attempt], str | None]) -> list[tuple[Attempt, Ending]]:
        """Wait a moment; the runs that have ended, or were ended since ``until`` gave a reason.

        Raises:
            Interrupted: a signal asked the search to stop; every run has saved and ended.
        """
        self._stop_if_asked()
        found = []
        for attempt in list(self.at_work.values()):
            ending = attempt.started.poll()
            now = time.monotonic()
            if ending is None and now >= attempt.look_at:
                reason = until(attempt)
                attempt.look_at = time.monotonic() + max(CURVE_SECONDS, CURVE_SHARE * (time.monotonic() - now))
                if reason is not None:
                    ending = attempt.started.stop(reason)
            if ending is None:
                continue
            if (
                ending.stopped_for is None
                and ending.outcome in ("killed", "interrupted", "failed")
                and attempt.restarts < RESTARTS
            ):
                self._stop_if_asked()  # the signal may have come to all
                again = runs.start(
                    self.source,
                    self.folder / attempt.name,
                    fields=[*attempt.fields, *QUIET],
                    options=attempt.options,
                    launch=self._launches[attempt.slot],
                )
                attempt.earlier += attempt.started.seconds
                attempt.started, attempt.restarts = again, attempt.restarts + 1
                continue
            del self.at_work[attempt.name]
            found.append((attempt, ending))
        if not found:
            time.sleep(runs.POLL_SECONDS)
        return found

    def stop_all(self, reason: str) -> list[tuple[Attempt, Ending]]:
        """End every run: all are asked first, so that they save at the same time."""
        for attempt in self.at_work.values():
            attempt.started.ask_to_stop()
        found = [(attempt, attempt.started.stop(reason)) for attempt in self.at_work.values()]
        self.at_work.clear()
        return found

    def _stop_if_asked(self) -> None:
        if self.signals.requested:
            num_runs = len(self.at_work)
            self.stop_all("the search was stopped")
            raise Interrupted(
                f"The search was stopped by {self.signals.name}; {num_runs} of its runs saved and ended.",
                fix="The same command continues it.",
            )

    def __enter__(self) -> Workers:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop_all("the search ended")


def curve_of(run_dir: Path, metric: str) -> list[tuple[float, float]]:
    """Epoch and score of each evaluation on validation that a run has logged; without those that are no numbers."""
    found = runs.points(run_dir, f"validation/{metric}")
    return [(point.epoch, point.value) for point in found if math.isfinite(point.value)]


def devices_of(*, parallel: int, ranks: int, num_gpus: int) -> list[str | None]:
    """CUDA_VISIBLE_DEVICES of each place; None where runs share what there is.

    >>> devices_of(parallel=2, ranks=2, num_gpus=4), devices_of(parallel=1, ranks=1, num_gpus=0)
    (['0,1', '2,3'], [None])
    """
    if num_gpus < 2 or parallel == 1:
        return [None] * parallel
    cut = [[str((place * ranks + rank) % num_gpus) for rank in range(ranks)] for place in range(parallel)]
    return [",".join(dict.fromkeys(one)) for one in cut]


def free_space(run_dir: Path) -> None:
    """Remove the checkpoints of a run that is not needed any more; its ledger, result and predictions stay."""
    for name in ("checkpoints", "stream", "augmented", "scratch", "trial", "heartbeat", "generated"):
        shutil.rmtree(run_dir / name, ignore_errors=True)
