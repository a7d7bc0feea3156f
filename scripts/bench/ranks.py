"""B11: two ranks of one core each against one rank on one core, compared with the HF Trainer.

    python scripts/bench/ranks.py --data-dir ../shared/data

MiniLM on SST-2 sentences. Efficiency is real tokens a second of two ranks over twice those of one rank with 32 examples
a step; each rank has one thread, and the single rank is pinned to one core. Two ranks run *the same step*, 16 examples
each, and *twice the step*, 32 each like the single rank (as the Trainer does, whose batch size is per device). *Apart*:
two one-core trainings at the same time without communication, over twice one alone: the limit of two cores of this
machine, which share memory, caches and clock. The Trainer runs with defaults and with length grouping, under
`accelerate launch` like this project.
"""

from __future__ import annotations

import os
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))

from processes import BENCH, OURS, last_json, run_process, timed_steps, train_side
from public_data import Row
from results import Runs, Spread, Table, compare, make_parser, names_of, parse, ratio, spread
from workloads import Workload, make_workload, scratch, text_lengths

SIDES = ("ours", "ours-fp32", "trainer", "tuned")
LAUNCH = (
    "accelerate.commands.launch", "--multi_gpu", "--num_processes", "2", "--num_machines", "1",
    "--mixed_precision", "no", "--dynamo_backend", "no", "--main_process_port", "0",
)  # fmt: skip
"""Two processes on a CPU: with ``--cpu``, accelerate starts a single one without an MPI launcher."""

HOW = {"efficiency, the same step": "2", "efficiency, twice the step": "2x", "apart": "apart"}
"""What is compared with one rank -> the end of a side's name."""


def summary(runs: Runs) -> tuple[dict[str, Spread | None], list[Table]]:
    ratios: dict[str, Spread | None] = {}
    rows = []
    sides = runs["sst2"]
    for side in SIDES:
        if not sides.get(f"{side}-1"):
            continue
        one = spread([row["tokens_per_second"] for row in sides[f"{side}-1"]])
        cells = [side, one.text(",.0f")]
        for name, how in HOW.items():
            half = ratio(sides, f"{side}-{how}", f"{side}-1", "tokens_per_second")
            found = spread([value / 2 for value in half.each]) if half else None
            ratios[f"{side}: {name}"] = found
            cells.append(found.text() if found else "-")
        rows.append(tuple(cells))
    header = ("side", "one rank, tokens/s", *HOW)
    same = {row["examples"] for name, rows_ in sides.items() if name.endswith(("-1", "-2")) for row in rows_}
    assert len(same) <= 1, f"the sides saw different numbers of examples: {same}"
    caption = "".join(f"{examples:,} examples, each side (twice the step: twice as many)" for examples in same)
    return ratios, [Table(caption, header, rows)]


def main(argv: list[str] | None = None) -> None:
    parser = make_parser(__doc__, out="speed-ranks.json")
    parser.add_argument("--sides", default=",".join(SIDES), help=f"among {', '.join(SIDES)}")
    parser.add_argument("--steps", type=int, default=25)
    options = parse(parser, argv)
    chosen = names_of(options.sides, SIDES, parser)
    steps = 6 if options.smoke else options.steps
    cores = sorted(os.sched_getaffinity(0))[:2]
    if len(cores) < 2:
        sys.exit("ranks.py: expected two cores, found one: two ranks of one core each need two.")

    with scratch() as place:
        workload = make_workload("sst2", options, place / "sst2", score_rows=64)
        double = make_workload("sst2", options, place / "double", score_rows=64, steps_larger=2)
        lengths = text_lengths(workload)

        def one(side: str, core: int) -> Row:
            return train_side(side, workload, lengths, steps=steps, cores=[core])

        def two(side: str, workload: Workload) -> Row:
            extra = {"ACCELERATE_USE_CPU": "true", "OMP_NUM_THREADS": "1"}
            if side.startswith("ours"):
                return timed_steps(workload, lengths, *OURS[side], steps=steps, launch=LAUNCH, cores=cores, **extra)
            command = [
                sys.executable, "-m", *LAUNCH, str(BENCH / "peer.py"), "train", "--folder", str(workload.folder),
                "--way", side, "--steps", str(steps), "--warmup", "4",
            ]  # fmt: skip
            return last_json(run_process(command, folder=workload.folder, cores=cores, **extra))

        def measure(case: str, name: str) -> Row:
            side, how = name.rsplit("-", 1)
            if how == "apart":
                with ThreadPoolExecutor() as pool:
                    both = list(pool.map(lambda core: one(side, core), cores))
                speed = sum(found["tokens"] / found["seconds"] for found in both)
                return {"tokens_per_second": speed, "examples": sum(found["examples"] for found in both)}
            found = one(side, cores[0]) if how == "1" else two(side, double if how == "2x" else workload)
            found.pop("lengths")
            found["tokens_per_second"] = found["tokens"] / found["seconds"]
            return found

        def names(case: str) -> list[str]:
            if options.smoke:  # the peer's efficiency is enough to try it
                return [f"{side}-2" for side in chosen] + [f"{side}-1" for side in chosen if side != "ours"]
            apart = ["ours-apart"] if "ours" in chosen else []
            return [f"{side}-{how}" for side in chosen for how in ("1", "2", "2x")] + apart

        compare(
            options, ["sst2"], names, measure, summary,
            benchmark="B11", title="two ranks", doc=__doc__, settings={"steps": steps},
        )  # fmt: skip


if __name__ == "__main__":
    main()
