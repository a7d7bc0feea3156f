"""What is said first, in words: how good a model is, against what, and whether it overfits."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from hf_trainpipe.metrics.parts import constant_scores
from hf_trainpipe.metrics.registry import greater_is_better
from hf_trainpipe.report.facts import Facts


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


def main_split(facts: Facts) -> str | None:
    """The split that the result is told of: test, or validation without one."""
    scores = facts.result.get("scores") or {}
    return next((name for name in ("test", "validation") if scores.get(name)), None)


def headline(facts: Facts) -> str:
    """The result in a sentence or two."""
    split = main_split(facts)
    if split is None:
        return _unfinished(facts)
    scores = facts.result["scores"][split]
    name = facts.select if facts.select in scores else next(iter(scores))
    score = scores[name]
    does = (facts.manifest.get("about") or {}).get("does")
    spread = f", between {interval(score).replace(' to ', ' and ')} with {100 * score.get('confidence', 0.95):g} % confidence"
    count = f", over {score['n']:,} examples" if score.get("n") else ""
    said = (
        f"{f'A model that {does}: ' if does else 'Result: '}{name} {number(score['value'])} on {split}"
        f"{spread if interval(score) else ''}"
        f"{count}."
    )
    constant = constant_scores(facts.predicted[split].predictions, [name]) if split in facts.predicted else None
    if constant is not None and constant[1][name] == constant[1][name]:
        answer, scored = constant
        value, better = scored[name], greater_is_better(name)
        beats = score["value"] is not None and (score["value"] > value if better else score["value"] < value)
        said += f" Always answering {answer} would score {number(value)}{'' if beats else ': the model is no better'}."
    return said


def _unfinished(facts: Facts) -> str:
    ended = {"running": "It is being trained", "interrupted": "It was interrupted", "failed": "It failed"}
    state = ended.get(facts.state, "It ended without a word")
    if facts.state == "complete":
        return f"Trained for {facts.step:,} steps; there was no split to score it on."
    evaluated = facts.series(f"validation/{facts.select}")
    if not evaluated:
        return f"Not complete. {state}, at step {facts.step:,}, before the first evaluation."
    choose = max if greater_is_better(facts.select) else min
    step, value = choose(evaluated, key=lambda point: point[1])
    return (
        f"Not complete. {state}, at step {facts.step:,}; the best {facts.select} on validation so far is {number(value)}, "
        f"at step {step:,}."
    )
