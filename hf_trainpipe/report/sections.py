"""The parts of a run's report. Each is a function of its facts that gives blocks, none where there is nothing to tell."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from hf_trainpipe.metrics.overfitting import FEWEST
from hf_trainpipe.metrics.parts import by_length, by_part, constant_scores
from hf_trainpipe.metrics.reliability import reliability
from hf_trainpipe.metrics.score_details import describe_error
from hf_trainpipe.package import card_baselines
from hf_trainpipe.package.card import flatten
from hf_trainpipe.package.in_words import beside_baselines, interval, main_split, number
from hf_trainpipe.report import calibration, plots
from hf_trainpipe.report.blocks import Block, Code, Folded, Paragraph, Pictures, Quotes, Section, Table
from hf_trainpipe.report.facts import Facts, read
from hf_trainpipe.report.forecast import beside
from hf_trainpipe.report.plots import SERIES, Curves, Line
from hf_trainpipe.utils.wording import adapt_message

LARGEST_MATRIX = 24
"""Most labels for which the confusion matrix is shown; above, the most confused pairs."""
ROWS = 15
"""Of a table of labels before the rest is folded."""
SHOWN = 10
"""Errors, samples."""


def scores(facts: Facts) -> Section:
    """Every score with its interval, beside what a constant answer would get."""
    rows, said = [], ""
    for split, found in (facts.result.get("scores") or {}).items():
        kept = facts.predicted.get(split)
        constant = constant_scores(kept.predictions, list(found)) if kept is not None else None
        for name, score in found.items():
            beside = ""
            if constant is not None and name in constant[1]:
                said, beside = constant[0], number(constant[1][name])
            rows.append([split, name, number(score.get("value")), interval(score), beside, f"{score.get('n') or '':,}"])
    if not rows:
        return Section("Scores", [])
    head = ["split", "metric", "value", "interval", "constant", "examples"]
    if not said:
        head, rows = [*head[:4], head[5]], [[*row[:4], row[5]] for row in rows]
    blocks: list[Block] = [Table(head, rows)]
    level = next(
        (s.get("confidence") for f in facts.result["scores"].values() for s in f.values() if s.get("confidence")), 0.95
    )
    blocks.append(
        Paragraph(
            f"Intervals hold {100 * level:g} % of bootstrap resamples of the examples."
            + (f" The column “constant” is what always answering {said} would score." if said else "")
        )
    )
    return Section("Scores", blocks)


def baselines(facts: Facts) -> Section:
    """The model beside simpler ones, and whether it beats the best of them."""
    told = facts.baselines
    if not told.get("baselines"):
        return Section(card_baselines.TITLE, [])
    held = told["held"]
    split = main_split(held)
    blocks: list[Block] = []
    if split is not None:
        blocks.append(Paragraph(f"{beside_baselines(told)}.", "" if held[split]["beats"] else "warning"))
    blocks.append(Table(*card_baselines.scores(told)))
    blocks.append(
        Paragraph(
            "Each is learnt from the training split alone and scored on the same rows. The best is chosen on validation where there "
            "is one, and the difference tested on the same rows."
        )
    )
    lines = [f"{title}: {why}" for title, why in (told.get("unfit") or {}).items()]
    return Section(card_baselines.TITLE, [*blocks, *(Paragraph(f"Not learnt: {line}.", "note") for line in lines)])


def curves(facts: Facts) -> Section:
    """Losses, the selected score, learning rate, gradient norm, throughput."""
    begins = facts.begins()
    shown = [
        ("loss", _losses(facts)),
        ("score", _selected(facts)),
        ("rate", replace(_plain(facts, "Learning rate", "train/lr", SERIES[2]), log=False)),
        ("norm", _plain(facts, "Gradient norm", "train/grad_norm", SERIES[3])),
        ("speed", _plain(facts, "Tokens a second", "train/tokens_per_second", SERIES[5])),
    ]
    drawn = [plots.curves(f"curve-{name}", replace(one, begins=begins)) for name, one in shown if one.drawn]
    blocks: list[Block] = [Pictures(drawn)] if drawn else []
    if begins and drawn:
        listed = ", ".join(f"{one:,}" for one in begins)
        blocks.append(Paragraph(f"Dotted lines: the run was resumed, and went on with step {listed}."))
    return Section("Curves", blocks)


def overfitting(facts: Facts) -> Section:
    """Whether overfitting is shown, and the interval that says so."""
    looked, slope = facts.points.get("train/sample_loss"), facts.points.get("overfitting/slope")
    if not looked:
        return Section("Overfitting", [])
    told = f"Overfitting is {'not shown' if facts.shown_from is None else f'shown from step {facts.shown_from:,}'}."
    if slope and slope[-1].step == looked[-1].step:
        low, high = (facts.points[f"overfitting/{name}"][-1].value for name in ("low", "high"))
        told += (
            f" Since the lowest validation loss, validation minus training loss (both without dropout) changes by "
            f"{slope[-1].value:+.3g} in 1,000 steps, between {low:+.3g} and {high:+.3g}."
        )
    else:
        told += f" There are fewer than {FEWEST} evaluations since the lowest validation loss, too few to tell a slope from."
    how = (
        "It is shown where this slope and that of the validation loss alone are above zero, at a level that holds for all "
        "evaluations together: one run in twenty that does not overfit, at most, is called so."
    )
    return Section("Overfitting", [Paragraph(told, "warning" if facts.shown_from is not None else ""), Paragraph(how)])


def card_curve(run: Path, *, select: str) -> bytes | None:
    """Losses and the selected score of a run as one PNG, for its card; None before anything was logged."""
    facts = read(run)
    shown = [one for one in (_losses(facts), _selected(facts, select)) if one.drawn]
    return plots.curves("curves", *shown).png() if shown else None


def _losses(facts: Facts) -> Curves:
    lines = [
        Line(name="training, with dropout", points=facts.series("train/loss"), colour=SERIES[0]),
        Line(name="training, without", points=facts.series("train/sample_loss"), colour=SERIES[2], marked=True),
        Line(name="validation", points=facts.series("validation/loss"), colour=SERIES[1], marked=True),
    ]
    return Curves(title="Loss", lines=lines, best=facts.result.get("best_step"), shown_from=facts.shown_from)


def _selected(facts: Facts, select: str | None = None) -> Curves:
    select = select or facts.select
    points = facts.series(f"validation/{select}") if select != "loss" else []
    line = Line(name=select, points=points, colour=SERIES[1], marked=True)
    return Curves(title=f"{select} on validation", lines=[line], best=facts.result.get("best_step"))


def _plain(facts: Facts, title: str, name: str, colour: str) -> Curves:
    return Curves(title=title, lines=[Line(name=title, points=facts.series(name), colour=colour)], log=True)


def forecast(facts: Facts) -> Section:
    """What ``check`` forecast before the run, beside what came."""
    if not facts.forecast:
        return Section("Forecast", [])
    rows = [list(row) for row in beside(facts.forecast)]
    blocks: list[Block] = [Table(["", "forecast", "in 9 of 10 cases", "came"], rows)]
    outcome = facts.forecast.get("outcome")
    if outcome is not None and not outcome.get("undisturbed"):
        blocks.append(
            Paragraph("The forecast is of a run that neither stops early nor is interrupted; this one was.", "note")
        )
    return Section("Forecast", blocks)


def split_details(facts: Facts, split: str, *, mask_texts: bool, pictures: bool) -> Section:
    """Each label, confusions, reliability, parts of the split, worst errors, samples."""
    found = (facts.result.get("report") or {}).get(split) or {}
    blocks: list[Block] = [
        Paragraph(f"{warning[:1].upper()}{warning[1:]}.", "warning") for warning in found.get("warnings", ())
    ]
    blocks += _labels(found)
    blocks += _confusion(found)
    blocks += calibration.blocks(found.get("calibration"), split, pictures=pictures)
    if split in facts.predicted and (facts.result.get("scores") or {}).get(split):
        blocks += _parts(facts, split, pictures=pictures)
    blocks += _errors(found, mask_texts=mask_texts)
    return Section(f"Details of {split}", blocks)


def _labels(found: Mapping[str, Any]) -> list[Block]:
    listed = sorted(found.get("rows") or (), key=lambda row: (row["f1"], -row["support"]))
    cells = [[str(row["name"]), *(f"{row[rate]:.3f}" for rate in ("precision", "recall", "f1")), f"{row['support']:,}",
              f"{row['predicted']:,}" if "predicted" in row else ""] for row in listed]  # fmt: skip
    if not cells:
        return []
    head = [found["by"], "precision", "recall", "f1", "support", "predicted"]
    blocks: list[Block] = [Table(head, cells[:ROWS], caption=f"By {found['by']}, the worst first")]
    if found.get("positive"):
        blocks.append(Paragraph(f"Scores named precision, recall and f1 are those of {found['positive']!r}."))
    if len(cells) > ROWS:
        blocks.append(Folded(f"{len(cells) - ROWS} more", [Table(head, cells[ROWS:])]))
    return blocks


def _confusion(found: Mapping[str, Any]) -> list[Block]:
    names, matrix = found.get("names") or [], found.get("confusion")
    if matrix is not None and 1 < len(names) <= LARGEST_MATRIX:
        shares = [[cell / max(1, sum(row)) for cell in row] for row in matrix]
        rows = [[str(name), *(f"{cell:,}" for cell in row)] for name, row in zip(names, matrix, strict=True)]
        head = ["gold \\ predicted", *map(str, names)]
        return [Table(head, rows, caption="Confusion matrix: what each label was taken for", shades=shares)]
    pairs = [[str(gold), str(predicted), f"{count:,}"] for gold, predicted, count in found.get("confused") or ()]
    return [Table(["gold", "predicted", "count"], pairs, caption="Confused most")] if pairs else []


def _parts(facts: Facts, split: str, *, pictures: bool) -> list[Block]:
    kept = facts.predicted[split]
    names = list(facts.result["scores"][split])
    name = facts.select if facts.select in names else names[0]
    lengths = by_part(kept.predictions, name, by_length(kept.lengths))
    told = (facts.result.get("report") or {}).get(split) or {}
    honest = None if told.get("calibration") else reliability(kept.predictions)
    drawn = []
    if honest is not None and pictures:
        drawn.append(plots.diagram(f"{split}-reliability", "Reliability", honest))
    if len(lengths) > 1 and pictures:
        drawn.append(plots.parts(f"{split}-length", f"{name} by length", "tokens of an example", lengths))
    blocks: list[Block] = [Pictures(drawn)] if drawn else []
    if honest is not None:
        blocks.append(calibration.told(honest))
    rows = [["tokens", *_cells(part, one)] for part, one in lengths.items()] if len(lengths) > 1 else []
    for column, values in kept.slices.items():
        seen = np.asarray(values)
        found = by_part(kept.predictions, name, {str(value): seen == value for value in sorted(set(values))})
        rows += [[column, *_cells(part, one)] for part, one in found.items()]
    if rows:
        blocks.append(Table(["by", "", name, "interval", "examples"], rows, caption=f"{name} of parts of the split"))
    return blocks


def _cells(part: str, one: Any) -> list[str]:
    return [part, number(one.value), interval(vars(one)), f"{one.n:,}"]


def _errors(found: Mapping[str, Any], *, mask_texts: bool) -> list[Block]:
    quotes = []
    for error in (found.get("errors") or ())[:SHOWN]:
        told = f"{error.get('place', '')}: " if error.get("place") else ""
        is_label = {"gold", "predicted"} <= set(error) and not {"written", "wrong", "missed"} & set(error)
        said = describe_error(error) if is_label or not mask_texts else "an answer that is wrong"
        quotes.append((told + said, _masked(str(error.get("text", "")), mask_texts)))
    blocks: list[Block] = [Paragraph("Worst errors"), Quotes(quotes)] if quotes else []
    samples = [
        (f"asked: {_masked(one['asked'], mask_texts)}", _masked(one["written"], mask_texts) or "(nothing)")
        for one in (found.get("samples") or ())[:SHOWN]
    ]
    if samples:
        blocks += [Paragraph("Samples of what it writes, each up to its first tokens"), Quotes(samples)]
    return blocks


def _masked(text: str, mask_texts: bool) -> str:
    return f"[{len(text):,} characters]" if mask_texts and text else text[:2000]


def data(facts: Facts) -> Section:
    """Rows, and what the length limit did to them."""
    told = facts.manifest.get("data") or {}
    rows = []
    for split, count in (told.get("rows") or {}).items():
        over = (told.get("overflow") or {}).get(split) or {}
        lost = over.get("tokens_lost", 0) / max(1, over.get("tokens", 1))
        rows.append([split, f"{count:,}", f"{over.get('tokens', 0):,}", f"{over.get('over_length', 0):,}",
                     f"{over.get('dropped', 0):,}", f"{100 * lost:.2f} %", f"{over.get('empty', 0):,}"])  # fmt: skip
    head = ["split", "examples", "tokens", "too long", "dropped", "tokens lost", "empty"]
    blocks: list[Block] = [Paragraph(str(told["description"]))] if told.get("description") else []
    if rows:
        blocks.append(Table(head, rows))
        limits = facts.manifest.get("tokens") or {}
        blocks.append(
            Paragraph(f"At most {limits.get('max_length')} tokens an example; longer ones: {limits.get('overflow')}.")
        )
    return Section("Data", blocks)


def recipe(facts: Facts) -> Section:
    """What was chosen, what followed from it, and what changed on the way."""
    chosen = [
        [name, _spelt(value)]
        for name, value in flatten(facts.document.get("recipe") or {})
        if value not in (None, [], {}) and not name.endswith("kind") and name != "name"
    ]
    blocks: list[Block] = [Code("\n".join(facts.plan))] if facts.plan else []
    if chosen:
        blocks.append(Folded(f"{len(chosen)} settings", [Table(["setting", "value"], chosen)]))
    history = [
        [f"{int(entry['from_step']) + 1:,}", str(field), _spelt(old), _spelt(new)]
        for entry in facts.document.get("history") or ()
        for field, old, new in entry["changes"]
    ]
    if history:
        blocks.append(Table(["from step", "setting", "before", "after"], history, caption="Changed during training"))
    return Section("Recipe and plan", blocks)


def environment(facts: Facts) -> Section:
    """Attempts, versions, fingerprints."""
    rows = [
        [str(attempt), _date(found.get("started")), _spent(found), f"{found.get('world_size', '')} x {found.get('device', '')}",
         str(found.get("exit") or facts.state)]
        for attempt, found in facts.attempts.items()
    ]  # fmt: skip
    blocks: list[Block] = [Table(["attempt", "started (UTC)", "took", "ranks", "ended"], rows)] if rows else []
    newest = facts.attempts[max(facts.attempts)] if facts.attempts else {}
    versions = [[name, str(version)] for name, version in (newest.get("versions") or {}).items()]
    if newest.get("git_commit"):
        versions.append(["commit", f"{newest['git_commit']}{' with changes' if newest.get('git_dirty') else ''}"])
    prints = [[name, str(value)] for name, value in (facts.document.get("fingerprints") or {}).items()]
    prints += [["run", str(facts.document.get("uid", ""))]]
    if facts.document.get("model_revision"):
        prints.append(["model revision", str(facts.document["model_revision"])])
    if versions:
        blocks.append(Folded("Versions", [Table(["", "version"], versions)]))
    blocks.append(Folded("Fingerprints (sha256 of what was read)", [Table(["of", "value"], prints)]))
    if verified := facts.result.get("verified"):
        blocks.append(
            Paragraph(
                f"The package was loaded in a fresh process and gave the same answers to {verified['n']} recorded requests "
                f"(largest difference {verified['max_abs_diff']:.1e})."
            )
        )
    return Section("Environment", blocks)


def reproduce(facts: Facts) -> Section:
    """The commands that made the run."""
    commands = [str(facts.document["command"])] if facts.document.get("command") else []
    commands += [str(entry["command"]) for entry in facts.document.get("history") or () if entry.get("command")]
    return Section("How to reproduce", [Code(adapt_message("\n".join(commands)))] if commands else [])


def _spelt(value: Any) -> str:
    """A setting for people: parts by their kind, lists by their members."""
    if isinstance(value, Mapping):
        options = ", ".join(f"{name}={part}" for name, part in value.items() if name != "kind" and part is not None)
        return f"{value.get('kind', '')}({options})"
    if isinstance(value, Sequence) and not isinstance(value, str):
        return ", ".join(map(_spelt, value))
    return str(value)


def _date(seconds: Any) -> str:
    return time.strftime("%Y-%m-%d %H:%M", time.gmtime(seconds)) if isinstance(seconds, int | float) else ""


def _spent(found: Mapping[str, Any]) -> str:
    begun, ended = found.get("started"), found.get("ended")
    return f"{ended - begun:,.0f} s" if isinstance(begun, int | float) and isinstance(ended, int | float) else ""
