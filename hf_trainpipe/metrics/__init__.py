"""Metrics that need no network, their bootstrap intervals, and thresholds for multi-label decisions.

    predictions = Predictions("single_label", outputs=logits_NC, references=classes_N, labels=names)
    score(predictions, ["accuracy", "f1_macro"])         # {"accuracy": 0.91, "f1_macro": 0.88}
    intervals(predictions, ["accuracy"], seed=17)        # {"accuracy": Interval(value=0.91, low=0.89, ...)}

Only numpy is imported. The same metrics as ``evaluate.Metric`` are in :mod:`hf_trainpipe.metrics.hub`.
"""

from __future__ import annotations

from hf_trainpipe.metrics.base import Kind, Predictions
from hf_trainpipe.metrics.breakdown import breakdown
from hf_trainpipe.metrics.registry import better, check, check_for, greater_is_better, is_external, known
from hf_trainpipe.metrics.scoring import intervals, score
from hf_trainpipe.metrics.thresholds import best_thresholds

__all__ = [
    "Kind", "Predictions", "best_thresholds", "better", "breakdown", "check", "check_for", "greater_is_better", "intervals",
    "is_external", "known", "score",
]  # fmt: skip
