"""A package in Python, scored on labelled files, frames and rows, for every kind of task."""

from __future__ import annotations

import json
from contextlib import closing
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas
import pyarrow
import pytest

import hf_trainpipe
from hf_trainpipe import Evaluation, MultiLabelClassification
from hf_trainpipe.cli import run
from hf_trainpipe.cli.shown import show_evaluation
from hf_trainpipe.errors import DataError
from hf_trainpipe.package.columns import Known
from hf_trainpipe.package.labelled import evaluate_table
from hf_trainpipe.runtime.tasks.older import task_of_decoder
from hf_trainpipe.tracking.ledger import Ledger
from tests.package.conftest import TEXTS, tiny_model, write_package

if TYPE_CHECKING:
    from pathlib import Path

COLUMNS = {"inputs": ["review"], "target": "mood", "rename": {"Review Text": "review"}, "join": {}}


@pytest.fixture(scope="session")
def reviews(tmp_path_factory: pytest.TempPathFactory) -> hf_trainpipe.Package:
    """A package that learned ``mood`` from ``review``, which was called ``Review Text`` in its file."""
    package = write_package(
        tmp_path_factory.mktemp("reviews") / "run",
        task=task_of_decoder(
            {
                "decoder": {"kind": "single_label", "labels": ["calm", "angry", "sad"], "options": {}},
                "inputs": "text",
                "columns": COLUMNS,
            }
        ),
        columns={name: COLUMNS[name] for name in ("rename", "join")},
    )
    return hf_trainpipe.load(package.parent)


def test_a_retrained_package_reads_labels_by_the_values_of_its_data(tmp_path: Path) -> None:
    file = {"kind": "Files", "train": "train.csv", "values": {"label": {"1": "calm", "2": "angry", "3": "sad"}}}
    data = {"kind": "ChosenRows", "source": {"kind": "AddedRows", "source": file}}
    retrained = hf_trainpipe.load(write_package(tmp_path / "run", recipe_json={"data": data}))
    best = [answer[0]["label"] for answer in retrained.predict(TEXTS)]
    number = {label: str(at) for at, label in enumerate(retrained.labels, 1)}
    rows = [{"text": text, "label": number[label]} for text, label in zip(TEXTS, best, strict=True)]
    assert retrained.evaluate(rows)["scores"]["accuracy"]["value"] == 1.0


