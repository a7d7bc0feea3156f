"""Answers in contexts of any length, and their scores by SQuAD's definition."""

from __future__ import annotations

import re
import string
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from datasets import Dataset
from hypothesis import example, given, settings
from hypothesis import strategies as st
from transformers import BertTokenizerFast

from hf_trainpipe import DataError, QuestionAnswering
from hf_trainpipe.data.rows import Rows
from hf_trainpipe.runtime.model.outputs import Outputs
from hf_trainpipe.runtime.tasks.base import Requests
from hf_trainpipe.runtime.tasks.question_answering import Judged
from hf_trainpipe.runtime.tasks.squad import squad_scores
from hf_trainpipe.runtime.tokens.encoder import Encoder
from hf_trainpipe.runtime.tokens.features import Features
from hf_trainpipe.testing import tiny_model

WORDS = ["a", "the", "an", "film", "was", "good", "Good", "bad!", "very,", "-", "anna", "Anna's", "", "it.", "42"]


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> BertTokenizerFast:
    folder: Path = tiny_model(tmp_path_factory.mktemp("model"))
    return BertTokenizerFast.from_pretrained(folder)


def rows_of(*rows: dict[str, object], **options: object) -> Rows:
    return Rows(Dataset.from_list(list(rows)), "train", **options)


def row(context: str, answers: object, question: str = "who ?") -> dict[str, object]:
    return {"question": question, "context": context, "answers": answers}


def official(prediction: str, golds: list[str]) -> tuple[float, float]:
    """evaluate-v2.0.py of SQuAD, as it is published."""

    def normalize_answer(s: str) -> str:
        def remove_articles(text: str) -> str:
            regex = re.compile(r"\b(a|an|the)\b", re.UNICODE)
            return re.sub(regex, " ", text)

        def white_space_fix(text: str) -> str:
            return " ".join(text.split())

        def remove_punc(text: str) -> str:
            exclude = set(string.punctuation)
            return "".join(ch for ch in text if ch not in exclude)

        return white_space_fix(remove_articles(remove_punc(s.lower())))

    def compute_f1(a_gold: str, a_pred: str) -> float:
        gold_toks, pred_toks = normalize_answer(a_gold).split(), normalize_answer(a_pred).split()
        num_same = sum((Counter(gold_toks) & Counter(pred_toks)).values())
        if len(gold_toks) == 0 or len(pred_toks) == 0:
            return int(gold_toks == pred_toks)
        if num_same == 0:
            return 0
        precision, recall = 1.0 * num_same / len(pred_toks), 1.0 * num_same / len(gold_toks)
        return (2 * precision * recall) / (precision + recall)

    gold_answers = [a for a in golds if normalize_answer(a)] or [""]
    exact = max(int(normalize_answer(a) == normalize_answer(prediction)) for a in gold_answers)
    return exact, max(compute_f1(a, prediction) for a in gold_answers)


def test_scores_are_those_of_the_official_script() -> None:
    draws = np.random.default_rng(5)
    seen = Counter()
    for _ in range(10_000):
        texts = [" ".join(draws.choice(WORDS, size=draws.integers(0, 5))) for _ in range(draws.integers(1, 5))]
        expected = official(texts[0], texts[1:])
        assert squad_scores(texts[0], texts[1:]) == pytest.approx(expected, abs=1e-12), texts
        seen[expected[0], 0 < expected[1] < 1] += 1
    assert len(seen) == 3


def test_every_form_of_answers_is_read() -> None:
    context = "anna was kind and anna was good"
    forms = [
        {"text": ["anna"], "answer_start": [18]},
        {"text": "anna", "start": 18},
        [{"text": "anna", "answer_start": 18}, {"text": "kind", "answer_start": 9}],
    ]
    for form in forms:
        assert QuestionAnswering()._answers(rows_of(row(context, form)))[0][0] == (18, "anna")
    for form in ("anna", ["anna", "kind"], {"text": ["anna"]}, {"text": ["anna"], "answer_start": [2]}):
        assert QuestionAnswering()._answers(rows_of(row(context, form)))[0][0] == (0, "anna")
    assert QuestionAnswering()._answers(rows_of(row(context, {"text": [], "answer_start": []}))) == [[]]


