"""Labels are the same in every file format, type and spelling."""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from datasets import ClassLabel, Dataset, DatasetDict, Features, List, Value
from hypothesis import given, settings
from hypothesis import strategies as st

from hf_trainpipe.data.audit import audit
from hf_trainpipe.data.label_notes import label_lines
from hf_trainpipe.data.rows import Rows
from hf_trainpipe.data.sources import Files, Frame
from hf_trainpipe.errors import DataError, RecipeError
from hf_trainpipe.tasks import (
    Labels,
    MultiLabelClassification,
    Regression,
    Task,
    TextClassification,
    TokenClassification,
)
from tests.data.reading import build_targets, label_notes, resolve_labels

ONE = TextClassification()
MANY = MultiLabelClassification()
NAMED = MultiLabelClassification(names=("a", "b", "c", "d"))
HOT = [[0, 1, 1, 0], [1, 0, 0, 0], [0, 0, 0, 1], [0, 0, 0, 0]]


def memory(features: Features | None = None, **splits: list[Any]) -> DatasetDict:
    """Splits with a text for each label (a column ``label``, and the same as ``labels``)."""
    made = {}
    for name, cells in splits.items():
        columns = {"text": [f"text {row}" for row in range(len(cells))], "label": cells, "labels": cells}
        made[name] = Dataset.from_dict(columns, features=features)
    return DatasetDict(made)


def learnt(task: Task, splits: DatasetDict, split: str = "train") -> tuple[tuple[str, ...], list[Any]]:
    labels = resolve_labels(task, splits)
    return labels.names, build_targets(task, labels, splits[split], split).values.tolist()


def refused(task: Task, splits: DatasetDict, split: str = "train") -> str:
    with pytest.raises(DataError) as caught:
        learnt(task, splits, split)
    return str(caught.value)


def notes(task: Task, splits: DatasetDict) -> list[str]:
    return label_notes(task, splits)


def csv_of(folder: Path, cells: list[str], name: str = "train.csv") -> str:
    pd.DataFrame({"text": [f"text {row}" for row in range(len(cells))], "label": cells, "labels": cells}).to_csv(
        folder / name, index=False
    )
    return str(folder / name)


SPELLINGS = {
    "json int": lambda values: [int(value) for value in values],
    "json string": lambda values: [str(value) for value in values],
    "csv text": lambda values: [f"{value} " for value in values],
    "float column": lambda values: [float(value) for value in values],
    "text of floats": lambda values: [f"{value}.0" for value in values],
}


@settings(max_examples=15, deadline=None)
@given(
    st.lists(st.integers(-3, 12), min_size=2, max_size=8).filter(lambda values: len(set(values)) > 1),
    st.sampled_from(sorted(SPELLINGS)),
    st.sampled_from(sorted(SPELLINGS)),
)
def test_integers_are_the_same_label_in_every_spelling(values: list[int], train: str, validation: str) -> None:
    splits = memory(train=SPELLINGS[train](values), validation=SPELLINGS[validation](values))
    names = tuple(map(str, sorted(set(values))))
    ids = [names.index(str(value)) for value in values]
    assert learnt(ONE, splits) == (names, ids)
    assert learnt(ONE, splits, "validation") == (names, ids)
    many = memory(**{name: [[cell] for cell in rows] for name, rows in (("train", values), ("validation", values))})
    assert learnt(MultiLabelClassification(form="names"), many, "validation")[0] == names


@pytest.mark.parametrize("other", [[True, False], ["true", "false"], ["TRUE", "FALSE"], [1, 0], ["1", "0"], [1.0, 0.0]])
@pytest.mark.parametrize("train", [[False, True], ["False", "True"], ["false", "true"], [0, 1], ["0", "1.0"]])
def test_booleans_are_the_same_label_everywhere(train: list[Any], other: list[Any]) -> None:
    splits = memory(train=train, validation=other)
    assert learnt(ONE, splits)[1] == [0, 1]
    assert learnt(ONE, splits, "validation")[1] == [1, 0]
    named = TextClassification(names=("no", "yes"))
    assert learnt(named, splits) == (("no", "yes"), [0, 1])
    assert learnt(named, splits, "validation")[1] == [1, 0]


def test_floats_in_one_file_and_integers_in_the_other() -> None:
    names, ids = learnt(TextClassification(), memory(train=["1.0", "2.0", "3.0"], validation=["1", "2"]), "validation")
    assert [names[i] for i in ids] == ["1", "2"]


