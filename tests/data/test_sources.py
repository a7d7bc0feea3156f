"""Options of all sources: splits, fractions, renamed and joined columns."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from hf_trainpipe.data.sources import Files, Frame, HubData
from hf_trainpipe.errors import DataError, RecipeError


def frame(rows: int = 40) -> pd.DataFrame:
    return pd.DataFrame(
        {
            "text": [f"text {i}" for i in range(rows)],
            "label": ["a", "b"] * (rows // 2),
            "who": [i // 4 for i in range(rows)],
        }
    )


def test_frame_splits_by_fraction() -> None:
    splits = Frame(train=frame(), validation=0.25, test=0.1).splits()
    assert list(splits) == ["train", "validation", "test"]
    assert {name: len(split) for name, split in splits.items()} == {"train": 26, "validation": 10, "test": 4}
    texts = [text for split in splits.values() for text in split["text"]]
    assert sorted(texts) == sorted(frame()["text"])
    again = Frame(train=frame(), validation=0.25, test=0.1).splits()
    assert again["validation"]["text"][:] == splits["validation"]["text"][:]
    other = Frame(train=frame(), validation=0.25, test=0.1, seed=18).splits()
    assert other["validation"]["text"][:] != splits["validation"]["text"][:]
    wider = Frame(train=frame(), validation=0.5, test=0.1).splits()
    assert wider["test"]["text"][:] == splits["test"]["text"][:]
    assert "__file__" not in splits["train"].column_names


def test_stratified_and_grouped() -> None:
    stratified = Frame(train=frame(), validation=0.2, stratify="label").splits()
    assert sorted(stratified["validation"]["label"]) == ["a"] * 4 + ["b"] * 4
    grouped = Frame(train=frame(), validation=0.2, group="who").splits()
    assert len(grouped["validation"]) == 8
    assert not set(grouped["train"]["who"]) & set(grouped["validation"]["who"])
    with pytest.raises(DataError, match="Did you mean 'label'"):
        Frame(train=frame(), validation=0.2, stratify="lable").splits()
    with pytest.raises(RecipeError, match="stratify"):
        Frame(train=frame(), validation=0.2, stratify="label", group="who")


def test_frame_of_mixed_types_and_without_rows() -> None:
    with pytest.raises(DataError, match=r"row 2 of split 'train': column 'label' mixes types"):
        Frame(train=pd.DataFrame({"text": list("abc"), "label": ["x", None, 1]}), validation=None).splits()
    with pytest.raises(DataError, match="empty frame"):
        Frame(train=frame().head(0)).splits()
    assert Frame(train=frame(), validation=0.1).describe() == "frames: train=40 rows, validation=0.1"


def test_splits_that_differ_are_brought_together(tmp_path: Path) -> None:
    (tmp_path / "train.csv").write_text("topic,text\n1,a b\n2,c d\n")
    (tmp_path / "test.csv").write_text('"2","c","d"\n"1","","b"\n')
    data = Files(
        train="train.csv",
        test="test.csv",
        root=str(tmp_path),
        headers={"test": ("topic", "title", "body")},
        join={"text": ("title", "body")},
        rename={"topic": "label"},
        values={"label": {"1": "world", "2": "sport"}},
        columns=("text", "label"),
    )
    splits = data.splits()
    assert splits["test"]["text"][:] == ["c d", "b"]
    assert splits["train"]["label"][:] == ["world", "sport"]
    assert set(splits["test"].column_names) == {"text", "label", "__file__", "__line__"}
    assert data.describe() == "files: train=train.csv, test=test.csv"


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"rename": {"sentense": "text"}}, "Did you mean 'sentence'"),
        ({"columns": ("sentnce",)}, "Did you mean 'sentence'"),
        ({"join": {"both": ("sentence", "titel")}}, "no split has the column 'titel'"),
        ({"values": {"label": {"0": "no"}}}, "train.csv, line 3: data.values has no entry for '1'"),
    ],
)
def test_wrong_columns(tmp_path: Path, options: dict[str, Any], said: str) -> None:
    (tmp_path / "train.csv").write_text("sentence,label\nx,0\ny,1\n")
    with pytest.raises(DataError) as caught:
        Files(train="train.csv", root=str(tmp_path), **options).splits()
    assert said in str(caught.value)


def test_rows_with_missing_text_can_be_dropped(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text('{"text": "a"}\n{"text": null}\n{"text": " "}\n{"text": "b"}\n')
    dataset = Files(train="a.jsonl", root=str(tmp_path), drop_missing=("text",)).splits()["train"]
    assert (dataset["text"][:], dataset["__line__"][:]) == (["a", "b"], [1, 4])


def test_lines_survive_a_cut(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("text\n" + "".join(f"{line}\n" for line in range(2, 42)))
    splits = Files(train="a.csv", validation=0.25, root=str(tmp_path)).splits()
    for split in splits.values():
        assert [int(text) for text in split["text"]] == split["__line__"][:]


def test_root_may_lie_in_a_package() -> None:
    with pytest.raises(RecipeError, match="pip install no-such-package-here"):
        Files(train="a.csv", root="package:no_such_package_here/data").splits()


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: Files(train="a.csv", validation=1.5), "data.validation"),
        (lambda: Files(train="a.csv", headers={"dev": ("a",)}), "data.headers"),
        (lambda: Files(train="a.csv", max_row_bytes=0), "data.max_row_bytes"),
        (lambda: Files(train="a.csv", quoting="some"), "data.quoting"),
        (lambda: Files(train="a.csv", format="cvs"), "Did you mean 'csv'"),
        (lambda: Files(train="a.csv", extra="drop"), "data.extra"),
        (lambda: Files(train="a.csv", seed=-1), "data.seed"),
        (lambda: Frame(train=[1]), "data.train"),
        (lambda: HubData("./here"), "data.repo"),
        (lambda: HubData("a/b", take=0), "data.take"),
    ],
)
def test_wrong_options_are_refused_at_once(make: Any, said: str) -> None:
    with pytest.raises(RecipeError) as caught:
        make()
    assert said in str(caught.value)


def test_names_that_exist_already() -> None:
    three = pd.DataFrame({"a": ["x", "y"], "b": ["u", "v"], "c": ["1", "2"]})
    swapped = Frame(train=three, rename={"a": "b", "b": "a"}).splits()["train"]
    assert swapped.to_dict() == {"b": ["x", "y"], "a": ["u", "v"], "c": ["1", "2"]}
    joined = Frame(train=three, join={"x": ("a", "b"), "c": ("b", "c")}).splits()["train"]
    assert joined.to_dict() == {"x": ["x u", "y v"], "c": ["u 1", "v 2"]}
    for options, said in (
        ({"rename": {"a": "b"}}, "data.rename: 'a' would become 'b', and that column exists"),
        ({"rename": {"a": "z", "b": "z"}}, "'a' becomes that too"),
        ({"rename": {"a": "__line__"}}, "cannot be the name of a column"),
        ({"join": {"c": ("a", "b")}}, "data.join: 'a' would become 'c', and that column exists"),
    ):
        with pytest.raises(DataError) as caught:
            Frame(train=three, **options).splits()
        assert said in str(caught.value)


def test_paths_are_texts() -> None:
    data = Files(train=Path("a.csv"), validation=[Path("b.csv"), "c.csv"], root=Path("x"))  # type: ignore[arg-type]
    assert data == Files(train="a.csv", validation=("b.csv", "c.csv"), root="x")
