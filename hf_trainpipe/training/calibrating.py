"""What a task's calibration asks, chosen on validation when the run ends, and how honest its probabilities are before and after."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from hf_trainpipe.metrics import Predictions
from hf_trainpipe.metrics.calibration import Temperature, keep_promise, nested_temperature
from hf_trainpipe.metrics.reliability import chances_of, reliability, to_json
from hf_trainpipe.package.layout import finite

if TYPE_CHECKING:
    from hf_trainpipe.runtime.tasks.base import Task
    from hf_trainpipe.runtime.tasks.calibration import Calibration

Judged = Callable[["Task"], Predictions]
"""Gives predictions of some rows as a task judges them."""


@dataclass
class Chosen:
    """A task with its calibration chosen."""

    task: Task
    facts: dict[str, Any] = field(default_factory=dict)
    """What was chosen, and why, for the report."""
    lines: list[str] = field(default_factory=list)
    """The same for the console."""
    nested: Temperature | None = None
    """The temperature on rows that it was not fitted on."""


def asked(task: Task) -> Calibration | None:
    """The calibration that a task asks for."""
    found: Calibration | None = task.fields().get("calibration")
    return found


def choose(
    task: Task,
    judged: Judged,
    *,
    seed: int,
    dealt: NDArray[np.int64] | None = None,
    groups: NDArray[np.int64] | None = None,
    on: str = "validation",
) -> Chosen:
    """The task with a temperature, where that is shown to help; :func:`promise` follows once thresholds are tuned.

    Args:
        task: As the recipe has it, fitted; it asks for a calibration.
        judged: The rows that it is chosen on.
        dealt: [N] their folds, and groups [N] that belong together, where they were dealt before.
        on: What these rows are.
    """
    found = asked(task)
    assert found is not None
    chosen = Chosen(task, facts={"promise": found.promise})
    if found.temperature != "fit":
        chosen.facts["temperature"] = found.temperature
        return chosen
    nested = nested_temperature(judged(task), seed=seed, dealt=dealt, groups=groups)
    helps = nested is not None and nested.helps()
    if nested is None:
        chosen.lines.append(f"temperature: left out: {on} has too few rows to choose one")
    else:
        gain = nested.gain
        told = (
            f"negative log-likelihood on rows it was not chosen on {gain.first:.4f} -> {gain.second:.4f} "
            f"({gain.value:+.4f}, between {gain.low:+.4f} and {gain.high:+.4f})"
        )
        kept = "" if helps else "left out, no gain is shown: "
        chosen.lines.append(f"temperature {nested.value:.3f}: {kept}{told}")
        chosen.facts["fitted"] = nested.value
        chosen.facts["gain"] = {name: getattr(gain, name) for name in ("first", "second", "value", "low", "high", "p")}
    chosen.facts["temperature"] = nested.value if helps and nested is not None else None
    chosen.nested = nested if helps else None
    chosen.task = _with(task, found, temperature=chosen.facts["temperature"])
    return chosen


def promise(chosen: Chosen, judged: Judged, *, on: str = "validation") -> None:
    """Choose the score below which the task abstains, where it promises a precision, on the rows that ``judged`` judges."""
    found = asked(chosen.task)
    assert found is not None
    if found.promise is None or found.least is not None:
        return
    held = _answers(judged(chosen.task))
    kept = keep_promise(*held, found.promise, confidence=found.confidence)
    chosen.facts["least"] = kept.least
    chosen.task = _with(chosen.task, found, least=kept.least)
    chosen.facts["kept"] = asdict(kept)
    if kept.answered:
        chosen.lines.append(
            f"promise {found.promise:g}: answers {100 * kept.answered:.1f} % of {on}, from a score of {kept.least:.4f} on; of "
            f"these {100 * kept.right:.1f} % are right, at least {100 * kept.at_least:.1f} % with {100 * found.confidence:g} % confidence"
        )
    else:
        chosen.lines.append(
            f"warning: promise {found.promise:g}: {on} shows no score from which it is kept, so the package abstains from "
            "every answer; promise less, or give it more rows"
        )


def _with(task: Task, found: Calibration, **changes: Any) -> Task:
    return task.changed({"calibration": found.fitted(**changes)})


def _answers(predictions: Predictions) -> tuple[Any, Any]:
    """[N] probabilities of the answers, and whether they are right."""
    found = chances_of(predictions)
    assert found is not None, "a classifier has probabilities"
    return found[0][:, 0], found[1][:, 0]


def facts_of(chosen: Chosen, raw: Predictions, judged: Predictions, *, split: str) -> dict[str, Any]:
    """What a report says of a split: reliability before and after, what a promise and costs come to.

    Args:
        raw: Without the calibration.
        judged: With it. On validation a temperature that was fitted there is told by the nested one.
    """
    found = asked(chosen.task)
    assert found is not None
    after = judged
    if split == "validation" and chosen.nested is not None:
        after = replace(judged, outputs=chosen.nested.held_out.outputs)
    told: dict[str, Any] = {
        **chosen.facts,
        "before": to_json(reliability(raw)),
        "after": to_json(reliability(after)) if found.scaled(raw.outputs) is not raw.outputs else None,
    }
    if found.least is not None:
        scores, is_right = _answers(judged)
        given = scores >= found.least
        told["answered"] = float(given.mean())
        told["right_if_answered"] = float(is_right[given].mean()) if given.any() else None
    if found.costs is not None:
        told["argmax_changed"] = float((judged.decisions() != raw.decisions()).mean())
    return dict(finite(told))
