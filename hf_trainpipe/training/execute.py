"""``execute(recipe)``: the table of contents of the whole program."""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hf_trainpipe.training.export import export
from hf_trainpipe.training.loop import train
from hf_trainpipe.training.monitor import Monitor
from hf_trainpipe.training.push import Pushes, publish
from hf_trainpipe.training.result import Result
from hf_trainpipe.training.run_directory import Resume
from hf_trainpipe.training.setup import open_run, validate
from hf_trainpipe.training.signals import PlannedStop, StopSignals
from hf_trainpipe.training.trial import Trial
from hf_trainpipe.training.verify_resume import check_can_verify_resume, prove_resume
from hf_trainpipe.utils.gc import resume_gc

if TYPE_CHECKING:
    from hf_trainpipe.recipe import Recipe

__all__ = ["Result", "execute", "repackage"]


def execute(
    recipe: Recipe,
    *,
    source: Any = None,
    run_dir: Path | None = None,
    resume: Resume = "auto",
    allow_change: frozenset[str] = frozenset(),
    package_only: bool = False,
    verify_resume: Sequence[str] = (),
    planned_stop: PlannedStop | None = None,
    resume_from: str | None = None,
    extend: bool = False,
) -> Result:
    """Train, evaluate, package, verify and push; continue where an interrupted run stopped.

    Args:
        recipe: What to do.
        source: The file and function that the recipe came from, if any (``path``, ``function``).
        run_dir: The run's directory; None: ``runs/<name>``.
        resume: ``auto`` starts or continues, ``never`` starts over, ``must`` continues or fails.
        allow_change: Fields that may differ from the interrupted run's.
        package_only: Take no further step: package the best checkpoint there is.
        verify_resume: What ``hf-trainpipe train`` takes to train this recipe: then a copy of the run is killed,
            resumed and compared, and the package says what came of it.
        rehearsal: For such a copy: when to die, or to stop.
        resume_from: ``hub:user/name``: where an empty run directory takes its checkpoints from.
        extend: Train the run in the directory longer, to the recipe's budget: its weights, optimizer state and order of
            the data go on, at the learning rate that a run of the whole budget has from there on.

    Returns:
        The result. A push that failed is in ``result.push``; it is no error of the run.

    Raises:
        TrainpipeError: see :mod:`hf_trainpipe.errors` for the kinds and their exit codes.
    """
    started = time.time()
    validate(recipe)
    if verify_resume:
        check_can_verify_resume()
    opened = open_run(
        recipe,
        source=source,
        run_dir=run_dir,
        resume=resume,
        allow_change=allow_change,
        package_only=package_only,
        resume_from=resume_from,
        extend=extend,
    )
    with opened as run:
        if run.earlier is not None:
            run.console.say(f"{run.folder.path}: this run is complete; --resume never starts it over")
            return publish(recipe, run.earlier) if run.ranks.is_main else run.earlier
        with closing(Trial(run, source, active=not package_only)) as trial:
            with run.console.working("loading the model"):
                run.load_model()
            resume_gc()
            with run.console.working("trying the package in a fresh process"):
                trial()
        with Monitor(run) as monitor, Pushes(run, monitor, source=source, active=not package_only):
            monitor.restore()
            with StopSignals(planned_stop) as run.signals:
                with run.heartbeat():
                    for report in train(run) if not (package_only or monitor.patience_over) else ():
                        monitor.log(report)
                        improved = run.plan.evaluates_at(report.step) and monitor.evaluate()
                        if improved or report.stop or run.plan.saves_at(report.step):
                            monitor.save(wait=report.stop)
                        monitor.stop_if_asked(report)
                        if monitor.patience_over:
                            break
                    monitor.save(wait=True)
                if verify_resume:
                    prove_resume(run, verify_resume)
            best_step = monitor.load_best()
            result = export(run, monitor, best_step=best_step, source=source, started=started)
        monitor.checkpointing.tidy()
    return publish(recipe, result) if run.ranks.is_main and not package_only else result


def repackage(run_dir: Path, *, recipe: Recipe, source: Any = None) -> Path:
    """Score and package the best checkpoint of a run again, without training on."""
    return execute(recipe, source=source, run_dir=run_dir, resume="must", package_only=True).package
