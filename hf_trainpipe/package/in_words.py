"""Scores in words: what cards and reports say of them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def number(value: Any) -> str:
    """A score for people; ``-`` where it is undefined.

    >>> number(0.91234), number(None), number(1234.5)
    ('0.9123', '-', '1,234.5')
    """
    if not isinstance(value, int | float) or value != value:
        return "-"
    if isinstance(value, int) or abs(value) >= 1000:
        return f"{value:,}" if isinstance(value, int) else f"{value:,.1f}"
    return f"{value:.4f}" if abs(value) >= 1e-3 or value == 0 else f"{value:.2e}"


def interval(score: Mapping[str, Any]) -> str:
    """``0.88 to 0.94``, or nothing."""
    low, high = score.get("low"), score.get("high")
    known = isinstance(low, int | float) and isinstance(high, int | float) and low == low and high == high
    return f"{number(low)} to {number(high)}" if known else ""


def main_split(scores: Mapping[str, Any]) -> str | None:
    """The split that a result is told of: test, or validation without one."""
    return next((name for name in ("test", "validation") if scores.get(name)), None)


def result(scores: Mapping[str, Mapping[str, Mapping[str, Any]]], *, select: str | None = None) -> str:
    """The selected score of the main split in a phrase; empty without scores.

    >>> result({"test": {"f1": {"value": 0.91, "low": 0.88, "high": 0.94, "confidence": 0.95, "n": 1400}}})
    'f1 0.9100 on test, between 0.8800 and 0.9400 with 95 % confidence, over 1,400 examples'
    """
    split = main_split(scores)
    if split is None:
        return ""
    found = scores[split]
    told = [name for name in found if name != "loss"] or list(found)
    name = select if select is not None and select in found else told[0]
    score = found[name]
    if score.get("value") is None:
        return ""
    between = interval(score).replace(" to ", " and ")
    level = f"{100 * (score.get('confidence') or 0.95):g} %"
    spread = f", between {between} with {level} confidence" if between else ""
    count = f", over {score['n']:,} examples" if score.get("n") else ""
    return f"{name} {number(score.get('value'))} on {split}{spread}{count}"


def beside_baselines(told: Mapping[str, Any]) -> str:
    """Whether a model beats the best baseline of its data, in a sentence; empty where that was not tested.

    Args:
        told: A run's ``baselines.json``.
    """
    held = told.get("held") or {}
    split = main_split(held)
    if split is None:
        return ""
    one = held[split]
    title = next(found["title"] for found in told["baselines"] if found["name"] == told["best"])
    verb = {True: "beats", False: "is worse than", None: "is not shown to beat"}[one["beats"]]
    p = f"{one['p']:.4f}" if (one["p"] or 0) >= 1e-4 else "below 0.0001"
    return (
        f"On {split} it {verb} the best baseline, {title} ({one['metric']} {number(one['baseline'])}): "
        f"{one['difference']:+.4f}, between {one['low']:+.4f} and {one['high']:+.4f} (p {p})"
    )