@pytest.mark.parametrize(
    ("answers", "expected"),
    [
        ({"text": ["boris"], "answer_start": [0]}, "the answer 'boris' is not in column 'context'"),
        ({"text": ["anna", "kind"], "answer_start": [0]}, "expected answers, found"),
        ({"text": [" "], "answer_start": [0]}, "expected answers, found"),
        ({"words": ["anna"]}, "expected answers, found"),
    ],
)
def test_what_is_no_answer_is_refused_with_its_row(answers: object, expected: str) -> None:
    rows = rows_of(row("anna was kind", {"text": ["anna"], "answer_start": [0]}), row("anna was kind", answers))
    with pytest.raises(DataError, match=expected) as refused:
        QuestionAnswering().check(Rows(rows.dataset.select([1]), "train"))
    assert "row" in str(refused.value) or "train" in str(refused.value)


def test_an_answer_that_starts_elsewhere_is_told() -> None:
    rows = rows_of(row("anna was kind", {"text": ["kind"], "answer_start": [7]}), is_training=True)
    task = QuestionAnswering().fit(rows)
    assert task.no_answer is False
    task.check(rows)
    assert len(rows.notes) == 1
    assert "1 of 1 rows have an answer that is not where it is said to start" in rows.notes[0]


def encoded(
    tokenizer, task: QuestionAnswering, rows: Rows, *, overflow: str = "window", max_length: int = 16, stride: int = 0
):
    encoder = Encoder(tokenizer, max_length=max_length, overflow=overflow, stride=stride)
    features = task.encode(rows.inputs(task), encoder)
    return task.supervise(rows, features), encoder


def oracle(features: Features, most: float = 9.0) -> Outputs:
    """Logits of a model that knows the targets; of windows without the answer those of no answer, a little lower."""
    stream, labels = features.input, features.dense["labels"]
    starts = {name: np.asarray(stream.starts) for name in ("start", "end")}
    arrays = {name: np.zeros(int(stream.starts[-1]), dtype=np.float32) for name in ("start", "end")}
    for feature, pair in enumerate(labels):
        for name, place in zip(arrays, pair, strict=True):
            arrays[name][int(stream.starts[feature]) + place] = most if pair[1] else most - 4
    return Outputs(np.arange(features.num_features), arrays, starts)


@settings(max_examples=60)
@given(
    words=st.lists(st.sampled_from(["anna", "boris", "was", "kindly", "xyz", "!", "film"]), min_size=1, max_size=60),
    at=st.integers(0, 59),
    length=st.integers(1, 3),
    stride=st.integers(0, 6),
)
@example(words=["anna"], at=0, length=1, stride=0)
def test_who_knows_the_place_finds_the_answer_at_the_right_characters(tokenizer, words, at, length, stride) -> None:
    at %= len(words)
    context, answer = "  ".join(words), "  ".join(words[at : at + length])
    start = len("  ".join(words[:at])) + (2 if at else 0)
    task = QuestionAnswering(no_answer=False, most_tokens=12)
    rows = rows_of(row(context, {"text": [answer], "answer_start": [start]}))
    features, encoder = encoded(tokenizer, task, rows, max_length=24, stride=min(stride + 12, 14))
    if not features.dense["labels"].any():
        return  # longer than any window overlaps
    merged = task.merge(oracle(features), features)
    found = task.answers(merged, Requests([{"context": context}], features, encoder))
    assert found[0]["answer"] == answer == context[found[0]["start"] : found[0]["end"]]
    assert found[0]["start"] == start
    judged = task.judge(merged, features)
    assert (judged.exact.tolist(), judged.f1.tolist()) == ([1.0], [1.0])


