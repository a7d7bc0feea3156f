"""The page of a search, ``tune.html``: the winner, finalists, every trial, what matters, and pictures of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from hf_trainpipe.report import plots
from hf_trainpipe.report.blocks import Block, Code, Page, Paragraph, Pictures, Section, Table
from hf_trainpipe.report.page import save
from hf_trainpipe.report.plots import Picture
from hf_trainpipe.studies.found import shown
from hf_trainpipe.studies.outcome import PAGE, screen
from hf_trainpipe.studies.space import LogUniform
from hf_trainpipe.utils.brief import first_line

if TYPE_CHECKING:
    from hf_trainpipe.recipe import Recipe
    from hf_trainpipe.studies.found import Found
    from hf_trainpipe.studies.space import Space
    from hf_trainpipe.studies.trials import Trial


def write_page(found: Found, space: Space, recipe: Recipe, *, shares: Mapping[str, float]) -> None:
    """Write the page into the study's folder; without matplotlib it has no pictures, and says how to get them."""
    hint = plots.missing()
    first = found.finalists[0]
    notes = [] if hint is None else [Paragraph(f"Without pictures, since matplotlib is not installed: {hint}", "note")]
    page = Page(
        title=f"{recipe.name}: search",
        badge=f"{len(found.trials)} trials",
        lead=f"Trial {first.trial.number} wins with {found.metric} {first.mean:.4f} on validation, the mean of "
        f"{len(first.again)} fresh seeds; its search score is {first.optimism:+.4f} from that.",
        notes=notes,
        sections=[
            Section("Result", [Code(screen(found, shares=shares))]),
            Section("Finalists", [_finalists(found)]),
            Section("What matters", _matters(found, space, shares, pictures=hint is None)),
            Section("Trials", [*_course(found, pictures=hint is None), _trials(found.trials, space)]),
            Section("Space", [Table(["field", "may be"], [list(pair) for pair in space.to_json().items()])]),
        ],
        foot="Written by hf-trainpipe tune. The numbers are in result.json and trials.jsonl beside this file.",
    )
    save(page, found.folder / PAGE)


def _finalists(found: Found) -> Block:
    rows = [
        [
            str(one.trial.number),
            f"{one.trial.score:.4f}",
            f"{one.mean:.4f}",
            "" if one.spread is None else f"{one.spread:.4f}",
            f"{one.optimism:+.4f}",
            ", ".join(f"{again.score:.4f}" for again in one.again),
        ]
        for one in found.finalists
    ]
    about = "A trial's search score was chosen among many; what is above the mean over fresh seeds is luck."
    return Table(["trial", "search", "mean", "sd", "optimism", "on fresh seeds"], rows, about)


def _trials(trials: Sequence[Trial], space: Space) -> Block:
    rows = [
        [
            str(trial.number),
            trial.state,
            "" if trial.score is None else f"{trial.score:.4f}",
            *(shown(trial.values[name]) for name in space.dimensions),
            f"{trial.seconds:,.0f}",
            first_line(trial.reason)[:100],
        ]
        for trial in trials
    ]
    return Table(["trial", "state", "score", *space.dimensions, "seconds", ""], rows)


def _matters(found: Found, space: Space, shares: Mapping[str, float], *, pictures: bool) -> list[Block]:
    if not shares:
        return [Paragraph("Too few trials have scores to say which fields matter.", "note")]
    about = "The share of each field in how much scores differ, by PED-ANOVA: of these trials, in this space."
    blocks: list[Block] = [Table(["field", "share"], [[name, f"{share:.3f}"] for name, share in shares.items()], about)]
    if pictures:
        names = [name for name in shares if name in space.dimensions][:4]
        blocks.append(Pictures([_scatter(found, space, name) for name in names]))
    return blocks


def _course(found: Found, *, pictures: bool) -> list[Block]:
    scored = [trial for trial in found.trials if trial.score is not None]
    if not pictures or len(scored) < 2:
        return []
    best: list[float] = []
    choose = max if found.greater_is_better else min
    for trial in scored:
        assert trial.score is not None
        best.append(choose([*best[-1:], trial.score]))
    with plots.style():
        figure, [axes] = plots.frame("Scores by trial", fitted=True)
        numbers = [trial.number for trial in scored]
        axes.scatter(numbers, [trial.score for trial in scored], s=14, color=plots.SERIES[0], zorder=3, label="trial")
        axes.step(numbers, best, where="post", color=plots.SERIES[1], linewidth=1.4, label="best so far")
        axes.set_xlabel("trial")
        axes.set_ylabel(found.metric)
        axes.legend()
    about = f"{found.metric} of {len(scored)} trials; the best so far rises from {best[0]:.4g} to {best[-1]:.4g}"
    return [Pictures([Picture("course", about, figure)])]


def _scatter(found: Found, space: Space, name: str) -> Picture:
    """Scores over one field."""
    scored = [trial for trial in found.trials if trial.score is not None]
    values = [trial.values[name] for trial in scored]
    with plots.style():
        figure, [axes] = plots.frame(name, fitted=True)
        if not all(isinstance(value, int | float) and not isinstance(value, bool) for value in values):
            values = [str(value) for value in values]
        axes.scatter(values, [trial.score for trial in scored], s=16, color=plots.SERIES[0], zorder=3)
        if isinstance(space.dimensions[name], LogUniform):
            axes.set_xscale("log")
        axes.set_ylabel(found.metric)
    return Picture(
        f"field-{name.replace('.', '-').replace('_', '-')}",
        f"{found.metric} of {len(scored)} trials over {name}",
        figure,
    )
