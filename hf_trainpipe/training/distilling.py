"""Learning from a teacher: its logits for the training split, kept on disk, and the loss that they are part of.

The teacher reads the rows' own texts, before the student's preprocessing. What it made of them is kept in parts, each by a hash of
the teacher and of the texts (:func:`.reference.kept`): a run that is killed while the teacher answers goes on behind the last
part, and every attempt and every rank reads the same numbers.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from hf_trainpipe.data.encode import content_digest
from hf_trainpipe.data.reference import kept
from hf_trainpipe.errors import RecipeError
from hf_trainpipe.runtime.tokens.features import concatenate
from hf_trainpipe.utils.cache import cache_root

if TYPE_CHECKING:
    import torch

    from hf_trainpipe.data.prepare import Prepared
    from hf_trainpipe.recipe import Distil
    from hf_trainpipe.runtime.tasks.base import Task
    from hf_trainpipe.runtime.tokens.features import Features
    from hf_trainpipe.training.setup import Setup
    from hf_trainpipe.training.teacher import Asked

VERSION = 1
PART = 8192
"""Rows that are asked about and kept at a time."""
TEACHER = "teacher"
"""The column of features: the teacher's logits of their example, in the order of the task's labels; float32[F, C]."""


LABELLED = "labelled"
"""The column of features that tells rows with a label (1) from those without (0), where there are both; float32[F]."""


class Lessons:
    """What the teacher of a run makes of its training rows.

    Args:
        setup: Of a recipe with ``distil``.
    """

    def __init__(self, setup: Setup) -> None:
        assert setup.teacher is not None
        self.setup, self.teacher = setup, setup.teacher

    def added_to(self, split: Prepared) -> Prepared:
        """A split with the teacher's logits. All ranks call it.

        Raises:
            SchemaError: the teacher's package is not as it was written.
            RecipeError: the teacher lacks a weight, or gives other outputs than it says.
        """
        rows, task = split.rows.dataset, self.setup.task
        told = f"asking the teacher about {split.name}, {len(rows):,} rows"
        parts: list[np.ndarray] = []
        asked: list[int] = []
        with self.setup.console.working(told, total=len(rows)) as done:
            for begin in range(0, len(rows), PART):
                found = rows[begin : begin + PART]
                inputs = {role: found[column.name] for role, column in task.inputs.items()}
                parts.append(self._logits(inputs, asked))
                done(begin + len(parts[-1]))
        if asked:
            self.setup.console.say(f"asked the teacher about {split.name}: {sum(asked):,} rows; kept")
        logits_NC = np.concatenate(parts)[:, self.teacher.outputs(task)]
        return replace(split, features=split.features.with_targets(teacher=logits_NC[split.features.example]))

    def learnt(self, train: Prepared, unlabelled: Prepared) -> Prepared:
        """The rows that steps are drawn from: the training split as :meth:`added_to` gave it, behind it those without labels,
        which count for the distance from the teacher alone. All ranks call it."""
        asked, task = self.added_to(unlabelled).features, self.setup.task
        told_N = task.taught(asked.dense[TEACHER][asked.first.clip(max=asked.num_features - 1)])
        asked = asked.with_targets(labels=told_N[asked.example], of_examples={"labels": told_N})
        parts = []
        for features, is_labelled in ((train.features, 1.0), (asked, 0.0)):
            column_F = np.full(features.num_features, is_labelled, dtype=np.float32)
            parts.append(features.with_targets(labelled=column_F))
        return replace(train, features=concatenate(parts))

    def _logits(self, inputs: Mapping[str, list[str]], asked: list[int]) -> np.ndarray:
        """float32[N, C] of some rows; their number is added to ``asked`` if the teacher was."""
        columns = list(inputs.values())
        settings = {
            "version": VERSION,
            "teacher": self.teacher.identity,
            "precision": "fp32",
            "rows": content_digest(inputs),
        }

        def compute(share: np.ndarray) -> dict[str, np.ndarray]:
            return {TEACHER: self._ask({role: [values[row] for row in share] for role, values in inputs.items()})}

        found = kept(
            settings,
            compute,
            lengths=np.asarray([sum(map(len, texts)) for texts in zip(*columns, strict=True)]),
            root=cache_root(),
            ranks=self.setup.ranks,
            done=asked.append,
        )
        return found[TEACHER]

    def _ask(self, inputs: Mapping[str, list[str]]) -> np.ndarray:
        expected = len(self.teacher.labels or "1")
        if not any(inputs.values()):  # more ranks than rows
            return np.zeros((0, expected), dtype=np.float32)
        logits_NC = self._asked.logits(inputs)
        if logits_NC.shape[1:] != (expected,):
            raise RecipeError(
                f"distil.teacher: expected {expected} outputs for its labels, found {logits_NC.shape[1]}.",
                fix="Name the teacher's labels in the order of its outputs: distil.names=(...).",
            )
        return logits_NC

    @cached_property
    def _asked(self) -> Asked:
        return self.teacher.loaded(self.setup.task, device=self.setup.accelerator.device)


def as_taught(features: Features, taught: Features) -> Features:
    """Other features of the same examples, with what the teacher made of those: of texts that augmentation changed, what it made
    of them as they were."""
    if TEACHER not in taught.dense:
        return features
    return features.with_targets(teacher=taught.dense[TEACHER][taught.first[features.example]])


def loss_sum(
    task: Task, distil: Distil, outputs: Mapping[str, torch.Tensor], batch: Mapping[str, torch.Tensor]
) -> torch.Tensor:
    """The loss of a training step, summed: the distance from the teacher and the task's own, by their weights."""
    taught = task.distilled_sum(outputs, batch, temperature=distil.temperature)
    if (labelled_B := batch.get(LABELLED)) is not None:
        batch = {**batch, "weights": batch["weights"] * labelled_B}
    return distil.weight * taught + (1.0 - distil.weight) * task.loss_sum(outputs, batch)
