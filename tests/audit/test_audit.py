"""What an audit finds in planted faults, in process and as a person types it."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import pytest
from datasets import Dataset

from hf_trainpipe import MultiLabelClassification, Regression, TextClassification, TokenClassification
from hf_trainpipe.audit.finding import Finding
from hf_trainpipe.audit.tags import faults_of, repaired_tags
from hf_trainpipe.audit.texts import repaired
from hf_trainpipe.audit.whole import Audit, audit
from hf_trainpipe.cli import run
from hf_trainpipe.quickstart import SupportMessages


def splits(**columns_of: dict[str, list[Any]]) -> dict[str, Dataset]:
    return {name: Dataset.from_dict(columns) for name, columns in columns_of.items()}


def of(found: Audit, kind: str, split: str = "train") -> Finding:
    (finding,) = [one for one in found.findings if (one.kind, one.split) == (kind, split)]
    return finding


def kinds(found: Audit) -> set[tuple[str, str]]:
    return {(one.kind, one.split) for one in found.findings}


@pytest.fixture(scope="module")
def messages() -> tuple[list[str], list[str]]:
    rows = SupportMessages().splits()["train"]
    first = dict(zip(rows["text"], map(str, rows["intent"]), strict=True))
    chosen = sorted(first)[:400]
    return chosen, [first[text] for text in chosen]


def test_rows_that_repeat_and_leak(messages: tuple[list[str], list[str]]) -> None:
    texts, labels = messages
    before = audit(TextClassification(), splits(train={"text": texts, "label": labels}), learns=False)
    assert not {"repeated", "conflict"} & {kind for kind, _ in kinds(before)}
    train = {
        "text": [*texts, texts[0], texts[1].upper() + "!", texts[2]],
        "label": [*labels, labels[0], labels[1], "another"],
    }
    test = {
        "text": [texts[5], f"{texts[6]} !", "nothing of the like", "and this neither"],
        "label": [labels[5], *"xyz"],
    }
    found = audit(TextClassification(), splits(train=train, test=test), learns=False)
    assert of(found, "repeated").facts["exact"] == 2
    assert of(found, "repeated").facts["same"] == 1
    assert of(found, "conflict").count == 2
    assert of(found, "conflict").facts["ceiling"] == pytest.approx(402 / 403)
    leak = of(found, "leak", "test")
    assert (leak.facts["exact"], leak.facts["same"], leak.count) == (1, 1, 2)
    assert of(found, "crossed", "test").count == 1
    assert of(found, "unlearnt", "test").count == 3


def test_the_same_answer_for_any_order_of_rows(messages: tuple[list[str], list[str]]) -> None:
    pairs = [*zip(*messages, strict=True)][:150]
    rows = [*pairs, *pairs[:40], (messages[0][3], "odd"), (" ", "odd")]
    answers = []
    for seed in (1, 2):
        random.Random(seed).shuffle(rows)
        texts, labels = map(list, zip(*rows, strict=True))
        found = audit(TextClassification(), splits(train={"text": texts, "label": labels})).to_json()
        for finding in found["findings"]:
            for row in [*finding["rows"], *finding["facts"].get("ranked", ())]:
                row.pop("place", None)
                del row["row"]
        answers.append(found)
    assert answers[0] == answers[1]
    assert len(answers[0]["findings"]) > 3


def test_pairs_repeat_where_both_texts_do() -> None:
    long = "a rather long sentence about the weather of tomorrow and of today"
    columns = {
        "a": [long, long, long + "s", "short"],
        "b": ["yes it is", "no it is not", "Yes, it is.", "short"],
        "label": ["1", "0", "1", "0"],
    }
    found = audit(TextClassification("a", text_pair="b"), splits(train=columns))
    assert of(found, "near-repeated").count == 2
    assert ("repeated", "train") not in kinds(found)


def test_scores_that_are_written_differently_are_no_conflict() -> None:
    columns = {"text": ["same", "Same", "other", "other"], "score": ["4.2", "4.20", "1", "3"]}
    found = of(audit(Regression("text", score="score"), splits(train=columns)), "conflict")
    assert found.count == 2
    assert found.facts["least_rmse"] == pytest.approx(0.5**0.5)


def test_texts_and_labels_that_are_odd() -> None:
    columns = {
        "text": ["caf\u00c3\u00a9", "\ufffd lost", "a\u200bb", "<br/> so &amp; so", "", "plain", "R&D; x < y", "CAFÉ…"],
        "label": ["a", "b", "a", "b", "a", None, "b", "a"],
    }
    cyrillic = {"text": ["привет мир", "как дела", "ok"] * 20, "label": ["a", "b", "a"] * 20}
    found = audit(TextClassification(), splits(train=columns, test=cyrillic))
    counted = {one.kind: one.count for one in found.findings if one.split == "train"}
    wanted = {"mojibake": 1, "replacement": 1, "control": 1, "html": 1, "empty": 1, "unlabelled": 1, "rare": 7}
    assert wanted.items() <= counted.items()
    assert of(found, "script", "test").count == 40
    assert repaired("it\u00e2\u20ac\u2122s \u00c3\u00a9t\u00c3\u00a9") == "it’s été"


def test_what_gives_the_label_away(messages: tuple[list[str], list[str]]) -> None:
    texts, labels = messages
    drawn = random.Random(0)
    two = ["yes" if label == labels[0] else "no" for label in labels]
    columns = {
        "text": [f"{text} [ref]" if label == "yes" else text for text, label in zip(texts, two, strict=True)],
        "label": two,
        "file": [f"{label}_{number}" for number, label in enumerate(two)],
        "score": [drawn.random() + 2 * (label == "yes") for label in two],
        "noise": [drawn.choice("abc") for _ in two],
    }
    found = audit(TextClassification(), splits(train=columns), learns=False)
    assert {one.facts["column"] for one in found.findings if one.kind == "leaking-column"} == {"file", "score"}
    assert [one.facts["token"] for one in found.findings if one.kind == "leaking-token"] == ["[ref]"]


def test_tags_and_spans() -> None:
    columns = {"words": [["a", "b", "c"], ["a", "b"], ["d"]], "tags": [["O", "I-X", "I-Y"], ["B-X", "I-X"], ["O", "O"]]}
    found = audit(TokenClassification("words"), splits(train=columns))
    assert of(found, "broken-tags").facts["tags"] == {"I-X": 1, "I-Y": 1}
    assert of(found, "uneven-tags").count == 1
    assert faults_of(["B-X", "O", "S-X", "B-Y", "E-Y", "B-Z"], "BIOES") == ["B-X", "B-Z"]
    assert faults_of(["I-X", "B-X", "O", "B-X"], "IOB1") == ["B-X"]
    assert repaired_tags(["O", "I-X", "I-X", "I-Y"]) == ["O", "B-X", "I-X", "B-Y"]
    spans = [(0, 4, "X"), (2, 6, "X"), (8, 9, "X"), (0, 99, "X"), (7, 10, "Y")]
    cells = [[{"start": a, "end": b, "label": label} for a, b, label in spans]]
    found = audit(
        TokenClassification(text="text", spans="spans"), splits(train={"text": ["abcd efg  hi"], "spans": cells})
    )
    assert {one.kind: one.count for one in found.findings if "spans" in one.kind} == {
        "overlapping-spans": 2,
        "blank-spans": 1,
        "outside-spans": 1,
        "edge-spans": 1,
    }


def test_sets_of_labels() -> None:
    columns = {"text": ["x y z", "x y z", "other"], "labels": [["b", "a"], ["a", "b"], ["c"]]}
    found = audit(MultiLabelClassification("text"), splits(train=columns))
    assert ("repeated", "train") in kinds(found)
    assert ("conflict", "train") not in kinds(found)


def test_files_as_a_person_types_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("reviews.csv").write_text("id,review,stars\n" + "".join(f"{n},text {n} is long,{n % 2}\n" for n in range(40)))
    Path("reviews_test.csv").write_text("id,review,stars\n1,text 1 is long,1\n2,something else,0\n")
    assert run(["audit", "reviews.csv", "reviews_test.csv", "--html", "page.html"]) == 0
    shown = capsys.readouterr().out
    assert "'review' is the text (--text)" in shown
    assert "'stars' is the label (--label)" in shown
    assert "wrong  test: 1 of 2 rows (50.0%) are in train too: exactly" in shown
    assert "reviews_test.csv, line 2" in shown
    assert len(shown.splitlines()) < 60
    assert "are in train too" in Path("page.html").read_text()
    assert run(["audit", "reviews.csv", "reviews_test.csv", "--json", "--fail-on", "wrong"]) == 2
    assert json.loads(capsys.readouterr().out)["rows"] == {"train": 40, "test": 2}


@pytest.mark.parametrize(
    ("content", "code", "said"),
    [
        ("", 2, "error"),
        ("text,label\n", 2, "error"),
        ("text,label\nhello,a\n", 0, "all rows have the label 'a'"),
        ("text,label\n" + "same,a\n" * 30, 0, "29 of 30 rows (96.7%) repeat another row"),
        ("one,two\nx,y\n", 0, "texts alone"),
    ],
)
def test_small_files(content: str, code: int, said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "rows.csv").write_text(content)
    assert run(["audit", str(tmp_path / "rows.csv")]) == code
    output = capsys.readouterr()
    assert said in output.out + output.err
