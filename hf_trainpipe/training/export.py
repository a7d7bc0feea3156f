"""From a trained run to its package: final scores, recorded predictions, the package, its verification."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from hf_trainpipe.engine.kept import remove_kept
from hf_trainpipe.package.verify import verify
from hf_trainpipe.training.merging import check_adapter, packaged_model, saved_adapter, say_gap
from hf_trainpipe.training.packaging import write_package
from hf_trainpipe.training.recording import record_predictions, samples_of
from hf_trainpipe.training.reporting import hold_against_baselines, leave_report, profile_of, watched_on_the_way
from hf_trainpipe.training.result import Result
from hf_trainpipe.training.run_files import earlier_seconds
from hf_trainpipe.training.scoring import outputs_in_fp32, scored
from hf_trainpipe.utils.atomic import write_json
from hf_trainpipe.watch.vectors import WithVectors, taken_out

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from hf_trainpipe.runtime.model.outputs import Outputs
    from hf_trainpipe.training.monitor import TrainingLog
    from hf_trainpipe.training.run import Run

    Array = NDArray[np.float32]


def export(run: Run, log: TrainingLog, *, best_step: int, ended: bool = True) -> Result:
    """Score in fp32, package the model, and let a fresh process reproduce its predictions.

    All ranks help to score; rank 0 does the rest, and every rank gets the result. Adapters are merged first: what is scored
    and recorded is what is packaged.

    Args:
        best_step: The step that the weights come from.
        ended: Whether the run has taken all its steps, or stopped early; one that has not has a package and no result.

    Raises:
        PackageError: the package does not reproduce the evaluation.
    """
    model = packaged_model(run)
    evaluated = ("validation",) if run.options.validation_only else ("validation", "test")
    splits = [name for name in evaluated if name in run.data.splits]
    watched = None if run.options.validation_only else watched_on_the_way(run, model, splits)
    outputs: dict[str, Outputs] = {}
    vectors: Array | None = None
    for name in splits:
        task: Any = WithVectors(run.task) if name == watched else None
        outputs[name] = outputs_in_fp32(run, name, model, task=task)
        if name == watched:
            outputs[name], vectors = taken_out(outputs[name])
    if run.options.validation_only:
        return run.ranks.from_main(lambda: _unpackaged(run, log, outputs, best_step=best_step))
    first = run.task.num_recorded if run.task.generates else None
    recordable = outputs or {"train": outputs_in_fp32(run, "train", model, first=first)}
    say_gap(run, recordable, count=run.task.num_recorded)
    adapter = saved_adapter(run)

    def packaged() -> Result:
        place = run.folder.path
        scores, report = scored(run, outputs)
        beside = hold_against_baselines(run)
        recorded, package = place / "recorded.jsonl", place / "package"
        record_predictions(run, recordable, recorded, model=model)
        for name, found in samples_of(run, recorded).items():
            report[name]["samples"] = found
        profile = profile_of(run, run.tuned_task, model, outputs, vectors=vectors)
        seconds = time.time() - run.started + earlier_seconds(place, attempt=run.folder.attempt)
        with run.console.working("writing the package"):
            write_package(
                run,
                model,
                package,
                scores=scores,
                seconds=seconds,
                report=report,
                adapter=adapter,
                profile=profile,
                beside=beside,
            )
        with run.console.working("verifying the package in a fresh process"):
            verified = verify(package, recorded=recorded, allow_code=True)  # we wrote it
        if adapter is not None:
            gap = check_adapter(run, package, recorded)
            run.console.say(f"adapter/ of the package, loaded by peft alone, gives the same answers within {gap:.1e}")
        result = Result(
            run_dir=place,
            package=package,
            select=run.recipe.selected_metric,
            scores=scores,
            steps=run.state.step,
            best_step=best_step,
            seconds=time.time() - run.started,
            verified=verified,
            report=report,
        )
        if not ended:
            so_far = f"step {run.state.step:,} of {run.plan.total_steps:,}"
            run.console.say(f"packaged    as far as it came: the command that trained the run goes on behind {so_far}")
            return result
        log.log_final(scores, package / "README.md")
        write_json(place / "result.json", result.to_json())
        leave_report(run)
        remove_kept(place)
        return result

    return run.ranks.from_main(packaged)


def _unpackaged(run: Run, log: TrainingLog, outputs: Mapping[str, Outputs], *, best_step: int) -> Result:
    """The end of a run that scores validation alone: its checkpoints stay, and package it when it is asked for again."""
    place = run.folder.path
    scores, report = scored(run, outputs)
    result = Result(
        run_dir=place,
        package=place / "package",
        select=run.recipe.selected_metric,
        scores=scores,
        steps=run.state.step,
        best_step=best_step,
        seconds=time.time() - run.started,
        report=report,
        packaged=False,
    )
    log.log_final(scores, None)
    write_json(place / "result.json", result.to_json())
    remove_kept(place)
    return result