def test_an_answer_anywhere_in_five_thousand_tokens_is_found_at_every_stride(tokenizer) -> None:
    words = ["was", "it", "the", "day"] * 1250
    task = QuestionAnswering(no_answer=False)
    rows = []
    for at in range(0, 5000, 624):
        here = [*words[:at], "anna", *words[at + 1 :]]
        rows.append(row(" ".join(here), {"text": ["anna"], "answer_start": [len(" ".join(here[:at])) + (at > 0)]}))
    for stride in (0, 1, 20, 57):
        features, _ = encoded(tokenizer, task, rows_of(*rows), max_length=64, stride=stride)
        judged = task.judge(task.merge(oracle(features), features), features)
        assert judged.exact.tolist() == [1.0] * len(rows)


def test_what_is_cut_off_cannot_be_learnt_and_is_counted(tokenizer) -> None:
    rows = rows_of(
        row("it was a day", {"text": ["day"], "answer_start": [9]}),
        row("it was " * 20 + "anna", {"text": ["anna"], "answer_start": [140]}),
        is_training=True,
    )
    features, _ = encoded(tokenizer, QuestionAnswering(), rows, overflow="truncate")
    assert features.dense["labels"][1].tolist() == [0, 0]
    assert any("1 of 2 answers are whole in no feature" in line for line in rows.notes)


def test_the_best_span_is_the_best_pair_within_the_limit() -> None:
    draws = np.random.default_rng(3)
    from hf_trainpipe.runtime.tasks.question_answering import _best_span

    for _ in range(200):
        count, most = int(draws.integers(1, 40)), int(draws.integers(1, 12))
        start, end = draws.normal(size=(2, count)).astype(np.float32)
        pairs = {(i, j): start[i] + end[j] for i in range(count) for j in range(i, min(count, i + most))}
        first, last, score = _best_span(start, end, most)
        assert score == pytest.approx(max(pairs.values()))
        assert pairs[first, last] == pytest.approx(score)


def test_the_threshold_of_no_answer_is_the_best_on_validation(tokenizer) -> None:
    contexts = ["anna was kind", "it was a day", "boris was good", "the film was very bad"]
    answers = [{"text": ["anna"], "answer_start": [0]}, {"text": [], "answer_start": []},
               {"text": ["boris"], "answer_start": [0]}, {"text": [], "answer_start": []}]  # fmt: skip
    rows = rows_of(*(row(one, other) for one, other in zip(contexts, answers, strict=True)))
    task = QuestionAnswering().fit(rows)
    assert task.no_answer is True
    features, encoder = encoded(tokenizer, task, rows)
    merged = task.merge(oracle(features), features)
    tuned = task.tune(task.judge(merged, features))
    judged = tuned.judge(merged, features)
    assert judged.exact.tolist() == [1.0] * 4
    assert [metric.name for metric in tuned.metrics()] == ["f1", "exact_match", "f1_with_answer", "f1_without_answer"]
    found = tuned.answers(merged, Requests([{"context": one} for one in contexts], features, encoder))
    assert [one["answer"] for one in found] == ["anna", "", "boris", ""]
    assert QuestionAnswering(no_answer=True, no_answer_threshold=1.0).tune(judged).no_answer_threshold == 1.0


@settings(max_examples=100)
@given(st.lists(st.tuples(st.floats(-5, 5), st.booleans(), st.floats(0, 1)), min_size=1, max_size=30))
def test_no_other_threshold_has_a_larger_f1(cases) -> None:
    gap, has_answer, f1 = (np.array(one) for one in zip(*cases, strict=True))
    f1 = np.where(has_answer, f1, 0.0)

    def total(threshold: float) -> float:
        return float(np.where(gap > threshold, ~has_answer, f1).sum())

    judged = Judged(
        exact=f1, f1=f1, span_exact=f1, span_f1=f1, none_exact=f1, none_f1=f1, has_answer=has_answer, gap=gap
    )
    chosen = QuestionAnswering(no_answer=True).tune(judged).no_answer_threshold
    assert chosen is not None
    assert total(chosen) == pytest.approx(max(map(total, [*gap, gap.min() - 1, gap.max() + 1])))