def lines(path: Path, rows: list[Any]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def test_a_loaded_package_answers_and_shows_itself(reviews: hf_trainpipe.Package) -> None:
    assert reviews.labels == ("calm", "angry", "sad")
    assert reviews.columns == ("review",)
    assert "3 labels" in repr(reviews)
    assert len(repr(reviews).splitlines()) == 1
    answers = reviews.predict(TEXTS, top_k=1)
    assert reviews.predict(TEXTS[0], top_k=1)[0]["label"] == answers[0][0]["label"]
    frame = pandas.DataFrame({"id": [3, 4, 5], "review": [TEXTS[0], "", TEXTS[1]]}, index=[7, 8, 9])
    found = reviews.predict(frame)
    assert list(found.columns) == ["id", "review", "label", "score", "error"]
    assert list(found.index) == [7, 8, 9]
    assert list(found["label"])[::2] == [answers[0][0]["label"], answers[1][0]["label"]]
    assert found.loc[8, "error"] == "an empty text"
    with pytest.raises(DataError, match="Did you mean 'review'"):
        reviews.predict(frame, column="reviews")


def test_a_file_is_scored_by_the_recipe_s_columns(
    reviews: hf_trainpipe.Package, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    texts = [f"{text} {number}" for number in range(5) for text in TEXTS]
    best = [answer[0]["label"] for answer in reviews.predict(texts)]
    rows = [{"n": 1, "Review Text": text, "mood": mood} for text, mood in zip(texts, best, strict=True)]
    rows[0]["mood"] = next(label for label in reviews.labels if label != best[0])
    rows += [{"Review Text": "x", "mood": "glad"}, {"Review Text": "y", "mood": "glad"}, {"Review Text": "z"}]
    rows += [{"Review Text": " ", "mood": "sad"}]
    path = lines(tmp_path / "rows.jsonl", rows)
    found = reviews.evaluate(path)
    assert (found["rows"], found["n"], found["label"], found["columns"]) == (24, 20, "mood", ["Review Text"])
    assert found["unknown_labels"] == {"glad": 2}
    assert found["left_out"] == {
        "without an input": 1,
        "without a label": 1,
        "with a label that the package does not have": 2,
    }
    assert found["scores"]["accuracy"]["value"] == pytest.approx(19 / 20)
    assert found["scores"]["accuracy"]["low"] < 1
    assert reviews.evaluate(pandas.DataFrame(rows))["scores"] == found["scores"]
    assert reviews.evaluate(rows)["scores"] == found["scores"]
    assert "precision" not in found
    halved = hf_trainpipe.load(reviews.path, precision="bf16").evaluate(path)
    assert halved["precision"] == "bf16"
    assert "computed in bf16" in show_evaluation(halved)
    assert run(["evaluate", str(reviews.path), str(path), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["scores"] == json.loads(json.dumps(found["scores"]))
    assert run(["evaluate", str(reviews.path), str(path)]) == 0
    shown = capsys.readouterr().out
    assert "accuracy" in shown
    assert "labels that the package does not have: glad (2)" in shown
    assert "\x1b" not in shown
    assert all(len(line) <= 80 for line in shown.split("\n\n")[1].splitlines())


def test_columns_are_chosen_or_refused(reviews: hf_trainpipe.Package, tmp_path: Path) -> None:
    path = tmp_path / "rows.csv"
    path.write_text("id,review,gold\n1,on time,0\n2,nobody,2\n")
    with pytest.raises(DataError, match="'mood', found the columns 'id', 'gold' beside the input"):
        reviews.evaluate(path)
    assert reviews.evaluate(path, label="gold")["n"] == 2  # a label's number counts as in training
    path.write_text("id,review,gold\n1,on time,0\n2,nobody,sad\n")
    with pytest.raises(DataError, match="line 3: column 'gold': names and ids are mixed"):
        reviews.evaluate(path, label="gold")
    with pytest.raises(DataError, match="expected 'nothing'"):
        reviews.evaluate(path, column="nothing", label="gold")
    path.write_text("review;mood\nx;calm\n")
    with pytest.raises(DataError, match="expected fields separated by ','") as semicolons:
        reviews.evaluate(path)
    assert "--delimiter ';'" in semicolons.value.fix
    assert "delimiter=';'" in str(semicolons.value)
    assert reviews.evaluate(path, delimiter=";")["n"] == 1
    path.write_text("review,mood\nx,glad\n")
    with pytest.raises(DataError, match=r"none of its 1 rows can be scored: 1 with a label that .* \('glad'\)"):
        reviews.evaluate(path)


def test_several_labels(tmp_path: Path) -> None:
    labels = ["calm", "angry", "sad"]
    package = hf_trainpipe.load(
        write_package(
            tmp_path / "run",
            task=task_of_decoder(
                {"decoder": {"kind": "multi_label", "labels": labels, "options": {}}, "inputs": "text"}
            ),
        )
    )
    answers = [[item["label"] for item in answer] for answer in package.predict(TEXTS)]
    rows: list[Any] = [{"text": text, "labels": found} for text, found in zip(TEXTS, answers, strict=True)]
    found = package.evaluate(lines(tmp_path / "rows.jsonl", [*rows, {"text": "x", "labels": ["calm", "glad"]}]))
    assert found["scores"]["subset_accuracy"]["value"] == 1.0
    assert (found["n"], found["unknown_labels"]) == (4, {"glad": 1})
    hot = [[int(label in names) for label in labels] for names in answers]
    vectors = [{"text": text, "labels": row} for text, row in zip(TEXTS, hot, strict=True)]
    assert package.evaluate(vectors)["scores"]["subset_accuracy"]["value"] == 1.0
    # A column a label, in another order than the package's.
    columns = {"text": TEXTS, **{label: [row[labels.index(label)] for row in hot] for label in reversed(labels)}}
    task = MultiLabelClassification(labels=tuple(reversed(labels)))
    table = pyarrow.table(columns)
    told = {"name": "the rows", "task": task, "evaluation": Evaluation(), "known": Known()}
    found = evaluate_table(package.predictor, table, **told)
    assert (found["label"], found["scores"]["subset_accuracy"]["value"]) == ("sad, angry, calm", 1.0)
    with pytest.raises(DataError, match="found no 'angry' among 'sad', 'calm' beside the input"):
        evaluate_table(package.predictor, table.drop_columns(["angry"]), **told)
    lists = pyarrow.table({"text": TEXTS, "gold": answers})
    assert evaluate_table(package.predictor, lists, label="gold", **told)["scores"]["subset_accuracy"]["value"] == 1.0


def test_numbers_of_pairs(tmp_path: Path) -> None:
    package = hf_trainpipe.load(
        write_package(
            tmp_path / "run",
            inputs=[{"text": "ada", "text_pair": "london"}],
            model=tiny_model(()),
            task=task_of_decoder({"decoder": {"kind": "regression", "labels": [], "options": {}}, "inputs": "pair"}),
        )
    )
    pairs = [("ada", "london"), ("she", "wrote programs"), ("nobody", "answers")]
    values = [answer["score"] for answer in package.predict(pairs)]
    rows = [{"a": a, "b": b, "score": value + 0.5} for (a, b), value in zip(pairs, values, strict=True)]
    with pytest.raises(DataError, match="'text' and 'text_pair'"):
        package.evaluate(rows)
    found = package.evaluate([*rows, {"a": "x", "b": "y", "score": None}], column=("a", "b"))
    assert found["scores"]["mse"]["value"] == pytest.approx(0.25, rel=1e-4)
    assert found["left_out"] == {"without a label": 1}


def test_tags_of_words_and_spans_of_texts(tagger_run: Path, tmp_path: Path) -> None:
    package = hf_trainpipe.load(tagger_run)
    sentences = [["Ada", "Lovelace", "wrote"], ["She", "lived", "in", "London", "."]]
    tags = [[item["label"] for item in answer] for answer in _each_word(package, sentences)]
    conll = "\n\n".join(
        "\n".join(f"{word} {tag}" for word, tag in zip(*pair, strict=True))
        for pair in zip(sentences, tags, strict=True)
    )
    (tmp_path / "gold.conll").write_text(conll + "\n\nParis B-LOC\n")
    found = package.evaluate(tmp_path / "gold.conll")
    assert found["scores"]["tag_accuracy"]["value"] == 1.0
    assert (found["n"], found["unknown_labels"]) == (2, {"B-LOC": 1})
    text = "Ada Lovelace lived in London."
    spans = [{name: item[name] for name in ("start", "end", "label")} for item in package.predict(text)]
    assert spans
    path = lines(tmp_path / "gold.jsonl", [{"text": text, "spans": spans}, {"text": text, "spans": [[0, 3, "LOC"]]}])
    found = package.evaluate(path)
    assert found["scores"]["entity_f1"]["value"] == 1.0
    assert (found["n"], found["unknown_labels"]) == (1, {"LOC": 1})


def _each_word(package: hf_trainpipe.Package, sentences: list[list[str]]) -> Any:
    return package.predict([{"words": words} for words in sentences], aggregation="none")


def test_a_run_opened_in_python(tmp_path: Path) -> None:
    folder = tmp_path / "runs" / "mine"
    folder.mkdir(parents=True)
    (folder / "run.json").write_text(json.dumps({"name": "mine", "recipe": {}}))
    points = [
        ("train/loss", 10, 0.9),
        ("train/loss", 20, 0.5),
        ("validation/f1", 20, float("nan")),
        ("final/f1", 20, 1.0),
    ]
    with closing(Ledger(folder / "ledger.jsonl", attempt=1)) as book:
        for name, step, value in points:
            book.log({name: value}, step=step, epoch=step / 10)
    (folder / "attempts").mkdir()
    (folder / "attempts" / "0001.json").write_text(json.dumps({"exit": None}))
    opened = hf_trainpipe.Run.open(folder)
    assert (opened.state, opened.scores.empty) == ("killed", True)
    (folder / "attempts" / "0001.json").write_text(json.dumps({"exit": "interrupted"}))
    assert opened.state == "interrupted"
    score = {"value": 0.75, "low": 0.5, "high": 1.0, "n": 8}
    (folder / "result.json").write_text(json.dumps({"scores": {"validation": {"f1": score}}}))
    assert opened.state == "complete"
    assert opened.scores.to_dict("records") == [{"split": "validation", "metric": "f1", **score}]
    assert list(opened.curve()["train/loss"]) == [0.9, 0.5]
    assert list(opened.curve("final/f1").index) == [20]
    assert len(opened.ledger()) == 4
    assert np.isnan(opened.ledger()["value"][2])
    assert repr(opened) == f"Run({str(folder)!r}: complete, validation f1 0.7500)"
    assert "<td>0.7500</td>" in opened._repr_html_()
    with pytest.raises(DataError, match="Did you mean 'train/loss'"):
        opened.curve("train/los")
    with pytest.raises(DataError, match=r"holds the runs .*mine"):
        hf_trainpipe.Run.open(tmp_path / "runs" / "min")
