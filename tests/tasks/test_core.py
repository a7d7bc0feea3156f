"""What the core does for tasks that ask for more than one pass over their features."""

from __future__ import annotations

from dataclasses import dataclass, replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from datasets import Dataset

from hf_trainpipe import TextClassification
from hf_trainpipe.data.prepare import Prepared, PreparedData
from hf_trainpipe.data.rows import Rows
from hf_trainpipe.data.unread import UnreadEncoder
from hf_trainpipe.runtime.tasks import Regression, Task
from hf_trainpipe.runtime.tasks.registry import travelling
from hf_trainpipe.training.feed import Feed


@dataclass(frozen=True)
class Referenced(TextClassification):
    """Compares with what the model gave before its first step."""

    def precompute(self, model: Any, features: Any) -> Any:
        return features.with_targets(reference=np.full(features.num_features, model))


@dataclass(frozen=True)
class Rewritten(TextClassification):
    """Answers otherwise than the task that it comes from."""

    def answers(self, predictions: Any, asked: Any, **parameters: Any) -> list[Any]:
        return ["always the same"]


def prepared(task: Task) -> Prepared:
    rows = Rows(
        Dataset.from_dict({"text": ["a", "b", "c"], "label": ["x", "y", "x"]}), "train", encoder=UnreadEncoder()
    )
    task = task.fit(rows)
    features = task.supervise(rows, task.encode(rows.inputs(task), UnreadEncoder()))
    return Prepared("train", features, rows, "")


def test_a_model_is_asked_before_its_first_step() -> None:
    asked = PreparedData({"train": prepared(Referenced())}, Referenced(), {})
    found = asked.precomputed(asked.train, lambda: 2.5)  # type: ignore[arg-type, return-value]
    assert found.batch(np.array([0, 2]))["reference"].tolist() == [2.5, 2.5]
    plain = PreparedData({"train": prepared(TextClassification())}, TextClassification(), {})
    same = plain.precomputed(plain.train, lambda: pytest.fail("nobody asked"))
    assert set(same.batch(np.array([0]))) == {"input_ids", "attention_mask", "labels", "weights"}


def test_features_that_a_loss_compares_stay_in_one_micro_batch() -> None:
    setup = SimpleNamespace(plan=SimpleNamespace(micro_batch_examples=1))
    feed: Any = SimpleNamespace(micro_batch_tokens=1, _unpadded=True, setup=setup)
    split = prepared(TextClassification())
    features = replace(split.features, example=np.array([0, 0, 1], dtype=np.int32), num_examples=2)
    split = replace(split, features=features)
    assert len(Feed._groups(feed, split, np.arange(2))) == 3
    split = replace(split, features=replace(features, together=True))
    assert sorted(group.tolist() for group in Feed._groups(feed, split, np.arange(2))) == [[0, 1], [2]]
    assert split.empty_batch()["weights"].tolist() == [0.0] * len(split.empty_batch()["weights"])


def test_what_changes_the_training_alone_travels_as_a_built_in_task() -> None:
    assert type(travelling(Referenced(names=("x", "y")))) is TextClassification
    assert travelling(Referenced(names=("x", "y"))).label_names == ("x", "y")
    own = Rewritten()
    assert travelling(own) is own
    assert travelling(Regression(low=1.0)) == Regression(low=1.0)
