"""B1: real tokens a second when fine-tuning MiniLM on a CPU, compared with the HF Trainer.

    python scripts/bench/step.py --data-dir ../shared/data
    python scripts/bench/step.py --data-dir ../shared/data --cases sst2 --sides ours,trainer --repeats 1
    python scripts/bench/step.py --data-dir ../shared/data --add     # five more repeats on top of those there

Each side trains 50 optimizer steps of 32 randomly drawn examples in its own process, after a few warm-up steps. 50
steps are one round of the Trainer's length grouping. Only real tokens are counted, no padding; for this project they
are computed from the traced example ids, not from its own log. Sides: `ours` and `ours-fp32`
(`--optim.precision fp32`), `ours-compiled` (`--optim.compile true`, without the time of compiling), `trainer`
(defaults), `tuned` (length grouping, one thread per core), `tuned-bf16` (tuned with `bf16=True`), `run_glue` (all texts
padded to 128).

*Of the peak*: FLOPs of matrix products for the real tokens, sum of n (6 P + 12 L h n) with P parameters outside
embeddings, per second, relative to the fastest product of the model's sizes measured on this machine in each repeat.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent))

from processes import BENCH, WARMUP, last_json, run_process, train_side
from public_data import Row
from results import Runs, Spread, Table, compare, make_parser, names_of, parse, ratio, spread
from workloads import make_workload, open_workload, scratch, text_lengths

CASES = ("sst2", "sst2-phrases", "ag_news")
SIDES = ("ours", "ours-fp32", "ours-compiled", "trainer", "tuned", "tuned-bf16", "run_glue")
STEPS = 50


def encoder_size(model: str) -> tuple[int, int, int]:
    """Parameters outside embeddings, layers, hidden size."""
    import torch
    from transformers import AutoConfig, AutoModelForSequenceClassification

    config = AutoConfig.from_pretrained(model)
    with torch.device("meta"):
        empty = AutoModelForSequenceClassification.from_config(config)
    tables = sum(m.weight.numel() for m in empty.modules() if isinstance(m, torch.nn.Embedding))
    total = sum(parameter.numel() for parameter in empty.parameters())
    return total - tables, int(config.num_hidden_layers), int(config.hidden_size)


def matrix_peak(model: str, *, smoke: bool) -> Row:
    """The fastest product of the model's own sizes, FLOP/s for fp32 and bf16: a process of its own."""
    import time

    import torch
    from transformers import AutoConfig

    config = AutoConfig.from_pretrained(model)
    hidden, inner = int(config.hidden_size), int(config.intermediate_size)
    peaks: Row = {}
    for name, dtype in (("fp32", torch.float32), ("bf16", torch.bfloat16)):
        best, where = 0.0, ""
        for rows in (64,) if smoke else (256, 768, 2048):
            for a, b in ((hidden, hidden), (hidden, inner), (inner, hidden)):
                left, right = torch.randn(rows, a).to(dtype), torch.randn(b, a).to(dtype)
                flops = 2.0 * rows * a * b
                calls = 2 if smoke else max(5, int(4e9 / flops))
                for _ in range(5):
                    started = time.perf_counter()
                    for _ in range(calls):
                        torch.nn.functional.linear(left, right)
                    speed = flops * calls / (time.perf_counter() - started)
                    if speed > best:
                        best, where = speed, f"[{rows}, {a}] x [{a}, {b}]"
        peaks[name] = {"flops": best, "size": where}
    peaks["threads"] = torch.get_num_threads()
    return peaks


def train_flops(lengths: list[int], size: tuple[int, int, int]) -> float:
    parameters, layers, hidden = size
    return float(sum(n * (6.0 * parameters + 12.0 * layers * hidden * n) for n in lengths))


