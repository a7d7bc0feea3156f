"""Every score of predictions with its interval, as results, packages and baselines tell them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from hf_trainpipe import metrics
from hf_trainpipe.utils.atomic import finite

if TYPE_CHECKING:
    from hf_trainpipe.recipe import Evaluation


def score_predictions(
    predictions: metrics.Predictions, names: Iterable[str], *, evaluation: Evaluation, seed: int
) -> dict[str, dict[str, Any]]:
    """Each metric with its bootstrap interval over the examples; ``evaluate:NAME`` has none.

    Returns:
        ``{metric: {"value", "low", "high", "confidence", "n", "resamples"}}``; undefined numbers are None. With
        ``signature``, a line, where the metric tells how it was computed.
    """
    names = list(dict.fromkeys(names))
    found = metrics.intervals(
        predictions, names, confidence=evaluation.confidence, resamples=evaluation.resamples, seed=seed
    )
    scores: dict[str, dict[str, Any]] = {name: asdict(interval) for name, interval in found.items()}
    for name in set(scores) & set(predictions.signatures):
        scores[name]["signature"] = predictions.signatures[name]
    for name, value in metrics.score(predictions, filter(metrics.is_external, names)).items():
        scores[name] = {"value": value, "low": None, "high": None, "n": len(predictions)}
    return {metric: finite(score) for metric, score in scores.items()}
