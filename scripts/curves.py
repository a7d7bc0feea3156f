"""From a quarter of the data to all of it: does the interval of `learn-curve` hold what is then measured, and is its forecast nearer
than the last point?

    scripts/curves --data-dir DIR          # ten sets, each by a simple model (`learn-curve --model baseline`); some minutes
    scripts/curves --data-dir DIR --only sms_spam

For each set: errors of three seeds at 3, 6, 12 and 25 % of the training rows give the law; then the model learns from all rows.
"""

from __future__ import annotations

import argparse
import os
from dataclasses import replace
from functools import partial
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("HF_TRAINPIPE_THREADS", "1")

import numpy as np

from hf_trainpipe import Evaluation, Files, Recipe, TextClassification
from hf_trainpipe.baselines.listed import Means, Split
from hf_trainpipe.baselines.measure import read
from hf_trainpipe.metrics.power_law import fit
from hf_trainpipe.recipe_file import load
from hf_trainpipe.studies.baseline_curve import measured, named
from hf_trainpipe.studies.conclusion import Scale, chance_of
from hf_trainpipe.studies.subsets import Curve, subsets
from hf_trainpipe.tracking.console import Console
from hf_trainpipe.utils.cache import cache_root
from hf_trainpipe.utils.tables import table

RECIPES = Path(__file__).resolve().parents[1] / "recipes"
FRACTIONS = (0.03, 0.06, 0.12, 0.25, 1.0)
SETS = ("ag_news", "banking77", "go_emotions", "sick", "sst2", "stsb", "wnut17", "ud_pos", "sms_spam", "uci_sentiment")
FOLDERS = {"ud_pos": "ud_english_ewt"}


def recipe_of(name: str, data: Path) -> Recipe:
    """The recipe of a set; two sets have none of their own."""
    if name == "sms_spam":
        messages = partial(Files, train="SMSSpamCollection.gz", format="tsv", header=("label", "text"), quoting="none")
        return _texts(name, messages(root=str(data / name), test=0.2, stratify="label"))
    if name == "uci_sentiment":
        files = tuple(f"{part}_labelled.txt" for part in ("amazon_cells", "imdb", "yelp"))
        sentences = partial(Files, train=files, format="tsv", header=("text", "label"), quoting="none")
        return _texts(name, sentences(root=str(data / "uci_sentiment_sentences"), test=0.2, stratify="label"))
    found, _ = load(f"{RECIPES / name}.py:files")
    assert isinstance(found.data, Files)
    root = data / FOLDERS.get(name, name)
    return replace(found, data=replace(found.data, root=str(root)), evaluation=replace(found.evaluation, resamples=1))


def _texts(name: str, data: Files) -> Recipe:
    model = load(f"{RECIPES / 'banking77'}.py:files")[0].model
    task = TextClassification("text", label="label")
    return Recipe(name=name, model=model, data=data, task=task, evaluation=Evaluation(select="accuracy", resamples=1))


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--data-dir", type=Path, required=True)
    parser.add_argument("--only", nargs="+", choices=SETS, default=SETS)
    parser.add_argument("--model", default="baseline")
    arguments = parser.parse_args()
    console, rows, inside, nearer, gaps = Console(0), [], 0, 0, []
    curve = Curve(fractions=FRACTIONS)
    for name in arguments.only:
        recipe = recipe_of(name, arguments.data_dir)
        metric = recipe.selected_metric
        dealt = subsets(recipe, curve)
        recipe, data = read(recipe, console=console)
        of = Scale.of(metric, data.task)
        chosen = named(arguments.model, data.task, recipe)
        means = Means(model=recipe.model, root=cache_root(), working=console.working)
        splits = [Split(data.splits[one], data.task) for one in ("train", dealt.on)]
        points = measured(chosen, *splits, means, dealt, curve, metric=metric)
        sizes = sorted({point.rows for point in points})
        errors = [[of.error(point.score) for point in points if point.rows == size] for size in sizes]
        early = [at for at, size in enumerate(sizes) if size < 0.5 * sizes[-1]]
        chance = chance_of(of, points[-1].predicted)
        law = fit(
            [sizes[at] for at in early],
            [errors[at] for at in early],
            one_row=1 / len(splits[1].prepared),
            chance=chance,
        )
        found, truth, last = law.at(sizes[-1]), errors[-1][0], float(np.mean(errors[early[-1]]))
        holds, beats = found.low <= truth <= found.high, abs(found.value - truth) < abs(last - truth)
        inside, nearer = inside + holds, nearer + beats
        gaps.append((abs(found.value - truth) / truth, abs(last - truth) / truth))
        rows.append([
            name, metric, f"{sizes[-1]:,}", *(f"{of.points * one:.2f}" for one in (last, found.value)),
            f"{of.points * found.low:.2f} to {of.points * found.high:.2f}", f"{of.points * truth:.2f}", "yes" if holds else "no",
            "yes" if beats else "no",
        ])  # fmt: skip
        print("  ".join(rows[-1]), flush=True)
    head = ["set", "metric", "rows", "error at 25 %", "forecast", "90 % interval", "error at 100 %", "held", "nearer"]
    print()
    print(table(head, rows, width=200))
    ours, theirs = (float(np.mean(column)) for column in zip(*gaps, strict=True))
    print(
        f"\n{inside} of {len(rows)} intervals hold the error at 100 %; {nearer} forecasts are nearer than the last point. "
        f"Mean distance, of the error: forecast {100 * ours:.0f} %, last point {100 * theirs:.0f} %."
    )


if __name__ == "__main__":
    main()
