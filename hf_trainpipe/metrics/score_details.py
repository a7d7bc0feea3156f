"""Details of a run's scores (:func:`hf_trainpipe.metrics.breakdown`), for the terminal."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from hf_trainpipe.utils.brief import listed
from hf_trainpipe.utils.tables import table, terminal_width

ROWS = 12
"""Labels that are shown; the worst, where there are more."""
MATRIX = 8
"""Most labels for which the confusion matrix is shown; above, the most confused pairs."""
PAIRS = 5
ERRORS = 5


def screen(split: str, found: Mapping[str, Any], *, width: int | None = None) -> list[str]:
    """Lines for a terminal: scores by label, the confusion matrix, the worst errors with their texts."""
    width = width or terminal_width()
    lines = [f"warning: {split}: {warning}" for warning in found["warnings"]]
    rows = found["rows"]
    if rows:
        shown = rows if len(rows) <= ROWS else sorted(rows, key=lambda row: (row["f1"], -row["support"]))[:ROWS]
        head = f"{split} by {found['by']}" + (f", the {ROWS} worst of {len(rows)}" if shown is not rows else "")
        positive = found["positive"]
        lines += [
            "",
            f"{head}; precision, recall and f1 without a suffix are those of {positive!r}" if positive else head,
        ]
        cells = [
            [str(row["name"]), *(f"{row[rate]:.3f}" for rate in ("precision", "recall", "f1")), f"{row['support']:,}"]
            for row in shown
        ]
        lines += _indented(table(["", "precision", "recall", "f1", "support"], cells, width=width - 2))
    lines += _confusion(found, width)
    if found["errors"]:
        lines += ["", f"worst errors of {split}; the rest is in result.json"]
        for error in found["errors"][:ERRORS]:
            text = " ".join(str(error.get("text", "")).split())
            lines += [_cut(f"  {error.get('place', '')}  {describe_error(error)}", width), _cut(f"    {text}", width)]
    return lines


def _confusion(found: Mapping[str, Any], width: int) -> list[str]:
    names, matrix = found["names"], found["confusion"]
    if matrix is not None and 1 < len(names) <= MATRIX:
        head = ["gold \\ predicted", *(str(name) for name in names)]
        cells = [[str(name), *map(str, row)] for name, row in zip(names, matrix, strict=True)]
        return ["", *_indented(table(head, cells, width=width - 2))]
    pairs = [
        f"{gold} predicted as {predicted}: {count:,} times" for gold, predicted, count in found["confused"][:PAIRS]
    ]
    return ["", "most confused", *(_cut(f"  {pair}", width) for pair in pairs)] if pairs else []


def describe_error(error: Mapping[str, Any]) -> str:
    """Gold and prediction of an error, in a few words."""

    def shown(value: Any) -> str:
        if isinstance(value, float):
            return f"{value:.3g}"
        return (", ".join(map(str, value)) or "nothing") if isinstance(value, list) else str(value)

    if "written" in error:
        return f"{error['written']!r:.60} where {error['right']!r:.60} is right"
    if "wrong" in error:
        return listed(error["wrong"], 3)
    if "missed" in error:
        said = [
            f"{what} {listed(error[name], 3)}"
            for what, name in (("missed", "missed"), ("found", "invented"))
            if error[name]
        ]
        return "; ".join(said)
    return f"{shown(error['gold'])} predicted as {shown(error['predicted'])}"


def _cut(line: str, width: int) -> str:
    return line if len(line) <= width else line[: width - 1] + "…"


def _indented(text: str) -> list[str]:
    return [f"  {line}" for line in text.splitlines()]
