"""What a finished run leaves to look at: predictions of every row, kept for comparisons, and its report."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from hf_trainpipe.data.predicted import predicted
from hf_trainpipe.metrics.saved import folder_of, save

if TYPE_CHECKING:
    from hf_trainpipe.metrics import Predictions
    from hf_trainpipe.training.run import Run


def keep_predictions(run: Run, judged: Mapping[str, Predictions]) -> None:
    """Write the predictions of each evaluated split. Nothing that goes wrong here fails a run: the report has fewer pictures."""
    for name, predictions in judged.items():
        try:
            found = predicted(run.data.splits[name], predictions, run.task)
            save(found, folder_of(run.folder.path) / f"{name}.npz")
        except Exception as error:  # of any kind: the scores are there
            told = f"{type(error).__name__}: {error}"
            run.console.say(f"warning: the predictions of {name} are not kept for comparisons: {told}")


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
