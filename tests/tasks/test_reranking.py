"""Documents beside queries: any number a row, their scores, and the order of them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from datasets import Dataset
from transformers import BertTokenizerFast

from hf_trainpipe import DataError, RecipeError, Reranking
from hf_trainpipe.data.rows import Rows
from hf_trainpipe.runtime.model.outputs import Outputs
from hf_trainpipe.runtime.tasks.base import Requests
from hf_trainpipe.runtime.tasks.ranking import ranking_scores
from hf_trainpipe.runtime.tasks.reranking import _draw
from hf_trainpipe.runtime.tokens.batch import pad
from hf_trainpipe.runtime.tokens.encoder import Encoder
from hf_trainpipe.testing import tiny_model

LISTS = [
    {"query": "who", "documents": ["anna", "film", "day"], "scores": [5, 0, 1]},
    {"query": "what", "documents": ["film"], "scores": [4]},
    {"query": "who", "documents": ["boris"], "scores": [3]},
]


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> BertTokenizerFast:
    folder: Path = tiny_model(tmp_path_factory.mktemp("model"))
    return BertTokenizerFast.from_pretrained(folder)


def prepared(tokenizer: BertTokenizerFast, task: Reranking, rows: list[dict[str, object]]):
    encoder = Encoder(tokenizer, max_length=12)
    held = Rows(Dataset.from_list(rows), "train", encoder=encoder)
    task.check(held)
    return task.supervise(held, task.encode(held.inputs(task), encoder)), encoder


def test_losses_are_their_definitions(tokenizer: BertTokenizerFast) -> None:
    logits = np.random.default_rng(1).normal(size=(5, 1)).astype(np.float32)
    labels = np.array([1.0, 0.0, 0.2, 0.8, 0.6])
    groups = [[0, 1, 2], [3], [4]]
    of_each = -(
        labels * np.log(1 / (1 + np.exp(-logits[:, 0]))) + (1 - labels) * np.log(1 / (1 + np.exp(logits[:, 0])))
    )
    expected = {"binary": sum(of_each[group].mean() for group in groups), "list": 0.0}
    for group in groups:
        shares = labels[group] / labels[group].sum()
        expected["list"] -= float(shares @ (logits[group, 0] - np.log(np.exp(logits[group, 0]).sum())))
    for loss, value in expected.items():
        task = Reranking(score="scores", high=5.0, loss=loss)
        features, _ = prepared(tokenizer, task, LISTS)
        assert features.example.tolist() == [0, 0, 0, 1, 2]
        assert features.together is (loss == "list")
        found = task.loss_sum({"logits": torch.from_numpy(logits)}, pad(features, np.arange(5), with_targets=True))
        assert float(found) == pytest.approx(value, rel=1e-5)
        order = np.array([3, 0, 2, 4, 1])
        merged = task.merge(Outputs(order, {"logits": logits[order]}), features)
        parts = task.merged_batch(merged, features)
        outputs, batch = ({name: torch.from_numpy(array) for name, array in part.items()} for part in parts)
        assert float(task.loss_sum(outputs, batch)) == pytest.approx(value, rel=1e-5)


def test_rows_of_one_query_are_one_ranking(tokenizer: BertTokenizerFast) -> None:
    task = Reranking(score="scores", high=5.0)
    features, encoder = prepared(tokenizer, task, LISTS)
    logits = np.array([0.1, 0.5, -1.0, 2.0, 0.3], dtype=np.float32)
    predictions = task.merge(Outputs(np.arange(5), {"logits": logits[:, None]}), features)
    judged = task.judge(predictions, features)
    expected = ranking_scores(logits[[0, 1, 2, 4]], np.array([1.0, 0.0, 0.2, 0.6]))
    for name, value in expected.items():
        assert judged[name][0] == pytest.approx(value, abs=1e-6)
        assert np.isnan(judged[name][2])
    answers = task.answers(predictions, Requests(LISTS, features, encoder), top_k=2)
    assert [[item["index"] for item in answer] for answer in answers] == [[1, 0], [0], [0]]


def test_wrong_documents_are_drawn_from_other_queries(tokenizer: BertTokenizerFast) -> None:
    queries = ["a", "b", "a", "c"]
    documents = [["1"], ["2"], ["3"], ["4", "5"]]
    drawn = _draw(queries, documents, 3)
    assert [set(row) for row in drawn] == [{"2", "4", "5"}, set(drawn[1]), {"2", "4", "5"}, {"1", "2", "3"}]
    assert len(set(drawn[1])) == 3
    assert "2" not in drawn[1]
    assert drawn == _draw(queries, documents, 3)
    assert [len(row) for row in _draw(queries, documents, 9)] == [3, 4, 3, 3]

    rows = [{"query": query, "documents": row} for query, row in zip(queries, documents, strict=True)]
    task = Reranking(drawn=3)
    features, _ = prepared(tokenizer, task, rows)
    assert features.windows.tolist() == [4, 4, 4, 5]
    assert features.dense["labels"].tolist() == [1, 0, 0, 0] * 3 + [1, 1, 0, 0, 0]
    logits = np.arange(17, dtype=np.float32)[:, None]
    merged = task.merge(Outputs(np.arange(17), {"logits": logits}), features)
    assert [merged.rows("logits", place)[:, 0].tolist() for place in range(4)] == [[0], [4], [8], [12, 13]]


def test_what_is_wrong_is_told_with_its_row(tokenizer: BertTokenizerFast) -> None:
    for row in (
        {"query": "a", "documents": ["b", "c"], "scores": [1]},
        {"query": "a", "documents": ["b"], "scores": [7]},
        {"query": "a", "documents": ["b"], "scores": ["x"]},
    ):
        with pytest.raises(DataError, match="expected a number from 0"):
            prepared(tokenizer, Reranking(score="scores"), [row])
    with pytest.raises(DataError, match="expected a text or a list of texts"):
        prepared(tokenizer, Reranking(), [{"query": "a", "documents": [3]}])
    for wrong in ({"drawn": 0}, {"loss": "pairs"}, {"low": 1.0}):
        with pytest.raises(RecipeError):
            Reranking(**wrong)
