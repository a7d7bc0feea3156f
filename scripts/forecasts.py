"""Forecasts of six recipes beside the outcomes of their runs: ``check``, then ``train``, in real processes with short budgets.

    scripts/forecasts --data-dir ../shared/data --out FILE.jsonl [--steps 40] [--only sst2]     # continues behind the file
    scripts/forecasts --table FILE.jsonl

The cache lies beside the file, so that the first recipe of a kind has no past to learn from and later ones learn from it. Each line
has the load of the machine before the check and before the run: wall-clock time depends on it.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
RECIPES = {
    "sst2": "sst2",
    "banking77": "banking77",
    "stsb": "stsb",
    "sick": "sick",
    "wnut17": "wnut17",
    "quickstart": "",
}
"""Recipe to the folder of its data."""
ALLOWED = {"seconds": 0.15, "memory_bytes": 0.10, "disk_bytes": 0.02}


def measure(name: str, *, data: Path, cache: Path, steps: int) -> dict[str, Any]:
    """One check and the run after it."""
    folder = Path(tempfile.mkdtemp(prefix="forecasts-"))
    recipe = f"{ROOT / 'recipes' / name}.py" + (":files" if RECIPES[name] else "")
    chosen = [
        recipe,
        "--budget.max-steps",
        str(steps),
        "--budget.evaluate-every",
        str(steps // 2),
        "--run-dir",
        str(folder / "run"),
    ]
    if RECIPES[name]:
        chosen += ["--data.root", str((data / RECIPES[name]).resolve())]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "HF_TRAINPIPE_CACHE": str(cache), "HF_HUB_OFFLINE": "1"}
    try:
        load, began = os.getloadavg()[0], time.monotonic()
        told = json.loads(_run("check", *chosen, "--json", environment=environment))
        checked, load_of_run = time.monotonic() - began, os.getloadavg()[0]
        _run("train", *chosen, environment=environment)
        kept = json.loads((folder / "run" / "forecast.json").read_text())
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    return {
        "recipe": name,
        "steps": steps,
        "check_seconds": round(checked, 1),
        "load": [round(load, 2), round(load_of_run, 2)],
        "problems": told["problems"],
        **{key: kept[key] for key in ("plain", "forecast", "parts", "outcome", "learned_from", "kind")},
    }


def _run(*arguments: str, environment: dict[str, str]) -> str:
    done = subprocess.run(
        [sys.executable, "-m", "hf_trainpipe", *arguments], env=environment, capture_output=True, text=True, check=False
    )
    if done.returncode != 0:
        raise SystemExit(f"{' '.join(arguments)}: exit {done.returncode}\n{done.stdout}\n{done.stderr[-3000:]}")
    return done.stdout


def table(lines: list[dict[str, Any]]) -> str:
    """The figures as Markdown."""
    head = "| recipe | steps | past | check | time: forecast [90 %] | came | off | memory | came | off | disk | came | off | load |"
    rows = [head, "|" + "---|" * (head.count("|") - 1)]
    within = dict.fromkeys(ALLOWED, 0)
    for one in lines:
        cells = [one["recipe"], str(one["steps"]), str(one["learned_from"]), f"{one['check_seconds']:.0f} s"]
        for name, allowed in ALLOWED.items():
            told, came = one["forecast"][name], one["outcome"][name]
            off = told["value"] / came - 1
            within[name] += abs(off) <= allowed
            scale, unit = (1.0, " s") if name == "seconds" else (1e6, " MB")
            shown = f"{told['value'] / scale:,.1f}{unit}"
            if name == "seconds":
                shown += f" [{told['low']:,.0f}, {told['high']:,.0f}]"
            cells += [shown, f"{came / scale:,.1f}{unit}", f"{off:+.1%}"]
        rows.append("| " + " | ".join([*cells, " / ".join(map(str, one["load"]))]) + " |")
    names = {"seconds": "time", "memory_bytes": "memory", "disk_bytes": "disk"}
    said = ", ".join(
        f"{names[name]} within {allowed:.0%} on {within[name]} of {len(lines)}" for name, allowed in ALLOWED.items()
    )
    return "\n".join([*rows, "", said[:1].upper() + said[1:] + "."])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data-dir", type=Path)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--steps", type=int, default=40)
    parser.add_argument("--only", choices=sorted(RECIPES), action="append")
    parser.add_argument("--table", type=Path)
    arguments = parser.parse_args()
    if arguments.table is not None:
        print(table([json.loads(line) for line in arguments.table.read_text().splitlines()]))
        return
    if arguments.data_dir is None or arguments.out is None:
        parser.error("--data-dir and --out are needed")
    out: Path = arguments.out.resolve()
    done = [json.loads(line)["recipe"] for line in out.read_text().splitlines()] if out.is_file() else []
    for name in RECIPES:
        if name in done or (arguments.only and name not in arguments.only):
            continue
        found = measure(name, data=arguments.data_dir, cache=out.with_suffix(".cache"), steps=arguments.steps)
        with out.open("a") as stream:
            stream.write(json.dumps(found) + "\n")
        print(
            name,
            {key: round(found["forecast"][key]["value"] / found["outcome"][key], 3) for key in ALLOWED},
            flush=True,
        )
    print(table([json.loads(line) for line in out.read_text().splitlines()]))


if __name__ == "__main__":
    main()
