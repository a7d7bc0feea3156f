"""Run all speed benchmarks and write docs/results/speed.md from their JSON files.

    scripts/bench/all --data-dir ../shared/data
    scripts/bench/all --data-dir ../shared/data --quick --only step,padding
    scripts/bench/all --report-only

If a benchmark fails, the others still run, and it is named at the end; the page has all results that exist.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))

from processes import BENCH
from results import RESULTS, as_markdown

FILES = {
    "step": "speed-step.json",
    "profile_step": "speed-profile.json",
    "gpu": "speed-gpu.json",
    "gpu_predict": "speed-gpu-predict.json",
    "loop_overhead": "speed-loop.json",
    "padding": "speed-padding.json",
    "preprocess": "speed-preprocess.json",
    "evaluate": "speed-evaluate.json",
    "startup": "speed-startup.json",
    "ranks": "speed-ranks.json",
}
WITHOUT_DATA = ("loop_overhead", "gpu_predict")


def page(results: Path) -> str:
    """The page of all existing results, by number."""
    found = [json.loads((results / name).read_text()) for name in FILES.values() if (results / name).exists()]
    sections = [as_markdown(one) for one in sorted(found, key=lambda one: int(one["benchmark"].removeprefix("B")))]
    intro = (
        "# Speed\n\nCompared with the HF Trainer, with defaults and tuned, in interleaved runs: the median of the repeats, with "
        "minimum and maximum in brackets. Written by `scripts/bench/all` from the JSON files in this folder, which have "
        "every repeat. What limits the figures, and what was tried: [speed-limits.md](speed-limits.md).\n"
    )
    return "\n".join([intro, *sections])


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data-dir", type=Path)
    parser.add_argument("--only", default=",".join(FILES), help="benchmarks, separated by commas")
    parser.add_argument("--results", type=Path, default=RESULTS, help="the folder of JSON files and page")
    parser.add_argument("--repeats", type=int)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--smoke", action="store_true")
    parser.add_argument("--report-only", action="store_true", help="run nothing")
    options = parser.parse_args(argv)
    chosen = options.only.split(",")
    if unknown := [name for name in chosen if name not in FILES]:
        parser.error(f"--only: expected names among {', '.join(FILES)}, found {', '.join(unknown)}")
    if options.data_dir is None and not options.smoke and not options.report_only:
        parser.error("expected --data-dir (or --smoke, or --report-only)")
    failed = []
    for name in [] if options.report_only else chosen:
        command = [sys.executable, str(BENCH / f"{name}.py"), "--out", str(options.results / FILES[name])]
        command += ["--data-dir", str(options.data_dir)] if options.data_dir and name not in WITHOUT_DATA else []
        command += ["--repeats", str(options.repeats)] if options.repeats else []
        command += [f"--{flag}" for flag in ("quick", "smoke") if getattr(options, flag)]
        print(f"== {name}", file=sys.stderr, flush=True)
        if subprocess.run(command, check=False).returncode != 0:
            failed.append(name)
    options.results.mkdir(parents=True, exist_ok=True)
    (options.results / "speed.md").write_text(page(options.results), encoding="utf-8")
    for name in failed:
        print(f"failed: {name}", file=sys.stderr)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