def test_every_reader_reads_the_same_labels(tmp_path: Path) -> None:
    rows = [{"text": "x", "label": value} for value in (3, 1, 2)]
    (tmp_path / "a.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (tmp_path / "a.json").write_text(json.dumps(rows))
    (tmp_path / "a.csv").write_text("text,label\nx,3.0\nx,1.0\nx,2.0\n")
    (tmp_path / "a.tsv").write_text("text\tlabel\nx\t3\nx\t1 \nx\t2\n")
    frame = pd.DataFrame(rows)
    frame.to_parquet(tmp_path / "a.parquet")
    pq.write_table(pa.table({"text": ["x"] * 3, "label": pa.array([3, 1, 2], pa.float32())}), tmp_path / "b.parquet")
    for label, text in (("3", "a"), ("1", "b"), ("2", "c")):
        (tmp_path / "folder" / label).mkdir(parents=True)
        (tmp_path / "folder" / label / f"{text}.txt").write_text("x")
    sources: list[Any] = [Files(train=name, root=str(tmp_path)) for name in ("a.jsonl", "a.json", "a.csv", "a.tsv")]
    sources += [Files(train=name, root=str(tmp_path)) for name in ("a.parquet", "b.parquet")]
    sources += [Frame(train=frame), Frame(train=frame.astype({"label": "category"}))]
    for source in sources:
        assert learnt(ONE, source.splits()) == (("1", "2", "3"), [2, 0, 1])
    (tmp_path / "folder" / ".ipynb_checkpoints").mkdir()
    (tmp_path / "folder" / ".ipynb_checkpoints" / "a.txt").write_text("x")
    (tmp_path / "folder" / "1" / "._b.txt").write_bytes(b"\x00\xff")
    assert learnt(ONE, Files(train="folder", root=str(tmp_path)).splits()) == (("1", "2", "3"), [0, 1, 2])


def test_unicode_forms_and_spaces_are_one_label() -> None:
    splits = memory(
        train=["caf\u00e9", "cafe\u0301", "bar ", "\u00a0bar", "\ufeffbar"], validation=["cafe\u0301", "bar"]
    )
    assert learnt(ONE, splits) == (("bar", "café"), [1, 1, 0, 0, 0])
    assert learnt(ONE, splits, "validation")[1] == [1, 0]


def test_ids_without_an_order_are_refused() -> None:
    for other in ([0, 1], ["0", "1"], [True, False]):
        said = refused(ONE, memory(train=["bad", "good"], validation=other))
        assert "row 0 of split 'validation': column 'label': the label" in said
        assert "is not in the training data, which has bad, good" in said
    labels = Labels(("bad", "good"), is_ordered=False)
    with pytest.raises(DataError, match="nothing says in which order the labels bad, good are"):
        build_targets(ONE, labels, memory(train=[0, 1])["train"], "train")


def test_numbers_read_as_ids_of_a_package_are_reported() -> None:
    labels, dataset = Labels(("bad", "good")), memory(test=[1, 0])["test"]
    told = build_targets(ONE, labels, dataset, "test").report["positions"]
    assert told == "test: the numbers in column 'label' were read as the ids of the labels: 0 bad, 1 good"
    for task, names in ((TextClassification(names=("bad", "good")), ("bad", "good")), (ONE, ("0", "1"))):
        assert "positions" not in build_targets(task, Labels(names), dataset, "test").report


def test_names_and_ids_in_one_column() -> None:
    said = refused(TextClassification(names=("bad", "good")), memory(train=["good", "bad", "1"]))
    assert "row 2 of split 'train': column 'label': names and ids are mixed: '1' here, 'good' in row 0" in said
    assert "expected one of 1, 2, other" in refused(
        TextClassification(names=("1", "2", "other")), memory(train=["1", "0"])
    )


def test_large_ids_stay_distinct_or_are_refused(tmp_path: Path) -> None:
    ids = [2**53, 2**53 + 1]
    for train in (ids, [str(value) for value in ids]):
        assert learnt(ONE, memory(train=train)) == (tuple(map(str, ids)), [0, 1])
    assert "too large for a float" in refused(ONE, memory(train=[float(value) for value in ids]))
    assert "found date" in refused(ONE, memory(train=[pd.Timestamp("2026-01-01").date()] * 2)).replace(
        "datetime", "date"
    )


def test_names_of_a_recipe_that_mean_one_label() -> None:
    assert "repeats 'yes' = 'yes '" in refused(TextClassification(names=("yes", "yes ")), memory(train=["yes"]))


def features(names: list[str]) -> Features:
    label = ClassLabel(names=names)
    return Features({"text": Value("string"), "label": label, "labels": label})


def test_class_labels_are_compared_by_name() -> None:
    train = memory(features(["neg", "pos"]), train=[0, 1])
    for names, cells in ((["pos", "neg"], [1, 0]), (["neg", "neutral", "pos"], [0, 2])):
        splits = DatasetDict({**train, "test": memory(features(names), test=cells)["test"]})
        assert learnt(ONE, splits, "test") == (("neg", "pos"), [0, 1])
    splits = DatasetDict({**train, "test": memory(features(["neg", "neutral", "pos"]), test=[0, 1])["test"]})
    assert "row 1 of split 'test': column 'label': " in refused(ONE, splits, "test")
    other = DatasetDict({**train, "test": memory(features(["a", "b"]), test=[0, 1])["test"]})
    assert "its ids stand for a, b, the labels are neg, pos" in refused(ONE, other, "test")
    for said in (("POS", "NEG"), ("a", "b", "c")):
        assert "its ids stand for neg, pos" in refused(TextClassification(names=said), train)


def test_ids_go_by_the_recipes_names_where_the_labels_have_another_order() -> None:
    package = Labels(("pos", "neg"))
    dataset = memory(test=[0, 1])["test"]
    task = TextClassification(names=("neg", "pos"))
    assert build_targets(task, package, dataset, "test").values.tolist() == [1, 0]
    hot = memory(test=[[1, 0], [1, 1]])["test"]
    many = MultiLabelClassification(names=("neg", "pos"))
    assert build_targets(many, package, hot, "test").values.tolist() == [[0, 1], [1, 1]]
    with pytest.raises(DataError, match=r"task\.names are bad, good"):
        build_targets(TextClassification(names=("bad", "good")), package, dataset, "test")


@pytest.mark.parametrize(
    "cells",
    [
        HOT,
        [[float(value) for value in row] for row in HOT],
        [[bool(value) for value in row] for row in HOT],
        [str(row) for row in HOT],
        [str(np.array(row)) for row in HOT],
        [str(np.array(row, dtype=np.float32)) for row in HOT],
        [str(np.array(row, dtype=bool)) for row in HOT],
        [",".join(map(str, row)) for row in HOT],
    ],
    ids=["int", "float", "bool", "python", "numpy", "numpy float", "numpy bool", "separated"],
)
def test_vectors_of_a_0_or_1_a_label(cells: list[Any], tmp_path: Path) -> None:
    assert learnt(NAMED, memory(train=cells)) == (("a", "b", "c", "d"), HOT)
    if isinstance(cells[0], str):
        assert learnt(NAMED, Files(train=csv_of(tmp_path, cells)).splits())[1] == HOT
    else:
        arrays = pd.DataFrame({"text": ["x"] * 4, "labels": [np.array(row) for row in cells]})
        assert learnt(NAMED, Frame(train=arrays).splits())[1] == HOT


def test_vectors_need_as_many_names() -> None:
    for task in (MANY, MultiLabelClassification(names=("a", "b"))):
        said = refused(task, memory(train=HOT))
        assert "row 0 of split 'train': column 'labels': its rows are vectors of 4 numbers 0 or 1" in said
        assert "Set task.names to the 4 names" in said
    said = refused(NAMED, memory(train=[*HOT[:3], [0, 1, 1]]))
    assert "row 3 of split 'train': column 'labels': [0, 1, 1] looks like a vector" in said
    said = refused(NAMED, memory(train=HOT, validation=[[0, 1, 0, 0], [1, 0]]), "validation")
    assert "row 1 of split 'validation': column 'labels': expected 4 numbers 0 or 1, one a label, found [1, 0]" in said


def test_two_labels_may_be_ids_or_vectors() -> None:
    two = MultiLabelClassification(names=("a", "b"))
    ambiguous, vectors, ids = [[0, 1], [1, 0]], [[0, 1], [0, 0]], [[0, 1], [1]]
    assert "may list ids or be vectors" in refused(two, memory(train=ambiguous))
    assert learnt(two, memory(train=vectors))[1] == [[0, 1], [0, 0]]
    assert learnt(two, memory(train=ids))[1] == [[1, 1], [0, 1]]
    assert learnt(two, memory(train=vectors, validation=ambiguous), "validation")[1] == [[0, 1], [1, 0]]
    assert learnt(two, memory(train=ids, validation=ambiguous), "validation")[1] == [[1, 1], [1, 1]]
    for form, expected in (("vector", ambiguous), ("names", [[1, 1], [1, 1]])):
        said = MultiLabelClassification(names=("a", "b"), form=form)  # type: ignore[arg-type]
        assert learnt(said, memory(train=ambiguous))[1] == expected
    with pytest.raises(RecipeError, match=r"task\.form"):
        MultiLabelClassification(form="ids")  # type: ignore[arg-type]
    only = MultiLabelClassification(names=("toxic",))
    assert learnt(only, memory(train=["0", "1"]))[1] == [[0], [1]]
    assert "may list ids or be vectors" in refused(only, memory(train=["0", "0"]))


@pytest.mark.parametrize("ones", [(0, 1), ("0", "1"), ("0.0", "1"), (False, True), ("false", "TRUE"), (0.0, 1.0)])
def test_a_column_for_each_label(ones: tuple[Any, Any]) -> None:
    no, yes = ones
    columns = {"text": ["x", "y"], "toxic": [no, yes], "obscene": [yes, yes]}
    splits = DatasetDict({"train": Dataset.from_dict(columns)})
    task = MultiLabelClassification(labels=("toxic", "obscene"))
    assert audit(task, splits) == []
    assert learnt(task, splits) == (("toxic", "obscene"), [[0, 1], [1, 1]])
    named = MultiLabelClassification(labels=("toxic", "obscene"), names=("bad", "worse"))
    assert learnt(named, splits)[0] == ("bad", "worse")
    package = Labels(("obscene", "toxic"))
    assert build_targets(task, package, splits["train"], "train").values.tolist() == [[1, 0], [1, 1]]


def test_columns_of_labels_that_do_not_fit() -> None:
    task = MultiLabelClassification(labels=("toxic", "obscene"))
    columns: dict[str, list[Any]] = {"text": ["x", "y"], "toxic": [0, -1], "obscene": [1, 1]}
    said = refused(task, DatasetDict({"train": Dataset.from_dict(columns)}))
    assert "row 1 of split 'train': column 'toxic': expected 0 or 1, found -1" in said
    columns["toxic"] = [0, None]
    assert "row 1 of split 'train': column 'toxic': expected 0 or 1, found nothing" in refused(
        task, DatasetDict({"train": Dataset.from_dict(columns)})
    )
    with pytest.raises(DataError, match="has no column 'obscene'"):
        audit(task, DatasetDict({"train": Dataset.from_dict({"text": ["x"], "toxic": [1]})}))
    for labels, names in ((("a", "a"), None), ((), None), (("a", "b"), ("x",))):
        with pytest.raises(RecipeError, match=r"task\.labels"):
            MultiLabelClassification(labels=labels, names=names)


def test_single_numbers_are_no_labels_of_many() -> None:
    assert "set task.labels=('labels',)" in refused(MANY, memory(train=["0", "1", "1"]))
    assert "Shares cannot be learnt" in refused(MANY, memory(train=[[0.3, 0.7]]))
    assert "expected a list of labels, found [['a']]" in refused(MANY, memory(train=[[["a"]]]))


@pytest.mark.parametrize(
    ("cell", "fix"),
    [
        ("1,234.5", "nothing between thousands"),
        ("50%", "without the sign"),
        ("NA", "drop_missing"),
        ("", "drop_missing"),
        ("1_000", "Write numbers as 1234.5"),
        ("٣", "Write numbers as 1234.5"),
    ],
)
def test_text_that_is_no_number(cell: str, fix: str) -> None:
    splits = memory(train=["1.5", cell])
    said = refused(Regression(score="label"), splits)
    assert "row 1 of split 'train': column 'label': expected a number, found" in said
    assert fix in said


def test_numbers_that_deserve_a_word() -> None:
    (note,) = notes(Regression(score="label"), memory(train=["1.5", " 1.5 "]))
    assert "every number in column 'label' is 1.5" in note
    (note,) = notes(Regression(score="label", low=0.0, high=5.0), memory(train=[1.0, 7.0]))
    assert "goes from 1 to 7, and what the package answers is cut to 0 to 5" in note
    assert notes(Regression(score="label"), memory(train=[1.0, 7.0])) == []


def test_values_are_translated_by_the_same_rule() -> None:
    table = {"label": {"1": "good", "0": "bad", "True": "good", "false": "bad"}}
    for cells in (["1", "0.0"], [1, 0], [1.0, 0.0], [True, False], ["true", "FALSE"]):
        frame = pd.DataFrame({"text": ["x", "y"], "label": cells})
        assert learnt(ONE, Frame(train=frame, values=table).splits()) == (("bad", "good"), [1, 0])


def test_lists_written_into_cells(tmp_path: Path) -> None:
    for cells in (["['sport', 'news']", "['sport']", "[]"], ['["sport", "news"]', '["sport"]', "[]"]):
        splits = Files(train=csv_of(tmp_path, cells)).splits()
        assert learnt(MANY, splits) == (("news", "sport"), [[1, 1], [0, 1], [0, 0]])
    said = refused(MANY, Files(train=csv_of(tmp_path, ["['a']", "", "b"])).splits())
    assert "train.csv, line 4: column 'labels': lists written as text and plain labels are mixed: 'b' here" in said
    said = refused(MANY, Files(train=csv_of(tmp_path, ["['a']", "['b"])).splits())
    assert "mixed" in said
    said = refused(MANY, Files(train=csv_of(tmp_path, ["['a']", "[b c]"])).splits())
    assert "line 3" in said
    assert "separated by spaces" in said
    said = refused(ONE, Files(train=csv_of(tmp_path, ["['a']", "['b']"])).splits())
    assert "expected one label, found a list written as text" in said


def test_another_separator(tmp_path: Path) -> None:
    said = refused(MANY, Files(train=csv_of(tmp_path, ["a", "a|b"])).splits())
    assert "train.csv, line 3: column 'labels': no cell holds the separator ',', and 'a|b' holds '|'" in said
    assert "task.separator='|'" in said
    said = refused(MultiLabelClassification(names=("a", "b")), Files(train=csv_of(tmp_path, ["a;b"])).splits())
    assert "unknown label 'a;b'" in said
    assert "task.separator=';'" in said


def test_nothing_to_learn() -> None:
    for cells in ([[], []], ["", " "], ["[]", "[]"]):
        assert "expected at least one label in the training data, found none" in refused(MANY, memory(train=cells))
        with pytest.raises(DataError, match="found no label in all 2 training rows"):
            notes(NAMED, memory(train=cells))
    words = DatasetDict({"train": Dataset.from_dict({"words": [["a"]], "tags": [["O"]]})})
    with pytest.raises(DataError, match="found no tag but 'O' in all 1 training rows"):
        notes(TokenClassification("words", names=("O", "B-X", "I-X")), words)


def test_what_deserves_a_word() -> None:
    (note,) = notes(ONE, memory(train=["Positive", "positive", "negative"]))
    assert note.startswith(
        "train: the labels 'Positive' (row 0 of split 'train') and 'positive' (row 1 of split 'train') differ in case"
    )
    (note,) = notes(ONE, memory(train=["1", "01", "2"]))
    assert "'1' (row 0 of split 'train') and '01'" in note
    (note,) = notes(ONE, memory(train=["1", "1.0", "2"]))
    assert "'1' (row 0 of split 'train') and '1.0' (row 1 of split 'train') are read as one label, '1'" in note
    (note,) = notes(ONE, memory(train=["nan", "a"]))
    assert "'nan' (row 0 of split 'train') is learnt as a label" in note
    (note,) = notes(ONE, memory(train=[0.5, 1.0]))
    assert "to learn a number use Regression" in note
    (note,) = notes(TextClassification(names=("a", "b", "c")), memory(train=["a", "b"]))
    assert note == "train: no example of 1 of 3 labels (c): they cannot be learnt"
    (note,) = notes(ONE, memory(train=[str(number) for number in range(30)]))
    assert "30 labels for 30 examples" in note
    (note,) = notes(TextClassification(class_weights=(2.0, 1.0)), memory(train=["no", "yes"]))
    assert note == "task.class_weights go by the sorted labels: no 2.0, yes 1.0; task.names would fix the order"
    assert notes(ONE, memory(train=["a", "b"])) == []


def test_types_of_spans_that_differ_in_case() -> None:
    rows = [
        {"text": "Ann Bo", "spans": [{"start": 0, "end": 3, "label": " PER"}, {"start": 4, "end": 6, "label": "Per"}]},
        {"text": "Ann", "spans": [{"start": 0, "end": 3, "label": "PER"}]},
    ]
    splits = DatasetDict({"train": Dataset.from_list(rows)})
    task = TokenClassification(text="text", spans="spans")
    names, ids = learnt(task, splits)
    assert (names, ids) == (("O", "B-PER", "I-PER", "B-Per", "I-Per"), [1, 3, 1])
    assert notes(task, splits) == ["train: the types 'PER' and 'Per' of spans differ in case or spelling alone"]


def test_arrow_s_other_types_of_lists_and_texts() -> None:
    inside = pa.ListArray.from_arrays(pa.array([0, 2, 3]), pa.array(["a", "b", "c"]).dictionary_encode())
    vectors = pa.FixedSizeListArray.from_arrays(pa.array([1, 1, 0, 0, 0, 1], pa.int8()), 3)
    for cells in (inside, vectors, vectors.cast(pa.large_list(pa.float32()))):
        dataset = Dataset(pa.table({"text": ["x", "y"], "labels": cells}))
        task = MultiLabelClassification(names=("a", "b", "c"))
        assert learnt(task, DatasetDict({"train": dataset})) == (("a", "b", "c"), [[1, 1, 0], [0, 0, 1]])
        assert learnt(task, DatasetDict({"train": dataset.select([1])}))[1] == [[0, 0, 1]]


def test_class_weights_are_one_a_label() -> None:
    with pytest.raises(RecipeError, match=r"expected 2 numbers, one a label \(no, yes\), found 3"):
        TextClassification(class_weights=(1.0, 2.0, 3.0)).fit(Rows(memory(train=["no", "yes"])["train"], "train"))


def test_labels_with_their_ids() -> None:
    assert label_lines(Labels(("no", "yes")), {"no": 1200, "yes": 3}) == ["   0  no  (1,200)", "   1  yes  (3)"]
    many = label_lines(Labels(tuple(map(str, range(100)))), most=4)
    assert many == ["   0  0", "   1  1", "      ... 96 more", "  98  98", "  99  99"]


def test_tags_are_read_by_the_same_rule() -> None:
    def words(*tags: Any, feature: Features | None = None) -> DatasetDict:
        rows = {"words": [["w"] * len(row) for row in tags], "tags": list(tags)}
        return DatasetDict({"train": Dataset.from_dict(rows, features=feature)})

    plain = TokenClassification("words", scheme=None)
    for cells in ([[10, 9]], [["10", "9"]], [[10.0, 9.0]]):
        assert learnt(plain, words(*cells)) == (("9", "10"), [1, 0])
    named = TokenClassification("words", names=("O", "B-X", "I-X"))
    assert learnt(named, words(["O ", "B-X"]))[1] == [0, 1]
    assert learnt(named, words([0.0, 1.0, -100.0]))[1] == [0, 1, -100]
    assert "names and ids are mixed" in refused(named, words(["O", "1"]))
    assert "Expected the tag 'O' among B-X, I-X" in refused(
        TokenClassification("words", names=("B-X", "I-X")), words([0, 1])
    )
    assert "'B-per'" in refused(TokenClassification("words"), words(["O", "b-per"]))
    assert "task.scheme='BIOES'" in refused(TokenClassification("words"), words(["O", "U-X"]))
    assert "expected labels, found a null" in refused(named, words(["O", None]))
    (note,) = notes(TokenClassification("words"), words(["O", "B-PER", "B-Per"]))
    assert "differ in case" in note
    inside = Features({"words": List(Value("string")), "tags": List(ClassLabel(names=["I-X", "B-X", "O"]))})
    assert learnt(named, words([0, 1, 2], feature=inside))[1] == [2, 1, 0]


def test_the_order_of_labels_does_not_depend_on_the_process(tmp_path: Path) -> None:
    code = "from hf_trainpipe.data.spelling import names_of; print(names_of({'1', '01', '-X', 'X', '1.0x'}))"
    seen = {
        subprocess.run(
            [sys.executable, "-c", code],
            env={**os.environ, "PYTHONHASHSEED": seed},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for seed in "123"
    }
    assert len(seen) == 1


def test_missing_labels_are_refused_by_line(tmp_path: Path) -> None:
    for cells in (["a", None, "b"], [1.0, math.nan, 2.0]):
        assert "row 1 of split 'train': column 'label': expected a label, found nothing" in refused(
            ONE, memory(train=cells)
        )
    assert "train.csv, line 3: column 'label': the label is empty" in refused(
        ONE, Files(train=csv_of(tmp_path, ["a", " \u00a0", "b"])).splits()
    )
