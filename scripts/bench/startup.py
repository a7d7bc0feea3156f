"""B8: seconds of `--help`, and from the start of the process to the end of the first optimizer step.

    python scripts/bench/startup.py --data-dir ../shared/data

The first step of MiniLM on 6,920 SST-2 sentences, 32 examples, compared with `glue_like.py`, a script modelled on
transformers' run_glue.py, over the same files: with `python`, and with `accelerate launch`. *Cold*: without token files
of an earlier run (`datasets`' cache, this project's token cache); *warm*: with them. Python, the packages and the model
are in the system's file cache in both cases. This project's step ends when its ledger has it, the Trainer's in
`on_step_end`.

`--help` is compared with `python -c pass` (the minimum) and `python -c "import torch"`.
"""

from __future__ import annotations

import shutil
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))

from processes import BENCH, ledger_of, run_process, series, train_steps
from public_data import Row
from results import Runs, Spread, Table, compare, make_parser, parse, ratio, spread
from workloads import make_workload, scratch

HELPS = {
    "ours": ["-m", "hf_trainpipe", "--help"],
    "nothing": ["-c", "pass"],
    "torch": ["-c", "import torch"],
}
LAUNCH = (
    "accelerate.commands.launch", "--cpu", "--num_processes", "1", "--num_machines", "1",
    "--mixed_precision", "no", "--dynamo_backend", "no",
)  # fmt: skip
STARTS = ("ours", "run_glue", "ours-launched", "run_glue-launched")


def summary(runs: Runs) -> tuple[dict[str, Spread | None], list[Table]]:
    ratios: dict[str, Spread | None] = {}
    helps = runs.get("help", {})
    rows = [(side, spread([one["seconds"] for one in found]).text(".3f")) for side, found in helps.items()]
    ratios["help: seconds"] = spread([one["seconds"] for one in helps["ours"]])
    tables = [Table("", ("process", "seconds"), rows)]
    for case in ("cold", "warm"):
        sides = runs.get(case, {})
        rows = []
        for side, found in sides.items():
            mine = "ours-launched" if side.endswith("launched") else "ours"
            against = ratio(sides, side, mine, "seconds")
            ratios[f"{case}: {side} / {mine}"] = against
            rows.append((side, spread([one["seconds"] for one in found]).text(), against.text() if against else "-"))
        tables.append(Table(f"To the first step, {case}", ("side", "seconds", "it / ours"), rows))
    examples = {one["examples"] for case in ("cold", "warm") for found in runs.get(case, {}).values() for one in found}
    assert len(examples) <= 1, f"the sides saw different numbers of examples: {examples}"
    return ratios, tables


def main(argv: list[str] | None = None) -> None:
    parser = make_parser(__doc__, out="speed-startup.json")
    options = parse(parser, argv)
    helps, starts = (list(HELPS)[:2], STARTS[:2]) if options.smoke else (list(HELPS), STARTS)
    # a smoke run starts once, over caches that are empty
    cases = ["help", "warm"] if options.smoke else ["help", "cold", "warm"]
    with scratch() as place:
        workload = make_workload("sst2", options, place / "sst2", score_rows=64)

        def first_step(side: str, caches: Path) -> float:
            """Seconds to the end of the first step; the process itself is let finish."""
            extra = {"HF_DATASETS_CACHE": str(caches / "datasets"), "HF_TRAINPIPE_CACHE": str(caches / "ours")}
            launch = LAUNCH if side.endswith("launched") else ()
            with scratch() as folder:
                started = time.time()
                if side.startswith("ours"):
                    train_steps(workload, folder / "run", "--budget.log-every", "1", steps=1, launch=launch, **extra)
                    return float(series(ledger_of(folder / "run"), "train/lr")[0]["time"]) - started
                script = [str(BENCH / "glue_like.py"), str(workload.folder)]
                command = [sys.executable, *(["-m", *launch] if launch else []), *script]
                output = run_process(command, folder=folder, **extra)
            lines = [line for line in output.splitlines() if line.startswith('{"first_step"')]
            return float(lines[0].split(":")[1].strip(" }")) - started

        def measure(case: str, side: str) -> Row:
            if case == "help":
                started = time.perf_counter()
                run_process([sys.executable, *HELPS[side]], folder=place)
                return {"seconds": time.perf_counter() - started}
            caches = place / f"caches-{side}"
            if case == "cold":  # the warm start after it finds what it leaves
                shutil.rmtree(caches, ignore_errors=True)
            return {"seconds": first_step(side, caches), "examples": workload.examples_per_step}

        compare(
            options, cases, lambda case: helps if case == "help" else starts, measure, summary,
            benchmark="B8", title="start-up", doc=__doc__, settings={},
        )  # fmt: skip


if __name__ == "__main__":
    main()
