"""What simple models score on the data of every recipe that has baselines, by the verb ``baseline``'s own functions.

Beside the recipes: SMS Spam (80 % of the rows to learn from, stratified, scikit-learn's ``train_test_split`` with seed 42), and Banking77
without a validation split, so that all its 10,003 training rows are learnt from.
"""

from __future__ import annotations

import argparse
import gzip
import json
import os
import platform
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

from hf_trainpipe import Evaluation, Frame, Recipe, TextClassification
from hf_trainpipe.baselines.measure import measure
from hf_trainpipe.engine.device import cores
from hf_trainpipe.recipe_file import load, override
from hf_trainpipe.tracking.console import Console

ROOT = Path(__file__).resolve().parents[1]
RECIPES = {
    "sms_spam": "sms_spam", "sst2": "sst2", "ag_news": "ag_news", "banking77": "banking77", "banking77-all": "banking77",
    "go_emotions": "go_emotions", "sick": "sick", "stsb": "stsb", "stsb_embeddings": "stsb", "wnut17": "wnut17", "ud_pos": "ud_english_ewt",
}  # fmt: skip
"""A name to its folder of data."""


def named(name: str, folder: Path) -> Recipe:
    """The recipe of a name, over the files of a folder."""
    if name == "sms_spam":
        return sms_spam(folder)
    recipe, _ = load(f"{ROOT}/recipes/{name.removesuffix('-all')}.py:files")
    recipe = override(recipe, ["--data.root", str(folder)], verb_options=())
    if name.endswith("-all"):
        recipe = replace(recipe, data=replace(recipe.data, validation=None), evaluation=Evaluation())
    return recipe


def sms_spam(folder: Path) -> Recipe:
    """Messages, wanted or not."""
    import pandas
    from sklearn.model_selection import train_test_split

    [file] = folder.glob("SMSSpamCollection*")
    with gzip.open(file, "rt", encoding="utf-8") as stream:
        rows = pandas.DataFrame([line.rstrip("\n").split("\t", 1) for line in stream], columns=["label", "text"])
    train, test = train_test_split(rows, test_size=0.2, random_state=42, stratify=rows["label"])
    recipe, _ = load(f"{ROOT}/recipes/banking77.py:files")
    task = TextClassification("text", label="label", names=("ham", "spam"))
    data = Frame(train=train.reset_index(drop=True), test=test.reset_index(drop=True))
    return replace(recipe, name="sms_spam", data=data, task=task, evaluation=Evaluation())


def one(name: str, folder: Path) -> dict[str, Any]:
    """The baselines of a recipe."""
    console, begun = Console(0), time.time()
    found = measure(named(name, folder), console=console)
    told = found.to_json()
    return {"name": name, **told, "seconds": time.time() - begun, "cores": cores(), "machine": platform.machine()}


def table(lines: list[dict[str, Any]]) -> str:
    """A Markdown table: a recipe a row, a baseline a column, the score on test, or on validation without one."""
    names = list(dict.fromkeys(found["name"] for line in lines for found in line["baselines"]))
    rows = [["data", "metric", *names], ["---"] * (len(names) + 2)]
    for line in lines:
        split = "test" if "test" in line["baselines"][0]["scores"] else "validation"
        by = {found["name"]: found for found in line["baselines"]}
        rows.append(
            [
                line["name"],
                f"{line['select']}, {split}",
                *(_cell(by.get(name), split, line["select"]) for name in names),
            ]
        )
    return "\n".join(f"|{'|'.join(row)}|" for row in rows)


def _cell(found: dict[str, Any] | None, split: str, select: str) -> str:
    if found is None:
        return ""
    score = found["scores"][split][select]
    if score["value"] is None:
        return f"- ({found['seconds']:.0f} s)"
    low, high = (100 * score[end] for end in ("low", "high"))
    learnt = f", {found['rows']:,} rows" if found["rows"] < found["of"] else ""
    return f"{100 * score['value']:.1f} [{low:.1f}, {high:.1f}] ({found['seconds']:.0f} s{learnt})"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data-dir", type=Path, help="the folder of the data sets")
    parser.add_argument("--only", default=",".join(RECIPES), help="names, with commas")
    parser.add_argument("--out", type=Path, help="a line of JSON each is written behind this file")
    parser.add_argument("--table", type=Path, help="print the table of such a file, and do nothing else")
    arguments = parser.parse_args()
    if arguments.table is not None:
        print(table([json.loads(line) for line in arguments.table.read_text().splitlines()]))
        return
    written = arguments.out.read_text().splitlines() if arguments.out.exists() else []
    known = {json.loads(line)["name"] for line in written}
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    for name in arguments.only.split(","):
        if name in known:
            continue
        found = one(name, arguments.data_dir / RECIPES[name])
        with arguments.out.open("a") as file:
            file.write(json.dumps(found) + "\n")
        print(table([found]))


if __name__ == "__main__":
    main()
