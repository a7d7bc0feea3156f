"""What a search leaves: ``best.py``, which trains the winner's weights again; ``result.json``; one screen."""

from __future__ import annotations

import os
import statistics
from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hf_trainpipe.studies.found import shown
from hf_trainpipe.studies.proposals import rebuilt
from hf_trainpipe.studies.space import options_of
from hf_trainpipe.utils.atomic import write_bytes, write_json
from hf_trainpipe.utils.tables import table

if TYPE_CHECKING:
    from hf_trainpipe.recipe.source import RecipeSource
    from hf_trainpipe.studies.found import Found
    from hf_trainpipe.studies.space import Space

BEST, RESULT, PAGE = "best.py", "result.json", "tune.html"
FEWEST = 5
"""Complete trials from which on it is said which fields matter."""
_BEST = '''"""The winner of {trials} trials: {metric} {mean:.4f} on validation, the mean of {seeds} fresh seeds{test}.

    python -m hf_trainpipe train {path}

It trains the weights of {run}, bit for bit on the same machine and with as many ranks ({ranks}).
"""

from hf_trainpipe import Recipe, main
from hf_trainpipe.recipe_file import variant


def recipe() -> Recipe:
    return variant(
        {base},
{options}        file=__file__,
    )


if __name__ == "__main__":
    main(recipe)
'''


def importance(found: Found, space: Space) -> dict[str, float]:
    """Field to its share in how much scores differ (PED-ANOVA), the largest first; empty where too few trials are complete, or
    all scores are the same."""
    import optuna

    complete = [trial for trial in found.trials if trial.score is not None]
    if len(complete) < FEWEST or len({trial.score for trial in complete}) < 2:
        return {}
    study = rebuilt(space, complete, seed=0, greater_is_better=found.greater_is_better)
    measured = optuna.importance.get_param_importances(study)
    return {name: round(float(share), 4) for name, share in measured.items()}


def write_best(found: Found, source: RecipeSource, *, ranks: int) -> Path:
    """Write best.py: the recipe, with what was typed, what the search found and the seed of the winner's run."""
    file = found.folder / BEST
    overrides = list(source.overrides)
    options = [*overrides, *options_of(found.winner.values), "--seed", str(found.winner.seed)]
    pairs = _in_lines(options)
    base = os.path.relpath(source.path, found.folder.resolve())
    if source.function not in (None, "recipe"):
        base += f":{source.function}"
    test = _test_of(found)
    text = _BEST.format(
        trials=len(found.trials),
        metric=found.metric,
        mean=found.finalists[0].mean,
        seeds=len(found.finalists[0].again),
        test="" if test is None else f"; {test['value']:.4f} on test" if test.get("value") is not None else "",
        path=file,
        run=found.winner.run,
        ranks=ranks,
        base=_quoted(base),
        options="".join(f"        {', '.join(map(_quoted, line))},\n" for line in pairs),
    )
    write_bytes(file, text.encode())
    return file


def to_json(found: Found, space: Space, *, shares: Mapping[str, float]) -> dict[str, Any]:
    """For programs, and for reports: what ``result.json`` of the study holds."""
    return {
        "study": str(found.folder),
        "metric": found.metric,
        "space": space.to_json(),
        "trials": [asdict(trial) for trial in found.trials],
        "finalists": [
            {
                "trial": one.trial.number,
                "values": dict(one.trial.values),
                "search_score": one.trial.score,
                "fresh_scores": {str(again.seed): again.score for again in one.again},
                "mean": one.mean,
                "spread": one.spread,
                "optimism": one.optimism,
            }
            for one in found.finalists
        ],
        "winner": {
            "trial": found.winner.number,
            "run": found.winner.run,
            "seed": found.winner.seed,
            "values": dict(found.winner.values),
            "package": str(found.folder / found.winner.run / "package"),
            "recipe": str(found.folder / BEST),
        },
        "scores": found.result["scores"],
        "importance": dict(shares),
        "unfinished": found.unfinished,
        "tested_before": list(found.earlier_winners),
    }


