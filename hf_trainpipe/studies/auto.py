"""A file of rows to a package, within a budget: columns guessed, data audited, splits dealt, baselines, a portfolio of runs.

study.json      what the folder belongs to
rows.json       which rows are train, validation and test
first.py        the recipe that candidates change fields of
runs/N-STEPS/   ordinary runs: candidate N, trained for so many steps; scored on validation alone until one is the best
ways/N/         of few labels: the cross-validation of way N
auto.json       what was assumed, tried and found; written after each run
best            a link to the best packaged run so far, whose package can be used from the first run on
recipe.py       the best run's recipe, to be read, changed and run
"""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from hf_trainpipe.audit.guess import Guess
from hf_trainpipe.audit.shown import sentence
from hf_trainpipe.audit.whole import audit
from hf_trainpipe.baselines.kept import Measured
from hf_trainpipe.baselines.measure import measure
from hf_trainpipe.data import chosen_rows
from hf_trainpipe.errors import DataError, TrainpipeError
from hf_trainpipe.metrics import greater_is_better
from hf_trainpipe.recipe import Recipe
from hf_trainpipe.recipe_file import load, override
from hf_trainpipe.report.facts import read
from hf_trainpipe.studies import few, runs
from hf_trainpipe.studies.auto_recipe import BATCH, EPOCHS, dealt, fitting, recipe_of
from hf_trainpipe.studies.auto_study import EVALUATIONS, OUT_OF_TIME, RESULT, SELECTED_ON, Study, Tempo, Tried, run_name
from hf_trainpipe.studies.auto_verdict import beside_in_words, scores_in_words
from hf_trainpipe.studies.crossval import cross_validate
from hf_trainpipe.studies.halving import FEWEST, Rung, rungs
from hf_trainpipe.studies.identity import begun
from hf_trainpipe.studies.pool import Pool
from hf_trainpipe.studies.workers import OPTIONS
from hf_trainpipe.studies.written import as_python
from hf_trainpipe.utils.atomic import read_json_object, sha256_file, write_bytes

if TYPE_CHECKING:
    from hf_trainpipe.metrics.base import Predictions
    from hf_trainpipe.tracking.console import Console

_WORST = 3
"""Findings of an audit that are told."""


def auto(
    guess: Guess,
    folder: Path,
    *,
    budget: float,
    console: Console,
    model: str | None = None,
    launch: runs.Launch | None = None,
) -> Study:
    """Make a package of a file within a budget; a call that was killed is continued by the next.

    Args:
        guess: What was read, and the task that its columns suggest.
        budget: Seconds of work, in earlier calls too.
        model: A Hub id or folder; None: that of :mod:`.auto_recipe`.

    Raises:
        DataError: the rows cannot be learnt from.
        TrainpipeError: not even the first run ended complete: its own error and exit code.
    """
    inputs = {name for column in guess.task.inputs.values() for name in column.columns}
    if guess.task.target is None or guess.task.target.name in inputs:
        raise DataError(
            f"auto needs a column of labels, and none was found beside {' and '.join(map(repr, sorted(inputs)))}.",
            fix="Name it: --label NAME.",
        )
    whole = recipe_of(guess, model)
    pool = Pool.of(whole, [name for name in ("train", "validation", "test") if name in guess.splits])
    is_few = few.is_few(pool)
    rows, told = few.dealt(pool) if is_few else dealt(pool, seed=whole.seed)
    whole = fitting(whole)
    counts = {name: sum(len(found) for _, found in parts) for name, parts in rows.items()}
    with begun(folder, "auto", whole, {"dealt": counts}):
        study = _continued(whole, rows, folder, budget)
        study.dealt, study.assumed, study.is_few = counts, [*guess.assumed, *told], is_few
        for line in study.assumed:
            console.say(f"assumed: {line}")
        _sprint(study, launch, console)
        _look(study, guess, console)
        baselines = _baselines(study, console) if SELECTED_ON in counts else None
        if is_few:
            _compete(study, launch, console)
        else:
            _halve(study, launch, console)
        _package(study, launch, console)
        _conclude(study, baselines)
        return study


