"""What is said first, in words: how good a model is, against what, and whether it overfits."""

from __future__ import annotations

from hf_trainpipe.metrics.parts import constant_scores
from hf_trainpipe.metrics.registry import greater_is_better
from hf_trainpipe.package.in_words import beside_baselines, main_split, number, result
from hf_trainpipe.report.facts import Facts


def headline(facts: Facts) -> str:
    """The result in a sentence or two."""
    scores = facts.result.get("scores") or {}
    split = main_split(scores)
    if split is None:
        return _unfinished(facts)
    name = facts.select if facts.select in scores[split] else next(iter(scores[split]))
    score, does = scores[split][name], (facts.manifest.get("about") or {}).get("does")
    said = f"{f'A model that {does}: ' if does else 'Result: '}{result(scores, select=name)}."
    constant = constant_scores(facts.predicted[split].predictions, [name]) if split in facts.predicted else None
    if constant is not None and constant[1][name] == constant[1][name]:
        answer, value = constant[0], constant[1][name]
        known, better = score["value"] is not None, greater_is_better(name)
        beats = known and (score["value"] > value if better else score["value"] < value)
        said += f" Always answering {answer} would score {number(value)}{'' if beats else ': the model is no better'}."
    if verdict := beside_baselines(facts.baselines):
        said += f" {verdict}."
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
