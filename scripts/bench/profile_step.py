"""B1, where the time goes: a training step of MiniLM on SST-2 sentences, by kind of operation.

    python scripts/bench/profile_step.py --data-dir ../shared/data

torch's profiler over 20 steps of this project's loop, after five warm-up steps; milliseconds a step, summed over the
operations of a kind on the calling thread. The rest of the step is Python. Sides: `medium` and `fp32`
(`--optim.precision`).
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))

from processes import BENCH, last_json, run_process
from public_data import Row
from results import Runs, Spread, Table, compare, make_parser, parse, spread
from workloads import make_workload, open_workload, scratch

SIDES = ("medium", "fp32")
WARMUP, STEPS = 5, 20
KINDS = {
    "products of layers (linear)": ("aten::addmm", "aten::mm"),
    "products of attention": ("aten::bmm", "aten::baddbmm", "aten::baddbmm_", "aten::softmax", "aten::_softmax"),
    "AdamW and the norm": ("aten::_fused_adamw_", "aten::_foreach_norm", "aten::linalg_vector_norm"),
    "activation (GELU)": ("aten::gelu", "aten::gelu_backward"),
    "layer norm": ("aten::native_layer_norm", "aten::native_layer_norm_backward"),
    "gathers, copies, sums": (
        "aten::index_select", "aten::copy_", "aten::add", "aten::add_", "aten::sum", "aten::mul", "aten::mul_",
        "aten::ge", "aten::embedding_dense_backward", "aten::index_copy_", "aten::index_fill_", "aten::fill_",
    ),
}  # fmt: skip


def kind_of(name: str) -> str:
    for kind, names in KINDS.items():
        if name in names:
            return kind
    return "products of attention" if "softmax" in name else "other operations"


def profiled(folder: Path, precision: str, *, steps: int) -> Row:
    """Milliseconds a step by kind, of a training in this process."""
    from torch.profiler import ProfilerActivity, profile

    from hf_trainpipe import replace
    from hf_trainpipe.recipe_file import load
    from hf_trainpipe.training.loop import train
    from hf_trainpipe.training.options import RunOptions
    from hf_trainpipe.training.run import Run
    from hf_trainpipe.training.setup import set_up

    workload = open_workload(folder)
    recipe, _ = load(str(workload.folder / "recipe.py"))
    recipe = replace(recipe, optim=replace(recipe.optim, precision=precision))
    with set_up(recipe, RunOptions(resume="never"), run_dir=folder / "run") as ready:
        taken = train(Run(ready))
        for _ in range(WARMUP):
            next(taken)
        started = time.perf_counter()
        with profile(activities=[ProfilerActivity.CPU]) as found:
            for _ in range(steps):
                next(taken)
            seconds = time.perf_counter() - started
    spent: dict[str, float] = dict.fromkeys([*KINDS, "other operations"], 0.0)
    for event in found.key_averages():
        spent[kind_of(event.key)] += event.self_cpu_time_total / 1e3 / steps
    whole = 1e3 * seconds / steps
    return {"examples": steps * workload.examples_per_step, "step_ms": whole, "kinds_ms": spent}


def summary(runs: Runs) -> tuple[dict[str, Spread | None], list[Table]]:
    ratios: dict[str, Spread | None] = {}
    rows = []
    sides = runs["sst2"]
    for kind in [*KINDS, "other operations", "the step"]:
        cells = [kind]
        for side in SIDES:
            found = sides[side]
            each = [one["step_ms"] if kind == "the step" else one["kinds_ms"][kind] for one in found]
            share = spread([ms / one["step_ms"] for ms, one in zip(each, found, strict=True)])
            ratios[f"{side}: {kind} / the step"] = share
            cells.append(f"{spread(each).text('.1f')}, {100 * share.median:.0f} %")
        rows.append(tuple(cells))
    return ratios, [Table("", ("kind", *(f"{side}, ms a step" for side in SIDES)), rows)]


def main(argv: list[str] | None = None) -> None:
    parser = make_parser(__doc__, out="speed-profile.json", repeats=3)
    parser.add_argument("--profile", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--precision", help=argparse.SUPPRESS)
    options = parser.parse_args(argv)
    steps = 3 if options.smoke else STEPS
    if options.profile:
        print(json.dumps(profiled(options.profile, options.precision, steps=steps)))
        return
    options = parse(parser, argv)
    with scratch() as place:
        workload = make_workload("sst2", options, place / "sst2", score_rows=64)

        def measure(case: str, side: str) -> Row:
            command = [sys.executable, str(BENCH / "profile_step.py"), "--profile", str(workload.folder)]
            command += ["--precision", side] + ["--smoke"] * options.smoke
            return last_json(run_process(command, folder=workload.folder))

        compare(
            options, ["sst2"], lambda case: SIDES, measure, summary,
            benchmark="B1", title="where the time of a step goes", doc=__doc__, settings={"steps": steps},
        )  # fmt: skip


if __name__ == "__main__":
    main()
