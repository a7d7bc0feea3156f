"""What a trial gets: a function of the study's seed, the trial's number and the trials that ended before. And when it is ended early.

Optuna's sampler (TPE, over all fields together) is made anew for each trial: a study that continued with its old sampler would
propose the same points again. The study is rebuilt from the ledger by ``add_trial``, in the order of the numbers.

With ``parallel`` trials at a time, trial n sees how those up to n - parallel ended, and of those between only what they got
(Optuna's constant liar): the same whichever of them is faster. So it begins once all up to n - parallel have ended.
"""

from __future__ import annotations

import hashlib
import math
import statistics
import warnings
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal

from hf_trainpipe.errors import MissingExtra
from hf_trainpipe.studies.trials import CUT, WORST

if TYPE_CHECKING:
    import optuna

    from hf_trainpipe.studies.space import Space
    from hf_trainpipe.studies.trials import Trial

Pruning = Literal["median", "halving", "none"]
Curve = Sequence[tuple[float, float]]
"""Epoch and score of each evaluation."""
STARTUP = 5
"""Trials that are drawn at random before the sampler learns from them; the recipe's own values are the first of these."""
ENOUGH = 4
"""Trials that a curve is held against, at least."""
RETRIES = 20
"""Proposals until the same values are tried twice: in a small space of choices a sampler repeats itself."""
FACTOR = 3
"""Of successive halving: of so many trials one goes on behind a rung; the rungs are at 1, 3, 9, ... evaluations."""


def require_optuna() -> None:
    """Raise MissingExtra where Optuna is not installed."""
    try:
        import optuna
    except ImportError as error:
        raise MissingExtra(f"tune needs Optuna: {error}.", fix="pip install 'hf-trainpipe[tune]'") from None
    optuna.logging.set_verbosity(optuna.logging.WARNING)


def seed_of(*parts: object) -> int:
    """A seed in [0, 2**31) that follows from its parts."""
    digest = hashlib.sha256(":".join(map(str, parts)).encode()).digest()
    return int.from_bytes(digest[:4], "big") >> 1


def fresh_seeds(seed: int, count: int, *, used: int) -> list[int]:
    """Seeds for finalists, none of which the search has used."""
    found = (seed_of(seed, "fresh", place) for place in range(count + 1))
    return [one for one in found if one != used][:count]


def visible(trials: Sequence[Trial], number: int, *, parallel: int) -> list[Trial]:
    """The ended trials that trial ``number`` may know, by number."""
    return [trial for trial in trials if trial.number <= number - parallel]


def propose(
    space: Space,
    number: int,
    *,
    seed: int,
    parallel: int,
    trials: Sequence[Trial],
    began: Mapping[int, Mapping[str, Any]],
    greater_is_better: bool,
    own: Mapping[str, Any],
) -> dict[str, Any]:
    """The values of a trial.

    Args:
        trials: Those that have ended, by number; all up to ``number - parallel`` are among them.
        began: Number to values of the trials before this one.
        own: What the recipe has: the first trial's values, as far as they lie within the space.

    Returns:
        Field to value, in the order of the space.
    """
    known = visible(trials, number, parallel=parallel)
    others = [began[other] for other in range(max(0, number - parallel + 1), number)]
    taken = [dict(trial.values) for trial in known] + [dict(values) for values in others]
    for retry in range(RETRIES):
        study = rebuilt(space, known, seed=seed_of(seed, number, retry), greater_is_better=greater_is_better)
        found = _asked(study, space, running=others, first=own if number == 0 else {})
        if found not in taken:
            break
    return found


def _asked(
    study: optuna.Study, space: Space, *, running: Sequence[Mapping[str, Any]], first: Mapping[str, Any]
) -> dict[str, Any]:
    """What Optuna proposes beside trials that go on; ``first`` are values that it must take."""
    import optuna

    dimensions = space.dimensions
    distributions = {name: dimension.distribution() for name, dimension in dimensions.items()}
    for values in running:
        parameters = {name: dimensions[name].parameter(value) for name, value in values.items()}
        state = optuna.trial.TrialState.RUNNING
        study.add_trial(optuna.trial.create_trial(state=state, params=parameters, distributions=distributions))
    if first:
        study.enqueue_trial({name: dimensions[name].parameter(value) for name, value in first.items()})
    asked = study.ask(fixed_distributions=distributions)
    return {name: dimension.chosen(asked.params[name]) for name, dimension in dimensions.items()}


def rebuilt(space: Space, trials: Sequence[Trial], *, seed: int, greater_is_better: bool) -> optuna.Study:
    """Optuna's study of trials that have ended. What failed by its values is told as the worst there is; what was ended early with
    its curve; what failed otherwise says nothing of the values."""
    import optuna
    from optuna.trial import TrialState

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        sampler = optuna.samplers.TPESampler(seed=seed, multivariate=True, n_startup_trials=STARTUP, constant_liar=True)
    study = optuna.create_study(sampler=sampler, direction="maximize" if greater_is_better else "minimize")
    distributions = {name: dimension.distribution() for name, dimension in space.dimensions.items()}
    for trial in trials:
        told = trial.state in CUT or trial.state in WORST
        state = TrialState.COMPLETE if trial.score is not None else TrialState.PRUNED if told else TrialState.FAIL
        curve = {place + 1: score for place, (_, score) in enumerate(trial.curve)} if trial.state in CUT else {}
        study.add_trial(
            optuna.trial.create_trial(
                state=state,
                value=trial.score,
                params={name: space.dimensions[name].parameter(value) for name, value in trial.values.items()},
                distributions=distributions,
                intermediate_values=curve,
            )
        )
    return study


def pruned_at(
    curve: Curve, others: Sequence[Trial], rule: Pruning, *, greater_is_better: bool, epochs: float
) -> int | None:
    """The evaluation, from 0, after which a trial is ended early; None: it may go on to its end.

    A function of curves alone: it says the same whenever it is asked, also of a trial that has gone further meanwhile.

    Args:
        curve: The trial's.
        others: The ended trials that it may know.
        epochs: How long the trial trains; its last evaluation ends nothing.
    """
    sign = 1.0 if greater_is_better else -1.0
    for place, (epoch, score) in enumerate(curve):
        if epoch >= epochs or rule == "none":
            return None
        if rule == "median":
            rivals = [found for other in others if other.score is not None
                      for found in [_best_until(other.curve, epoch, sign)] if found is not None]  # fmt: skip
            best = _best_until(curve[: place + 1], epoch, sign)
            if len(rivals) >= ENOUGH and (best is None or best < statistics.median(rivals)):
                return place
        elif _is_rung(place + 1):
            rivals = [found for other in others for found in [_best_at(other.curve, epoch, sign)] if found is not None]
            mine = sign * score if math.isfinite(score) else -math.inf
            going_on = max(1, (len(rivals) + 1) // FACTOR)
            if len(rivals) >= ENOUGH and sum(rival > mine for rival in rivals) >= going_on:
                return place
    return None


def _best_until(curve: Curve, epoch: float, sign: float) -> float | None:
    """The best score up to an epoch, greater is better; None where there is none."""
    return max((sign * score for at, score in curve if at <= epoch + 1e-6 and math.isfinite(score)), default=None)


def _best_at(curve: Curve, epoch: float, sign: float) -> float | None:
    """The same of a trial that went that far at all."""
    return _best_until(curve, epoch, sign) if curve and curve[-1][0] >= epoch - 1e-6 else None


def _is_rung(evaluations: int) -> bool:
    while evaluations % FACTOR == 0:
        evaluations //= FACTOR
    return evaluations == 1
