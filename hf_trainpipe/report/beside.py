"""Baselines of a finished run: learnt, held against its model, and told in its report and on its card."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hf_trainpipe.baselines.beside import FILE, beside
from hf_trainpipe.checkpoint.lock import RunLock
from hf_trainpipe.errors import DataError
from hf_trainpipe.package.card_baselines import tell
from hf_trainpipe.report.facts import Facts, read
from hf_trainpipe.report.page import write
from hf_trainpipe.utils.atomic import write_json

if TYPE_CHECKING:
    from hf_trainpipe.baselines.measure import Found
    from hf_trainpipe.recipe import Recipe
    from hf_trainpipe.tracking.console import Console


def finished(run: Path) -> Facts:
    """What a run says of itself, if it has what baselines are held against.

    Raises:
        DataError: it is not complete, or has recorded no predictions.
    """
    facts = read(run)
    if not facts.predicted:
        raise DataError(
            f"{run}: expected a complete run with predictions of its evaluated splits, found one that is {facts.state}.",
            fix="Let it finish; of a run of an earlier version `hf-trainpipe package RUN` scores it once more.",
        )
    return facts


def hold(
    run: Path, recipe: Recipe, *, console: Console, folder: Path | None = None, most_rows: int | None = None
) -> tuple[Found, Mapping[str, Any]]:
    """Learn the baselines of a finished run's data and hold its model against them; writes ``baselines.json``, the report and the card.

    Args:
        recipe: The run's.
        folder: As :func:`~hf_trainpipe.baselines.measure.measure` takes it.

    Returns:
        The baselines, and what ``baselines.json`` has.

    Raises:
        DataError: the run is not complete, or its data are not those that it was trained on.
        RunLocked: a process is using the run.
    """
    from hf_trainpipe.baselines.measure import measure

    facts = finished(run)
    found = measure(recipe, console=console, folder=folder, most_rows=most_rows)
    recorded = (facts.document.get("fingerprints") or {}).get("data")
    if recorded != found.data.fingerprints["data"]:
        raise DataError(
            f"{run}: its data are no longer what it was trained on: expected sha256 {str(recorded)[:12]}, found "
            f"{found.data.fingerprints['data'][:12]}.",
            fix="Bring the data back, or score baselines of the new data: `hf-trainpipe baseline RECIPE`.",
        )
    with console.working("holding the model against the baselines"), RunLock(run / "run.lock"):
        told = beside(
            found.measured,
            facts.predicted,
            select=recipe.selected_metric,
            task=found.data.task,
            confidence=recipe.evaluation.confidence,
            unfit=found.unfit,
        )
        write_json(run / FILE, told, sort_keys=False)
        if (run / "package").is_dir():
            tell(run / "package", told)
        write(run)
    return found, json.loads((run / FILE).read_text(encoding="utf-8"))
