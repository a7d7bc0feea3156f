"""A cross-validation on one screen, and as a page."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from hf_trainpipe.metrics import breakdown
from hf_trainpipe.out_of_fold import STORE
from hf_trainpipe.package.in_words import interval, number
from hf_trainpipe.report import plots, sections
from hf_trainpipe.report.blocks import Block, Page, Paragraph, Section, Table
from hf_trainpipe.report.facts import Facts
from hf_trainpipe.report.page import save
from hf_trainpipe.studies.crossval_scores import Found
from hf_trainpipe.utils.tables import facts as fact_lines
from hf_trainpipe.utils.tables import table

SHOWN = 20
"""Folds on a screen."""
SPLIT = "held-out rows"


def lines(found: Found, folder: Path) -> str:
    """The result for a terminal."""
    told = found.document
    select = _select(told)
    rows = [
        [str(at), f"{run['rows']['test']:,}", number(run["scores"].get(select)), f"{run['seconds']:,.0f} s"]
        for at, run in enumerate(told["runs"], 1)
    ]
    parts = [f"{told['name']}: {dealt_in_words(told)}", table(["fold", "rows", select, "time"], rows[:SHOWN])]
    if len(rows) > SHOWN:
        parts.append(f"{len(rows) - SHOWN} more folds in crossval.json")
    head = ["score", "value", f"{_level(told)} interval", "folds"]
    parts.append(table(head, _scores(told)))
    shown = [("interval", explained(told)), *(("warning", line) for line in told["warnings"])]
    if told["out_of_fold"]:
        shown.append(("predictions", f"{folder / STORE}: of each row, by a model that never saw it"))
    shown.append(("page", str(folder / "crossval.html")))
    parts.append(fact_lines(shown))
    return "\n\n".join(parts)


def dealt_in_words(told: Mapping[str, Any]) -> str:
    """How rows were dealt: ``5 folds of 5,574 rows of train and validation, duplicates together``."""
    repeats = f" in {told['repeats']} repeats" if told["repeats"] > 1 else ""
    how = {
        "stratified": "labels spread evenly",
        "grouped": f"{told['groups']:,} groups "
        + (f"by {told['group']!r}" if told["group"] else "of duplicates")
        + " kept together, labels spread as evenly as they allow",
        "time": f"each trained on what is before it by {told['time']!r}",
    }[told["by"]]
    return f"{told['folds']} folds{repeats} of {told['rows']:,} rows ({' and '.join(told['splits'])}), {how}"


def explained(told: Mapping[str, Any]) -> str:
    """What the interval of the selected score holds, in a sentence."""
    score = told["scores"].get(_select(told)) or {}
    rows, models = score.get("rows_error"), score.get("models_error")
    if rows is None or models is None:
        return "undefined"
    what = "groups of rows" if told["groups"] < told["rows"] else "rows"
    spread = (
        f"and {number(models)} by the models, since folds differ more than their rows explain"
        if models > 0
        else "; the folds differ no more than their rows explain"
    )
    joint = " " if models > 0 else ""
    return f"standard error {number(rows)} by the {what} that were held out{joint}{spread}"


def write_page(found: Found, folder: Path) -> Path:
    """Write crossval.html."""
    told, select = found.document, _select(found.document)
    score = told["scores"].get(select) or {}
    per_fold = [
        [str(at), *(f"{run['rows'][name]:,}" for name in ("train", "validation", "test")),
         *(number(run["scores"].get(name)) for name in told["scores"]), f"{run['seconds']:,.0f}"]
        for at, run in enumerate(told["runs"], 1)
    ]  # fmt: skip
    blocks: list[Block] = [
        Table(["score", "value", f"{_level(told)} interval", "folds"], _scores(told)),
        Paragraph(f"Of {select}: {explained(told)}. docs/crossval.md says how the interval is made."),
        Table(["fold", "trained", "selected", "held out", *told["scores"], "seconds"], per_fold, caption="Folds"),
    ]
    hint = plots.missing()
    page = Page(
        title=f"Cross-validation of {told['name']}",
        lead=f"{select} {number(score.get('value'))}, {_level(told)} interval {interval(score) or 'undefined'}: "
        f"{dealt_in_words(told)}.",
        notes=[Paragraph(f"{line[:1].upper()}{line[1:]}.", "warning") for line in told["warnings"]],
        sections=[Section("Scores", blocks), *_details(found, pictures=hint is None)],
        foot="Written by hf-trainpipe crossval. The numbers are in crossval.json and out_of_fold.npz beside this file.",
    )
    save(page, folder / "crossval.html")
    return folder / "crossval.html"


def _details(found: Found, *, pictures: bool) -> list[Section]:
    """Labels, confusions, reliability and parts, of the predictions of all rows."""
    if found.held_out is None:
        return []
    report = breakdown(found.held_out.predictions, num_errors=0)
    told = {"select": found.document["select"], "scores": {SPLIT: found.document["scores"]}, "report": {SPLIT: report}}
    facts = Facts(path=Path(), document={}, result=told, attempts={}, manifest={}, points={},
                  predicted={SPLIT: found.held_out}, state="complete")  # fmt: skip
    return [sections.split_details(facts, SPLIT, mask_texts=True, pictures=pictures)]


def _scores(told: Mapping[str, Any]) -> list[list[str]]:
    found = []
    for name, score in told["scores"].items():
        folds = [value for value in score["folds"] if value is not None]
        spread = f"{number(min(folds))} to {number(max(folds))}" if folds else "-"
        found.append([name, number(score["value"]), interval(score) or "-", spread])
    return found


def _select(told: Mapping[str, Any]) -> str:
    return str(told["select"] if told["select"] in told["scores"] else next(iter(told["scores"]), told["select"]))


def _level(told: Mapping[str, Any]) -> str:
    score = told["scores"].get(_select(told)) or {}
    return f"{100 * (score.get('confidence') or 0.95):g} %"
