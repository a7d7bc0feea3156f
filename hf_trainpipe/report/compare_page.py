"""Runs side by side, as a table for a terminal and as a page."""

from __future__ import annotations

import math
from collections.abc import Sequence

from hf_trainpipe.metrics.power import POWER
from hf_trainpipe.metrics.stochastic_order import ALMOST
from hf_trainpipe.package.in_words import number
from hf_trainpipe.report import plots
from hf_trainpipe.report.blocks import Block, Page, Paragraph, Pictures, Section, Table
from hf_trainpipe.report.comparison import Comparison, Held
from hf_trainpipe.report.facts import Facts
from hf_trainpipe.report.plots import SERIES, Curves, Line
from hf_trainpipe.utils.tables import facts as fact_lines
from hf_trainpipe.utils.tables import table

_HEAD = ("run", "split", "metric", "first", "this", "difference", "interval", "p", "can show", "")
_ORDER = ("score", "side", "of each seed", "almost always better")
_ORDER_CAPTION = f"Scores of each seed, and almost stochastic order: better at almost every quantile where the bound in brackets is below {ALMOST}"
_CELL = 60


def lines(found: Comparison) -> str:
    """The comparison for a terminal."""
    parts = [found.verdict, *(one.told(found.against, confidence=found.confidence) for one in found.gates)]
    many = len(found.sides) > 2
    if found.scores:
        head = (
            *(("run",) if many else ()),
            "score",
            found.against,
            "this" if many else found.sides[1],
            "difference",
            "p",
            "",
        )
        rows = [
            [
                *([one.run] if many else []), f"{one.split} {one.metric}", number(one.first), number(one.second),
                f"{_signed(one.difference)} [{_signed(one.low)}, {_signed(one.high)}]", f"{one.adjusted:.4f}",
                ("better" if one.better else "worse") if one.different else "",
            ]
            for one in found.scores
        ]  # fmt: skip
        parts.append(table(head, rows))
    if ordered := _orders(found):
        parts.append(table(_ORDER, ordered))
    for one in found.by_row:
        parts.append(
            f"{one['split']}: of {one['rows']:,} rows only {found.against} gets {one['only_first']:,} right, "
            f"only {one['run']} {one['only_second']:,} (McNemar p {one['p']:.4f})"
        )
    if found.recipe:
        head = ("field", *found.runs)
        parts.append(
            table(head, [[entry["field"], *(_value(one) for one in entry["values"])] for entry in found.recipe])
        )
    if found.notes:
        parts.append(fact_lines([("note", line) for line in found.notes]))
    return "\n\n".join(parts)


def page(found: Comparison, runs: Sequence[Facts]) -> Page:
    """The comparison as a page, with the curves of the runs over each other."""
    sections = [Section("Scores", _scores(found))]
    hint = plots.missing()
    notes = [
        Paragraph(f"{one.told(found.against, confidence=found.confidence)}.", "" if one.shown else "warning")
        for one in found.gates
    ]
    notes += [Paragraph(line, "note") for line in found.notes]
    if hint is None:
        sections.append(Section("Curves", _curves(found, runs)))
    else:
        notes.append(Paragraph(f"Without pictures, since matplotlib is not installed: {hint}", "note"))
    if found.recipe:
        rows = [[entry["field"], *(_value(one) for one in entry["values"])] for entry in found.recipe]
        sections.append(Section("Settings that differ", [Table(("field", *found.runs), rows)]))
    return Page(
        title=" and ".join(found.sides) if len(found.sides) == 2 else ", ".join(found.sides),
        badge="compared",
        lead=found.verdict,
        notes=notes,
        sections=sections,
        foot="Written by hf-trainpipe compare.",
    )


def _scores(found: Comparison) -> list[Block]:
    blocks: list[Block] = []
    if found.scores:
        blocks.append(Table(_HEAD, _rows(found)))
        of_seeds = any(one.first_seeds for one in found.scores)
        how = (
            "Intervals and p-values by the hierarchical bootstrap over seeds and rows"
            if of_seeds
            else "Intervals by the paired bootstrap; p-values by McNemar's exact test where whole answers are counted, else by the "
            "paired bootstrap"
        )
        blocks.append(
            Paragraph(
                f"Each is held against {found.against} on the same rows. {how}; all p-values by Holm's correction for "
                f"{len(found.scores)} scores. “Can show” is the smallest difference that this comparison shows with "
                f"{100 * POWER:g} % probability."
            )
        )
    if ordered := _orders(found):
        blocks.append(Table(_ORDER, ordered, caption=_ORDER_CAPTION))
    if found.by_row:
        head = ("run", "split", "rows", "only the first is right", "only this one is right", "McNemar p")
        blocks.append(Table(head, _by_row(found), caption="Rows that one of two gets right and the other does not"))
    return blocks


def _rows(found: Comparison) -> list[list[str]]:
    return [
        [
            one.run,
            one.split,
            one.metric,
            number(one.first),
            number(one.second),
            _signed(one.difference),
            f"{_signed(one.low)} to {_signed(one.high)}",
            f"{one.adjusted:.4f}" if one.adjusted == one.adjusted else "-",
            _smallest(one),
            ("better" if one.better else "worse") if one.different else "no difference shown",
        ]
        for one in found.scores
    ]


def _by_row(found: Comparison) -> list[list[str]]:
    return [
        [
            one["run"],
            one["split"],
            f"{one['rows']:,}",
            f"{one['only_first']:,}",
            f"{one['only_second']:,}",
            f"{one['p']:.4f}",
        ]
        for one in found.by_row
    ]


def _curves(found: Comparison, runs: Sequence[Facts]) -> list[Block]:
    select = runs[0].select
    wanted = [("train/loss", "Training loss, with dropout", False), ("validation/loss", "Validation loss", True)]
    if select != "loss":
        wanted.append((f"validation/{select}", f"{select} on validation", True))
    drawn = []
    for name, title, marked in wanted:
        series = [
            Line(name=label, points=run.series(name), colour=SERIES[at % len(SERIES)], marked=marked)
            for at, (label, run) in enumerate(zip(found.runs, runs, strict=True))
        ]
        if (shown := Curves(title=title, lines=series)).drawn:
            drawn.append(plots.curves(f"compare-{name.replace('/', '-')}", shown))
    return [Pictures(drawn)] if drawn else []


def _orders(found: Comparison) -> list[list[str]]:
    """Of sides with several seeds: the scores of each, and whether one side is better at almost every quantile."""
    rows: list[list[str]] = []
    for one in found.scores:
        if not one.first_seeds:
            continue
        rows.append([f"{one.split} {one.metric}", found.against, " ".join(map(number, one.first_seeds)), ""])
        told = "-"
        if (order := one.order) is not None:
            says = "yes" if order.bound < ALMOST else "not shown"
            told = f"{says} ({order.bound:.2f})"
        rows.append(["", one.run, " ".join(map(number, one.second_seeds)), told])
    return rows


def _smallest(one: Held) -> str:
    return f"{one.smallest:.4f}" if math.isfinite(one.smallest) else "-"


def _signed(value: float) -> str:
    return f"{value:+.4f}" if value == value else "-"


def _value(value: object) -> str:
    text = "-" if value is None else str(value)
    return text if len(text) <= _CELL else text[: _CELL - 1] + "…"
