"""Rows to label next: who is chosen, and that labels come back from each tool."""

from __future__ import annotations

import json
import xml.etree.ElementTree as xml
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import hf_trainpipe
from hf_trainpipe import Files, TextClassification, TokenClassification
from hf_trainpipe.baselines.choosing import SHORTLIST, diverse
from hf_trainpipe.cli import run
from hf_trainpipe.data.rows import Rows
from hf_trainpipe.package.label_files import write
from hf_trainpipe.package.suggest import RANDOM, UNSURE, suggest
from tests.package.conftest import WORDS

WANTED = 12


@pytest.fixture(scope="module")
def pool(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """300 rows, of which every tenth repeats the one before it in other spelling."""
    draw = np.random.default_rng(3)
    texts = [" ".join(draw.choice(WORDS[:-3], 6)) for _ in range(300)]
    for row in range(9, 300, 10):
        texts[row] = texts[row - 1].upper() + "!"
    path = tmp_path_factory.mktemp("pool") / "pool.jsonl"
    path.write_text("".join(json.dumps({"id": f"a{row}", "text": text}) + "\n" for row, text in enumerate(texts)))
    return path


def annotated(task: dict[str, Any]) -> dict[str, Any]:
    """A task of Label Studio as it exports it once somebody agreed with the model."""
    return {"data": task["data"], "annotations": [{"result": task["predictions"][0]["result"]}]}


def test_the_least_sure_rows_and_random_ones(classifier_run: Path, pool: Path, tmp_path: Path) -> None:
    labelled = tmp_path / "done.csv"
    first = json.loads(pool.read_text().splitlines()[0])["text"]
    labelled.write_text(f"text\n{first.title()}\n")
    found = suggest(classifier_run, pool, count=WANTED, random_share=0.25, labelled=[labelled], seed=1)
    assert found.left_out == {"labelled already": 1, "repeats of another row": 30}
    rows = [one.row for one in found.chosen]
    assert len(set(rows)) == WANTED
    assert (found.count(UNSURE), found.count(RANDOM)) == (9, 3)
    # The unsure ones are among the shortlist of a plain ranking of all rows that were not drawn.
    package = hf_trainpipe.load(classifier_run)
    texts = [json.loads(line)["text"] for line in pool.read_text().splitlines()]
    margins = {}
    for row, answer in enumerate(package.predict(texts), 1):
        margins[row] = 1 - (answer[0]["score"] - answer[1]["score"])
    drawn = {one.row for one in found.chosen if one.why == RANDOM}
    free = sorted(set(margins) - drawn - {1} - set(range(10, 301, 10)), key=lambda row: -margins[row])
    unsure = [one for one in found.chosen if one.why == UNSURE]
    assert {one.row for one in unsure} <= set(free[: SHORTLIST * 9])
    for one in found.chosen:
        assert one.uncertainty == pytest.approx(margins[one.row], abs=1e-6)
    again = suggest(classifier_run, pool, count=WANTED, random_share=0.25, labelled=[labelled], seed=1)
    assert [one.row for one in again.chosen] == rows
    other = suggest(classifier_run, pool, count=WANTED, random_share=0.25, labelled=[labelled], seed=2)
    assert {one.row for one in other.chosen if one.why == RANDOM} != drawn


def test_clusters_choose_rows_that_differ() -> None:
    uncertain = np.array([0.9, 0.91, 0.92, 0.5, 0.2, -1.0])
    vectors = np.array([[1, 0], [1, 0.01], [1, 0.02], [0, 1], [0, 0.9], [0, 1]], dtype=np.float32)
    found = diverse(lambda rows: vectors[rows], uncertain, 2, 0)
    assert len({bool(place < 3) for place in found}) == 2
    assert 5 not in found
    same = diverse(lambda rows: np.ones((len(rows), 2), dtype=np.float32), uncertain, 3, 0)
    assert len(set(same.tolist())) == 3


@pytest.mark.parametrize("tool", ["label-studio", "doccano", "prodigy", "table"])
def test_labels_come_back(classifier_run: Path, pool: Path, tmp_path: Path, tool: Any) -> None:
    found = suggest(classifier_run, pool, count=WANTED)
    output = tmp_path / {"label-studio": "tasks.json", "table": "tasks.csv"}.get(tool, "tasks.jsonl")
    files = write(found, output, tool=tool)
    column = {"prodigy": "accept"}.get(tool, "label")
    if tool == "label-studio":
        tasks = json.loads(output.read_text())
        output.write_text(json.dumps([annotated(task) for task in tasks]))
        interface = xml.fromstring(files[1].read_text())
        choices = [choice.get("value") for choice in interface.iter("Choice")]
        assert choices == list(found.task.label_names)
        column = str(next(interface.iter("Choices")).get("name"))
    elif tool == "prodigy":
        lines = [{**json.loads(line), "answer": "accept"} for line in output.read_text().splitlines()]
        output.write_text("".join(json.dumps(line) + "\n" for line in lines))
    split = Files(train=str(output)).splits()["train"]
    task = TextClassification("text", label=column)
    rows = Rows(split, "train")
    assert split["text"] == [one.record.fields["text"] for one in found.chosen if one.record.fields]
    labels = rows.labels(task.target, said=None)
    ids = rows.class_ids(task.target, labels)
    assert [labels[number] for number in ids] == [one.answer[0]["label"] for one in found.chosen]


@pytest.mark.parametrize("tool", ["label-studio", "doccano", "prodigy"])
def test_spans_come_back(tagger_run: Path, pool: Path, tmp_path: Path, tool: Any) -> None:
    found = suggest(tagger_run, pool, count=4)
    output = tmp_path / ("tasks.json" if tool == "label-studio" else "tasks.jsonl")
    write(found, output, tool=tool)
    if tool == "label-studio":
        tasks = json.loads(output.read_text())
        output.write_text(json.dumps([annotated(task) for task in tasks]))
    elif tool == "prodigy":
        lines = [{**json.loads(line), "answer": "accept"} for line in output.read_text().splitlines()]
        output.write_text("".join(json.dumps(line) + "\n" for line in lines))
    split = Files(train=str(output)).splits()["train"]
    spans = split["spans" if tool == "prodigy" else "label"]
    task = TokenClassification(text="text", spans="spans" if tool == "prodigy" else "label")
    assert task.spans
    for one, text, cell in zip(found.chosen, split["text"], spans, strict=True):
        marked = [(at["start"], at["end"], at["label"]) for at in one.answer]
        back = [
            tuple(at[:3]) if isinstance(at, list) else (at["start"], at["end"], at.get("label") or at["labels"][0])
            for at in cell
        ]
        assert back == marked
        assert all(text[at["start"] : at["end"]] == at["text"] for at in one.answer)


def test_the_verb(classifier_run: Path, pool: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    output = tmp_path / "next.csv"
    said = ["suggest", str(classifier_run), "--input", str(pool), "--output", str(output), "--count", "10", "--blind"]
    assert run([*said, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["chosen"] == {"unsure": 8, "random": 2}
    assert len(output.read_text().splitlines()) == 11
    empty = tmp_path / "empty.jsonl"
    empty.write_text('{"text": " "}\n')
    assert run([*said[:3], str(empty), *said[4:]]) == 2
    assert "none of its 1 rows can be chosen: 1 without a text" in capsys.readouterr().err
    assert run([*said, "--random", "2"]) == 2
    assert "expected a share in [0, 1], found 2" in capsys.readouterr().err
