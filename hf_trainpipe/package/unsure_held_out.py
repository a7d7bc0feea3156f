"""What to expect of rows that a package is unsure of, by rows that a cross-validation held out: how many as unsure as these were answered
wrongly. Nothing else tells before they are labelled."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

import numpy as np

from hf_trainpipe.metrics.discovery import wilson
from hf_trainpipe.out_of_fold import OutOfFold, judged
from hf_trainpipe.runtime.model.outputs import Outputs

if TYPE_CHECKING:
    from hf_trainpipe.runtime.tasks.base import Requests, Task


def wrong_when_unsure(kept: OutOfFold, task: Task, *, least: float) -> dict[str, Any]:
    """Of the rows that were held out the share that was answered wrongly, of all and of those that are as unsure.

    Args:
        task: The package's.
        least: From which uncertainty on.

    Returns:
        ``unsure`` and ``all``: ``rows``, ``wrong``, and with rows ``value``, ``low`` and ``high``, Wilson's 95 % interval.

    Raises:
        TrainpipeError: the study keeps no logits of labels.
    """
    found = kept.logits(task).predictions
    outputs = Outputs(np.arange(len(found)), {"logits": found.outputs})
    answers = task.answers(outputs, cast("Requests", None), **task.tells_all)  # classifiers read the logits alone
    uncertainty = np.array([task.unsure(answer) for answer in answers], dtype=np.float64)
    is_wrong = judged(found, task).decisions() != found.references
    if is_wrong.ndim == 2:
        is_wrong = is_wrong.any(axis=1)
    return {"least": least, "unsure": _share(is_wrong[uncertainty >= least]), "all": _share(is_wrong)}


def _share(is_wrong: np.ndarray) -> dict[str, Any]:
    rows, wrong = len(is_wrong), int(is_wrong.sum())
    if not rows:
        return {"rows": 0, "wrong": 0}
    low, high = wilson(wrong, rows)
    return {"rows": rows, "wrong": wrong, "value": wrong / rows, "low": low, "high": high}