def summary(runs: Runs) -> tuple[dict[str, Spread | None], list[Table]]:
    ratios: dict[str, Spread | None] = {}
    tables = []
    for case, sides in runs.items():
        rows = []
        for side, found in sides.items():
            if side == "peak" or not found:
                continue
            peaks = sides.get("peak", [])
            shares = {
                kind: spread([one["flops_per_second"] / peak[kind]["flops"]
                              for one, peak in zip(found, peaks, strict=False)]) if peaks else None
                for kind in ("fp32", "bf16")
            }  # fmt: skip
            mine = "ours-fp32" if side == "ours-fp32" else "ours"
            against = ratio(sides, mine, side, "tokens_per_second")
            with_fp32 = ratio(sides, "ours-fp32", side, "tokens_per_second")
            ratios[f"{case}: {mine} / {side}"] = against
            if mine == "ours" and side != "ours":
                ratios[f"{case}: ours-fp32 / {side}"] = with_fp32
            for kind, share in shares.items():
                ratios[f"{case}: {side} / {kind} peak"] = share
            padded = [one["computed"] / one["tokens"] for one in found if one["computed"]]
            rows.append(
                (
                    side,
                    spread([one["tokens_per_second"] for one in found]).text(",.0f"),
                    against.text() if against else "-",
                    with_fp32.text() if with_fp32 else "-",
                    *(f"{100 * share.median:.0f} %" if share else "-" for share in shares.values()),
                    f"{spread(padded).median:.2f}" if padded else "not said",
                )
            )
        header = ("side", "real tokens/s", "ours / it", "ours-fp32 / it", "of fp32 peak", "of bf16 peak", "padding")
        caption = f"{case}: {counted(sides)}"
        if peaks := sides.get("peak"):
            caption += "; measured peak " + ", ".join(
                f"{kind} {spread([peak[kind]['flops'] / 1e9 for peak in peaks]).text('.0f')} GFLOP/s"
                for kind in ("fp32", "bf16")
            )
        tables.append(Table(caption, header, rows))
    return ratios, tables


def counted(sides: dict[str, list[Row]]) -> str:
    """How many examples and steps each side was measured over: the same for all."""
    found = {(one["examples"], one["steps"]) for name, rows in sides.items() if name != "peak" for one in rows}
    assert len(found) <= 1, f"the sides saw different numbers of examples: {found}"
    return "".join(f"{examples:,} examples in {steps} steps, each side" for examples, steps in found)


def main(argv: list[str] | None = None) -> None:
    parser = make_parser(__doc__, out="speed-step.json")
    parser.add_argument("--cases", default=",".join(CASES), help=f"among {', '.join(CASES)}")
    parser.add_argument("--sides", help=f"among {', '.join(SIDES)}; default: all, run_glue on the first case only")
    parser.add_argument("--steps", type=int, default=STEPS)
    parser.add_argument("--peak", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args(argv)
    if options.peak:
        print(json.dumps(matrix_peak(open_workload(options.peak).model, smoke=options.smoke)))
        return
    options = parse(parser, argv)
    cases = names_of(options.cases, CASES, parser)[: 1 if options.quick else None]
    chosen = names_of(options.sides, SIDES, parser) if options.sides else None
    steps = 6 if options.smoke else options.steps

    def sides(case: str) -> list[str]:
        usual = [side for side in SIDES if side != "run_glue" or case == "sst2"]
        return ["peak", *(chosen or usual)]

    with scratch() as place:
        workloads = {case: make_workload(case, options, place / case, score_rows=64) for case in cases}
        lengths = {case: text_lengths(workload) for case, workload in workloads.items()}
        sizes: dict[str, Any] = {case: encoder_size(workload.model) for case, workload in workloads.items()}

        def measure(case: str, side: str) -> Row:
            workload = workloads[case]
            if side == "peak":
                command = [sys.executable, str(BENCH / "step.py"), "--peak", str(workload.folder)]
                return last_json(run_process(command + ["--smoke"] * options.smoke, folder=workload.folder))
            found = train_side(side, workload, lengths[case], steps=steps)
            kept = found.pop("lengths")
            found["flops_per_second"] = train_flops(kept, sizes[case]) / found["seconds"]
            return found

        compare(
            options, cases, sides, measure, summary,
            benchmark="B1", title="a training step on a CPU", doc=__doc__, settings={"steps": steps, "warmup": WARMUP, "sizes": sizes},
        )  # fmt: skip


if __name__ == "__main__":
    main()
