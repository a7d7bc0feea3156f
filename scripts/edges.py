"""Every verb that reads rows, on inputs at the edge: an empty file, one class, one row, 200,000 rows.

A tiny model (hf_trainpipe.testing) and texts of words that are drawn. Each call is a process of its own, which begins with the libraries
imported. Of each the exit code, the lines on the screen, the seconds and the
most that its processes held together (RSS, looked at ten times a second) are written as a line of JSON. A fault is a traceback, an exit code
that is not of the table, an error longer than a screen, or more memory than the documents say. A verb that is still at work when its time is up
is ended, and what it held until then counts.
"""

from __future__ import annotations

import argparse
import csv
import importlib
import json
import os
import random
import re
import signal
import sys
import tempfile
import time
import traceback
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil

from hf_trainpipe.cli import run as cli
from hf_trainpipe.errors import EXIT_CODES
from hf_trainpipe.testing import BAD, GOOD, tiny_model

BEFORE = (
    "api.behaviour", "api.package", "audit.whole", "baselines.measure", "behaviour.sliced", "ingest.whole", "package.predict", "package.suggest",
    "report.page", "studies.auto", "studies.baseline_curve", "studies.crossval", "studies.learn_curve", "studies.tune", "training.check",
    "training.execute", "training.show", "watch.watching",
)  # fmt: skip
"""Modules that are imported once, before the processes of the calls begin."""
INPUTS = ("empty", "one-class", "one-row", "many")
MANY = 200_000
_PROGRESS = re.compile(r", \d+ s$")
SCREEN = 24
"""Lines of an error at most."""
MEGABYTES = {"audit": 1_500, "audit-files": 1_500, "baseline": 2_800, "slices": 2_000, "ingest": 1_500}
"""What docs/audit.md, baseline.md, slices.md and ingest.md say of 200,000 rows, and what the libraries take besides."""
USUAL = 2_500
"""Of verbs whose documents say nothing: a laptop's."""
RECIPE = """from hf_trainpipe import *


def named(name, file, validation=0.1):
    return Recipe(
        name=name, model=Pretrained("model"), data=Files(train=file, validation=validation), task=TextClassification("text", label="label"),
        tokens=Tokens(max_length=32), optim=Optim(peak_lr=1e-2, precision="fp32"),
        budget=Budget(max_steps=4, examples_per_step=16, log_every=2), evaluation=Evaluation(resamples=50),
    )


def good():
    return named("good", "good.csv")


def input():
    return named("input", "input.csv")
"""


def rows(count: int, *, labels: int = 2, seed: int = 0) -> Iterator[dict[str, str]]:
    """Texts of a vocabulary of 5,000 words, with a word that tells the label."""
    drawn = random.Random(seed)
    words = ["".join(drawn.choices("abcdefghijklmnoprstuvwy", k=drawn.randint(2, 9))) for _ in range(5_000)]
    weights = [1 / (rank + 10) for rank in range(len(words))]
    for number in range(count):
        label = number % labels
        told = drawn.choice((GOOD, BAD)[label])
        text = " ".join([*drawn.choices(words, weights, k=drawn.randint(4, 16)), told])
        yield {"text": text, "label": ("positive", "negative")[label]}


def write(file: Path, found: Iterator[dict[str, str]]) -> None:
    with file.open("w", newline="") as stream:
        table = csv.DictWriter(stream, ("text", "label"))
        table.writeheader()
        table.writerows(found)


def prepare(folder: Path, name: str) -> None:
    """A model, a run, and the input."""
    os.environ["HF_HUB_OFFLINE"] = "1"
    if not (pid := os.fork()):  # torch computes in no process that others begin from
        tiny_model(folder / "model")
        os._exit(0)
    os.waitpid(pid, 0)
    (folder / "r.py").write_text(RECIPE)
    write(folder / "good.csv", rows(1_500, seed=1))
    done = call(["train", "r.py:good"], folder, limit=300)
    assert done["code"] == 0, done
    file = folder / "input.csv"
    if name == "empty":
        file.write_text("")
    elif name == "one-class":
        write(file, rows(200, labels=1))
    else:
        write(file, rows({"one-row": 1, "many": MANY}[name]))


STEPS = ["--budget.max-steps", "2"]
CALLS = {
    "show": ["show", "r.py:input"],
    "audit": ["audit", "r.py:input"],
    "audit-files": ["audit", "input.csv"],
    "baseline": ["baseline", "r.py:input", "--output", "baselines"],
    "check": ["check", "r.py:input"],
    "train": ["train", "r.py:input"],
    "compare": ["compare", "runs/input", "runs/good"],
    "slices-run": ["slices", "runs/input"],
    "predict": ["predict", "runs/good", "--input", "input.csv", "--output", "answers.jsonl"],
    "evaluate": ["evaluate", "runs/good", "input.csv"],
    "slices": ["slices", "runs/good", "input.csv"],
    "behave": ["behave", "runs/good", "input.csv"],
    "suggest": ["suggest", "runs/good", "--input", "input.csv", "--output", "next.csv"],
    "watch": ["watch", "runs/good", "--input", "input.csv", "--state", "watched"],
    "ingest": ["ingest", "input.csv", "--to", "shards", "--text", "text"],
    "learn-curve-baseline": ["learn-curve", "r.py:input", "--model", "baseline", "--seeds", "1", "--fractions", "0.5", "1"],
    "crossval": ["crossval", "r.py:input", "--folds", "2", *STEPS],
    "learn-curve": ["learn-curve", "r.py:input", "--seeds", "1", "--fractions", "0.5", "1", *STEPS],
    "tune": ["tune", "r.py:input", "--trials", "2", "--finalists", "1", "--seeds", "1", *STEPS],
    "auto": ["auto", "input.csv", "--budget", "20s", "--model", "model"],
}  # fmt: skip


