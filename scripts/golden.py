"""Record and compare the results of every recipe; see scripts/golden.

A line of the record is one setting: the losses of 20 steps, sha256 of the weights after the last step and of the package's,
the final scores, sha256 of the recorded logits, and the package's answers to 64 inputs. Everything goes through the command line, so the checkout that
is tried (``--code``) may be of any version. Precision, threads and micro-batches are fixed: nothing depends on a probe.
"""

from __future__ import annotations

import argparse
import csv
import hashlib
import io
import json
import os
import platform
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

from golden_data import CUTS, HELD_OUT_ROWS, cut, cut_spans

ROOT = Path(__file__).resolve().parents[1]
Record = dict[str, Any]
STEPS = 20
INTERRUPTED_AT = 10
PARTS = ("losses", "weights", "package", "scores", "logits", "answers")
FIXED = (
    "--optim.precision", "medium", "--budget.max-steps", str(STEPS), "--budget.epochs", "20",
    "--budget.examples-per-step", "16", "--budget.micro-batch-tokens", "512", "--budget.log-every", "1",
    "--budget.evaluate-every", "10", "--budget.save-every", "5", "--evaluation.resamples", "50",
)  # fmt: skip
MESSAGES = ("--data.train", "240", "--data.validation", "64", "--data.test", "64")


@dataclass(frozen=True)
class Setting:
    """One training: a recipe with options."""

    recipe: str
    """A file of recipes/, with a function behind a colon; or one of scripts/."""
    data: str | None = None
    """The folder of its data set; None: it needs none."""
    options: tuple[str, ...] = ()


SETTINGS: dict[str, Setting] = {
    "quickstart": Setting("recipes/quickstart.py", options=MESSAGES),
    "quickstart-fp32": Setting(
        "recipes/quickstart.py", options=(*MESSAGES, "--optim.precision", "fp32", "--model.dropout", "0.0")
    ),
    "ag_news": Setting("recipes/ag_news.py:files", "ag_news", ("--data.validation", "0.2")),
    "banking77": Setting("recipes/banking77.py:files", "banking77", ("--data.validation", "0.2")),
    "go_emotions": Setting("recipes/go_emotions.py:files", "go_emotions"),
    "sick": Setting("recipes/sick.py:files", "sick", ("--tokens.padding", "batch")),
    "sst2": Setting("recipes/sst2.py:files", "sst2"),
    "sst2-weighted": Setting(
        "recipes/sst2.py:files",
        "sst2",
        ("--task.class-weights", "balanced", "--task.label-smoothing", "0.1", "--optim.layer-decay", "0.9"),
    ),
    "stsb": Setting("recipes/stsb.py:files", "stsb"),
    "ud_pos": Setting("recipes/ud_pos.py:files", "ud_english_ewt"),
    "wnut17": Setting(
        "recipes/wnut17.py:files",
        "wnut17",
        ("--tokens.max-length", "24", "--tokens.stride", "8", "--optim.peak-lr", "1e-3"),
    ),
    "spans": Setting("scripts/golden_spans.py", "spans"),
}


class Failed(Exception):
    """A command failed; with its last output."""


