"""Labels and targets of cells, and errors that name file and line."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from datasets import ClassLabel, Dataset, DatasetDict, Features, List, Value

from hf_trainpipe.data.place import place
from hf_trainpipe.data.sources import Files
from hf_trainpipe.errors import DataError
from hf_trainpipe.tasks import (
    Labels,
    MultiLabelClassification,
    Regression,
    Task,
    TextClassification,
    TokenClassification,
)
from tests.data.reading import Targets, build_targets, resolve_labels

ONE = TextClassification()
MANY = MultiLabelClassification()
NUMBER = Regression()
TAGS = TokenClassification("words")
SPANS = TokenClassification(text="text", spans="spans")


def from_lines(folder: Path, rows: list[dict[str, Any]], validation: list[dict[str, Any]] | None = None) -> DatasetDict:
    names = {"train": rows} | ({"validation": validation} if validation is not None else {})
    for name, values in names.items():
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in values))
    return Files(**{name: f"{name}.jsonl" for name in names}, root=str(folder)).splits()


def build(task: Task, splits: DatasetDict, split: str = "train") -> tuple[Labels, Targets]:
    labels = resolve_labels(task, splits)
    return labels, build_targets(task, labels, splits[split], split)


def refuse(task: Task, splits: DatasetDict, split: str = "train") -> DataError:
    with pytest.raises(DataError) as caught:
        build(task, splits, split)
    assert caught.value.fix
    return caught.value


def memory(features: Features | None = None, **columns: list[Any]) -> DatasetDict:
    return DatasetDict({"train": Dataset.from_dict(columns, features=features)})


def texts(*labels: Any) -> list[dict[str, Any]]:
    return [{"text": f"text {row}", "label": label} for row, label in enumerate(labels)]


@pytest.mark.parametrize(
    ("values", "names", "ids"),
    [
        (["no", "yes", "no"], ("no", "yes"), [0, 1, 0]),
        ([" yes", "no"], ("no", "yes"), [1, 0]),
        (["10", "9", "10"], ("9", "10"), [1, 0, 1]),
        ([4, 1, 2], ("1", "2", "4"), [2, 0, 1]),
        ([1.0, 0.0], ("0", "1"), [1, 0]),
        ([True, False], ("False", "True"), [1, 0]),
    ],
)
def test_labels_from_the_data(values: list[Any], names: tuple[str, ...], ids: list[int]) -> None:
    labels, targets = build(ONE, memory(text=["x"] * len(values), label=values))
    assert labels.names == names
    assert targets.values.tolist() == ids
    assert targets.values.dtype == np.int64
    assert sum(targets.report["counts"].values()) == len(ids)


@pytest.mark.parametrize("values", [["b", "a"], ["1", "0"], [1, 0], [1.0, 0.0]])
def test_names_of_the_recipe_come_first(values: list[Any]) -> None:
    labels, targets = build(TextClassification(names=("a", "b")), memory(text=["x", "y"], label=values))
    assert labels.names == ("a", "b")
    assert targets.values.tolist() == [1, 0]


def test_class_label_features() -> None:
    features = Features({"text": Value("string"), "label": ClassLabel(names=["z", "a"])})
    splits = memory(features, text=["x", "y"], label=[0, 1])
    labels, targets = build(ONE, splits)
    assert (labels.names, targets.values.tolist()) == (("z", "a"), [0, 1])
    _, reordered = build(TextClassification(names=("a", "z")), splits)
    assert reordered.values.tolist() == [1, 0]
    _, renamed = build(TextClassification(names=("bad", "good")), splits)
    assert renamed.values.tolist() == [0, 1]
    inside = Features({"words": List(Value("string")), "tags": List(ClassLabel(names=["O", "B-X", "I-X"]))})
    labels, targets = build(TAGS, memory(inside, words=[["a", "b"], ["c"]], tags=[[1, 2], [0]]))
    assert labels.names == ("O", "B-X", "I-X")
    assert targets.values.tolist() == [1, 2, 0]
    assert targets.values.dtype == np.int32
    assert targets.word_starts is not None
    assert targets.word_starts.tolist() == [0, 2, 3]


def test_multi_label_forms() -> None:
    expected = [[1, 1, 0], [0, 0, 0], [0, 0, 1]]
    named = MultiLabelClassification(names=("a", "b", "c"))
    for cells in ([["b", "a"], [], ["c"]], ["a, b", "", "c"], ["0,1", "", "2"], [[0, 1], [], [2]]):
        labels, targets = build(named, memory(text=["x", "y", "z"], labels=cells))
        assert targets.values.tolist() == expected
        assert targets.values.dtype == np.uint8
    labels, targets = build(MultiLabelClassification(separator="|"), memory(text=["x", "y"], labels=["b|a", "c"]))
    assert labels.names == ("a", "b", "c")
    assert targets.report["counts"] == {"a": 1, "b": 1, "c": 1}


def test_numbers() -> None:
    for values in (["1.5", "2"], [1.5, 2.0]):
        labels, targets = build(NUMBER, memory(text=["x", "y"], score=values))
        assert labels == Labels()
        assert targets.values.tolist() == [1.5, 2.0]
        assert targets.values.dtype == np.float32


def test_tags_are_sorted_and_completed() -> None:
    words, tags = [["a", "b"], ["c"]], [["I-PER", "O"], ["B-LOC"]]
    labels, targets = build(TAGS, memory(words=words, tags=tags))
    assert labels.names == ("O", "B-LOC", "I-LOC", "B-PER", "I-PER")
    assert targets.values.tolist() == [4, 0, 1]
    bioes = TokenClassification("words", scheme="BIOES")
    assert resolve_labels(bioes, memory(words=words, tags=tags)).names[1:5] == ("B-LOC", "I-LOC", "E-LOC", "S-LOC")
    plain = TokenClassification("words", scheme=None)
    assert resolve_labels(plain, memory(words=words, tags=[["X", "O"], ["ADJ"]])).names == ("O", "ADJ", "X")


def test_spans_become_words_and_tags() -> None:
    rows = [
        {
            "text": "Ann went to New York.",
            "spans": [{"start": 0, "end": 3, "label": "PER"}, {"start": 12, "end": 20, "label": "LOC"}],
        },
        {"text": "Rome", "spans": []},
        {"text": "Yorkshire", "spans": [{"start": 0, "end": 4, "label": "LOC"}]},
    ]
    splits = DatasetDict({"train": Dataset.from_list(rows)})
    labels, targets = build(SPANS, splits)
    assert labels.names == ("O", "B-LOC", "I-LOC", "B-PER", "I-PER")
    assert targets.words == [["Ann", "went", "to", "New", "York", "."], ["Rome"], ["Yorkshire"]]
    assert [labels.names[i] for i in targets.values] == ["B-PER", "O", "O", "B-LOC", "I-LOC", "O", "O", "B-LOC"]
    assert targets.report["spans"] == 3
    assert targets.report["widened"] == 1


def test_fault_35_missing_text(tmp_path: Path) -> None:
    rows = texts(*["a", "b"] * 10)
    rows[16]["text"] = None
    error = refuse(ONE, from_lines(tmp_path, rows))
    assert error.message.startswith("train.jsonl, line 17: column 'text': expected text, found nothing")
    assert (error.data["file"], error.data["line"]) == ("train.jsonl", 17)
    rows[16]["text"] = "  "
    assert (
        "line 17: column 'text': expected text, found an empty one" in refuse(ONE, from_lines(tmp_path, rows)).message
    )
    pair = TextClassification(text_pair="other")
    two = [{**row, "text": "x", "other": None if n == 3 else "y"} for n, row in enumerate(rows)]
    assert "line 4: column 'other'" in refuse(pair, from_lines(tmp_path, two)).message
    error = refuse(ONE, memory(text=["x", None], label=["a", "b"]))
    assert error.message.startswith("row 1 of split 'train': ")


def test_fault_35_missing_words(tmp_path: Path) -> None:
    for words in (None, [], ["a", None]):
        rows = [{"words": ["a"], "tags": ["O"]}, {"words": words, "tags": ["B-X"]}]
        assert refuse(TAGS, from_lines(tmp_path, rows)).message.startswith("train.jsonl, line 2: column 'words'")


def test_text_that_is_no_text(tmp_path: Path) -> None:
    rows = [{"text": 7, "label": "a"}, {"text": 8, "label": "b"}]
    assert "line 1: column 'text': expected text, found int64 (7)" in refuse(ONE, from_lines(tmp_path, rows)).message
    rows = [{"words": "a b", "tags": ["O", "B-X"]}]
    assert "expected word lists, found string" in refuse(TAGS, from_lines(tmp_path, rows)).message


def test_fault_36_mixed_labels_in_a_list(tmp_path: Path) -> None:
    rows = [{"text": "x", "labels": ["a"]}, {"text": "y", "labels": ["b", 1]}]
    with pytest.raises(DataError) as caught:
        from_lines(tmp_path, rows)
    assert caught.value.message.startswith("train.jsonl, line 2: column 'labels' mixes types")


def test_fault_37_nan_labels(tmp_path: Path) -> None:
    splits = from_lines(tmp_path, texts(1.0, 0.0, float("nan")))
    error = refuse(ONE, splits)
    assert error.message.startswith("train.jsonl, line 3: column 'label': expected a label, found nothing")
    assert error.data["line"] == 3
    assert "line 2" in refuse(ONE, from_lines(tmp_path, texts("a", None, "b"))).message
    assert (
        "line 2: column 'label': the label is empty" in refuse(ONE, from_lines(tmp_path, texts("a", "", "b"))).message
    )
    number = Regression(score="label")
    assert (
        "line 2: column 'label': expected a number, found nothing"
        in refuse(number, from_lines(tmp_path, texts(1.0, None))).message
    )
    for value in (float("inf"), "inf", "nan", "1e60"):
        values = (1.0, value) if isinstance(value, float) else ("1", value)
        assert (
            "line 2: column 'label': expected a finite number"
            in refuse(number, from_lines(tmp_path, texts(*values))).message
        )
    assert (
        "line 2: column 'label': expected a number, found '3,5'"
        in refuse(number, from_lines(tmp_path, texts("1", "3,5"))).message
    )
    assert "expected a number, found True" in refuse(number, from_lines(tmp_path, texts(True))).message


def test_fault_45_label_that_train_does_not_have(tmp_path: Path) -> None:
    splits = from_lines(tmp_path, texts("good", "bad"), texts("good", "bda"))
    error = refuse(ONE, splits)
    assert error.message.startswith(
        "validation.jsonl, line 2: column 'label': the label 'bda' is not in the training data"
    )
    assert (error.data["file"], error.data["line"]) == ("validation.jsonl", 2)
    assert "Did you mean 'bad'?" in error.fix
    many = MultiLabelClassification(labels="label")
    splits = from_lines(tmp_path, texts(["a"], ["b"]), texts(["a"], [], ["a", "c"]))
    assert "validation.jsonl, line 3: column 'label': the label 'c'" in refuse(many, splits).message
    rows = [{"words": ["a", "b"], "tags": ["O", "B-X"]}]
    splits = from_lines(tmp_path, rows, [*rows, {"words": ["a"], "tags": ["B-Y"]}])
    assert "validation.jsonl, line 2: column 'tags': the label 'B-Y'" in refuse(TAGS, splits).message
    spans = [{"text": "Ann", "spans": [{"start": 0, "end": 3, "label": "PER"}]}]
    other = [{"text": "Ann", "spans": [{"start": 0, "end": 3, "label": "PRE"}]}]
    splits = from_lines(tmp_path, spans, other)
    assert (
        "validation.jsonl, line 1: column 'spans': unknown label 'PRE'" in refuse(SPANS, splits, "validation").message
    )


@pytest.mark.parametrize("value", [2, -1, "2", 1.5])
def test_fault_47_label_out_of_range(tmp_path: Path, value: Any) -> None:
    others = ("0", "1") if isinstance(value, str) else (0, 1)
    error = refuse(TextClassification(names=("no", "yes")), from_lines(tmp_path, texts(*others, value)))
    assert error.message.startswith("train.jsonl, line 3: column 'label': label")
    assert "expected an id from 0 to 1 (no, yes)" in error.message
    assert error.data["line"] == 3
    if value == -1:
        assert "without a label" in error.fix


def test_fault_47_tags_and_several_labels(tmp_path: Path) -> None:
    tags = TokenClassification("words", names=("O", "B-X", "I-X"))
    rows = [{"words": ["a"], "tags": [0]}, {"words": ["b", "c"], "tags": [1, 3]}]
    assert (
        "train.jsonl, line 2: column 'tags': label 3 is out of range"
        in refuse(tags, from_lines(tmp_path, rows)).message
    )
    many = MultiLabelClassification(names=("a", "b"))
    rows = [{"text": "x", "labels": "0"}, {"text": "y", "labels": "1,2"}]
    assert (
        "train.jsonl, line 2: column 'labels': label 2 is out of range"
        in refuse(many, from_lines(tmp_path, rows)).message
    )


def test_unknown_label_names(tmp_path: Path) -> None:
    error = refuse(
        TextClassification(names=("positive", "negative")), from_lines(tmp_path, texts("positive", "postive"))
    )
    assert "line 2: column 'label': unknown label 'postive'; expected one of positive, negative" in error.message
    assert "Did you mean 'positive'?" in error.fix


def test_fault_49_every_label_ignored(tmp_path: Path) -> None:
    tags = TokenClassification("words", names=("O", "B-X", "I-X"))
    rows = [{"words": ["a", "b"], "tags": [-100, -100]}, {"words": ["c"], "tags": [-100]}]
    splits = from_lines(tmp_path, rows)
    assert "split 'train': every tag in column 'tags' is -100" in refuse(tags, splits).message
    rows[0]["tags"] = [-100, 1]
    _, targets = build(tags, from_lines(tmp_path, rows))
    assert targets.values.tolist() == [-100, 1, -100]
    assert targets.report["ignored"] == 2


def test_tags_that_do_not_fit(tmp_path: Path) -> None:
    rows = [{"words": ["a"], "tags": ["O"]}, {"words": ["a", "b"], "tags": ["B-X"]}]
    error = refuse(TAGS, from_lines(tmp_path, rows))
    assert error.message.startswith("train.jsonl, line 2: column 'tags': expected a tag for each of 2 'words', found 1")
    rows = [{"words": ["a", "b"], "tags": ["NOUN", "VERB"]}]
    assert "task.scheme to None" in refuse(TAGS, from_lines(tmp_path, rows)).fix
    rows = [{"words": ["a", "b"], "tags": ["S-X", "O"]}]
    assert "'BIOES'" in refuse(TAGS, from_lines(tmp_path, rows)).fix
    rows = [{"words": ["a", "b"], "tags": [0, 1]}]
    assert "task.names" in refuse(TAGS, from_lines(tmp_path, rows)).fix
    rows = [{"words": ["a", "b"], "tags": "O B-X"}]
    assert (
        "expected a list of labels"
        in refuse(TokenClassification("words", names=("O", "B-X")), from_lines(tmp_path, rows)).message
    )


@pytest.mark.parametrize(
    ("span", "said"),
    [
        ({"start": 0, "end": 9, "label": "PER"}, "outside the text of 3 characters"),
        ({"start": 2, "end": 2, "label": "PER"}, "is empty or outside"),
        ({"start": None, "end": 2, "label": "PER"}, "each with a start, an end and a label"),
    ],
)
def test_spans_that_do_not_fit(tmp_path: Path, span: dict[str, Any], said: str) -> None:
    rows = [{"text": "Ann", "spans": [{"start": 0, "end": 3, "label": "PER"}]}, {"text": "Bob", "spans": [span]}]
    error = refuse(SPANS, from_lines(tmp_path, rows))
    assert error.message.startswith("train.jsonl, line 2: column 'spans': ")
    assert said in error.message


def test_too_few_or_repeated_labels() -> None:
    assert "only 'a'" in refuse(ONE, memory(text=["x", "y"], label=["a", "a"])).message
    assert "repeats a" in refuse(TextClassification(names=("a", "a")), memory(text=["x"], label=["a"])).message
    both = memory(text=["x", "y"], label=[["a"], ["a", "b"]])
    assert "expected one label, found list<item: string> (['a', 'b'])" in refuse(ONE, both).message
    assert build(ONE, memory(text=["x", "y"], label=[["a"], ["b"]]))[1].values.tolist() == [0, 1]


def test_rows_behind_an_index_mapping_are_read_and_placed(tmp_path: Path) -> None:
    splits = from_lines(tmp_path, texts("a", "b", "a", "b"))
    chosen = DatasetDict({"train": splits["train"].select([3, 0])})
    _, targets = build(ONE, chosen)
    assert targets.values.tolist() == [1, 0]
    assert place(chosen["train"], "train", 0) == "train.jsonl, line 4"