def call(arguments: list[str], folder: Path, *, limit: float) -> dict[str, Any]:
    """Run a verb to its end, or until its time is up, in a process that begins with the libraries imported."""
    begun = time.perf_counter()
    pid = os.fork()
    if not pid:
        os._exit(_child(arguments, folder))
    peak, code = 0, None
    while time.perf_counter() - begun < limit:
        done, status = os.waitpid(pid, os.WNOHANG)
        if done:
            code = os.waitstatus_to_exitcode(status)
            break
        peak = max(peak, _held(pid))
        time.sleep(0.1)
    else:
        os.killpg(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
    out, err = ((folder / name).read_text(errors="replace") for name in ("out", "err"))
    said = [line for line in err.splitlines() if line.strip() and not _PROGRESS.search(line)]
    start = next((at for at, line in enumerate(said) if line.startswith("error")), None)
    return {
        "code": code,
        "seconds": round(time.perf_counter() - begun, 1),
        "megabytes": peak // 2**20,
        "lines": len(out.splitlines()) + len(said),
        "error": [] if start is None else said[start:],
        "traceback": said[-12:] if any(line.startswith("Traceback") for line in said) else [],
        "tail": [*out.splitlines(), *said][:4],
    }


def _child(arguments: list[str], folder: Path) -> int:
    """A verb, as a process of its own: what it prints goes into files."""
    os.setsid()
    os.chdir(folder)
    os.environ |= {"HF_TRAINPIPE_CACHE": str(folder / "cache"), "COLUMNS": "100"}
    for number, name in ((1, "out"), (2, "err")):
        os.dup2(os.open(name, os.O_CREAT | os.O_WRONLY | os.O_TRUNC), number)
    try:
        code = cli(arguments)
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else 1
    except BaseException:
        traceback.print_exc()
        code = 1
    sys.stdout.flush()
    sys.stderr.flush()
    return code


def _held(pid: int) -> int:
    """What a process and all below it hold together, in bytes."""
    held = 0
    try:
        root = psutil.Process(pid)
        for one in (root, *root.children(recursive=True)):
            try:
                held += one.memory_info().rss
            except psutil.Error:
                continue  # it has just ended
    except psutil.Error:
        pass
    return held


def faults(verb: str, found: dict[str, Any]) -> list[str]:
    """What is wrong with a call."""
    told = []
    if found["traceback"]:
        told.append("traceback")
    if found["code"] is not None and (found["code"] not in EXIT_CODES or found["code"] == 1):
        told.append(f"exit code {found['code']}")
    if len(found["error"]) > SCREEN:
        told.append(f"an error of {len(found['error'])} lines")
    if found["megabytes"] > MEGABYTES.get(verb, USUAL):
        told.append(f"{found['megabytes']:,} MB, where {MEGABYTES.get(verb, USUAL):,} are said")
    return told


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", default=INPUTS, choices=INPUTS)
    parser.add_argument("--verbs", nargs="+", default=list(CALLS), choices=list(CALLS))
    parser.add_argument("--limit", type=float, default=60, help="seconds of a call")
    parser.add_argument("--in-all", type=float, default=600, help="seconds of the calls of an input")
    parser.add_argument("--out", type=Path, default=Path("edges.jsonl"))
    parser.add_argument("--table", type=Path)
    arguments = parser.parse_args()
    if arguments.table is not None:
        table([json.loads(line) for line in arguments.table.read_text().splitlines()])
        return
    for module in BEFORE:
        importlib.import_module(f"hf_trainpipe.{module}")
    for module in (
        "sklearn.linear_model",
        "sklearn.feature_extraction.text",
        "pandas",
        "scipy.sparse",
        "matplotlib.pyplot",
        "transformers.models.bert",
    ):
        importlib.import_module(module)
    there = arguments.out.read_text().splitlines() if arguments.out.exists() else []
    known = {(one["input"], one["verb"]) for one in map(json.loads, there)}
    for name in arguments.only:
        wanted = [verb for verb in arguments.verbs if (name, verb) not in known]
        if not wanted:
            continue
        with tempfile.TemporaryDirectory() as place:
            prepare(Path(place), name)
            left = arguments.in_all
            for verb in wanted:
                if left <= 0:
                    print(f"{name}: the time of all is up before {verb}", flush=True)
                    break
                found = call(CALLS[verb], Path(place), limit=min(arguments.limit, left))
                left -= found["seconds"]
                found = {"input": name, "verb": verb, **found, "faults": faults(verb, found)}
                with arguments.out.open("a") as file:
                    file.write(json.dumps(found) + "\n")
                print(
                    f"{name:9} {verb:20} {found['code']!s:5} {found['seconds']:6} s {found['megabytes']:6,} MB  {found['faults'] or ''}",
                    flush=True,
                )


def table(found: list[dict[str, Any]]) -> None:
    """The figures as Markdown."""
    for name in INPUTS:
        print(
            f"\n## {name}\n\n| verb | exit code | lines | s | MB | what it says | fault |\n|---|---|---|---|---|---|---|"
        )
        for one in found:
            if one["input"] == name:
                said = (one["error"] or one["tail"] or [""])[0].strip().replace("|", "\\|")
                code = "still at work" if one["code"] is None else one["code"]
                print(
                    f"| {one['verb']} | {code} | {one['lines']} | {one['seconds']} | {one['megabytes']:,} | {said[:110]} | {', '.join(one['faults'])} |"
                )


if __name__ == "__main__":
    main()
