"""What a gate decides from predictions: tests on each set of rows, floors for slices and calibration."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from hf_trainpipe import Evaluation, Files, Pretrained, Recipe, Regression, TextClassification
from hf_trainpipe.errors import DataError
from hf_trainpipe.metrics.base import Predictions
from hf_trainpipe.metrics.saved import Predicted
from hf_trainpipe.promotion.evidence import Answers, Pair, pair
from hf_trainpipe.promotion.gate import Terms, decide

LABELS = ("calm", "angry", "sad")
RECIPE = Recipe(
    name="r", model=Pretrained("m"), data=Files(train="x.csv"), task=TextClassification("text", label="label"),
    evaluation=Evaluation(select="accuracy"),
)  # fmt: skip


def answers(wrong: Any, *, rows: int = 2000, sure: float = 3.0, labels: tuple[str, ...] = LABELS) -> Answers:
    """Right on all rows but some; every third row is of another channel."""
    gold = np.arange(rows) % 3
    given = gold.copy()
    given[wrong] = (gold[wrong] + 1) % 3
    logits = np.zeros((rows, 3))
    logits[np.arange(rows), given] = sure
    order = [LABELS.index(label) for label in labels]
    place = np.argsort(order)
    held = Predictions("single_label", outputs=logits[:, order], references=place[gold], labels=labels)
    channel = tuple("mail" if at % 7 == 0 else "web" for at in range(rows))
    found = Predicted(
        predictions=held, rows=np.arange(rows, dtype=np.uint64), lengths=np.full(rows, 9), slices={"channel": channel}
    )
    return Answers(found=found, examples=np.arange(rows), temperature=1.0)


def decided(one: Answers, two: Answers, *, fresh: tuple[Answers, Answers] | None = None, **terms: Any) -> Any:
    pairs = [pair(one, two, what="test"), *([pair(*fresh, what="fresh")] if fresh else [])]
    return decide(pairs, RECIPE, Terms(**terms))


def test_equal_answers_pass_where_the_rows_suffice_and_are_told_how_many_would() -> None:
    same = answers(slice(0, 100))
    assert decided(same, answers(slice(0, 100), labels=("sad", "calm", "angry"))).passed
    few = answers(slice(0, 5), rows=120)
    found = decided(few, few)
    assert not found.passed
    assert found.tests[0].needed == 539
    assert "even equal answers would need 539 rows" in found.verdict()
    assert decided(few, few, margin=5.0).passed


def test_wrong_new_labels_do_not_outvote_the_frozen_test() -> None:
    worse = answers(slice(0, 200))
    better = (answers(slice(0, 1000)), answers(slice(0, 1)))
    found = decided(answers(slice(0, 100)), worse, fresh=better)
    assert [one.shown for one in found.tests] == [False, True]
    assert not found.passed
    assert found.verdict().startswith("not shown to be no worse by 0.005 in accuracy on test: -0.0500")


def test_a_slice_that_falls_refuses_what_gained_elsewhere() -> None:
    mail = np.arange(0, 2000, 7)
    champion = answers(np.setdiff1d(np.arange(600), mail))
    challenger = answers(mail[:60])  # better on the whole, worse on mail by 21 points
    found = decided(champion, challenger)
    assert found.tests[0].shown
    assert not found.passed
    [broken] = [one for one in found.slices if one.broken]
    assert (broken.part, broken.rows, round(broken.gain, 2)) == ("channel = mail", 286, -0.21)
    assert "channel = mail on test falls from 1.0000 to 0.7902" in found.verdict()
    assert decided(champion, challenger, slice_floor=30.0).passed


def test_probabilities_may_not_become_dishonest() -> None:
    wrong = slice(0, 400)  # a fifth: a probability of 0.8 would be right
    champion, challenger = answers(wrong, sure=2.1), answers(wrong, sure=9.0)
    found = decided(champion, challenger)
    assert found.tests[0].shown
    assert found.broken == [
        "the calibration error on test rises from 0.0033 to 0.1998, above the 0.0233 that are allowed"
    ]
    cooled = Answers(found=challenger.found, examples=challenger.examples, temperature=9.0 / 2.1)
    assert decided(champion, cooled).passed, "what counts are the probabilities that a package answers"


def test_rows_that_one_does_not_take_are_left_out_and_said() -> None:
    whole = answers(slice(0, 50))
    part = answers(slice(0, 50), rows=1900)
    found = decided(whole, part)
    assert found.tests[0].rows == 1900
    assert found.notes == ("test: 100 rows that only the champion takes are left out.",)


def test_other_labels_cannot_be_held_against_each_other() -> None:
    other = answers(0)
    named = Predictions(
        "single_label", outputs=other.found.predictions.outputs, references=other.found.predictions.references,
        labels=("a", "b", "c"),
    )  # fmt: skip
    found = Predicted(predictions=named, rows=other.found.rows, lengths=other.found.lengths)
    with pytest.raises(DataError, match="the champion's labels are calm, angry, sad, the challenger's a, b, c"):
        pair(other, Answers(found=found, examples=other.examples, temperature=1.0), what="test")


def test_numbers_are_held_by_their_own_score() -> None:
    random = np.random.default_rng(0)
    gold = random.normal(size=800)

    def side(noise: float) -> Answers:
        held = Predictions("regression", outputs=gold + noise * random.normal(size=800), references=gold)
        found = Predicted(predictions=held, rows=np.arange(800, dtype=np.uint64), lengths=np.arange(800) % 40)
        return Answers(found=found, examples=np.arange(800), temperature=1.0)

    recipe = Recipe(
        name="r", model=Pretrained("m"), data=Files(train="x.csv"), task=Regression("text"),
        evaluation=Evaluation(select="rmse"),
    )  # fmt: skip
    better = decide([pair(side(0.5), side(0.4), what="test")], recipe, Terms())
    assert (better.passed, better.tests[0].metric) == (True, "rmse")
    assert better.tests[0].gain > 0, "less is better"
    assert not decide([pair(side(0.4), side(0.5), what="test")], recipe, Terms()).passed


def test_pairs_of_other_rows_are_no_pairs() -> None:
    one = answers(0, rows=30)
    other = Answers(found=one.found, examples=one.examples + 100, temperature=1.0)
    with pytest.raises(DataError, match="0 rows in common"):
        pair(one, other, what="fresh")
    assert isinstance(pair(one, one, what="fresh"), Pair)
