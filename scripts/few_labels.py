"""Learn from a few rows of each label in every way of `auto`, and write what that reaches on the test rows; see scripts/few_labels.

Rows are drawn from train by the seed, which is the run's too. The test rows are scored once, with the weights behind the last step: nothing
is chosen by them. What is recorded is continued.
"""

from __future__ import annotations

import argparse
import json
import math
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas
from result_page import put_between, recorded
from scipy.stats import t

from hf_trainpipe import Evaluation, Frame, Recipe, RunOptions, TextClassification, execute
from hf_trainpipe.recipe_file import load, override
from hf_trainpipe.studies.few import WAYS

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "docs/results/few-labels.md"
RECORD = ROOT / "docs/results/few-labels.jsonl"
FEWEST_SEEDS = 3
"""Of two draws an interval is chance."""
DATA = ("sst2", "banking77")


def frames(name: str, folder: Path) -> tuple[Recipe, pandas.DataFrame, pandas.DataFrame]:
    """The recipe of a name, and the rows of train and test."""
    recipe, _ = load(f"{ROOT}/recipes/{name}.py:files")
    recipe = override(recipe, ["--data.root", str(folder)], verb_options=())
    splits = recipe.data.splits()
    task = recipe.task
    assert isinstance(task, TextClassification)
    columns = [task.text, task.label]
    return recipe, *(splits[split].to_pandas()[columns] for split in ("train", "test"))


def drawn(train: pandas.DataFrame, label: str, shots: int, seed: int) -> pandas.DataFrame:
    """So many rows of each label."""
    random = np.random.default_rng([seed, shots])
    groups = train.groupby(label, sort=True).indices
    rows = np.concatenate([np.sort(random.choice(found, shots, replace=False)) for found in groups.values()])
    return train.iloc[rows].reset_index(drop=True)


def one(name: str, shots: int, seed: int, number: int, folder: Path, *, test_rows: int | None) -> dict[str, Any]:
    """Learn in one way from one draw, and score the test rows."""
    recipe, train, test = frames(name, folder)
    way, task = WAYS[number], recipe.task
    assert isinstance(task, TextClassification)
    if test_rows is not None and test_rows < len(test):
        test = test.sample(test_rows, random_state=0).reset_index(drop=True)
    few = drawn(train, task.label, shots, seed)
    steps = way.steps(len(few), recipe.budget.examples_per_step)
    fields = [*way.fields, "--budget.max-steps", str(steps), "--budget.evaluate-every", str(max(1, steps))]
    data = Frame(train=few, validation=test)  # scored at the end alone, so that no step is chosen by them
    recipe = replace(recipe, name=f"few-{name}", data=data, seed=seed, evaluation=Evaluation(train_sample=0))
    began = time.perf_counter()
    with tempfile.TemporaryDirectory() as run:
        result = execute(override(recipe, fields), run_dir=Path(run), options=RunOptions(validation_only=True))
    score = result.scores["validation"]["accuracy"]["value"]
    return {
        "data": name,
        "shots": shots,
        "seed": seed,
        "way": way.name,
        "accuracy": score,
        "test_rows": len(test),
        "seconds": round(time.perf_counter() - began, 1),
    }


def table(lines: list[dict[str, Any]]) -> str:
    """Of each way the mean accuracy over seeds, its deviation, and the difference from the plainest way on the same draws."""
    settings = sorted({(line["data"], line["shots"]) for line in lines}, key=lambda one: (DATA.index(one[0]), one[1]))
    head = ["way", *(f"{data}, {shots} a label" for data, shots in settings)]
    rows = [head, ["---"] * len(head)]
    by = {(line["data"], line["shots"], line["way"], line["seed"]): 100 * line["accuracy"] for line in lines}
    for way in WAYS:
        cells = [way.name]
        for data, shots in settings:
            seeds = sorted(
                {
                    line["seed"]
                    for line in lines
                    if (line["data"], line["shots"], line["way"]) == (data, shots, way.name)
                }
            )
            mine = np.array([by[data, shots, way.name, seed] for seed in seeds])
            plain = np.array([by[data, shots, WAYS[0].name, seed] for seed in seeds])
            cells.append(_cell(mine, None if way is WAYS[0] else mine - plain))
        rows.append(cells)
    return "".join(f"| {' | '.join(row)} |\n" for row in rows)


def _cell(scores: np.ndarray, differences: np.ndarray | None) -> str:
    if not len(scores):
        return ""
    told = f"{scores.mean():.1f}" + (f" ± {scores.std(ddof=1):.1f}" if len(scores) > 1 else "")
    if differences is None:
        return told
    if len(differences) < FEWEST_SEEDS:
        return f"{told}; {differences.mean():+.1f}"
    count = len(differences)
    mean, half = differences.mean(), t.ppf(0.975, count - 1) * differences.std(ddof=1) / math.sqrt(count)
    verdict = "better" if mean - half > 0 else "worse" if mean + half < 0 else "no difference shown"
    return f"{told}; {mean:+.1f} [{mean - half:+.1f}, {mean + half:+.1f}]: {verdict}"


def write_page() -> None:
    """Put the table of what is recorded into the page."""
    put_between(PAGE, table(recorded(RECORD)))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data-dir", type=Path, help="the folder with the public data sets")
    parser.add_argument("--only", default=",".join(DATA), help="names, with commas between them")
    parser.add_argument("--shots", default="8,16", help="rows a label")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument(
        "--test-rows", type=int, help="score so many rows of test, the same for all; all of them by default"
    )
    parser.add_argument("--table", action="store_true", help="write the table of what is recorded, and do nothing else")
    asked = parser.parse_args()
    known = {(line["data"], line["shots"], line["seed"], line["way"]) for line in recorded(RECORD)}
    for seed in () if asked.table else range(1, asked.seeds + 1):
        for name in asked.only.split(","):
            for shots in map(int, asked.shots.split(",")):
                for number, way in enumerate(WAYS):
                    if (name, shots, seed, way.name) not in known:
                        line = one(
                            name, shots, seed, number, asked.data_dir.resolve() / name, test_rows=asked.test_rows
                        )
                        with RECORD.open("a") as stream:
                            stream.write(json.dumps(line) + "\n")
    write_page()


if __name__ == "__main__":
    main()
