"""An audit as a page: what was found, the worst first, with the rows that show it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from hf_trainpipe.audit.finding import Finding, Level
from hf_trainpipe.audit.shown import MARKS, recall, score_line, sentence
from hf_trainpipe.report.blocks import Block, Folded, Page, Paragraph, Quotes, Section, Table

if TYPE_CHECKING:
    from hf_trainpipe.audit.whole import Audit

_NUMBERS = (
    "exact", "same", "near", "near_pairs", "ceiling", "ceiling_same", "least_rmse", "accuracy", "precision", "planted", "found",
)  # fmt: skip

_LEVELS = {Level.WRONG: "wrong", Level.COSTS: "that cost part of a score", Level.LOOK: "worth a look"}


def page(found: Audit) -> Page:
    """The page."""
    corpus = found.corpus
    counts = {level: sum(finding.level == level for finding in found.findings) for level in MARKS}
    told = ", ".join(f"{count} {_LEVELS[level]}" for level, count in counts.items() if count) or "nothing found"
    read = ", ".join(column.name for column in corpus.task.inputs.values())
    target = corpus.task.target
    rows = [[split, f"{len(corpus.rows_of(split)):,}"] for split in corpus.names]
    columns = f"Read: {read}" + ("" if target is None else f"; to be learnt: {target.name}")
    return Page(
        title=f"Audit of {len(corpus):,} rows",
        badge="audited",
        lead=f"{told[0].upper()}{told[1:]}. "
        + (sentence(found.findings[0]) + "." if found.findings else "No row stands out."),
        notes=[
            *(Paragraph(f"Assumed: {line}.", "note") for line in found.assumed),
            *(Paragraph(f"Not looked at: {line}", "warning") for line in found.unchecked),
        ],
        sections=[
            Section("Findings", [_table(found.findings)] if found.findings else []),
            Section("Scores without leaked rows", [Paragraph(f"{score_line(score)}.") for score in found.scores]),
            Section("Rows", [block for finding in found.findings for block in _of(finding)]),
            Section("Data", [Table(("split", "rows"), rows), Paragraph(columns), Paragraph(f"Near: {recall(found)}.")]),
        ],
        foot="Written by hf-trainpipe audit. Levels: wrong (training refuses it, or a score says something else than it seems "
        "to), costs (part of a score), look (worth a look).",
    )


def _table(findings: Sequence[Finding]) -> Block:
    return Table(
        ("level", "split", "found", "what to do", "rows", "share"),
        [
            [MARKS[one.level], one.split, one.line, one.fix, f"{one.count:,}", f"{one.count / max(1, one.total):.1%}"]
            for one in findings
        ],
    )


def _of(finding: Finding) -> list[Block]:
    if not finding.rows:
        return []
    quotes = [(_told(row), str(row["text"])) for row in finding.rows]
    facts = [[name, f"{value:,}" if isinstance(value, int) else f"{value:.4f}"] for name, value in _numbers(finding)]
    blocks: list[Block] = [Quotes(quotes)]
    if facts:
        blocks.append(Table(("", "value"), facts))
    return [Folded(f"{finding.kind}, {sentence(finding)}", blocks)]


def _numbers(finding: Finding) -> list[tuple[str, float]]:
    return [(name, finding.facts[name]) for name in _NUMBERS if isinstance(finding.facts.get(name), int | float)]


def _told(row: dict[str, Any]) -> str:
    further = [f"{name} {value}" for name, value in row.items() if name not in ("split", "row", "place", "text")]
    return "; ".join([str(row["place"]), *further])
