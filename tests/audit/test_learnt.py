"""What an audit learns: wrong labels with a measured precision, scores without leaked rows; what --fix writes; what train says."""

from __future__ import annotations

import csv
import json
import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from datasets import Dataset

from hf_trainpipe import Files, Pretrained, Recipe, Regression, TextClassification
from hf_trainpipe.audit import quick
from hf_trainpipe.audit.leaked import leaked_rows, of_run
from hf_trainpipe.audit.whole import audit
from hf_trainpipe.cli import run
from hf_trainpipe.data.predicted import row_hash
from hf_trainpipe.metrics import Predictions
from hf_trainpipe.metrics.saved import Predicted, folder_of, save
from hf_trainpipe.quickstart import SupportMessages


@pytest.fixture(scope="module")
def messages() -> list[tuple[str, str]]:
    rows = SupportMessages().splits()["train"]
    first = dict(zip(rows["text"], map(str, rows["intent"]), strict=True))
    return random.Random(1).sample(sorted((text, label) for text, label in first.items() if label in "12"), 400)


def dataset(rows: list[tuple[str, Any]]) -> Dataset:
    return Dataset.from_dict({"text": [text for text, _ in rows], "label": [label for _, label in rows]})


def test_planted_flips_are_found_and_the_precision_is_true(messages: list[tuple[str, str]]) -> None:
    drawn, labels = random.Random(2), sorted({label for _, label in messages})
    flipped = set(drawn.sample(range(len(messages)), 20))
    rows = [
        (text, drawn.choice([other for other in labels if other != label]) if at in flipped else label)
        for at, (text, label) in enumerate(messages)
    ]
    answers = []
    for seed in (1, 2):
        order = random.Random(seed).sample(range(len(rows)), len(rows))
        found = audit(TextClassification(), {"train": dataset([rows[at] for at in order])}).suspects
        assert found is not None
        right = [order[row] in flipped for row in found.rows[: found.listed].tolist()]
        answers.append([(order[row], likely) for row, likely in zip(found.rows.tolist(), found.likely, strict=True)])
        assert abs(np.mean(right) - found.precision) <= 0.15
        assert 8 <= found.listed <= 20
    assert answers[0] == answers[1]  # whatever the order of the rows
    assert sum(at in flipped for at, _ in answers[0]) >= 0.7 * 20


def test_numbers_that_are_wrong() -> None:
    drawn = random.Random(0)
    words = ["good", "bad", "fine", "awful", "great", "poor"]
    rows = []
    for at in range(300):
        chosen = drawn.choices(words, k=8)
        value = sum(word in ("good", "fine", "great") for word in chosen)
        rows.append((f"{' '.join(chosen)} {at}", float(8 - value if at < 9 and value != 4 else value)))
    found = audit(Regression("text", score="label"), {"train": dataset(rows)}).suspects
    assert found is not None
    wrong = {
        at for at in range(9) if rows[at][1] != sum(word in ("good", "fine", "great") for word in rows[at][0].split())
    }
    assert len(wrong & set(found.rows.tolist())) >= len(wrong) - 2


def test_scores_without_leaked_rows(messages: list[tuple[str, str]], tmp_path: Path) -> None:
    train, test = messages[:200], [*messages[200:240], *messages[:20]]
    splits = {"train": dataset(train), "test": dataset(test)}
    recipe = Recipe(name="x", model=Pretrained("not/here"), data=Files(train="x.csv"), task=TextClassification())
    found = audit(recipe.task, splits)
    (score,) = [one for one in found.scores if one["metric"] == "accuracy"]
    assert score["leaked"] == len(leaked_rows(found.twins, "test")) >= 20
    assert score["without"]["value"] <= score["all"]["value"]
    right = np.array(
        [row < 20 or row >= 40 for row in range(60)]
    )  # a run that is right on what it has seen, and half of the rest
    predictions = Predictions(
        "single_label",
        outputs=np.stack([~right, right], axis=1).astype(np.float32),
        references=np.ones(60, dtype=np.int64),
        labels=("a", "b"),
    )
    hashes = np.array([row_hash((text,)) for text, _ in test], dtype=np.uint64)
    kept = Predicted(predictions=predictions, rows=hashes, lengths=np.ones(60, dtype=np.int64))
    save(kept, folder_of(tmp_path) / "test.npz")
    (of,) = of_run(found.twins, tmp_path, recipe)
    unseen = np.setdiff1d(np.arange(60), leaked_rows(found.twins, "test") - len(train))
    assert of["without"]["value"] == pytest.approx(right[unseen].mean())
    assert of["all"]["value"] == pytest.approx(40 / 60)


def test_fix_writes_beside_and_never_over(
    messages: list[tuple[str, str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    for name, rows in {"a_train.jsonl": messages[:100], "a_test.jsonl": messages[100:130]}.items():
        Path(name).write_text("".join(json.dumps({"text": text, "label": label}) + "\n" for text, label in rows))
    faults = [
        (messages[100][0], messages[100][1]), (messages[0][0] + "!", messages[0][1]), ("", "x"), (messages[1][0], "other"),
        ("caf\u00c3\u00a9 au lait", messages[2][1]),
    ]  # fmt: skip
    with Path("a_train.jsonl").open("a") as file:
        file.writelines(json.dumps({"text": text, "label": label}) + "\n" for text, label in faults)
    before = Path("a_train.jsonl").read_bytes()
    assert run(["audit", "a_train.jsonl", "a_test.jsonl", "--fix", "out/clean"]) == 0
    assert "Files(train='train.jsonl', test='test.jsonl', root='out/clean')" in capsys.readouterr().out
    assert Path("a_train.jsonl").read_bytes() == before
    lines = [json.loads(line) for line in Path("out/clean/train.jsonl").read_text().splitlines()]
    texts = [line["text"] for line in lines]
    assert "" not in texts
    assert messages[100][0] not in texts
    assert "café au lait" in texts
    assert len(texts) <= 102
    assert len({line["group"] for line in lines if line["text"] == messages[1][0]}) == 1
    changes = list(csv.DictReader(Path("out/clean/changes.csv").read_text().splitlines()))
    assert {"test has it too", "its text is empty"} <= {change["change"] for change in changes}
    review = list(csv.DictReader(Path("out/clean/review.csv").read_text().splitlines()))
    assert sum("another label" in row["why"] for row in review) == 2
    cleaned = Files(train="train.jsonl", validation=0.2, group="group", root="out/clean").splits()
    assert not {*cleaned["train"]["group"]} & {*cleaned["validation"]["group"]}
    assert run(["audit", "a_train.jsonl", "--fix", "out/clean"]) == 2
    again = audit(TextClassification(), {name: cleaned[name] for name in ("train", "validation")}, learns=False)
    assert not {"leak", "near-leak", "empty"} & {finding.kind for finding in again.findings}


def test_what_train_says_is_kept_by_content(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = [(f"text number {at}", "ab"[at % 2]) for at in range(40)] + [
        ("text number 0", "b"),
        ("caf\u00c3\u00a9", "a"),
    ]
    splits = {"train": dataset(rows)}
    said = quick.worst(TextClassification(), splits, known_by="x", root=tmp_path)
    assert said[0].startswith("train: 2 of 42 rows (4.8%) have the text of another row and another label")
    assert any("read in another encoding" in line for line in said)
    monkeypatch.setattr(quick, "_looked", None)
    assert quick.worst(TextClassification(), splits, known_by="x", root=tmp_path) == said
    with pytest.raises(TypeError):
        quick.worst(TextClassification(), splits, known_by="y", root=tmp_path)
