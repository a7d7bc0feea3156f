"""``scripts/faults``: run rows of the fault matrix, random kills, or kills of every task; print and write the results."""

from __future__ import annotations

import argparse
import json
import signal
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from . import report
from .kills import campaign
from .lab import Lab
from .row import Outcome, Row
from .rows import ROWS
from .tasks import Forms, all_forms, line


def main(arguments: Sequence[str]) -> int:
    """Exit 0: all rows pass, or all kills and all tasks end bit-identical; 1: not; 2: a wrong option."""
    options = parser().parse_args(arguments)
    if options.list:
        signal.signal(signal.SIGPIPE, signal.SIG_DFL)  # a reader may have seen enough: --list | head
        print("\n".join(report.listed(row) for row in ROWS))
        return 0
    rows = ROWS if options.all else [row for row in ROWS if row.number in options.rows]
    if not rows and not options.kills and not options.tasks:
        parser().error("choose --all, --rows, --kills, --tasks or --list")
    with tempfile.TemporaryDirectory(prefix="faults-") as folder:
        if options.tasks:
            return tasks(Path(folder), options)
        lab = Lab(Path(folder) / "lab")
        return kills(lab, options, arguments) if options.kills else matrix(lab, rows, options, arguments)


def parser() -> argparse.ArgumentParser:
    """The options."""
    made = argparse.ArgumentParser(prog="scripts/faults", description=__doc__)
    made.add_argument("--list", action="store_true", help="list the rows without running them")
    made.add_argument("--all", action="store_true", help="run every row")
    made.add_argument("--rows", type=numbers, default=frozenset(), metavar="4,15,22-23")
    made.add_argument("--kills", type=int, default=0, metavar="N", help="kill -9 at N random instants")
    made.add_argument(
        "--tasks",
        action="store_true",
        help="kill -9 each form of each task after three random steps; with --json, those that the file lacks",
    )
    made.add_argument("--seed", type=int, default=1, help="seed of the random instants and steps")
    made.add_argument("--json", type=Path, metavar="FILE")
    made.add_argument(
        "--report", action="store_true", help="write docs/results/faults.md, faults-kills.md or faults-tasks.md"
    )
    return made


def numbers(text: str) -> frozenset[int]:
    """``4,15,22-23`` as a set."""
    found: set[int] = set()
    for part in text.split(","):
        first, _, last = part.partition("-")
        found.update(range(int(first), int(last or first) + 1))
    if unknown := found - {row.number for row in ROWS}:
        raise argparse.ArgumentTypeError(f"no such rows: {sorted(unknown)}")
    return frozenset(found)


def matrix(lab: Lab, rows: Sequence[Row], options: argparse.Namespace, arguments: Sequence[str]) -> int:
    """Run rows; a row that raises fails, and the next one runs."""
    outcomes = []
    for row in rows:
        outcome = attempt(lab, row)
        outcomes.append(outcome)
        print(report.line(outcome), flush=True)
    passed = sum(outcome.passed for outcome in outcomes)
    print(f"{passed} of {len(outcomes)} rows pass ({sum(one.seconds for one in outcomes):.0f} s)")
    if options.json:
        report.write_json(options.json, [report.to_json(outcome) for outcome in outcomes])
    if options.report:
        print(report.page(outcomes, arguments))
    return 0 if passed == len(outcomes) else 1


def attempt(lab: Lab, row: Row) -> Outcome:
    """One row."""
    started = time.monotonic()
    try:
        passed, seen = True, row.check(lab)
    except Exception as error:  # any error is the result of the row
        passed, seen = False, f"{type(error).__name__}: {error}"
    return Outcome(row, passed, seen, time.monotonic() - started)


def kills(lab: Lab, options: argparse.Namespace, arguments: Sequence[str]) -> int:
    """Run the random kills."""
    result = campaign(lab, kills=options.kills, seed=options.seed, say=lambda line: print(line, flush=True))
    print(f"{result.line} ({result.seconds:.0f} s)")
    for kill in result.kills:
        if kill.outcome != "identical":
            print(f"{kill.outcome}: {kill.ranks} rank(s), in {kill.landed}: {kill.note}")
    if options.json:
        report.write_json(options.json, result.to_json())
    if options.report:
        print(report.kills_page(result, arguments))
    return 0 if result.count("identical") == len(result.kills) else 1


def tasks(folder: Path, options: argparse.Namespace) -> int:
    """Run every form of every task; with ``--json FILE`` those that FILE lacks."""
    result = Forms(options.seed)
    if options.json and options.json.exists():
        result = Forms.of_json(json.loads(options.json.read_text()))

    def finished(found: Forms) -> None:
        print(line(found.forms[-1]), flush=True)
        if options.json:
            report.write_json(options.json, found.to_json())

    all_forms(folder, result, finished=finished)
    print(f"{result.line} ({result.seconds:.0f} s)")
    if options.report:
        print(report.tasks_page(result, ["--tasks", "--seed", str(result.seed), "--report"]))
    return 0 if result.identical == len(result.forms) else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
