"""``execute(recipe)``: train, evaluate, package, verify and push, in the order of one screen."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING

from hf_trainpipe.out_of_fold import OutOfFold
from hf_trainpipe.training import forecasts
from hf_trainpipe.training.checkpointing import Checkpointing
from hf_trainpipe.training.export import export
from hf_trainpipe.training.loop import train
from hf_trainpipe.training.monitor import Evaluator, TrainingLog
from hf_trainpipe.training.options import RunOptions
from hf_trainpipe.training.push import BackgroundPushes, push_result
from hf_trainpipe.training.reporting import leave_report
from hf_trainpipe.training.result import Result
from hf_trainpipe.training.run import Run
from hf_trainpipe.training.run_files import read_identity
from hf_trainpipe.training.setup import set_up
from hf_trainpipe.training.signals import StopSignals
from hf_trainpipe.training.trial import Trial
from hf_trainpipe.training.verify_resume import check_can_verify, verify_in_training

if TYPE_CHECKING:
    from hf_trainpipe.recipe import Recipe
    from hf_trainpipe.recipe.source import RecipeSource

__all__ = ["Result", "execute", "repackage"]


def execute(recipe: Recipe, *, run_dir: Path | None = None, options: RunOptions | None = None) -> Result:
    """Train, evaluate, package, verify and push; continue where an interrupted run stopped.

    Args:
        recipe: What to do.
        run_dir: The run's directory; None: ``runs/<name>``.
        options: How this attempt begins and ends; None: the defaults, which start or continue a run.

    Returns:
        The result. A push that failed is in ``result.push``; it is no error of the run.

    Raises:
        TrainpipeError: see :mod:`hf_trainpipe.errors` for the kinds and their exit codes.
    """
    options = options or RunOptions()
    if options.verify_resume:
        check_can_verify(recipe, options.source)
    with set_up(recipe, options, run_dir=run_dir) as setup:
        if setup.finished is not None:  # a complete run stays as it is
            return push_result(setup, setup.finished)
        with closing(Trial(setup)) as trial:
            run = Run(setup)
            trial.check(run)
        forecasts.take(setup, recipe)
        with TrainingLog(run) as log, Checkpointing(run, log) as checkpoints, BackgroundPushes(run, log):
            checkpoints.restore()
            evaluator = Evaluator(run, log)
            with StopSignals(options.planned_stop) as signals:
                with run.heartbeat():
                    if run.state.due or run.plan.total_steps == 0:
                        evaluator.evaluate()
                    for report in () if options.package_only or evaluator.stops_early else train(run, signals):
                        log.log_step(report)
                        evaluates = run.plan.evaluates_at(report.step)
                        if evaluates and run.task.generates:
                            checkpoints.save(due=True)
                        improved = evaluates and evaluator.evaluate()
                        if improved or report.stop or run.plan.saves_at(report.step):
                            checkpoints.save(wait=report.stop)
                        if report.stop:
                            signals.leave(report.step, total_steps=run.plan.total_steps)
                        if evaluator.stops_early:
                            break
                    checkpoints.save(wait=True)
                if options.verify_resume:
                    verify_in_training(run, signals)
            ended = run.state.step >= run.plan.total_steps or evaluator.stops_early
            result = export(run, log, best_step=checkpoints.load_best(), ended=ended)
        if ended:
            checkpoints.tidy()
            if forecasts.keep_outcome(setup, result):
                leave_report(run)
    return push_result(setup, result)


def repackage(
    run_dir: Path, *, recipe: Recipe, source: RecipeSource | None = None, crossval: Path | None = None
) -> Path:
    """Score and package the best checkpoint of a run, without training on; ``crossval`` as of the options.

    A run that has not ended stays so: the command that trained it goes on.
    """
    if crossval is not None:  # refused before anything is scored
        kept = OutOfFold.read(crossval)
        kept.check_recipe(read_identity(run_dir)["recipe"], whose=str(run_dir))
    options = RunOptions(source=source, resume="must", package_only=True, crossval=crossval)
    return execute(recipe, run_dir=run_dir, options=options).package
