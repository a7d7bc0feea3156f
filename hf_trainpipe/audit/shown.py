"""An audit on one screen."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from hf_trainpipe.audit.finding import Finding, Level
from hf_trainpipe.utils.tables import cut, facts

if TYPE_CHECKING:
    from hf_trainpipe.audit.whole import Audit

_MOST = 10
"""Findings on the screen."""
_TEXT = 60
MARKS = {Level.WRONG: "wrong", Level.COSTS: "costs", Level.LOOK: "look"}


def screen(found: Audit, *, most: int = _MOST, further: Sequence[tuple[str, str]] = ()) -> str:
    """What was found, the worst first, as much as fits on a screen; ``further`` stands below."""
    corpus = found.corpus
    sizes = ", ".join(f"{split} {len(corpus.rows_of(split)):,}" for split in corpus.names)
    target = corpus.task.target
    read = ", ".join(column.name for column in corpus.task.inputs.values())
    head = [
        ("data", f"{len(corpus):,} rows: {sizes}"),
        ("read", read if target is None else f"{read} -> {target.name}, as {type(corpus.task).__name__}"),
        *(("assumed", line) for line in found.assumed),
    ]
    lines = [facts(head), ""]
    if not found.findings:
        lines.append("Nothing found.")
    said: set[str] = set()
    for finding in found.findings[:most]:
        told = [(MARKS[finding.level], sentence(finding))]
        if finding.rows:
            first = finding.rows[0]
            told.append(("", f"such as {first['place']}: {cut(first['text'], _TEXT)!r}"))
        if finding.fix not in said:
            told.append(("", f"-> {finding.fix}"))
        said.add(finding.fix)
        lines.append(facts(told))
    if len(found.findings) > most:
        kinds = sorted({f"{finding.kind} in {finding.split}" for finding in found.findings[most:]})
        lines.append(facts([("more", f"{', '.join(kinds)}: --json or --html FILE")]))
    lines += [
        "",
        facts(
            [
                *(("scores", score_line(score)) for score in found.scores),
                *(("not looked at", line) for line in found.unchecked),
                ("near", recall(found)),
                *further,
            ]
        ),
    ]
    return "\n".join(lines)


def score_line(score: Mapping[str, Any]) -> str:
    """A score with and without leaked rows."""

    def told(found: Mapping[str, float]) -> str:
        return f"{found['value']:.4f} [{found['low']:.4f}, {found['high']:.4f}]"

    return (
        f"{score['split']} {score['metric']} {told(score['all'])}, without {score['leaked']:,} leaked rows "
        f"{told(score['without'])}: {score['of']}"
    )


def sentence(finding: Finding) -> str:
    """A finding with its split."""
    return f"{finding.split}: {finding.line}" if finding.split else finding.line


def recall(found: Audit) -> str:
    """How complete the near pairs are, and the number of clusters."""
    clusters = int(found.twins.component.max(initial=-1)) + 1
    told = "all pairs of texts that share 80% of their character 5-grams are found (recall 1)"
    if found.twins.skipped:
        told = f"not all near pairs are found: {found.twins.skipped:,} were not compared"
    return f"{told}; {clusters:,} clusters"
