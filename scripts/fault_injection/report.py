"""Results as lines, JSON and pages in docs/results."""

from __future__ import annotations

import json
import platform
import shlex
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

from .kills import Campaign
from .lab import ROOT
from .row import Outcome, Row
from .tasks import KILLS, SAVE_EVERY, STEPS, Forms

PAGES = ROOT / "docs/results"


def line(outcome: Outcome) -> str:
    """An outcome as one line."""
    row, verdict = outcome.row, "PASS" if outcome.passed else "FAIL"
    parts = (f"{row.number:2}", row.fault, row.how, row.expected, outcome.seen, f"{verdict} {outcome.seconds:.0f} s")
    return " | ".join(" ".join(part.split()) for part in parts)


def listed(row: Row) -> str:
    """A row as one line, before it runs."""
    return f"{row.number:2} | {row.fault} | {row.how} | {row.expected}"


def to_json(outcome: Outcome) -> dict[str, Any]:
    """An outcome as JSON."""
    row = outcome.row
    return {
        "row": row.number,
        "fault": row.fault,
        "how": row.how,
        "expected": row.expected,
        "seen": outcome.seen,
        "passed": outcome.passed,
        "seconds": round(outcome.seconds, 1),
    }


def write_json(path: Path, document: Any) -> None:
    """Write JSON."""
    path.write_text(json.dumps(document, indent=1, ensure_ascii=False) + "\n")


def _header(title: str, arguments: Sequence[str]) -> list[str]:
    versions = ", ".join(f"{name} {version(name)}" for name in ("torch", "transformers", "accelerate"))
    command = f"scripts/faults {shlex.join(arguments)}"
    return [f"# {title}", "", "```", command, "```", "", f"On {platform.machine()}, CPU, {versions}.", ""]


def page(outcomes: Sequence[Outcome], arguments: Sequence[str]) -> Path:
    """Write docs/results/faults.md."""
    passed = sum(outcome.passed for outcome in outcomes)
    lines = _header("Faults", arguments)
    lines += [f"{passed} of {len(outcomes)} rows pass.", ""]
    lines += ["| # | fault | how | must | seen | result | s |", "|---|---|---|---|---|---|---|"]
    for one in outcomes:
        cells = (str(one.row.number), one.row.fault, one.row.how, one.row.expected, one.seen)
        verdict = "pass" if one.passed else "**fail**"
        texts = (" ".join(cell.split()).replace("|", "\\|") for cell in cells)
        lines.append(f"| {' | '.join(texts)} | {verdict} | {one.seconds:.0f} |")
    return _write("faults.md", lines)


def kills_page(result: Campaign, arguments: Sequence[str]) -> Path:
    """Write docs/results/faults-kills.md."""
    lines = _header("Kills", arguments)
    lines += [f"{result.line}. {result.seconds:.0f} s.", ""]
    lines += ["kill -9 of every process of a run, then the same command. A run is killed up to ten times, then ends;"]
    lines += [
        "its weights, last checkpoint and ledger are compared with those of an uninterrupted run.",
        "",
    ]
    lines += [
        "| ranks | aimed at | landed in | kills | bit-identical | lost | needing manual work |",
        "|---|---|---|---|---|---|---|",
    ]
    for key in sorted({(kill.ranks, kill.aimed, kill.landed) for kill in result.kills}):
        those = [kill for kill in result.kills if (kill.ranks, kill.aimed, kill.landed) == key]
        counts = [sum(kill.outcome == name for kill in those) for name in ("identical", "lost", "manual")]
        lines.append(f"| {' | '.join(str(cell) for cell in (*key, len(those), *counts))} |")
    return _write("faults-kills.md", lines)


def tasks_page(result: Forms, arguments: Sequence[str]) -> Path:
    """Write docs/results/faults-tasks.md."""
    lines = _header("Kills of every task", arguments)
    lines += [f"{result.line}. {result.seconds:.0f} s.", ""]
    lines += [
        f"Each form of each task that tests/tasks/contract.py has is trained for {STEPS} steps on a tiny model, with a checkpoint every "
        f"{SAVE_EVERY} steps and two evaluations: once left alone, once killed (SIGKILL) after {KILLS} random steps and continued in a new "
        "process each time; with all weights trained, and with adapters (LoRA) and the head alone. The last checkpoint's weights and optimizer "
        "state are compared byte for byte, and all numbers of the ledger but speeds.",
        "",
        "| task | trained | killed after step | went on behind step | result |",
        "|---|---|---|---|---|",
    ]
    for form in result.forms:
        told = ", ".join(form.differing).replace("|", "\\|") or "bit-identical"
        steps = (", ".join(map(str, found)) for found in (form.kills, form.resumed))
        lines.append(f"| {form.name} | {form.trained} | {' | '.join(steps)} | {told} |")
    return _write("faults-tasks.md", lines)


def _write(name: str, lines: Sequence[str]) -> Path:
    path = PAGES / name
    path.write_text("\n".join(lines) + "\n")
    return path
