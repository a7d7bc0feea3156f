"""From what a rehearsal measured to time, memory and disk of the whole run."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from hf_trainpipe.model.lora import is_adapted
from hf_trainpipe.training import forecasts
from hf_trainpipe.training.check.measure import tokens_at

if TYPE_CHECKING:
    from hf_trainpipe.plan import Plan
    from hf_trainpipe.training.check.measure import Pace, Part
    from hf_trainpipe.training.run import Run

_LINE_BYTES = 120
"""Of a point in the ledger."""
_POINTS, _SCORES = 5, 10
"""A logging interval's, an evaluation's."""


@dataclass(frozen=True, kw_only=True)
class Measured:
    """Seconds and bytes of a rehearsal."""

    setup: float
    """With the data encoded before."""
    loading: float
    trial: float
    """0 where this machine has tried such a package."""
    pace: Pace
    evaluation: float
    """Of the part of validation that was evaluated."""
    evaluation_fixed: float
    """Of it what does not grow with the split."""
    saving: float
    """That a save takes from the steps."""
    writing: float
    """Until it is on the disk."""
    export: float
    works: Mapping[str, float]
    """Of what the console was told, by name."""
    parts: Mapping[str, Part]
    """Of the evaluated splits."""
    memory: int | None
    checkpoint: int
    package: int
    predictions: int
    """Of the parts."""
    rest: int
    """Other files of the run's folder."""


def seconds_of(run: Run, measured: Measured) -> dict[str, float]:
    """The parts of a whole run's time, by name."""
    evaluations, saves = evaluations_and_saves(run.plan, evaluates="validation" in measured.parts)
    part = measured.parts.get("validation")
    growing = max(0.0, measured.evaluation - measured.evaluation_fixed)
    evaluation = measured.evaluation_fixed + growing * (part.tokens if part is not None else 0.0)
    export = measured.export
    for name, one in measured.parts.items():
        export += (one.tokens - 1) * measured.works.get(f"scoring {name} in fp32", 0.0)
    largest = max((one.examples for one in measured.parts.values()), default=1.0)
    export += (largest - 1) * measured.works.get("computing the scores and their intervals", 0.0)
    return {
        "start": measured.setup + measured.loading + measured.trial,
        "steps": measured.pace.seconds_of(tokens_of(run)),
        "evaluations": evaluations * evaluation,
        "checkpoints": saves * measured.saving + measured.writing,
        "export": export,
    }


def evaluations_and_saves(plan: Plan, *, evaluates: bool) -> tuple[int, int]:
    """How many evaluations and checkpoints a run has, where each evaluation improves."""
    total, every, saving = plan.total_steps, plan.evaluate_every, plan.save_every
    if total == 0:  # the model as it begins
        return int(evaluates), 1

    def ends(step: int) -> int:
        return total // step + (total % step > 0)

    if not evaluates:
        return 0, ends(saving)
    last = total % every > 0 and total % saving > 0
    return ends(every), total // every + total // saving - total // math.lcm(every, saving) + last


def tokens_of(run: Run) -> float:
    """Tokens of all steps of a run."""
    train = run.feed.learnt
    mean = float(train.example_lengths[train.usable].mean())
    if run.recipe.data.stream() is not None:
        return mean * run.plan.total_steps * run.plan.examples_per_step
    epochs, left = divmod(run.plan.total_steps, run.feed.order.steps_per_epoch)
    whole = float(train.example_lengths[train.usable].sum())
    return epochs * whole + sum(tokens_at(run, epochs * run.feed.order.steps_per_epoch + step) for step in range(left))


def bytes_of(run: Run, measured: Measured, *, keep: int) -> dict[str, int]:
    """What the run's folder holds at most, and when the run is complete.

    Args:
        keep: ``budget.keep_checkpoints`` of the recipe.
    """
    evaluations, saves = evaluations_and_saves(run.plan, evaluates="validation" in measured.parts)
    logged = math.ceil(run.plan.total_steps / run.recipe.budget.log_every)
    scaled = max((one.examples for one in measured.parts.values()), default=1.0)
    ledger = _LINE_BYTES * (_POINTS * logged + _SCORES * evaluations)
    rest = int(measured.predictions * scaled) + measured.rest + ledger
    if run.recipe.budget.keep_when_done == "all":
        kept = min(saves, keep)
    else:
        kept = 2 if is_adapted(run.bare) and evaluations > 1 else 1
    return {
        "checkpoint": measured.checkpoint,
        "package": measured.package,
        "done": kept * measured.checkpoint + measured.package + rest,
        "most": (min(saves, keep) + 2) * measured.checkpoint + measured.package + rest,
    }


def foretell(run: Run, measured: Measured, disk: Mapping[str, int]) -> dict[str, Any]:
    """The forecast as the run keeps it: corrected by this machine's past, with intervals."""
    parts = seconds_of(run, measured)
    total = sum(parts.values())
    plain: dict[str, float] = {"seconds": total, "disk_bytes": float(disk["done"])}
    if measured.memory is not None:
        plain["memory_bytes"] = float(measured.memory)
    kind = forecasts.kind_of_work(run)
    spread = {"seconds": measured.pace.spread * parts["steps"] / max(total, 1e-9)}
    found, learned = forecasts.forecast(plain, kind=kind, spread=spread)
    return {
        "schema": 1,
        "kind": kind,
        "data": run.data.fingerprints["data"],
        "steps": run.plan.total_steps,
        "plain": plain,
        "forecast": forecasts.guesses_to_json(found),
        "parts": {name: round(value, 3) for name, value in parts.items()},
        "learned_from": learned,
        "step_spread": measured.pace.spread,
    }
