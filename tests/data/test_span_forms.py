"""Spans in the formats of annotation tools: all are read as the same spans, others are refused with an error."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from datasets import ClassLabel, Dataset, Features, List, Value

from hf_trainpipe import Files, Frame, TokenClassification
from hf_trainpipe.data.cells import Cells
from hf_trainpipe.data.span_forms import Span, UnreadableSpans, read_spans
from hf_trainpipe.data.spans import read_column
from hf_trainpipe.errors import DataError
from tests.data.reading import Targets, build_targets, resolve_labels

EXPECTED = [Span(0, 4, "PER"), Span(10, 16, "LOC")]
TEXT = "anna left berlin"
VALUES = [
    {"start": 0, "end": 4, "text": "anna", "labels": ["PER"]},
    {"start": 10, "end": 16, "text": "berlin", "labels": ["LOC"]},
]
RESULT = [{"value": value, "id": "a", "from_name": "label", "to_name": "text", "type": "labels"} for value in VALUES]
RELATION = {"from_id": "a", "to_id": "b", "type": "relation", "direction": "right"}

CELLS: dict[str, Any] = {
    "own": [{"start": 0, "end": 4, "label": "PER"}, {"start": 10, "end": 16, "label": "LOC"}],
    "doccano": [[0, 4, "PER"], [10, 16, "LOC"]],
    "lists of labels": [[0, 4, ["PER"]], [10, 16, ["LOC"]]],
    "offsets": [
        {"id": 1, "start_offset": 0, "end_offset": 4, "label": "PER"},
        {"id": 2, "start_offset": 10, "end_offset": 16, "label": "LOC"},
    ],
    "label studio": VALUES,
    "label studio's results": [*RESULT, RELATION],
    "label studio's annotations": [{"result": RESULT}, {"result": RESULT, "was_cancelled": True}],
    "prodigy": [
        {"start": 0, "end": 4, "token_start": 0, "token_end": 0, "label": "PER"},
        {"start": 10, "end": 16, "token_start": 2, "token_end": 2, "label": "LOC"},
    ],
    "spacy": {"entities": [[0, 4, "PER"], [10, 16, "LOC"]]},
    "columns": {"start": [0, 10], "end": [4, 16], "label": ["PER", "LOC"]},
    "transformers": [
        {"entity_group": "PER", "start": 0, "end": 4, "score": 0.9},
        {"entity_group": "LOC", "start": 10.0, "end": 16.0, "score": 0.8},
    ],
}


def plain(spans: list[Span]) -> list[Span]:
    return [span._replace(said=None) for span in spans]


@pytest.mark.parametrize("form", CELLS)
def test_every_form_is_read_also_as_text(form: str) -> None:
    cell = CELLS[form]
    for value in (cell, json.dumps(cell), f" {cell!r} "):
        assert plain(read_spans(value)) == EXPECTED


def splits(task: TokenClassification, folder: Path, name: str, content: str) -> Targets:
    (folder / name).write_text(content, encoding="utf-8", newline="")
    found = Files(train=name, root=str(folder)).splits()
    assert plain(read_column(Cells(found["train"], "train", task.spans or ""))[0]) == EXPECTED
    labels = resolve_labels(task, found)
    return build_targets(task, labels, found["train"], "train")


@pytest.mark.parametrize("form", CELLS)
def test_every_form_in_files_and_frames(form: str, tmp_path: Path) -> None:
    task = TokenClassification(text="text", spans="label")
    rows = [{"text": TEXT, "label": CELLS[form]}] * 2
    seen = [
        splits(task, tmp_path, "a.jsonl", "".join(json.dumps(row) + "\n" for row in rows)),
        splits(task, tmp_path, "a.json", json.dumps(rows)),
        splits(task, tmp_path, "a.csv", pd.DataFrame([{"text": TEXT, "label": json.dumps(CELLS[form])}]).to_csv()),
    ]
    frame = Frame(train=pd.DataFrame(rows)).splits()
    seen.append(build_targets(task, resolve_labels(task, frame), frame["train"], "train"))
    for targets in seen:
        assert targets.values[:3].tolist() == [3, 0, 1]
        assert targets.report["spans"] in (2, 4)


def test_several_labels_of_one_span_and_ids_of_a_class_label() -> None:
    assert read_spans([[0, 4, ["PER", "POL"]]]) == [Span(0, 4, "PER"), Span(0, 4, "POL")]
    assert read_spans([[0, 4, 1]], names=("LOC", "PER")) == [Span(0, 4, "PER")]
    kind = {"start": Value("int64"), "end": Value("int64"), "label": ClassLabel(names=["LOC", "PER"])}
    features = Features({"text": Value("string"), "spans": List(kind)})
    rows = [{"text": TEXT, "spans": [{"start": 0, "end": 4, "label": 1}]}]
    dataset = Dataset.from_list(rows, features=features)
    assert read_column(Cells(dataset, "train", "spans")) == [[Span(0, 4, "PER")]]
    assert read_spans([]) == read_spans("[]") == []


@pytest.mark.parametrize(
    ("cell", "said"),
    [
        ([[0, 4]], "found [0, 4]"),
        ([{"start": 0, "label": "PER"}], "found {'start': 0, 'label': 'PER'}"),
        ([[0, 4, ""]], "without a label"),
        ([{"start": 0, "end": 4, "labels": []}], "without a label"),
        ([["PER", 0, 4]], "whose start and end are not whole numbers"),
        ([[0, 4.5, "PER"]], "not whole numbers"),
        ([[True, 4, "PER"]], "not whole numbers"),
        ("B-PER O", "found 'B-PER O'"),
        ("", "an empty cell"),
        ("[" * 5000, "found '[[["),
        ({"start": [0], "end": [4, 5], "label": ["PER"]}, "not equally long"),
        (7, "found 7"),
    ],
)
def test_invalid_spans_are_refused_with_the_valid_forms(cell: Any, said: str) -> None:
    with pytest.raises(UnreadableSpans) as caught:
        read_spans(cell)
    assert said in caught.value.message
    assert len(caught.value.message) < 300
    assert "[]" in caught.value.fix or "Label Studio" in caught.value.fix


def test_an_unreadable_cell_has_its_place(tmp_path: Path) -> None:
    rows = [{"text": TEXT, "spans": CELLS["own"]}, {"text": TEXT, "spans": [{"from": 0, "to": 4, "label": "PER"}]}]
    (tmp_path / "a.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    found = Files(train="a.jsonl", root=str(tmp_path)).splits()
    with pytest.raises(DataError, match=r"a.jsonl, line 2: column 'spans': expected spans"):
        resolve_labels(TokenClassification(text="text", spans="spans"), found)
    (tmp_path / "b.jsonl").write_text('{"text": "x", "spans": [[0, "x", {"a": 1}]]}\n')
    with pytest.raises(DataError, match=r"b.jsonl, line 1: column 'spans' mixes types inside one cell") as caught:
        Files(train="b.jsonl", root=str(tmp_path)).splits()
    assert "Label Studio" in caught.value.fix


def test_label_studio_tasks(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    mood = {"value": {"choices": ["good"]}, "from_name": "mood", "to_name": "text", "type": "choices"}
    unsure = {"result": [], "was_cancelled": True}
    tasks = [
        {"id": 7, "data": {"text": TEXT}, "annotations": [{"result": [*RESULT, RELATION, mood]}, unsure]},
        {"id": 8, "data": {"text": "nobody"}, "annotations": [{"result": [mood]}]},
        {"id": 9, "data": {"text": "later"}, "annotations": [unsure]},
        {"id": 10, "data": {"text": "two"}, "annotations": [{"result": []}, {"result": [mood], "ground_truth": True}]},
        {"id": 11, "data": {"text": "both"}, "annotations": [{"result": [mood]}, {"result": []}]},
    ]
    for key in ("annotations", "completions"):
        (tmp_path / "a.json").write_text(json.dumps([{**task, key: task["annotations"]} for task in tasks], indent=1))
        with caplog.at_level("WARNING"):
            found = Files(train="a.json", root=str(tmp_path)).splits()["train"]
        assert found["text"] == [TEXT, "nobody", "two", "both", "both"]
        assert found["mood"] == ["good", "good", "good", "good", None]
        spans = read_column(Cells(found, "train", "label"))
        assert [plain(row) for row in spans] == [EXPECTED, [], [], [], []]
        assert "a.json: 1 of 5 tasks have no annotation and are dropped" in caplog.text
        assert found["__line__"][2] > found["__line__"][1] > 1


def test_several_choices_are_a_list(tmp_path: Path) -> None:
    (tmp_path / "min.json").write_text(
        '[{"text": "a", "topic": "x"}, {"text": "b", "topic": {"choices": ["x", "y"]}}, {"text": "c"}]'
    )
    found = Files(train="min.json", root=str(tmp_path)).splits()["train"]
    assert found["topic"] == [["x"], ["x", "y"], None]
    (tmp_path / "a.csv").write_text('text,topic\na,x\nb,"{""choices"": [""x"", ""y""]}"\n')
    assert Files(train="a.csv", root=str(tmp_path)).splits()["train"]["topic"] == [["x"], ["x", "y"]]


def test_prodigy_tasks(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    spans = [*CELLS["prodigy"]]
    tasks = [
        {"text": TEXT, "_task_hash": 1, "tokens": [], "spans": spans, "answer": "accept"},
        {"text": "no", "_task_hash": 2, "spans": spans[:1], "answer": "reject"},
        {"text": "none here", "_task_hash": 3, "answer": "accept"},
        {"text": "hm", "_task_hash": 4, "spans": [], "answer": "ignore"},
    ]
    (tmp_path / "a.jsonl").write_text("".join(json.dumps(task) + "\n" for task in tasks))
    with caplog.at_level("WARNING"):
        found = Files(train="a.jsonl", root=str(tmp_path)).splits()["train"]
    assert "a.jsonl: 2 of 4 tasks were rejected or ignored and are dropped" in caplog.text
    assert read_column(Cells(found, "train", "spans")) == [EXPECTED, []]
    assert found["__line__"] == [1, 3]
    (tmp_path / "a.jsonl").write_text(json.dumps(tasks[1]) + "\n")
    with pytest.raises(DataError, match="only tasks whose answer is reject or ignore"):
        Files(train="a.jsonl", root=str(tmp_path)).splits()


def test_prodigy_tasks_without_spans(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    def read(**labels: list[Any]) -> list[str]:
        answers = ["accept", "reject", "ignore"]
        rows = [
            {"text": answer, "_input_hash": 1, "answer": answer, **{name: cells[n] for name, cells in labels.items()}}
            for n, answer in enumerate(answers)
        ]
        (tmp_path / "a.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
        with caplog.at_level("WARNING"):
            return list(Files(train="a.jsonl", root=str(tmp_path)).splits()["train"]["text"])

    assert read(accept=[["x"], ["y"], []]) == ["accept"]
    assert read(label=["spam", "spam", "spam"]) == ["accept", "reject"]
    assert "1 of 3 tasks were ignored" in caplog.text
    assert "1 of 3 tasks were rejected, so their label is wrong" in caplog.text


@pytest.mark.parametrize(
    ("text", "span", "counted"),
    [
        ("👩\u200d🚀 Anna", {"start": 6, "end": 10, "text": "Anna"}, 1),  # UTF-16 units, as JavaScript counts
        ("é Anna", {"start": 3, "end": 7, "text": "Anna"}, 1),  # bytes of UTF-8
        ("é\r\nAnna\r\nSmith", {"start": 3, "end": 14, "text": "Anna\\nSmith"}, 0),
        ("e\u0301 Anna", {"start": 3, "end": 7, "text": "Anna"}, 0),
        ("x \ufeffAnna", {"start": 3, "end": 7, "text": "Anna"}, 0),
    ],
)
def test_the_text_of_a_span_shows_how_it_was_counted(
    text: str, span: dict[str, Any], counted: int, tmp_path: Path
) -> None:
    rows = [{"text": text, "spans": [{**span, "label": "PER"}]}]
    for name, content in (
        ("a.jsonl", json.dumps(rows[0]) + "\n"),
        ("a.csv", pd.DataFrame([{"text": text, "spans": json.dumps(rows[0]["spans"])}]).to_csv(index=False)),
    ):
        (tmp_path / name).write_text(content, encoding="utf-8", newline="")
        found = Files(train=name, root=str(tmp_path)).splits()
        task = TokenClassification(text="text", spans="spans")
        targets = build_targets(task, resolve_labels(task, found), found["train"], "train")
        assert targets.report.get("recounted", 0) == counted
        assert targets.words is not None
        tags = dict(zip(targets.words[0], targets.values.tolist(), strict=True))
        assert tags["Anna"] == 1
        assert sum(tag > 0 for tag in tags.values()) == (2 if "Smith" in tags else 1)


def test_a_span_of_another_text_is_refused(tmp_path: Path) -> None:
    rows = [{"text": TEXT, "spans": [{"start": 1, "end": 5, "label": "PER", "text": "anna"}]}]
    (tmp_path / "a.jsonl").write_text(json.dumps(rows[0]) + "\n")
    found = Files(train="a.jsonl", root=str(tmp_path)).splits()
    task = TokenClassification(text="text", spans="spans")
    with pytest.raises(DataError, match=r"a.jsonl, line 1: .* says that it is 'anna', but the text has 'nna ' there"):
        build_targets(task, resolve_labels(task, found), found["train"], "train")
