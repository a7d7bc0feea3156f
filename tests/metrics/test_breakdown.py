"""Details of scores: equal to scikit-learn and seqeval, and rendered for the terminal and the card."""

from __future__ import annotations

import itertools
from dataclasses import replace

import numpy as np
import pytest
from seqeval.metrics import classification_report
from sklearn.metrics import confusion_matrix, precision_recall_fscore_support

from hf_trainpipe.metrics import Predictions, breakdown
from hf_trainpipe.metrics.score_details import screen
from hf_trainpipe.package.card_breakdown import breakdown as in_card

RNG = np.random.default_rng(5)
NAMES = ("bad", "fine", "good")


def classes(size: int = 60) -> Predictions:
    gold = RNG.integers(0, 3, size)
    logits = RNG.normal(size=(size, 3)) + 1.2 * np.eye(3)[gold]
    return Predictions("single_label", outputs=logits, references=gold, labels=NAMES)


def test_classes_as_scikit_learn_counts_them() -> None:
    predictions = classes()
    found = breakdown(predictions)
    expected = precision_recall_fscore_support(
        predictions.references, predictions.decisions(), labels=[0, 1, 2], zero_division=0
    )
    for position, (row, name) in enumerate(zip(found["rows"], NAMES, strict=True)):
        assert row["name"] == name
        columns = [row[what] for what in ("precision", "recall", "f1", "support")]
        assert columns == pytest.approx([column[position] for column in expected])
    assert found["confusion"] == confusion_matrix(predictions.references, predictions.decisions()).tolist()
    largest = max((n, g != p) for g, line in enumerate(found["confusion"]) for p, n in enumerate(line) if g != p)
    assert found["confused"][0][2] == largest[0]
    assert found["positive"] is None


def test_the_worst_error_is_the_one_that_was_least_expected() -> None:
    logits = np.array([[2.0, 0.0], [0.0, 0.5], [0.0, 5.0], [3.0, 0.0]])
    found = breakdown(
        Predictions("single_label", outputs=logits, references=np.array([1, 0, 0, 0]), labels=("no", "yes"))
    )
    assert [error["position"] for error in found["errors"]] == [2, 0, 1]
    assert (found["errors"][0]["gold"], found["errors"][0]["predicted"]) == ("no", "yes")
    assert found["positive"] == "yes"


def test_label_sets_as_scikit_learn_counts_them() -> None:
    gold = RNG.integers(0, 2, (40, 3))
    predictions = Predictions(
        "multi_label", outputs=RNG.normal(size=(40, 3)), references=gold, labels=NAMES, threshold=0.4
    )
    expected = precision_recall_fscore_support(gold, predictions.decisions(), zero_division=0)
    for position, row in enumerate(breakdown(predictions)["rows"]):
        columns = [row[what] for what in ("precision", "recall", "f1", "support")]
        assert columns == pytest.approx([column[position] for column in expected])


TAGS = ("O", "B-PER", "I-PER", "B-LOC", "I-LOC")


def tags(outputs: list[int], references: list[int], starts: list[int]) -> Predictions:
    return Predictions(
        "tags", outputs=np.array(outputs), references=np.array(references), labels=TAGS, word_starts=np.array(starts)
    )


def test_entity_types_as_seqeval_counts_them() -> None:
    predictions = RNG.integers(0, 5, 80)
    gold = np.where(RNG.random(80) < 0.6, predictions, RNG.integers(0, 5, 80))
    starts = list(range(0, 81, 8))
    found = breakdown(tags(predictions.tolist(), gold.tolist(), starts))
    split = [slice(a, b) for a, b in itertools.pairwise(starts)]
    names = [[[TAGS[tag] for tag in ids[each]] for each in split] for ids in (gold, predictions)]
    expected = classification_report(*names, output_dict=True, zero_division=0)
    for row in found["rows"]:
        for what, name in (
            ("precision", "precision"),
            ("recall", "recall"),
            ("f1", "f1-score"),
            ("support", "support"),
        ):
            assert row[what] == pytest.approx(expected[row["name"]][name])


def test_a_word_without_a_prediction_counts_in_the_support() -> None:
    found = breakdown(replace(tags([1, -1, 0], [1, 3, 0], [0, 3]), has_entities=False))
    rows = {row["name"]: row for row in found["rows"]}
    assert (rows["B-LOC"]["support"], rows["B-LOC"]["predicted"], rows["B-LOC"]["recall"]) == (1, 0, 0.0)
    assert found["errors"][0]["predicted"] == [[1, None]]


@pytest.mark.parametrize(
    ("predictions", "warning"),
    [
        (
            Predictions("single_label", outputs=np.tile([1.0, 0.0], (4, 1)), references=np.array([0, 1, 0, 1]), labels=NAMES[:2]),
            "the same label for every example: 'bad'",
        ),
        (
            Predictions("multi_label", outputs=np.full((3, 2), -9.0), references=np.eye(3, 2), labels=NAMES[:2]),
            "no label for any example",
        ),
        (Predictions("regression", outputs=np.full(5, 2.5), references=np.arange(5.0)), "nearly the same number for every example"),
        (tags([0, 0, 0, 0], [1, 2, 0, 3], [0, 4]), "predicts no entity"),
    ],
)  # fmt: skip
def test_a_model_that_answers_one_thing_is_warned_of(predictions: Predictions, warning: str) -> None:
    found = breakdown(predictions)
    assert any(warning in line for line in found["warnings"])
    assert any(line.startswith("warning: dev: ") for line in screen("dev", found, width=80))
    assert "**" in in_card({"dev": found})


def test_one_screen_at_eighty_columns_and_errors_only_with_their_texts() -> None:
    many = 77
    gold = RNG.integers(0, many, 400)
    names = tuple(f"a label with a long name, number {number}" for number in range(many))
    found = breakdown(
        Predictions("single_label", outputs=RNG.normal(size=(400, many)), references=gold, labels=names), num_errors=20
    )
    card = in_card({"test": found})
    assert "Worst errors" not in card, "the card has no texts where it is predictions none"
    for error in found["errors"]:
        error |= {"place": "dev.csv, line 3", "text": "words " * 60 + "`<b>`"}
    lines = screen("test", found, width=80)
    assert len(lines) <= 40
    assert max(map(len, lines)) <= 80
    assert "the 12 worst of 77" in "\n".join(lines)
    assert "`words words" in in_card({"test": found})
