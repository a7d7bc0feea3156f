"""Ways of training held against each other, several seeds each: ``compare A1 A2 A3 --against B1 B2 B3``."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from hf_trainpipe.errors import DataError
from hf_trainpipe.metrics.margin import by_error
from hf_trainpipe.metrics.multiple import Family
from hf_trainpipe.metrics.registry import greater_is_better
from hf_trainpipe.metrics.seeds import seed_differences
from hf_trainpipe.metrics.stochastic_order import almost_stochastic_order
from hf_trainpipe.report.comparison import SPLITS, Comparison, Held, comparable, differing, names_of, settle
from hf_trainpipe.report.facts import Facts
from hf_trainpipe.report.gate import Margin, gate
from hf_trainpipe.report.same_rows import in_common
from hf_trainpipe.utils.brief import listed

_OF_A_SEED = ("seed", "name")
"""Fields in which runs of one group may differ."""


@dataclass(frozen=True, kw_only=True)
class Group:
    """Runs of one recipe that differ in the seed alone."""

    name: str
    runs: tuple[Facts, ...]


def compare_groups(
    runs: Sequence[Facts],
    against: Sequence[Facts],
    *,
    confidence: float = 0.95,
    resamples: int | None = None,
    seed: int = 0,
    margin: Margin | None = None,
) -> Comparison:
    """Hold groups of runs against one group.

    Args:
        runs: Of one recipe or several: those whose recipes differ in the seed alone are a group.
        against: Of one recipe.
        margin: How much worse a group may be; each is then tested for it too.

    Returns:
        A comparison whose runs are first those of ``against``.

    Raises:
        DataError: ``against`` has several recipes, a run stands on both sides, no side has two runs, or they are of other tasks.
    """
    everything = [*against, *runs]
    names = dict(zip((run.path for run in everything), names_of(everything), strict=True))
    if len(names) < len(everything):
        raise DataError("compare: a run is named twice.", fix="Name each run once, on one of the two sides.")
    [first, *others] = _groups(against, names)
    if others:
        fields = ", ".join(entry["field"] for entry in differing(list(against)) if entry["field"] not in _OF_A_SEED)
        raise DataError(
            f"--against: expected runs that differ in the seed alone, found others in {fields}.",
            fix="Name the runs of one recipe behind --against.",
        )
    groups = _groups(runs, names)
    if all(len(group.runs) == 1 for group in (first, *groups)):
        raise DataError(
            "--against: expected several seeds of a side, found one run of each.",
            fix="Name further seeds; or compare the models themselves: hf-trainpipe compare A B",
        )
    ordered = [*first.runs, *(run for group in groups for run in group.runs)]
    found = Comparison(
        runs=[names[run.path] for run in ordered],
        sides=[first.name, *(group.name for group in groups)],
        confidence=confidence,
        recipe=[entry for entry in differing(ordered) if entry["field"] not in _OF_A_SEED],
    )
    families = [
        family
        for group in groups
        for split in SPLITS
        if (family := _hold(found, first, group, split, names=names, resamples=resamples, seed=seed, margin=margin)) is not None
    ]  # fmt: skip
    settle(found, families, margin=margin)
    for group in (first, *groups):
        if len(group.runs) == 1:
            found.notes.append(f"{group.name} is one run: its seed is taken to matter as much as the other side's do.")
    if found.scores:
        found.notes.append(
            "Intervals are over seeds and rows: they tell of the settings, not of these trained models alone."
        )
    return found


def _groups(runs: Sequence[Facts], names: dict[Path, str]) -> list[Group]:
    """Runs by their recipes, in the order in which they are named."""
    groups: list[list[Facts]] = []
    for run in runs:
        same = next((group for group in groups if _is_same_recipe(group[0], run)), None)
        if same is None:
            groups.append([run])
        else:
            same.append(run)
    return [Group(name=_name([names[run.path] for run in group]), runs=tuple(group)) for group in groups]


def _is_same_recipe(one: Facts, two: Facts) -> bool:
    return all(entry["field"] in _OF_A_SEED for entry in differing([one, two]))


def _name(names: Sequence[str]) -> str:
    """What a group is called: what the names of its runs begin with.

    >>> _name(["wide-1", "wide-2", "wide-17"]), _name(["a", "b"]), _name(["deep"])
    ('3 seeds of wide', 'a and 1 more', 'deep')
    """
    if len(names) == 1:
        return names[0]
    alike = itertools.takewhile(lambda letters: len(set(letters)) == 1, zip(*names, strict=False))
    common = "".join(letters[0] for letters in alike).rstrip("0123456789-_./ ").removesuffix("seed").rstrip("-_./ ")
    return f"{len(names)} seeds of {common}" if common else listed(names, 1)


def _hold(
    found: Comparison, first: Group, group: Group, split: str, *, names: dict[Path, str], resamples: int | None, seed: int,
    margin: Margin | None,
) -> Family | None:  # fmt: skip
    runs = [*first.runs, *group.runs]
    common = in_common(runs, [names[run.path] for run in runs], split, found.notes)
    if common is None:
        return None
    sides, count = [one.predictions for one in common], len(first.runs)
    metrics = comparable(sides, runs, split)
    gaps = seed_differences(
        sides[:count], sides[count:], metrics, confidence=found.confidence, resamples=resamples, seed=seed
    )
    for metric, gap in gaps.items():
        is_greater = greater_is_better(metric, runs[0].task)
        sign, several = (1 if is_greater else -1), min(len(gap.first), len(gap.second)) > 1
        scores = [sign * np.array(side) for side in (gap.first, gap.second)]
        found.scores.append(
            Held(
                run=group.name,
                split=split,
                metric=metric,
                first=float(np.mean(gap.first)),
                second=float(np.mean(gap.second)),
                difference=gap.value,
                low=gap.low,
                high=gap.high,
                p=gap.p,
                test="hierarchical bootstrap",
                greater_is_better=is_greater,
                rows=len(sides[0]),
                error=gap.error,
                freedom=gap.freedom,
                first_seeds=gap.first,
                second_seeds=gap.second,
                order=almost_stochastic_order(*scores, confidence=found.confidence, seed=seed) if several else None,
            )
        )
        if margin is not None and metric == (margin.metric or first.runs[0].select):
            allowed = margin.of(found.scores[-1].first, metric, greater_is_better=is_greater)
            shown = by_error(sign * gap.value, gap.error, gap.freedom, margin=allowed, confidence=found.confidence)
            found.gates.append(gate(shown, run=group.name, split=split, metric=metric, margin=allowed))
    return Family(p_values=[gap.p for gap in gaps.values()], drawn=[gap.drawn for gap in gaps.values()])
