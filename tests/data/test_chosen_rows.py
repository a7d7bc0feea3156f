"""Rows chosen by a file, of sources as people have them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from hf_trainpipe import ChosenRows, DataError, Files, Frame, RecipeError
from hf_trainpipe.codec import from_json, to_json
from hf_trainpipe.data import chosen_rows
from hf_trainpipe.data.place import place


@pytest.fixture
def source(tmp_path: Path) -> Files:
    for name, count in (("train", 6), ("dev", 3)):
        rows = "".join(f"{name} {number},{number % 2}\n" for number in range(count))
        (tmp_path / f"{name}.csv").write_text(f"text,label\n{rows}")
    return Files(train="train.csv", validation="dev.csv", root=str(tmp_path))


def test_rows_come_in_the_file_s_order_and_keep_their_lines(source: Files, tmp_path: Path) -> None:
    file = tmp_path / "rows.json"
    chosen_rows.write(file, {"test": [("train", [1])], "train": [("train", [4, 0]), ("validation", [2])]})
    splits = ChosenRows.of(source, file).splits()
    assert {name: list(rows["text"]) for name, rows in splits.items()} == {
        "train": ["train 4", "train 0", "dev 2"],
        "test": ["train 1"],
    }
    assert [str(place(splits["train"], "train", row)) for row in range(3)] == [
        "train.csv, line 6",
        "train.csv, line 2",
        "dev.csv, line 4",
    ]


def test_a_recipe_with_chosen_rows_is_json_and_says_so(source: Files, tmp_path: Path) -> None:
    from hf_trainpipe import Pretrained, Recipe, TextClassification

    file = tmp_path / "rows.json"
    chosen_rows.write(file, {"train": [("train", [0, 1])]})
    data = ChosenRows.of(source, file)
    recipe = Recipe(name="r", model=Pretrained("m"), data=data, task=TextClassification("text", label="label"))
    assert from_json(json.loads(json.dumps(to_json(recipe)))).data == data
    assert "of these, the rows that rows.json chooses" in data.describe()
    assert data.origin() == source


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("", "rows.json: expected rows by split as JSON"),
        ('{"test": [["train", [0]]]}', "a list for 'train', found test"),
        ('{"train": [["train", [0]]], "dev": []}', "found 'dev'"),
        ('{"train": [["train", [0.5]]]}', "row numbers from 0"),
        ('{"train": [["train", []]]}', "rows for 'train', found none"),
        ('{"train": [["train", [0, 1]]], "test": [["train", [1]]]}', "row 1 of 'train' in train and in test"),
        ('{"train": [["tran", [0]]]}', "Did you mean 'train'?"),
        ('{"train": [["train", [6]]]}', "row 6 of 'train', which has 6 rows"),
    ],
)
def test_a_wrong_file_is_one_screen(source: Files, tmp_path: Path, content: str, said: str) -> None:
    (tmp_path / "rows.json").write_text(content)
    with pytest.raises(DataError) as refused:
        ChosenRows.of(source, tmp_path / "rows.json").splits()
    assert said in str(refused.value.message) + refused.value.fix


def test_a_changed_file_is_refused(source: Files, tmp_path: Path) -> None:
    file = tmp_path / "rows.json"
    chosen_rows.write(file, {"train": [("train", [0, 1])]})
    data = ChosenRows.of(source, file)
    chosen_rows.write(file, {"train": [("train", [0, 2])]})
    with pytest.raises(RecipeError, match="expected sha256"):
        data.splits()


def test_columns_that_differ_are_told(tmp_path: Path) -> None:
    import pandas

    frames: dict[str, Any] = {"train": pandas.DataFrame({"a": [1, 2]}), "test": pandas.DataFrame({"a": ["x", "y"]})}
    chosen_rows.write(tmp_path / "rows.json", {"train": [("train", [0]), ("test", [1])]})
    with pytest.raises(DataError, match="whose columns differ"):
        ChosenRows.of(Frame(**frames), tmp_path / "rows.json").splits()
