"""``tune``: trials over a space, finalists on fresh seeds, the winner with its test score; continued by the same command.

A trial is an ordinary run in ``trials/NNN``, with the recipe's seed; what it gets follows from (seed, number, ledger), see
:mod:`~hf_trainpipe.studies.proposals`. The best trials run again on fresh seeds, and their mean chooses the winner: a trial's own
score was chosen among many and is too good. The test split is scored once, when the winner is packaged.
"""

from __future__ import annotations

import math
import shutil
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hf_trainpipe.errors import TrainpipeError
from hf_trainpipe.metrics import greater_is_better
from hf_trainpipe.recipe_file import override
from hf_trainpipe.studies import runs
from hf_trainpipe.studies.contract import check_same_rows
from hf_trainpipe.studies.found import Finalist, Found, final_name, line_of
from hf_trainpipe.studies.proposals import fresh_seeds, propose, pruned_at, visible
from hf_trainpipe.studies.space import options_of
from hf_trainpipe.studies.trials import Trial
from hf_trainpipe.studies.workers import Workers, curve_of, free_space
from hf_trainpipe.training.run_files import is_packaged

if TYPE_CHECKING:
    from hf_trainpipe.recipe import Budget, Recipe
    from hf_trainpipe.recipe.source import RecipeSource
    from hf_trainpipe.studies.contract import Settings
    from hf_trainpipe.studies.runs import Ending
    from hf_trainpipe.studies.space import Space
    from hf_trainpipe.studies.trials import State, TrialLedger
    from hf_trainpipe.studies.workers import Attempt

TRIAL_LIMIT, TIME_LIMIT, BEHIND = "the trial's time limit", "the time limit", "behind"


