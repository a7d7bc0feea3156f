"""How good the best run of ``auto`` is, in words."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from hf_trainpipe.metrics import greater_is_better
from hf_trainpipe.metrics.paired import differences
from hf_trainpipe.studies import few
from hf_trainpipe.studies.auto_study import OUT_OF_TIME, SELECTED_ON

if TYPE_CHECKING:
    from hf_trainpipe.baselines.kept import Measured
    from hf_trainpipe.metrics.saved import Predicted
    from hf_trainpipe.report.facts import Facts
    from hf_trainpipe.studies.auto_study import Study, Tried


def scores_in_words(study: Study, best: Tried, facts: Facts) -> list[str]:
    """The scores of the best run on each split; of few labels behind what the competition says of its way."""
    told = [
        f"{study.metric} {score['value']:.4f} on {split}"
        + (f" [{score['low']:.4f}, {score['high']:.4f}]" if score.get("low") is not None else "")
        for split, scores in facts.manifest["scores"].items()
        if (score := scores.get(study.metric)) and score["value"] is not None
    ]
    if best.outcome == OUT_OF_TIME:
        told.append(
            f"by a run that the budget ended before its {best.steps:,} steps: `train` with the recipe takes all of them"
        )
    return [*_of_ways(study, best), *told] if study.is_few else told


def beside_in_words(study: Study, model: Predicted | None, baseline: Measured | None) -> str:
    """The best run held against the best baseline on validation, by a paired test; of few labels why it is not.

    Args:
        model: What it answers there.
    """
    if study.is_few:
        return "the best of so many scores is a little too high"
    if baseline is None:
        return "no baseline to hold it against"
    other = baseline.predicted[SELECTED_ON]
    name = f"the best baseline ({baseline.title})"
    if model is None or not np.array_equal(model.rows, other.rows):
        return f"not held against {name}: other rows were scored"
    found = differences(other.predictions, model.predictions, [study.metric])[study.metric]
    sign = 1.0 if greater_is_better(study.metric) else -1.0
    figures = f"{found.value:+.4f} [{found.low:+.4f}, {found.high:+.4f}] on validation"
    if sign * (found.low if sign > 0 else found.high) > 0:
        return f"it beats {name}: {figures}"
    if sign * (found.high if sign > 0 else found.low) < 0:
        return f"it loses to {name}: {figures}. Use that one, or a larger budget"
    return f"it is not shown to beat {name}: {figures}"


def _of_ways(study: Study, best: Tried) -> list[str]:
    """What the competition says of the best way."""
    if not study.ways:
        return [f"{few.WAYS[best.candidate].name}, held against nothing for want of time"]
    [held] = [one for one in study.ways if one.number == best.candidate]
    where = SELECTED_ON if SELECTED_ON in study.dealt else "rows held out"
    return [f"of {len(study.ways)} ways, on {where}: {held.told(study.metric)}"]