def _continued(whole: Recipe, rows: chosen_rows.Choice, folder: Path, budget: float) -> Study:
    """The study as an earlier call left it, or a new one with its files."""
    file, first = folder / "rows.json", folder / "first.py"
    chosen_rows.write(file, rows)
    data = chosen_rows.ChosenRows(source=whole.data, rows_file=str(file.resolve()), sha256=sha256_file(file))
    recipe = replace(whole, data=data)
    write_bytes(first, as_python(recipe, about="What the candidates of `hf-trainpipe auto` change fields of.").encode())
    recipe, source = load(str(first))
    study = Study(recipe=recipe, source=source, folder=folder, budget=budget)
    if (folder / RESULT).exists():
        told = read_json_object(
            folder / RESULT,
            needs={"spent_seconds": float, "budget_seconds": (int, float), "runs": list, "plan": list},
            fix=f"Remove {folder / RESULT}.",
        )
        study.spent = told["spent_seconds"]
        if told["budget_seconds"] >= budget:
            study.plan = [Rung(**rung) for rung in told["plan"]]
        known = ("candidate", "steps", "outcome", "seconds", "score")
        study.tried = [Tried(**{name: one[name] for name in known}) for one in told["runs"]]
    return study


def _sprint(study: Study, launch: runs.Launch | None, console: Console) -> None:
    """The quickest candidate for a few steps: a package within a minute or so, and how long things take here.

    Raises:
        TrainpipeError: it did not end complete; the others would not either.
    """
    steps = 0 if study.is_few else _first_steps(study)
    tried = _try(study, study.quickest, steps, launch, console, is_needed=True)
    study.tempo = _tempo(study)
    if tried.outcome != "complete":
        raise TrainpipeError(
            f"The first run ended {tried.outcome}: {study.place(tried) / runs.OUTPUT}.",
            fix="Read what it said.",
        )


def _first_steps(study: Study) -> int:
    return min(FEWEST, _full(study))


def _full(study: Study) -> int:
    """Steps of the longest run."""
    return max(1, math.ceil(EPOCHS * _rows(study) / BATCH))


def _rows(study: Study) -> int:
    """To learn from."""
    return study.dealt["train"]


def _try(
    study: Study,
    candidate: int,
    steps: int,
    launch: runs.Launch | None,
    console: Console,
    *,
    is_needed: bool = False,
    score: float | None = None,
) -> Tried:
    """Train a candidate, unless an earlier call did, and score it on validation.

    Args:
        is_needed: Whether it is packaged and not ended for want of time, and its error is the study's.
        score: Where it is not that on validation.
    """
    for at, known in enumerate(study.tried):
        if (known.candidate, known.steps) == (candidate, steps):
            if known.outcome == OUT_OF_TIME:
                del study.tried[at]  # it goes on
                break
            if score is not None:
                study.tried[at] = replace(known, score=score)
                study.point_to_best()
            return study.tried[at]
    fields, place = study.fields_of(candidate, steps), study.folder / "runs" / run_name(candidate, steps)
    out_of_time = lambda _: None if is_needed or study.left > study.tempo.end else "the budget"  # noqa: E731
    began = time.monotonic()
    what = f"candidate {candidate + 1} ({' '.join(study.portfolio[candidate])}), {steps:,} steps"
    console.say(f"{what} ...")
    options = () if is_needed else OPTIONS
    ending = runs.run(study.source, place, fields=fields, options=options, launch=launch, until=out_of_time)
    if is_needed and ending.outcome != "complete":
        raise ending.error()
    was_cut = ending.stopped_for is not None and ending.outcome != "complete"
    outcome = OUT_OF_TIME if was_cut else ending.outcome
    if ending.result is not None and SELECTED_ON in ending.result["scores"]:
        score = ending.result["scores"][SELECTED_ON][study.metric]["value"]
    elif was_cut:
        score = _score_so_far(study, place)
    tried = Tried(
        candidate=candidate, steps=steps, outcome=outcome, seconds=round(time.monotonic() - began, 2), score=score
    )
    study.tried.append(tried)
    study.point_to_best()
    study.save()
    said = outcome if score is None else f"{study.metric} {score:.4f} on {SELECTED_ON}"
    if score is not None and outcome == OUT_OF_TIME:
        said = f"{said} when its time was up"
    console.say(f"{what}: {said}, {tried.seconds:.0f} s")
    return tried


