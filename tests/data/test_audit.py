"""The audit of all splits before tokenization."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from datasets import Dataset, DatasetDict

from hf_trainpipe.data.audit import audit
from hf_trainpipe.data.sources import Files
from hf_trainpipe.errors import DataError
from hf_trainpipe.tasks import TextClassification, TokenClassification
from tests.data.reading import label_notes

if TYPE_CHECKING:
    from pathlib import Path

TASK = TextClassification("text", label="label")


def splits(**columns_of: dict[str, list[Any]]) -> DatasetDict:
    return DatasetDict({name: Dataset.from_dict(columns) for name, columns in columns_of.items()})


def test_nothing_to_say() -> None:
    assert audit(TASK, splits(train={"text": ["a", "b"], "label": [0, 1]}, test={"text": ["c"], "label": [0]})) == []


def test_missing_column(tmp_path: Path) -> None:
    (tmp_path / "train.csv").write_text("sentence,labels\nx,1\n")
    with pytest.raises(DataError) as caught:
        audit(TASK, Files(train="train.csv", root=str(tmp_path), rename={"sentence": "text"}).splits())
    error = caught.value
    assert "train.csv: split 'train' has no column 'label'. There are: text, labels." in error.message
    assert "Did you mean 'labels'?" in error.fix
    assert (error.data["file"], error.data["line"]) == ("train.csv", 1)
    with pytest.raises(DataError, match="split 'test' has no column 'text'"):
        audit(TASK, splits(train={"text": ["a"], "label": [0]}, test={"sentence": ["a"], "label": [0]}))


def test_fault_39_extra_columns(tmp_path: Path) -> None:
    (tmp_path / "train.csv").write_text("text,label,id,source\nx,1,7,web\n")
    (warning,) = audit(TASK, Files(train="train.csv", root=str(tmp_path)).splits())
    assert warning == "columns that the task does not read: id, source"
    (warning,) = audit(TASK, splits(train={"text": ["a"], "label": [0]}, test={"text": ["b"], "label": [0], "id": [1]}))
    assert warning == "test: columns that the task does not read: id"


def test_fault_43_empty_split() -> None:
    with pytest.raises(DataError, match="split 'validation': expected rows, found none"):
        audit(TASK, splits(train={"text": ["a"], "label": [0]}, validation={"text": [], "label": []}))
    with pytest.raises(DataError, match="split 'train'"):
        audit(TASK, splits(test={"text": ["a"], "label": [0]}))


def test_fault_44_overlap_and_duplicates() -> None:
    train = {"text": ["a", "b", "a", "c"], "label": [0, 1, 0, 1]}
    warnings = audit(TASK, splits(train=train, validation={"text": ["a", "x", "c", "y"], "label": [0, 1, 1, 0]}))
    assert warnings == [
        "train: 1 of 4 rows repeat the input of another row (25.0%)",
        "validation: 2 of 4 inputs are in train too (50.0%)",
    ]
    pair = TextClassification("text", text_pair="other")
    columns = {"text": ["a", "a"], "other": ["x", "y"], "label": [0, 1]}
    assert audit(pair, splits(train=columns, test={"text": ["a"], "other": ["z"], "label": [0]})) == []
    tags = TokenClassification("words")
    columns = {"words": [["a"], ["b"]], "tags": [["O"], ["B-X"]]}
    (warning,) = audit(tags, splits(train=columns, test={"words": [["b"]], "tags": [["O"]]}))
    assert "1 of 1 inputs" in warning


def test_a_label_that_dominates() -> None:
    columns = {"text": [str(row) for row in range(40)], "label": ["ham"] * 39 + ["spam"]}
    (warning,) = label_notes(TASK, splits(train=columns))
    assert "97.5% of the rows have the label 'ham'" in warning
