"""A learning curve on one screen, and as a page."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from hf_trainpipe.package.in_words import number
from hf_trainpipe.report import plots
from hf_trainpipe.report.blocks import Block, Page, Paragraph, Pictures, Section, Table
from hf_trainpipe.report.page import save
from hf_trainpipe.report.plots import SERIES, Curves, Line
from hf_trainpipe.utils.tables import facts as fact_lines
from hf_trainpipe.utils.tables import table

HEAD = ("rows", "mean", "lowest", "highest", "time")


def lines(told: Mapping[str, Any], folder: Path) -> str:
    """The result for a terminal: the decision first."""
    shown = [("price", price(told)), ("page", str(folder / "learn_curve.html"))]
    return "\n\n".join(
        [
            told["decision"],
            f"{told['name']}: {told['metric']} of {told['on']} ({told['scored']:,} rows)"
            + ("" if told["model"] == "recipe" else f" by a simple model, {told['model']}"),
            table(HEAD, _points(told)),
            table(_forecast_head(told), _forecasts(told)),
            fact_lines(shown),
        ]
    )


def price(told: Mapping[str, Any]) -> str:
    """The price of the next point, in a sentence."""
    found = told["price"]
    if found["labels"] is None:
        likely = f" ({100 * found['labels_chance']:.0f} % of the laws that fit get there with a hundred times the rows)"
        return f"the next point is out of reach by labels alone{likely}; {found['model_size_reason']}"
    hours = f"{found['hours']:.2g} hours of training instead of {found['hours_now']:.2g}"
    labels = f"{found['labels']:,} more labels ({100 * found['labels_chance']:.0f} % of the laws that fit get there)"
    return f"the next point: {labels}, {hours}; model size left out: {found['model_size_reason']}"


def write_page(told: Mapping[str, Any], folder: Path) -> Path:
    """Write learn_curve.html."""
    hint = plots.missing()
    blocks: list[Block] = []
    if hint is None:
        means = [(int(row[0].replace(",", "")), float(row[1])) for row in _points(told)]
        ahead = [means[-1], *((round(one["rows"]), one["score"]) for one in told["forecasts"][1:])]
        drawn = [
            Line(name="measured, mean over seeds", points=means, colour=SERIES[0], marked=True),
            Line(name="forecast", points=ahead, colour=SERIES[1], marked=True),
        ]
        title = f"{told['metric']} of {told['on']} by training rows"
        blocks.append(Pictures([plots.curves("learn-curve", Curves(title=title, lines=drawn))]))
    blocks += [
        Table(HEAD, _points(told), caption="Measured"),
        Table(_forecast_head(told), _forecasts(told), caption="Forecast"),
        Paragraph(f"Price: {price(told)}."),
    ]
    page = Page(
        title=f"Learning curve of {told['name']}",
        lead=f"{told['decision'][:1].upper()}{told['decision'][1:]}.",
        sections=[Section("Curve", blocks)],
        foot="Written by hf-trainpipe learn-curve. The numbers are in learn_curve.json beside this file; docs/learn-curve.md "
        "says how the forecast is made.",
    )
    save(page, folder / "learn_curve.html")
    return folder / "learn_curve.html"


def _points(told: Mapping[str, Any]) -> list[list[str]]:
    found = []
    for size in sorted({point["rows"] for point in told["points"]}):
        scores = [point["score"] for point in told["points"] if point["rows"] == size]
        seconds = np.mean([point["seconds"] for point in told["points"] if point["rows"] == size])
        found.append(
            [f"{size:,}", *map(number, (float(np.mean(scores)), min(scores), max(scores))), f"{seconds:,.0f} s"]
        )
    return found


def _forecast_head(told: Mapping[str, Any]) -> list[str]:
    return ["rows", f"{told['metric']}, forecast", f"{100 * told['confidence']:g} % of one run lie in"]


def _forecasts(told: Mapping[str, Any]) -> list[list[str]]:
    return [
        [f"{one['rows']:,.0f}", number(one["score"]), f"{number(one['worst'])} to {number(one['best'])}"]
        for one in told["forecasts"]
    ]