def _score_so_far(study: Study, run: Path) -> float | None:
    """The best score of a run that has not ended."""
    values = [point.value for point in runs.points(run, f"{SELECTED_ON}/{study.metric}")]
    return (max if greater_is_better(study.metric) else min)(values) if values else None


def _look(study: Study, guess: Guess, console: Console) -> None:
    """The worst findings of an audit, where there is time for one."""
    if study.left <= 0:
        return
    with console.working("auditing"):
        found = audit(guess.task, guess.splits)
    study.audited = [sentence(one) for one in found.findings[:_WORST]]
    for line in study.audited:
        console.say(f"audit: {line}")


def _baselines(study: Study, console: Console) -> Measured | None:
    """The best of the simple models, where there is time for them; they are kept, so that a second call does not learn them."""
    if study.left <= 0:
        return None
    try:
        found = measure(study.recipe, console=console)
    except TrainpipeError as error:
        console.say(f"no baselines: {error.message}")
        return None
    study.baselines = [one.to_json() for one in found.measured]
    study.save()
    if found.best is None or found.select != study.metric:
        return None
    score = found.best.scores[SELECTED_ON][found.select]["value"]
    console.say(
        f"the best of {len(found.measured)} baselines, {found.best.title}: {found.select} {score:.4f} on validation"
    )
    return found.best


def _halve(study: Study, launch: runs.Launch | None, console: Console) -> None:
    """Try the portfolio, the better half for longer and longer; the best so far is packaged behind each rung."""
    if not study.plan:
        tempo = study.tempo
        study.plan = rungs(
            seconds=study.left - _fitting_heads(study),
            start=tempo.start + (EVALUATIONS + 1) * tempo.evaluation,
            step=tempo.step,
            end=tempo.end,
            full=_full(study),
            candidates=len(study.portfolio),
        )
        study.save()
    going = list(range(study.plan[0].candidates)) if study.plan else []
    for rung in study.plan:
        going = going[: rung.candidates]
        tried = []
        for candidate in going:
            if study.left <= study.tempo.end:
                return
            tried.append(_try(study, candidate, rung.steps, launch, console))
        _package(study, launch, console)
        going = _ranked(study, tried)


def _fitting_heads(study: Study) -> float:
    """Seconds of the passes over the training rows that heads begin with, which are kept: a validation row takes as long."""
    heads = {fields[:-2] for fields in study.portfolio if "--model.head" in fields}
    return len(heads) * study.tempo.evaluation * _rows(study) / max(1, study.dealt.get(SELECTED_ON, 0))


def _package(study: Study, launch: runs.Launch | None, console: Console) -> None:
    """Score the best run on test and package it, unless that is done."""
    if (best := study.best) is None or study.is_packaged(best):
        return
    place = study.place(best)
    with console.working(f"packaging candidate {best.candidate + 1}, {best.steps:,} steps"):
        if best.outcome == "complete":
            fields = study.fields_of(best.candidate, best.steps)
            ending = runs.start(study.source, place, fields=fields, launch=launch).wait()
        else:
            ending = runs.package(place)
    if ending.outcome != "complete":
        raise ending.error()
    study.point_to_best()
    study.save()


def _compete(study: Study, launch: runs.Launch | None, console: Console) -> None:
    """Hold the ways to learn from few labels against each other, as far as there is time, and train the best of them."""
    on_validation = SELECTED_ON in study.dealt
    answered: list[few.Answered] = []
    longest = study.tried[0].seconds  # of a run on all rows
    for number, way in enumerate(few.WAYS):
        begun = study.left
        if on_validation:
            found = _on_validation(study, number, launch, console)
        else:
            found = _out_of_fold(study, number, launch, console, kept_back=2 * longest)
        if found is None:
            console.say(f"not tried for want of time: {way.name}")
            break
        answered.append(few.Answered(number=number, predictions=found))
        longest = max(longest, (begun - study.left) / (few.FOLDING.folds - 1))
    if not answered:
        return
    study.ways = few.hold(answered, study.recipe)
    for held in study.ways:
        console.say(held.told(study.metric))
    best = few.best_of(study.ways, study.recipe)
    if on_validation:
        study.save()
        return
    for held in (study.ways[0], best):
        steps = _steps_of(study, held.number)
        _try(study, held.number, steps, launch, console, is_needed=True, score=held.score.value)


