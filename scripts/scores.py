"""Train recipes on their full data, one after the other, and write what they reach; see scripts/scores.

Each run lies in a folder that a second call continues. A run is held against the baselines of its data by the verb ``baseline``.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from result_page import beside_baseline, in_percent, put_between, recorded

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "docs/results/scores.md"
RECORD = ROOT / "docs/results/scores.jsonl"


@dataclass(frozen=True)
class Setting:
    """A recipe with the split that is told of, and what others published of the same data."""

    data: str
    split: str
    metric: str
    published: str


SETTINGS = {
    "banking77": Setting("banking77", "test", "accuracy", "DistilBERT 92.5, BERT-base 93.2 to 93.5 (F1)"),
    "sst2": Setting("sst2", "test", "accuracy", "dev of 67,349 phrases: MiniLM-L6 91.5, DistilBERT 91.3"),
    "stsb": Setting("stsb", "validation", "spearman", "bert-base-cased 88.5, DistilBERT 86.9"),
    "sick": Setting("sick", "test", "accuracy", "InferSent 86.3"),
    "ag_news": Setting("ag_news", "test", "accuracy", "BERT-base 94.8 to 95.3, on 120,000 rows"),
    "go_emotions": Setting("go_emotions", "test", "f1_macro", "BERT-base 46 to 50.3"),
    "wnut17": Setting("wnut17", "test", "entity_f1", "DistilBERT 41.7 to 45.2, BERTweet 56.5"),
    "ud_pos": Setting("ud_english_ewt", "test", "tag_accuracy", "BERT-base 96 to 97, Stanza 95.4"),
}


def train(name: str, data: Path, runs: Path) -> None:
    """Train a recipe, or go on with it, hold it against its baselines, and record its scores."""
    setting, run = SETTINGS[name], runs / name
    recipe = [f"recipes/{name}.py:files", "--data.root", str(data / setting.data)]
    _hf_trainpipe("train", *recipe, "--run-dir", str(run))
    _hf_trainpipe("baseline", str(run))
    lines = {line["name"]: line for line in recorded(RECORD)} | {name: _told(name, run)}
    RECORD.write_text("".join(json.dumps(lines[key]) + "\n" for key in SETTINGS if key in lines))


def _told(name: str, run: Path) -> dict[str, Any]:
    """What the page tells of a finished run."""
    setting = SETTINGS[name]
    result, document = (json.loads((run / file).read_text()) for file in ("result.json", "run.json"))
    recipe, beside = document["recipe"], run / "baselines.json"
    held = json.loads(beside.read_text()) if beside.exists() else {}
    return {
        "name": name,
        "split": setting.split,
        "metric": setting.metric,
        "score": result["scores"][setting.split][setting.metric],
        "steps": result["steps"],
        "pooling": recipe["task"].get("pooling"),
        "pairs": recipe["task"].get("pairs"),
        "head": recipe["model"].get("head"),
        "peak_lr": recipe["optim"]["peak_lr"],
        "best_baseline": held.get("best"),
        "held": (held.get("held") or {}).get(setting.split),
    }


def write_page() -> None:
    """Put the table of what is recorded into the page."""
    head = "| recipe | head | steps | score | best baseline | published |\n|---|---|---|---|---|---|\n"
    rows = []
    for line in recorded(RECORD):
        score, held = line["score"], line["held"]
        read = f"{line['pooling'] or 'own'}{' of each side' if line.get('pairs') else ''}"
        pooled = f"{read}{', probe' if line['head'] else ''}, {line['peak_lr']:g}"
        other = "not measured"
        if held is not None:
            other = beside_baseline(line["best_baseline"], held)
        found, interval = in_percent(score)
        told = f"{line['split']} {line['metric'].replace('_', ' ')} **{found}** {interval}"
        rows.append(
            f"| `{line['name']}` | {pooled} | {line['steps']:,} | {told} | {other} | {SETTINGS[line['name']].published} |\n"
        )
    put_between(PAGE, head + "".join(rows))


def _hf_trainpipe(*arguments: str) -> None:
    subprocess.run([sys.executable, "-m", "hf_trainpipe", *arguments], cwd=ROOT, check=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data-dir", type=Path, required=True, help="the folder with the public data sets")
    parser.add_argument("--runs", type=Path, default=ROOT / "runs", help="the folder of the runs, which are continued")
    parser.add_argument("--only", default=",".join(SETTINGS), help="names, with commas between them")
    asked = parser.parse_args()
    for name in asked.only.split(","):
        train(name, asked.data_dir.resolve(), asked.runs.resolve())
        write_page()


if __name__ == "__main__":
    main()
