"""Scores by label, the confusion matrix and, where allowed, the worst errors in a model card."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from hf_trainpipe.metrics.score_details import describe_error
from hf_trainpipe.package.card_tables import table

LARGEST_MATRIX = 20
"""Most labels for which the confusion matrix is shown; above, the most confused pairs."""
ERRORS = 5


def breakdown(report: Mapping[str, Mapping[str, Any]]) -> str:
    """A subsection for each scored split."""
    return "\n\n".join(part for part in (_split(name, found) for name, found in report.items()) if part)


def _split(split: str, found: Mapping[str, Any]) -> str:
    parts = []
    if found["warnings"]:
        parts.append("\n".join(f"**{warning[:1].upper()}{warning[1:]}.**" for warning in found["warnings"]))
    if found["rows"]:
        rows = [
            (str(row["name"]), *(f"{row[rate]:.4f}" for rate in ("precision", "recall", "f1")), row["support"])
            for row in found["rows"]
        ]
        parts.append(table((found["by"], "precision", "recall", "f1", "support"), rows))
    if found["positive"]:
        parts.append(f"Scores named `precision`, `recall` and `f1` are those of the label `{found['positive']}`.")
    names, matrix = found["names"], found["confusion"]
    if matrix is not None and 1 < len(names) <= LARGEST_MATRIX:
        head = ("gold \\ predicted", *map(str, names))
        parts.append(table(head, [(str(name), *row) for name, row in zip(names, matrix, strict=True)]))
    elif found["confused"]:
        rows = [(str(gold), str(predicted), count) for gold, predicted, count in found["confused"][:10]]
        parts.append("Confused most:\n\n" + table(("gold", "predicted", "count"), rows))
    errors = [error for error in found["errors"] if error.get("text")][:ERRORS]
    if errors:
        parts.append("Worst errors:\n\n" + "\n".join(f"- {_described(e)}: {_quoted(e['text'])}" for e in errors))
    if samples := found.get("samples", [])[:ERRORS]:
        rows = [(_quoted(one["asked"]), _quoted(one["written"])) for one in samples]
        parts.append("Samples, each up to its first tokens:\n\n" + table(("asked", "written"), rows))
    return f"### {split}\n\n" + "\n\n".join(parts) if parts else ""


def _described(error: Mapping[str, Any]) -> str:
    """An error whose texts, if it has some, stay text."""
    if "written" in error:
        return f"{_quoted(error['written'])} where {_quoted(error['right'])} is right"
    return describe_error(error)


def _quoted(text: str) -> str:
    """A text as inline code, so that Markdown and HTML in it stay text."""
    short = " ".join(text.split())[:200].replace("`", "'")
    return f"`{short}`"