def _steps_of(study: Study, number: int) -> int:
    return few.WAYS[number].steps(_rows(study), study.recipe.budget.examples_per_step)


def _on_validation(study: Study, number: int, launch: runs.Launch | None, console: Console) -> Predictions | None:
    """What a way, trained on all rows, answers of validation; None: there is no time."""
    if study.left <= 0:
        return None
    tried = _try(study, number, _steps_of(study, number), launch, console)
    found = read(study.place(tried)).predicted.get(SELECTED_ON) if tried.score is not None else None
    return None if found is None else found.predictions


def _out_of_fold(
    study: Study, number: int, launch: runs.Launch | None, console: Console, *, kept_back: float
) -> Predictions | None:
    """What a way answers of each row when it learns from the others; None: there is no time.

    Args:
        kept_back: Seconds that the best way needs, which has to be trained on all rows.
    """
    if study.left <= kept_back:
        return None
    place, way = study.folder / "ways" / str(number + 1), few.WAYS[number]
    fields = way.fields if way.tunes else (*way.fields, "--budget.max-steps", "0")
    source = replace(study.source, overrides=(*study.source.overrides, *fields))
    console.say(f"cross-validation of {way.name} ...")
    try:
        found = cross_validate(
            override(study.recipe, fields),
            source,
            place,
            folding=few.FOLDING,
            launch=launch,
            until=lambda _: None if study.left > kept_back else "the budget",
        )
    except TrainpipeError:
        if study.left > kept_back:
            raise
        return None
    study.save()
    return None if found.held_out is None else found.held_out.predictions


def _tempo(study: Study) -> Tempo:
    """How long the parts of the first run took, by the times of its ledger."""
    first = study.tried[0]
    run = study.place(first)
    losses, evaluations, finals = (
        runs.points(run, name)
        for name in ("train/loss", f"{SELECTED_ON}/{study.metric}", f"final/{SELECTED_ON}/{study.metric}")
    )
    step, end, evaluation = first.seconds / max(1, first.steps), 0.0, 0.0
    if len(losses) > 1:
        step = (losses[-1].time - losses[0].time) / (losses[-1].step - losses[0].step)
    if losses and evaluations and finals:
        evaluation = max(0.0, evaluations[-1].time - losses[-1].time)
        end = max(0.0, finals[-1].time - evaluations[-1].time)
    start = max(0.0, first.seconds - step * first.steps - evaluation - end)
    return Tempo(start=start, step=step, evaluation=evaluation, end=end)


def _ranked(study: Study, tried: Sequence[Tried]) -> list[int]:
    """Candidates with a score, the best first; of equal ones the earlier."""
    sign = -1.0 if greater_is_better(study.metric) else 1.0
    scored = [one for one in tried if one.score is not None]
    return [one.candidate for one in sorted(scored, key=lambda one: (sign * (one.score or 0.0), one.candidate))]


def _conclude(study: Study, baseline: Measured | None) -> None:
    """Say how good the best run is, beside the best baseline, and write its recipe."""
    best = study.best
    if best is None:
        raise TrainpipeError(f"No run has a {study.metric}: {study.folder / RESULT}.", fix="Read what the runs said.")
    facts = read(study.place(best))
    told = scores_in_words(study, best, facts)
    beside = beside_in_words(study, facts.predicted.get(SELECTED_ON), baseline)
    study.verdict = f"{', '.join(told)}; {beside}"
    about = f"""The best of {len(study.tried)} runs that `hf-trainpipe auto` tried: {", ".join(told)}.

{". ".join([*study.assumed, *study.audited])}.

    hf-trainpipe train {study.folder / "recipe.py"}"""
    write_bytes(
        study.folder / "recipe.py",
        as_python(override(study.recipe, study.fields_of(best.candidate, best.steps)), about=about).encode(),
    )
    study.save()
