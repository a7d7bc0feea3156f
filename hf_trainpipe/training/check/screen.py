"""What a check found, on one screen."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping
from typing import Any

from hf_trainpipe.report.forecast import TITLES, spelt
from hf_trainpipe.training.check.found import Found
from hf_trainpipe.utils.tables import facts, terminal_width

PARTS = {
    "start": "until the first step",
    "steps": "steps",
    "evaluations": "evaluations",
    "checkpoints": "checkpoints",
    "export": "scores, package and its verification",
}
_SEEN = ("data", "model", "steps", "handler", "step", "evaluation", "checkpoint", "package", "hub", "trackers")
"""What was found in order, in the order of a run."""
_MOST_WARNINGS = 8


def screen(found: Found, *, name: str, next_command: str) -> str:
    """All of it as text.

    Args:
        name: The recipe's.
        next_command: What to run if nothing is in the way.
    """
    count = len(found.problems)
    lines = [
        f"{name}: {count} problem{'s' if count > 1 else ''}"
        if count
        else f"{name}: nothing stands in the way of training"
    ]
    for number, problem in enumerate(found.problems, 1):
        lines += ["", f"{number}  {problem.what}", *_indented(problem.message), *_indented(problem.fix, first="fix: ")]
    if found.seen:
        lines += [
            "",
            "checked",
            *(
                f"  {line}"
                for line in facts(
                    [(name, found.seen[name]) for name in _SEEN if name in found.seen], width=terminal_width() - 2
                ).splitlines()
            ),
        ]
    if found.warnings:
        lines += ["", "warnings"]
        for warning in found.warnings[:_MOST_WARNINGS]:
            lines += _indented(warning, indent="  ")
        if (more := len(found.warnings) - _MOST_WARNINGS) > 0:
            lines.append(f"  and {more} more; `train` tells them")
    if found.forecast is not None:
        lines += ["", *_forecast(found.forecast, found.disk)]
    if not count:
        lines += ["", f"next  {next_command}"]
    return "\n".join(lines)


def _forecast(told: Mapping[str, Any], disk: Mapping[str, int]) -> list[str]:
    learned = told["learned_from"]
    past = (
        f"corrected by {learned} earlier run{'s' if learned > 1 else ''} here"
        if learned
        else "no earlier runs here to learn from"
    )
    rows: list[tuple[str, object]] = []
    for name, title in TITLES.items():
        if (guess := told["forecast"].get(name)) is not None:
            line = f"{spelt(name, guess['value'])}  [{spelt(name, guess['low'])}, {spelt(name, guess['high'])}]"
            if name == "disk_bytes" and disk:
                most = f"; at most {spelt(name, disk['most'])} while it trains"
                line += most + (f", of {spelt(name, disk['free'])} free" if "free" in disk else "")
            rows.append((title, line))
    if "cost" in told:
        cost = told["cost"]
        rows.append(
            (
                "money",
                f"{cost['value']:,.2f}  [{cost['low']:,.2f}, {cost['high']:,.2f}] at {told['cost_per_hour']:g} an hour",
            )
        )
    lines = [f"forecast, with intervals that hold in 9 of 10 cases ({past})"]
    lines += [f"  {line}" for line in facts(rows, width=terminal_width() - 2).splitlines()]
    parts = [f"{PARTS[name]} {spelt('seconds', value)}" for name, value in told["parts"].items() if value >= 0.05]
    return [*lines, *_indented("time as measured: " + ", ".join(parts), indent="  ")]


def _indented(text: str, *, indent: str = "   ", first: str = "") -> list[str]:
    room, lines = terminal_width() - len(indent), []
    for number, line in enumerate(text.splitlines()):
        begin = first if number == 0 else " " * len(first)
        lines += textwrap.wrap(begin + line, room, break_long_words=False, break_on_hyphens=False) or [""]
    return [f"{indent}{line}" for line in lines]