class Search:
    """A search in its folder; whoever has one holds the study's lock.

    Args:
        recipe: With the fields that were typed.
        space: Checked against it.
        say: Takes a line for a person.
    """

    def __init__(
        self,
        recipe: Recipe,
        source: RecipeSource,
        space: Space,
        *,
        folder: Path,
        settings: Settings,
        ledger: TrialLedger,
        workers: Workers,
        say: Callable[[str], None],
    ) -> None:
        self.recipe, self.source, self.space = recipe, source, space
        self.folder, self.settings, self.ledger, self.workers = folder, settings, ledger, workers
        self.say = say
        self.metric = recipe.selected_metric
        self.rises = greater_is_better(self.metric, recipe.task)
        self._since = time.monotonic()
        self._before = sum(trial.seconds for trial in ledger.ended.values()) / settings.parallel
        for trial in ledger.ended.values():  # a kill may have come between a line of the ledger and this
            self._free(trial)

    def run(self) -> Found:
        """Go on from where the ledger ends, to the winner.

        Raises:
            TrainpipeError: no trial ended with a score, or the first one was refused: its own error.
            Interrupted: a signal; everything is saved.
        """
        unfinished = self._search()
        trials = self.ledger.trials()
        best = self._ranked(trials)[: self.settings.finalists]
        if not best:
            counts = ", ".join(
                f"{count} {state}" for state, count in Counter(one.state for one in trials).most_common()
            )
            raise TrainpipeError(
                f"{self.folder}: none of {len(trials)} trials ended with a score: {counts or 'the time was up'}.",
                fix=f"Look at {self.folder / 'trials'}; narrow the space, or give more time.",
            )
        finalists = self._finals(best)
        if not finalists:
            raise TrainpipeError(
                f"{self.folder}: no finalist ended with a score on a fresh seed: "
                + (", ".join(f"trial {one.number} {one.state}" for one in self.ledger.finals()) or "the time was up")
                + ".",
                fix="The same command with a longer --time-limit, more --finalists or more --seeds goes on.",
            )
        return self._packaged(trials, finalists, unfinished)

    def _search(self) -> str:
        """Run the trials; why there are fewer than asked for, or nothing."""
        settings, ledger, workers = self.settings, self.ledger, self.workers
        began = {
            int(name.rpartition("/")[2]): values for name, values in ledger.began.items() if name.startswith("trials/")
        }
        waiting = [number for number in sorted(began) if _name(number) not in ledger.ended]
        while True:
            while workers.has_room and not self._is_late():
                number = waiting[0] if waiting else len(began)
                if number >= settings.trials and not waiting:
                    break
                if any(_name(other) not in ledger.ended for other in range(number - settings.parallel + 1)):
                    break  # what it is to know has not ended yet
                if waiting:
                    waiting.pop(0)
                else:
                    began[number] = self._propose(number, began)
                    ledger.begin(_name(number), number=number, values=began[number])
                workers.begin(_name(number), number=number, fields=options_of(began[number]))
            if not workers.at_work:
                break
            ended = workers.ended(self._reason)
            if self._is_late(reserved=self._for_finalists()):
                ended += workers.stop_all(TIME_LIMIT)
            for attempt, ending in ended:
                self._record(self._judged(attempt, ending, began[attempt.number]))
        missing = settings.trials - len(ledger.trials())
        return f"{missing} of {settings.trials} trials were not run: the time limit" if missing > 0 else ""

    def _propose(self, number: int, began: Mapping[int, Mapping[str, Any]]) -> dict[str, Any]:
        return propose(
            self.space,
            number,
            seed=self.settings.seed,
            parallel=self.settings.parallel,
            trials=self.ledger.trials(),
            began=began,
            greater_is_better=self.rises,
            own=self.space.own_values(self.recipe),
        )

    def _reason(self, attempt: Attempt) -> str | None:
        """Why a run is to be ended now, if it is."""
        limit = self.settings.trial_limit
        if limit is not None and attempt.seconds > limit:
            return TRIAL_LIMIT
        if attempt.name.startswith("finals/"):
            return None
        curve = curve_of(self.folder / attempt.name, self.metric)
        return None if self._pruned_at(attempt.number, curve) is None else BEHIND

    def _pruned_at(self, number: int, curve: Sequence[tuple[float, float]]) -> int | None:
        name = _name(number)
        return pruned_at(
            curve,
            visible(self.ledger.trials(), number, parallel=self.settings.parallel),
            self.settings.pruning,
            greater_is_better=self.rises,
            epochs=last_epoch(self.folder / name, self.metric, self._budget(self.ledger.began[name])),
        )

    def _budget(self, values: Mapping[str, Any]) -> Budget:
        return override(self.recipe, options_of(values)).budget

    def _judged(self, attempt: Attempt, ending: Ending, values: Mapping[str, Any]) -> Trial:
        """What the ledger gets of a run that has ended.

        Raises:
            TrainpipeError: the run's own error, where it says nothing of the trial's values and would come again.
        """
        place = self.folder / attempt.name
        curve, is_final = curve_of(place, self.metric), attempt.name.startswith("finals/")
        cut = None if is_final else self._pruned_at(attempt.number, curve)
        score, state, reason = None, _state_of(ending), ending.message
        if cut is not None:
            state, curve = "pruned", curve[: cut + 1]
            reason = f"behind the others at epoch {curve[-1][0]:.3g}"
        elif ending.result is not None:
            score = _score(ending.result, self.metric, curve, rises=self.rises)
            state = "no score" if score is None else "complete"
            reason = "" if score is not None else f"{self.metric} is undefined"
            if not is_final:
                first = next((self.folder / one.run for one in self.ledger.trials() if one.score is not None), place)
                check_same_rows(first, place, self.space.dimensions)
        elif ending.stopped_for is not None:
            reason = ending.stopped_for
        if state in ("refused", "failed", "killed") and (is_final or self._is_of_the_machine(state)):
            raise ending.error()  # nothing is recorded: the same command tries it again
        known = (
            ((ending.result or {}).get("scores") or {}).get("validation", {}).get(self.metric, {})
            if score is not None
            else {}
        )
        return Trial(
            run=attempt.name,
            number=attempt.number,
            values=values,
            seed=override(self.recipe, attempt.fields).seed,
            state=state,
            score=score,
            low=known.get("low"),
            high=known.get("high"),
            curve=curve,
            steps=None if ending.result is None else ending.result["steps"],
            seconds=round(attempt.earlier + ending.seconds, 1),
            reason=reason,
        )

    def _is_of_the_machine(self, state: State) -> bool:
        """Whether what went wrong is not of the trial's values: no trial has a score yet, or the one before failed too."""
        trials = self.ledger.trials()
        fails_again = state != "refused" and bool(trials) and trials[-1].state in ("failed", "killed")
        return fails_again or not any(trial.score is not None for trial in trials)

    def _record(self, trial: Trial) -> None:
        self.ledger.end(trial)
        self._free(trial)
        self.say(line_of(trial, self.metric))

    def _free(self, trial: Trial) -> None:
        """Losers leave no weights: every trial, and finalists but on the first fresh seed."""
        if not trial.run.startswith("finals/") or not trial.run.endswith("-1"):
            place = self.folder / trial.run
            result = runs.finished(place)
            if result is None or not is_packaged(result):
                free_space(place)

    def _ranked(self, trials: Sequence[Trial]) -> list[Trial]:
        sign = -1 if self.rises else 1
        scored = [trial for trial in trials if trial.score is not None]
        return sorted(scored, key=lambda one: (sign * (one.score or 0.0), one.number))

    def _finals(self, best: Sequence[Trial]) -> list[Finalist]:
        """Run the best trials on fresh seeds; those that were measured on the most, the best first."""
        seeds = fresh_seeds(self.settings.seed, self.settings.seeds, used=self.recipe.seed)
        jobs = [(place, seed, trial) for place, seed in enumerate(seeds, 1) for trial in best]
        jobs = [job for job in jobs if final_name(job[2], job[0]) not in self.ledger.ended]
        values = {trial.number: trial.values for trial in best}
        if jobs:
            self.say(
                f"finalists: trials {', '.join(str(one.number) for one in best)}, each on {len(seeds)} fresh seeds"
            )
        while True:
            while jobs and self.workers.has_room and not self._is_late(reserved=0.0):
                place, seed, trial = jobs.pop(0)
                name = final_name(trial, place)
                if name not in self.ledger.began:
                    self.ledger.begin(name, number=trial.number, values=trial.values)
                fields = [*options_of(trial.values), "--seed", str(seed)]
                self.workers.begin(name, number=trial.number, fields=fields)
            if not self.workers.at_work:
                break
            for attempt, ending in self.workers.ended(self._reason):
                self._record(self._judged(attempt, ending, values[attempt.number]))
            if self._is_late(reserved=0.0):
                self.workers.stop_all(TIME_LIMIT)  # they go on when the same command has more time
                break
        chosen = [
            Finalist(trial=trial, again=[one for place in range(1, len(seeds) + 1)
                     if (one := self.ledger.ended.get(final_name(trial, place))) is not None and one.score is not None])
            for trial in best
        ]  # fmt: skip
        most = max(len(one.again) for one in chosen)
        sign = -1 if self.rises else 1
        return sorted((one for one in chosen if most and len(one.again) == most), key=lambda one: sign * one.mean)

    def _packaged(self, trials: Sequence[Trial], finalists: Sequence[Finalist], unfinished: str) -> Found:
        """Package the winner's run, which scores the test split, and free the space of all others."""
        winner = finalists[0].again[0]
        place = self.folder / winner.run
        result = runs.finished(place)
        if result is None or not is_packaged(result):
            self.say(
                f"the winner is trial {winner.number}; its run on seed {winner.seed} is packaged and scored on test"
            )
            if not any((place / "checkpoints").glob("step-*/MANIFEST.json")):
                shutil.rmtree(place)  # it lost before, and left no weights; the same weights come again
            fields = [*options_of(winner.values), "--seed", str(winner.seed)]
            self.workers.begin(winner.run, number=winner.number, fields=fields, options=())
            ended: list[tuple[Attempt, Ending]] = []
            while not ended:
                ended = self.workers.ended(lambda _: None)
            ending = ended[0][1]
            if ending.result is None:
                raise ending.error()
            result = ending.result
        for one in self.ledger.finals():
            if one.run != winner.run:
                free_space(self.folder / one.run)
        packaged = [one.run for one in self.ledger.finals() if (self.folder / one.run / "package").is_dir()]
        return Found(
            folder=self.folder,
            metric=self.metric,
            trials=trials,
            finalists=finalists,
            winner=winner,
            result=result,
            greater_is_better=self.rises,
            unfinished=unfinished,
            earlier_winners=[name for name in packaged if name != winner.run],
        )

    def _is_late(self, *, reserved: float | None = None) -> bool:
        """Whether the time is up but for ``reserved`` seconds: by default for one more trial, the shortest so far, and finalists."""
        limit = self.settings.time_limit
        if limit is None:
            return False
        if reserved is None:
            reserved = self._for_finalists() + min(
                (one.seconds for one in self.ledger.trials() if one.score is not None), default=0
            )
        return self._before + time.monotonic() - self._since + reserved > limit

    def _for_finalists(self) -> float:
        """Seconds that are kept back for them and for packaging the winner, by the longest trial and half as much again."""
        longest = max((one.seconds for one in self.ledger.trials() if one.score is not None), default=0.0)
        rounds = math.ceil(self.settings.finalists * self.settings.seeds / self.settings.parallel)
        return 1.5 * longest * (rounds + 1)