def write_result(found: Found, space: Space, *, shares: Mapping[str, float]) -> dict[str, Any]:
    """Write result.json in the study's folder; returns what it holds."""
    document = to_json(found, space, shares=shares)
    write_json(found.folder / RESULT, document)
    return document


def screen(found: Found, *, shares: Mapping[str, float]) -> str:
    """The result for a person."""
    metric, first = found.metric, found.finalists[0]
    states = Counter(trial.state for trial in found.trials)
    counts = ", ".join(f"{count} {state}" for state, count in states.most_common())
    spent = sum(trial.seconds for trial in found.trials) + sum(
        one.seconds for each in found.finalists for one in each.again
    )
    lines = [f"{len(found.trials)} trials: {counts}; {spent:,.0f} s of training in all"]
    if found.unfinished:
        lines.append(found.unfinished)
    rows = [
        [
            str(one.trial.number),
            f"{one.trial.score:.4f}",
            f"{one.mean:.4f}" + ("" if one.spread is None else f" ± {one.spread:.4f}"),
            f"{one.optimism:+.4f}",
            "  ".join(f"{name.rpartition('.')[2]} {shown(value)}" for name, value in one.trial.values.items()),
        ]
        for one in found.finalists
    ]
    seeds = len(first.again)
    head = ["trial", f"{metric}, search", f"mean ± sd of {seeds} fresh", "optimism", "values"]
    lines += ["", table(head, rows), ""]
    lines.append(
        f"winner    trial {first.trial.number}: {metric} {first.mean:.4f} on validation over {seeds} fresh seeds"
    )
    lines.append(f"          {' '.join(options_of(first.trial.values))}")
    lines.append(f"          its search score says {abs(first.optimism):.4f} {_too(first.optimism, found)}")
    if (close := _close(found)) is not None:
        lines.append(f"          {close}")
    if (test := _test_of(found)) is not None and test.get("value") is not None:
        interval = "" if test.get("low") is None else f"  [{test['low']:.4f}, {test['high']:.4f}]"
        lines.append(f"test      {metric} {test['value']:.4f}{interval}, scored once, for the winner")
        if found.earlier_winners:
            others = ", ".join(found.earlier_winners)
            lines.append(f"          it was scored before for {others}: among several, the best one is too good")
    if shares:
        told = ", ".join(f"{name} {share:.0%}" for name, share in list(shares.items())[:4])
        lines.append(f"matters   {told}")
    lines.append(f"package   {found.folder / found.winner.run / 'package'}")
    lines.append(f"recipe    {found.folder / BEST}")
    lines.append(f"report    {found.folder / PAGE}")
    lines.append(f"next      hf-trainpipe train {found.folder / BEST}")
    return "\n".join(lines)


def _too(optimism: float, found: Found) -> str:
    above = optimism > 0 if found.greater_is_better else optimism < 0
    return "too much: it was chosen among many" if above else "too little, this time"


def _close(found: Found) -> str | None:
    """That the second is as good, as far as so few seeds can tell."""
    if len(found.finalists) < 2:
        return None
    first, second = found.finalists[:2]
    spreads = [one.spread for one in (first, second) if one.spread is not None]
    if len(spreads) < 2:
        return None
    error = (statistics.fmean(spread**2 for spread in spreads) * 2 / len(first.again)) ** 0.5
    gap = abs(first.mean - second.mean)
    if gap > 2 * error:
        return None
    return f"trial {second.trial.number} is as good as these seeds can tell: {gap:.4f} between them, {error:.4f} standard error"


def _test_of(found: Found) -> Mapping[str, Any] | None:
    score: Mapping[str, Any] | None = found.result["scores"].get("test", {}).get(found.metric)
    return score


def _in_lines(options: list[str]) -> list[list[str]]:
    """Options, each with its values."""
    lines: list[list[str]] = []
    for option in options:
        if option.startswith("--") or not lines:
            lines.append([option])
        else:
            lines[-1].append(option)
    return lines


def _quoted(text: str) -> str:
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n") + '"'
