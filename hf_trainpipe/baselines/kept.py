"""Baselines on disk: what each answered to every row, by the content of the data and what else it follows from.

An entry is a folder with a file of predictions a split, as runs have them (:mod:`hf_trainpipe.metrics.saved`), and ``entry.json``, which is
written last. In the cache its name holds the key; in a folder of a person's own it is the baseline's.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hf_trainpipe.engine.scores import score_predictions
from hf_trainpipe.errors import DataError
from hf_trainpipe.metrics.base import finishes_of
from hf_trainpipe.metrics.saved import Predicted, load, save
from hf_trainpipe.runtime.text.preprocessing import steps_to_json
from hf_trainpipe.utils.atomic import new_folder
from hf_trainpipe.utils.cache import cache_root

if TYPE_CHECKING:
    from hf_trainpipe.baselines.listed import Baseline
    from hf_trainpipe.data.prepare import PreparedData
    from hf_trainpipe.recipe import Recipe

VERSION = 1
_ENTRY = "entry.json"
_READ_BY = ("scheme", "splitter")
"""Fields of tasks that answers and scores follow from, beside columns and labels; the others are about the network and its training."""


@dataclass(frozen=True, kw_only=True)
class Measured:
    """A baseline that was learnt, and what it answered."""

    name: str
    title: str
    seconds: float
    """To learn and to answer, on the machine that did it."""
    rows: int
    """Training rows that it learnt from,"""
    of: int
    """and how many there are."""
    predicted: Mapping[str, Predicted]
    """Of each evaluated split."""
    scores: Mapping[str, Mapping[str, Mapping[str, Any]]] = field(default_factory=dict)
    """Split to metric to value, low, high, confidence and n."""

    def to_json(self) -> dict[str, Any]:
        """All but the predictions."""
        told = {name: getattr(self, name) for name in ("name", "title", "seconds", "rows", "of")}
        return {**told, "scores": {split: dict(found) for split, found in self.scores.items()}}


class Kept:
    """The baselines that are kept of some data.

    Args:
        recipe: With its model pinned.
        folder: Where they are; None: in the cache.
    """

    def __init__(self, recipe: Recipe, data: PreparedData, folder: Path | None = None) -> None:
        self._recipe, self._data, self._folder = recipe, data, folder
        self._scored: dict[str, Any] = {}

    @cached_property
    def common(self) -> str:
        """What all of them follow from: the data as they were read, and the task's own view of them."""
        task = self._data.task
        return _hash(
            {
                "version": VERSION,
                "data": self._data.fingerprints["data"],
                "labels": list(task.label_names),
                "task": [
                    type(task).__name__,
                    {name: task.fields().get(name) for name in _READ_BY},
                    list(task.inputs),
                ],
                "preprocessing": steps_to_json(self._recipe.preprocessing),
                "usable": {name: len(split.usable) for name, split in self._data.splits.items()},
            }
        )

    @cached_property
    def _model(self) -> dict[str, Any]:
        """What vectors of the model as it begins follow from, beside the texts."""
        from hf_trainpipe.model.lora import base_fingerprint

        weights = base_fingerprint(replace(self._recipe.model, lora=None))
        return {
            "weights": weights,
            "tokenizer": self._data.fingerprints["tokenizer"],
            "length": self._recipe.tokens.max_length,
        }

    def _key(self, baseline: Baseline, most_rows: int | None) -> str:
        asks = self._model if baseline.asks_model else {}
        return _hash({"rows": most_rows, "title": baseline.title, **asks})

    def _place(self, baseline: Baseline, key: str) -> Path:
        if self._folder is not None:
            return self._folder / baseline.name
        return cache_root() / "baselines" / f"{self.common[:24]}-{baseline.name}-{key[:16]}"

    def is_any(self) -> bool:
        """Whether the cache has any of these data, without a look at the model's weights."""
        return any((cache_root() / "baselines").glob(f"{self.common[:24]}-*"))

    def get(self, baseline: Baseline, most_rows: int | None) -> Measured | None:
        """What is kept of a baseline; None if there is nothing, or it is damaged or of other data."""
        key = self._key(baseline, most_rows)
        folder, finishes = self._place(baseline, key), finishes_of(self._data.task.metrics())
        try:
            entry = json.loads((folder / _ENTRY).read_text(encoding="utf-8"))
            if entry["of_data"] != self.common or entry["key"] != key:
                return None
            told = {name: entry[name] for name in ("name", "title", "seconds", "rows", "of")}
            found = {split: load(folder / f"{split}.npz", finishes=finishes) for split in entry["splits"]}
        except (DataError, EOFError, KeyError, OSError, TypeError, ValueError):
            return None
        self._scored |= {baseline.name: (entry.get("scored_by"), entry.get("scores"))}
        return Measured(**told, predicted=found)

    def put(self, baseline: Baseline, most_rows: int | None, found: Measured) -> None:
        """Keep a baseline, with its scores."""
        from filelock import FileLock

        key = self._key(baseline, most_rows)
        folder = self._place(baseline, key)
        folder.parent.mkdir(parents=True, exist_ok=True)
        found = self.scored(found)
        with FileLock(folder.with_name(f".{folder.name}.lock")), new_folder(folder) as building:
            for split, one in found.predicted.items():
                save(one, building / f"{split}.npz")
            entry = {
                "of_data": self.common,
                "key": key,
                **found.to_json(),
                "splits": list(found.predicted),
                "scored_by": self._scored_by,
            }
            (building / _ENTRY).write_text(json.dumps(entry, indent=1), encoding="utf-8")

    def scored(self, found: Measured) -> Measured:
        """With its scores by the recipe's metrics; those that are kept, where they are of the same settings."""
        if found.scores:
            return found
        by, scores = self._scored.get(found.name, (None, None))
        if by != self._scored_by:
            evaluation, names = self._recipe.evaluation, self._recipe.scored_metrics
            scores = {
                split: score_predictions(one.predictions, names, evaluation=evaluation, seed=0)
                for split, one in found.predicted.items()
            }
        return replace(found, scores=scores)

    @cached_property
    def _scored_by(self) -> dict[str, Any]:
        evaluation = self._recipe.evaluation
        names = list(self._recipe.scored_metrics)
        return {"metrics": names, "confidence": evaluation.confidence, "resamples": evaluation.resamples}


def _hash(value: object) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True, default=str).encode()).hexdigest()
