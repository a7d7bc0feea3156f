"""B7: evaluation with metrics, compared with Trainer.evaluate: examples a second, and added memory.

    python scripts/bench/evaluate.py --data-dir ../shared/data
    python scripts/bench/evaluate.py --data-dir ../shared/data --repeats 3 --no-memory      # speed alone

MiniLM on SST-2 dev and test (2,693 sentences; accuracy and macro F1) and on WNUT-17 test (1,287 sentences; entity F1).
A split is evaluated several times in a process; the last evaluation counts, from its start to its scores. For this
project that is the time between two lines of the ledger: the last step and the scores. Sides: `ours` and `ours-fp32`
(`--optim.precision fp32`); `trainer` (defaults: batches of 8 in the order of the split); `tuned` (batches of 32, grouped
by length, one thread per core); `tuned-bf16` (tuned with `bf16=True`).

Memory: the rise of the process's resident memory since the start of the first evaluation, sampled 100 times a second
from outside; for the split, and for a split with the rows repeated. Both figures include imports of the first
evaluation, so their difference is what grows with the split.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent))

from processes import BENCH, OURS, last_json, ledger_of, run_process, series, train_command
from public_data import Row
from results import Runs, Spread, Table, compare, make_parser, names_of, parse, ratio, spread
from workloads import Workload, make_workload, scratch

CASES = ("sst2", "wnut17")
SIDES = ("ours", "ours-fp32", "trainer", "tuned", "tuned-bf16")
TIMES = 3
LARGER = 8


def resident(pid: int) -> int:
    """Bytes of resident memory of a process; 0 once it has ended."""
    try:
        return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * 4096
    except (OSError, IndexError, ValueError):
        return 0


def watched(command: list[str], folder: Path) -> tuple[str, list[tuple[float, int]]]:
    """Run a command; its standard output, and its resident memory over time (seconds since the epoch, bytes)."""
    samples: list[tuple[float, int]] = []
    out = run_process(command, folder=folder, watch=lambda pid: samples.append((time.time(), resident(pid))))
    return out, samples


def growth(samples: list[tuple[float, int]], start: float, end: float) -> float:
    """MB by which the memory rises above what it was at ``start``, until ``end``."""
    before = [size for when, size in samples if when <= start and size]
    within = [size for when, size in samples if start < when <= end and size]
    return max(0.0, (max(within, default=0) - before[-1]) / 1e6) if before and within else 0.0


def ours(workload: Workload, folder: Path, times: int, *arguments: str) -> Row:
    """``times`` steps of a single text, an evaluation after each of them."""
    run = folder / "run"
    command = train_command(
        workload, run, "--budget.max-steps", str(times), "--budget.evaluate-every", "1", "--budget.log-every", "1",
        "--budget.save-every", str(times), "--budget.examples-per-step", "1", "--optim.peak-lr", "1e-12", *arguments,
    )  # fmt: skip
    _, samples = watched(command, folder)
    ledger = ledger_of(run)
    starts, ends = series(ledger, "train/lr"), series(ledger, "validation/loss")
    spans = [(start["time"], end["time"]) for start, end in zip(starts, ends, strict=True)]
    result = json.loads((run / "result.json").read_text())
    examples = max(score["n"] for score in result["scores"]["validation"].values())
    return evaluated(samples, spans, examples)


def trainer(workload: Workload, folder: Path, times: int, way: str) -> Row:
    command = [sys.executable, str(BENCH / "peer.py"), "evaluate", "--folder", str(workload.folder), "--way", way]
    output, samples = watched([*command, "--times", str(times)], folder)
    found = last_json(output)
    return evaluated(samples, found["spans"], found["examples"])


def evaluated(samples: list[tuple[float, int]], spans: Any, examples: int) -> Row:
    (first, first_end), (last, last_end) = spans[0], spans[-1]
    return {
        "examples": examples,
        "seconds": last_end - last,
        "examples_per_second": examples / (last_end - last),
        "growth_mb": growth(samples, first, first_end),
    }


def summary(runs: Runs) -> tuple[dict[str, Spread | None], list[Table]]:
    ratios: dict[str, Spread | None] = {}
    tables = []
    for case, sides in runs.items():
        plain = {side: found for side, found in sides.items() if "x" not in side.split("-")[-1]}
        examples = {one["examples"] for found in plain.values() for one in found}
        assert len(examples) <= 1, f"the sides saw different numbers of examples: {examples}"
        rows = []
        for side, found in plain.items():
            cells = []
            for mine in ("ours", "ours-fp32"):
                against = ratio(sides, mine, side, "examples_per_second")
                ratios[f"{case}: {mine} / {side}"] = against
                cells.append(against.text() if against else "-")
            larger = sides.get(f"{side}-x{LARGER}", [])
            rows.append(
                (
                    side,
                    spread([one["examples_per_second"] for one in found]).text(",.0f"),
                    *cells,
                    spread([one["growth_mb"] for one in found]).text(".0f"),
                    spread([one["growth_mb"] for one in larger]).text(".0f") if larger else "-",
                )
            )
        header = (
            "side",
            "examples/s",
            "ours / it",
            "ours-fp32 / it",
            "memory, MB",
            f"memory at {LARGER} x the rows, MB",
        )
        tables.append(Table(f"{case}: {''.join(f'{n:,}' for n in examples)} examples, each side", header, rows))
    return ratios, tables


def main(argv: list[str] | None = None) -> None:
    parser = make_parser(__doc__, out="speed-evaluate.json")
    parser.add_argument("--cases", default=",".join(CASES), help=f"among {', '.join(CASES)}")
    parser.add_argument("--sides", default=",".join(SIDES), help=f"among {', '.join(SIDES)}")
    parser.add_argument("--no-memory", action="store_true", help="leave out the larger split")
    options = parse(parser, argv)
    cases = names_of(options.cases, CASES, parser)[: 1 if options.quick else None]
    chosen = names_of(options.sides, SIDES, parser)
    larger = [] if options.smoke or options.no_memory else [f"{side}-x{LARGER}" for side in chosen]
    with scratch() as place:
        workloads = {}
        for case in cases:
            workloads[case] = make_workload(case, options, place / case)
            rows = (place / case / "validation.jsonl").read_bytes().count(b"\n")
            if larger:
                workloads[f"{case}-x{LARGER}"] = make_workload(
                    case, options, place / f"{case}-large", score_rows=LARGER * rows
                )

        def measure(case: str, name: str) -> Row:
            side, _, _ = name.partition(f"-x{LARGER}")
            workload = workloads[case if name == side else f"{case}-x{LARGER}"]
            times = TIMES if name == side else 1  # memory is that of the first
            with scratch() as folder:
                if side.startswith("ours"):
                    return ours(workload, folder, times, *OURS[side])
                return trainer(workload, folder, times, side)

        compare(
            options, cases, lambda case: [*chosen, *larger], measure, summary,
            benchmark="B7", title="evaluation", doc=__doc__, settings={"times": TIMES, "larger": LARGER},
        )  # fmt: skip


if __name__ == "__main__":
    main()