def _name(number: int) -> str:
    return f"trials/{number:03d}"


def _state_of(ending: Ending) -> State:
    if ending.stopped_for in (TRIAL_LIMIT, TIME_LIMIT):
        return "time limit"
    known: dict[str, State] = {"diverged": "diverged", "out of memory": "out of memory", "refused": "refused",
                               "killed": "killed", "interrupted": "killed"}  # fmt: skip
    return known.get(ending.outcome, "failed")


def _score(
    result: Mapping[str, Any], metric: str, curve: Sequence[tuple[float, float]], *, rises: bool
) -> float | None:
    """The final score on validation; of the loss, which has none, the best evaluation's."""
    found = result["scores"].get("validation", {}).get(metric)
    if found is not None:
        value = found["value"]
    else:
        value = (max if rises else min)((score for _, score in curve), default=None)
    return float(value) if value is not None and math.isfinite(value) else None


def last_epoch(run_dir: Path, metric: str, budget: Budget) -> float:
    """The epoch from which on an evaluation is the last of a run, by its budget; half a step is left for rounding."""
    found = runs.points(run_dir, f"validation/{metric}")
    if not found or not found[-1].step:
        return budget.epochs
    a_step = found[-1].epoch / found[-1].step
    steps = min(budget.epochs / a_step, budget.max_steps or math.inf)
    return (steps - 0.5) * a_step
