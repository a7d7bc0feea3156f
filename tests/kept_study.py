"""A finished cross-validation as its folder has it, with answers that a test invents: no fold is trained."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from hf_trainpipe import Recipe
from hf_trainpipe.codec import to_json
from hf_trainpipe.data.predicted import row_hashes
from hf_trainpipe.metrics import Predictions
from hf_trainpipe.metrics.saved import Predicted, save
from hf_trainpipe.out_of_fold import RESULT, STORE
from hf_trainpipe.utils.atomic import write_json


def kept_study(folder: Path, recipe: Recipe, *, right: float, boast: float = 1.0, seed: int = 0) -> Path:
    """Answers to the rows of train and validation of a classifier's recipe.

    Args:
        right: Share of the rows whose label is the likeliest.
        boast: What honest logits are multiplied by.
    """
    rng = np.random.default_rng(seed)
    splits = recipe.data.splits()
    names = [name for name in ("train", "validation") if name in splits]
    task: Any = recipe.task
    hashes = np.concatenate([row_hashes(splits[name].with_format("arrow")[:], task) for name in names])
    given = [label for name in names for label in splits[name][task.label]]
    labels = tuple(sorted(set(given)))
    gold = np.array([labels.index(label) for label in given])
    said = np.where(rng.random(len(gold)) < right, gold, (gold + 1) % len(labels))
    margins = np.log(right / (1 - right)) * rng.uniform(0.6, 1.4, len(gold))
    outputs = boast * np.eye(len(labels))[said] * margins[:, None]
    sizes = [len(splits[name]) for name in names]
    numbers = {
        "fold": np.arange(len(gold)) % 3 + 1,
        "repeat": np.ones(len(gold), dtype=np.int64),
        "split": np.repeat(np.arange(len(names)), sizes),
        "row": np.concatenate([np.arange(size) for size in sizes]),
        "group": np.arange(len(gold)),
    }
    predictions = Predictions("single_label", outputs=outputs, references=gold, labels=labels)
    folder.mkdir()
    save(Predicted(predictions=predictions, rows=hashes, lengths=np.ones_like(gold), numbers=numbers), folder / STORE)
    write_json(folder / RESULT, {"splits": names, "runs": [{}, {}, {}], "out_of_fold": STORE})
    fingerprints = {"study": "crossval", "folds": 3, "repeats": 1}
    write_json(
        folder / "study.json",
        {"command": "hf-trainpipe crossval r.py", "recipe": to_json(recipe), "fingerprints": fingerprints},
    )
    return folder
