"""What a finished run leaves to look at: predictions of every row, kept for comparisons, and its report."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from hf_trainpipe.data.predicted import predicted
from hf_trainpipe.errors import RecipeError
from hf_trainpipe.metrics.saved import folder_of, save
from hf_trainpipe.utils.atomic import write_json

if TYPE_CHECKING:
    from hf_trainpipe.metrics import Predictions
    from hf_trainpipe.runtime.model.outputs import Outputs
    from hf_trainpipe.runtime.tasks.base import Task
    from hf_trainpipe.training.run import Run
    from hf_trainpipe.watch.measure import Measured
    from hf_trainpipe.watch.profile import Profile

Array = NDArray[Any]
_AT_ONCE = 10
"""Times the texts of a profile."""


def keep_predictions(run: Run, judged: Mapping[str, Predictions]) -> None:
    """Write the predictions of each evaluated split. Nothing that goes wrong here fails a run: the report has fewer pictures."""
    for name, predictions in judged.items():
        try:
            found = predicted(run.data.splits[name], predictions, run.task)
            save(found, folder_of(run.folder.path) / f"{name}.npz")
        except Exception as error:  # of any kind: the scores are there
            told = f"{type(error).__name__}: {error}"
            run.console.say(f"warning: the predictions of {name} are not kept for comparisons: {told}")


def watched_on_the_way(run: Run, model: Any, splits: Sequence[str]) -> str | None:
    """The split whose profile takes its vectors from the pass that scores it: that of :func:`profile_of`.

    None where there is no such pass, or so many rows that the vectors of all would take more memory than a second pass takes time.
    """
    from hf_trainpipe.watch.measure import answers_are_watched
    from hf_trainpipe.watch.profile import MOST
    from hf_trainpipe.watch.vectors import has_one_stream

    name = _profiled(run, splits)
    if name is None or not answers_are_watched(run.task) or len(run.data.splits[name]) > _AT_ONCE * MOST:
        return None
    return name if has_one_stream(model, run.data.splits[name].features) else None


def _profiled(run: Run, splits: Sequence[str]) -> str | None:
    return next((name for name in ("test", "validation") if name in splits and run.recipe.evaluation.profile), None)


def profile_of(
    run: Run, task: Task, model: Any, outputs: Mapping[str, Outputs], *, vectors: Array | None = None
) -> Profile | None:
    """What the package tells ``watch`` of the texts that it was tried on: the test split, else validation.

    None where there are too few of them, or the recipe wants none. Nothing that goes wrong here fails a run: ``watch --make-profile`` makes one later.

    Args:
        task: As it is packaged.
        model: What is packaged.
        outputs: What it gave for the evaluated splits.
        vectors: float32[n, W] of all examples of the split of :func:`watched_on_the_way`.
    """
    from hf_trainpipe.data.prepare import Inputs
    from hf_trainpipe.runtime.handler.predictor import Predictor
    from hf_trainpipe.runtime.safety.schema import PackageInfo
    from hf_trainpipe.runtime.tasks.registry import travelling
    from hf_trainpipe.watch.measure import answers_are_watched, measure, measure_features
    from hf_trainpipe.watch.profile import LEAST, MOST, make_profile

    name = _profiled(run, list(outputs))
    if name is None:
        return None
    tokens = {
        "max_length": run.plan.max_length,
        "overflow": run.recipe.tokens.overflow,
        "stride": run.recipe.tokens.stride,
    }
    try:
        split, found = run.data.splits[name], outputs[name]
        asked = Inputs(split.rows.dataset, task)
        is_scored = answers_are_watched(
            task
        )  # then what was scored is what a request gets; other examples may be blocks of rows
        count = len(found) if is_scored else len(asked)
        if count < LEAST:
            return None
        predictor = Predictor(
            info=PackageInfo(name=run.recipe.name, task={}, about={}, tokens=tokens),
            task=travelling(task),
            model=model,
            tokenizer=run.tokenizer,
            steps=run.recipe.preprocessing,
            device=run.accelerator.device,
        )
        chosen = np.sort(np.random.default_rng(run.recipe.seed).permutation(count)[:MOST])
        measured: Measured | None
        with run.console.working(f"measuring {len(chosen):,} texts of {name}, for watch"):
            if is_scored:
                measured = measure_features(
                    predictor,
                    split.features,
                    found.items[chosen],
                    predictions=found.take(chosen),
                    vectors=None if vectors is None else vectors[chosen],
                )
            else:
                inputs = [task.as_input(task.as_request(asked[row])) for row in chosen.tolist()]
                measured, _ = measure(predictor, inputs)
        return None if measured is None else make_profile(measured, source=name, labels=tuple(task.label_names))
    except Exception as error:  # of any kind: the scores are there
        run.console.say(f"warning: the package has no profile for watch: {type(error).__name__}: {error}")
        return None


def hold_against_baselines(run: Run) -> dict[str, Any]:
    """Hold the model against those baselines of its data that are kept on this machine; nothing is learnt here.

    Returns:
        What ``baselines.json`` has; empty where none are kept. Nothing that goes wrong here fails a run.
    """
    from hf_trainpipe.baselines.beside import FILE, beside
    from hf_trainpipe.baselines.kept import Kept
    from hf_trainpipe.baselines.listed import baselines_of
    from hf_trainpipe.metrics.saved import load

    place = run.folder.path
    (place / FILE).unlink(missing_ok=True)  # of an earlier end
    try:
        listed, kept = baselines_of(run.task, run.recipe.model), Kept(run.recipe, run.data)
    except RecipeError:  # a task without baselines
        return {}
    try:
        measured = [found for one in (listed if kept.is_any() else []) if (found := kept.get(one, None)) is not None]
        if not measured:
            run.console.say(f"baselines   hf-trainpipe baseline {place} holds the model against simpler ones")
            return {}
        with run.console.working("holding the model against the baselines that are kept"):
            told = beside(
                [kept.scored(one) for one in measured],
                {file.stem: load(file) for file in sorted(folder_of(place).glob("*.npz"))},
                select=run.recipe.selected_metric,
                task=run.task,
                confidence=run.recipe.evaluation.confidence,
            )
            write_json(place / FILE, told, sort_keys=False)
        return told
    except Exception as error:  # of any kind: the scores are there
        run.console.say(f"warning: not held against baselines: {type(error).__name__}: {error}")
        return {}


def leave_report(run: Run) -> None:
    """Write ``report.html``. Nothing that goes wrong here fails a run that is complete: ``report RUN`` writes it later."""
    try:
        from hf_trainpipe.report.page import write
        from hf_trainpipe.report.plots import missing

        with run.console.working("writing the report"):
            write(run.folder.path)
        if (line := missing()) is not None:
            run.console.say(f"report.html has no pictures: {line}")
    except Exception as error:  # of any kind: the run is complete
        run.console.say(f"warning: no report.html: {type(error).__name__}: {error}")


def picture_of(run: Run) -> bytes | None:
    """The training curve for the card, as PNG; None without matplotlib."""
    from hf_trainpipe.report import plots
    from hf_trainpipe.report.sections import card_curve

    return None if plots.missing() is not None else card_curve(run.folder.path, select=run.recipe.selected_metric)
