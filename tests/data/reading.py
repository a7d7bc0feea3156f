"""Targets of rows as training reads them, without a tokenizer: what the tests of labels, targets and spans look at."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from hf_trainpipe.data.rows import Rows
from hf_trainpipe.data.unread import UnreadEncoder
from hf_trainpipe.runtime.tasks.columns import Labels

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from datasets import Dataset

    from hf_trainpipe.runtime.tasks.base import Task

__all__ = ["Targets", "build_targets", "fitted_to", "label_notes", "resolve_labels"]


@dataclass
class Targets:
    """What is right, as arrays: one a row, or of tags one a word."""

    values: np.ndarray
    word_starts: np.ndarray | None
    report: dict[str, Any]
    words: list[list[str]] | None
    """Of texts: their words as they were given."""
    notes: list[str]


def resolve_labels(task: Task, splits: Mapping[str, Dataset]) -> Labels:
    return task.fit(Rows(splits["train"], "train", others=splits)).label_names


def fitted_to(task: Task, labels: Labels) -> Task:
    """The task with these labels, whatever its data have."""
    said = task.label_names.names or (tuple(parts) if (parts := task.target.parts) else None)  # type: ignore[union-attr]
    known = Labels(labels, is_ordered=labels.is_ordered, are_vectors=labels.are_vectors, said=labels.said or said)
    return replace(task, names=known) if labels else task  # type: ignore[type-var]


def build_targets(
    task: Task, labels: Labels, dataset: Dataset, split: str, *, steps: Sequence[Any] = (), is_training: bool = False
) -> Targets:
    encoder = UnreadEncoder(steps=steps)
    rows = Rows(dataset, split, encoder=encoder, is_training=is_training)
    task = fitted_to(task, labels)
    inputs = rows.inputs(task)
    task.check(rows)
    features = task.supervise(rows, task.encode(inputs, encoder))
    within = features.within
    if within is None:
        return Targets(features.of_examples["labels"], None, rows.report, None, rows.notes)
    words = None
    if (texts := inputs.get("text")) is not None:
        places = [within.part(row, row + 1) for row in range(len(texts))]
        words = [
            [text[start:end] for start, end in zip(one["start"], one["end"], strict=True)]
            for text, one in zip(texts, places, strict=True)
        ]
    return Targets(within["tags"], within.starts, rows.report, words, rows.notes)


def label_notes(task: Task, splits: Mapping[str, Dataset]) -> list[str]:
    """The warnings about the labels of the training split."""
    rows = Rows(splits["train"], "train", encoder=UnreadEncoder(), others=splits, is_training=True)
    fitted, encoder = task.fit(rows), UnreadEncoder()
    fitted.supervise(rows, fitted.encode(rows.inputs(fitted), encoder))
    return rows.notes