class Bench:
    """A folder in which settings are trained: ``data/``, ``inputs/``, ``cache/`` and a run a setting.

    Args:
        code: The checkout that is run.
        begun: A folder with interrupted runs, which are continued where a setting has one.
    """

    def __init__(self, folder: Path, *, code: Path, data: Path | None, begun: Path | None = None) -> None:
        self.folder, self.code, self.data, self.begun = folder, code, data, begun
        own = code / ".venv" / "bin" / "python"
        self.python = str(own) if own.exists() else sys.executable
        for name in ("data", "inputs", "runs"):
            (folder / name).mkdir(parents=True, exist_ok=True)

    def prepare(self, names: list[str]) -> None:
        """Cut the data of these settings, and write their inputs."""
        for name in names:
            setting = SETTINGS[name]
            if setting.data is None:
                self._run("-m", "hf_trainpipe.quickstart", "--out", "data/messages")
                with (self.folder / "data/messages/test.csv").open(encoding="utf-8", newline="") as file:
                    inputs = [{"text": row["text"]} for row in csv.DictReader(file)][:HELD_OUT_ROWS]
            elif self.data is None:
                raise SystemExit(f"{name}: expected --data-dir, a folder with the public data sets.")
            elif setting.data in CUTS:
                inputs = cut(setting.data, self.data / setting.data, self.folder / "data" / setting.data)
            else:
                inputs = cut_spans(self.data / "wnut17", self.folder / "data" / setting.data)
            lines = [json.dumps(row, ensure_ascii=False) + "\n" for row in inputs]
            (self.folder / "inputs" / f"{name}.jsonl").write_text("".join(lines), encoding="utf-8")

    def train(self, name: str) -> Record:
        """Train a setting, or continue the interrupted run of it; what came of it."""
        continued = self.begun is not None and (self.begun / name).is_dir()
        if self.begun is not None and continued:
            shutil.copytree(self.begun / name, self.folder / "runs" / name)
        result = json.loads(self._run(*self.command(name)).strip().splitlines()[-1])
        run = self.folder / "runs" / name
        points = [point for point in self.ledger(run) if point["name"] == "train/loss"]
        if continued and len({point["attempt"] for point in points}) < 2:
            raise Failed("expected the interrupted run to be continued, found one begun anew")
        losses = {point["step"]: point["value"] for point in points}
        if sorted(losses) != list(range(1, STEPS + 1)):
            raise Failed(f"expected the losses of steps 1 to {STEPS}, found {sorted(losses)}")
        answers = self.folder / f"answers-{name}.jsonl"
        inputs = f"inputs/{name}.jsonl"
        self._run(
            "-m",
            "hf_trainpipe",
            "predict",
            f"runs/{name}",
            "--input",
            inputs,
            "--output",
            str(answers),
            "--only-answers",
        )
        text = answers.read_text(encoding="utf-8")
        [*_, last] = sorted((run / "checkpoints").glob("step-*/model.safetensors"))
        return {
            "setting": name,
            "environment": environment(),
            "losses": [losses[step] for step in sorted(losses)],
            "weights": sha256(last),
            "package": sha256(run / "package" / "model.safetensors"),
            "scores": result["scores"],
            "logits": logits(run / "recorded.jsonl"),
            "inputs": sha256(self.folder / inputs),
            "answers_sha256": hashlib.sha256(text.encode()).hexdigest(),
            "answers": [json.loads(line) for line in io.StringIO(text)],
        }

    def interrupt(self, name: str) -> int:
        """Begin a run of a setting in ``begun/`` and ask it to stop in the middle; returns its exit code."""
        ledger = self.folder / "begun" / name / "ledger.jsonl"
        command = [self.python, *self.command(name, runs="begun")]
        process = subprocess.Popen(command, cwd=self.folder, env=self.environment(), stdout=subprocess.DEVNULL)
        while process.poll() is None:
            if ledger.exists() and any(point["step"] >= INTERRUPTED_AT for point in self.ledger(ledger.parent)):
                process.send_signal(signal.SIGTERM)
                break
            time.sleep(0.02)
        return process.wait()

    def command(self, name: str, runs: str = "runs") -> list[str]:
        setting = SETTINGS[name]
        place = ROOT if setting.recipe.startswith("scripts/") else self.code
        root = [] if setting.data is None else ["--data.root", f"data/{setting.data}"]
        return [
            "-m", "hf_trainpipe", "train", str(place / setting.recipe), "--run-dir", f"{runs}/{name}",
            *root, *FIXED, *setting.options, "--json",
        ]  # fmt: skip

    def environment(self) -> dict[str, str]:
        return {
            **os.environ,
            "PYTHONPATH": str(self.code),
            "HF_HUB_OFFLINE": "1",
            "HF_TRAINPIPE_CACHE": str(self.folder / "cache"),
            "HF_TRAINPIPE_THREADS": "1",
            "OMP_NUM_THREADS": "1",
            "TOKENIZERS_PARALLELISM": "false",
        }

    @staticmethod
    def ledger(run: Path) -> list[Record]:
        lines = (run / "ledger.jsonl").read_text(encoding="utf-8").split("\n")
        return [json.loads(line) for line in lines[:-1]]  # the last one may be half written

    def _run(self, *arguments: str) -> str:
        done = subprocess.run(
            [self.python, *arguments],
            cwd=self.folder,
            env=self.environment(),
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode != 0:
            raise Failed(f"exit {done.returncode}: {' '.join(done.stderr.strip().splitlines()[-4:])}")
        return done.stdout


def environment() -> dict[str, str]:
    """The CPU and libraries, which the last bits of sums depend on."""
    try:
        found = re.search(r"model name\s*:\s*(.*)", Path("/proc/cpuinfo").read_text())
    except OSError:
        found = None
    versions = {name: metadata.version(name) for name in ("torch", "transformers", "tokenizers", "numpy")}
    return {"cpu": found[1] if found else platform.processor(), **versions}


def logits(recorded: Path) -> str:
    """sha256 of the logits that a run recorded for its package."""
    with recorded.open(encoding="utf-8") as stream:
        outputs = [json.loads(line)["output"] for line in stream]
    return hashlib.sha256(json.dumps(outputs).encode()).hexdigest()


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def differences(before: Record, now: Record) -> dict[str, str]:
    """Part to ``equal``, or a description of the difference."""
    found = {part: "equal" if before[part] == now[part] else "differs" for part in PARTS}
    if found["losses"] != "equal":
        gaps = [abs(one - other) for one, other in zip(before["losses"], now["losses"], strict=True)]
        found["losses"] = (
            f"differs from step {next(step for step, gap in enumerate(gaps, 1) if gap)} (by {max(gaps):.1g})"
        )
    if before["inputs"] != now["inputs"]:
        found["answers"] = "other inputs"
    elif found["answers"] != "equal":
        changed = sum(one != other for one, other in zip(before["answers"], now["answers"], strict=False))
        found["answers"] = f"differs in {changed} of {len(before['answers'])}"
    return found


def table(rows: list[list[str]]) -> str:
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = [
        "| " + " | ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) + " |" for row in rows
    ]
    return "\n".join([lines[0], "|" + "|".join("-" * (width + 2) for width in widths) + "|", *lines[1:]])


def main() -> int:
    parser = argparse.ArgumentParser(prog="scripts/golden", description=__doc__.splitlines()[0], allow_abbrev=False)
    parser.add_argument("action", choices=("record", "compare"))
    parser.add_argument("file", type=Path, help="the record: a JSON line a setting")
    parser.add_argument("--data-dir", type=Path, help="the folder of the public data sets")
    parser.add_argument("--code", type=Path, default=ROOT, help="the checkout to run; by default this one")
    parser.add_argument("--only", help=f"of {', '.join(SETTINGS)}; by default all, or those of the record")
    parser.add_argument("--jobs", type=int, default=2, help="trainings at a time, of one thread each")
    parser.add_argument("--keep", type=Path, help="a new folder for the runs, with their packages and data")
    parser.add_argument("--begin", default="", help="record: settings of which --keep gets an interrupted run too")
    parser.add_argument("--begun", type=Path, help="compare: a folder with interrupted runs to continue")
    options = parser.parse_args()
    comparing = options.action == "compare"
    lines = options.file.read_text(encoding="utf-8").splitlines() if comparing else []
    before: dict[str, Record] = {record["setting"]: record for record in map(json.loads, lines)}
    names = options.only.split(",") if options.only else list(before if comparing else SETTINGS)
    begin = options.begin.split(",") if options.begin else []
    if unknown := [name for name in (*names, *begin) if name not in (before if comparing else SETTINGS)]:
        parser.error(f"expected names among {', '.join(before or SETTINGS)}, found {', '.join(unknown)}")
    if begin and not options.keep:
        parser.error("--begin needs --keep, where the interrupted runs are left")
    if comparing and before[names[0]]["environment"] != environment():
        print(f"warning: recorded with {before[names[0]]['environment']}, compared with {environment()}")

    now: dict[str, Record] = {}
    failed: dict[str, str] = {}
    with tempfile.TemporaryDirectory(prefix="golden-") as temporary:
        begun = options.begun and options.begun.resolve()
        data = options.data_dir and options.data_dir.resolve()
        bench = Bench((options.keep or Path(temporary)).resolve(), code=options.code.resolve(), data=data, begun=begun)
        bench.prepare(names)

        def attempt(name: str) -> None:
            started = time.monotonic()
            try:
                now[name] = bench.train(name)
            except Failed as error:
                failed[name] = str(error)
            print(
                f"{name}: {failed.get(name, 'trained')}, {time.monotonic() - started:.0f} s",
                file=sys.stderr,
                flush=True,
            )

        with ThreadPoolExecutor(options.jobs) as pool:
            list(pool.map(attempt, names))
        for name in begin:
            code = bench.interrupt(name)
            print(f"{name}: interrupted, exit {code}", file=sys.stderr)
            if code != 75:
                failed[name] = f"interrupted with exit {code}, not 75"

    if not comparing:
        done = [json.dumps(now[name], ensure_ascii=False) + "\n" for name in names if name in now]
        options.file.write_text("".join(done), encoding="utf-8")
        return 1 if failed else 0
    rows = [["setting", *PARTS]]
    for name in names:
        found = dict.fromkeys(PARTS, "failed") if name in failed else differences(before[name], now[name])
        rows.append([name, *found.values()])
    print(table(rows))
    return 1 if any(cell != "equal" for row in rows[1:] for cell in row[1:]) else 0


if __name__ == "__main__":
    sys.exit(main())
