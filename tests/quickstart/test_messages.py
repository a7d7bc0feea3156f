"""The quickstart's messages: deterministic, balanced, without leaks between splits, and hard for word counts."""

from __future__ import annotations

import csv
import os
import re
import subprocess
import sys
from collections import Counter
from itertools import combinations
from pathlib import Path
from random import Random

import pytest

from hf_trainpipe.errors import DataError
from hf_trainpipe.quickstart import INTENTS, SupportMessages
from hf_trainpipe.quickstart.__main__ import main
from hf_trainpipe.quickstart.grammar import Wording, expand, mistype
from hf_trainpipe.quickstart.messages import WORDINGS

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def messages() -> dict[str, list[tuple[str, str]]]:
    return SupportMessages().messages()


def test_the_same_in_another_process_with_another_hash_seed(messages, tmp_path):
    environ = {**os.environ, "PYTHONHASHSEED": "12345", "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-m", "hf_trainpipe.quickstart", "--out", str(tmp_path)]
    subprocess.run(command, check=True, env=environ, stdout=subprocess.DEVNULL)
    for split, rows in messages.items():
        with (tmp_path / f"{split}.csv").open(encoding="utf-8", newline="") as file:
            header, *written = csv.reader(file)
        assert header == ["text", "intent"]
        assert [tuple(row) for row in written] == rows


def test_another_seed_gives_other_messages(tmp_path, capsys, messages):
    main(["--out", str(tmp_path), "--seed", "8"])
    assert "train.csv: 2,496 messages" in capsys.readouterr().out
    assert SupportMessages(seed=8).messages()["train"] != messages["train"]


def test_sizes_and_balance(messages):
    sizes = {split: len(rows) for split, rows in messages.items()}
    assert sizes == {"train": 2496, "validation": 504, "test": 504}
    assert len(INTENTS) == 8
    for rows in messages.values():
        assert set(Counter(intent for _, intent in rows).values()) == {len(rows) // 8}
        assert [intent for _, intent in rows[:16]] != sorted(intent for _, intent in rows[:16])


def _letters(text: str) -> str:
    return re.sub(r"[^a-z]", "", text.lower())


def test_no_message_twice_and_none_in_two_splits(messages):
    texts = {split: [text for text, _ in rows] for split, rows in messages.items()}
    for rows in texts.values():
        assert len({text.lower() for text in rows}) == len(rows)
    for one, other in combinations(texts, 2):
        assert not {_letters(text) for text in texts[one]} & {_letters(text) for text in texts[other]}


def _phrases(wording: Wording) -> set[str]:
    own = [getattr(wording, name) for name in ("asks", "contrasts", "dismissals", "doubles", "contexts", "closings")]
    intents = [part for i in wording.intents.values() for part in (i.cores, i.wishes, i.shorts, i.sides)]
    return {phrase.lower() for part in (*own, *intents) for phrase in part if phrase != "<core>"}


def test_splits_share_no_phrase_no_frame_and_no_product():
    for one, other in combinations(WORDINGS.values(), 2):
        assert not _phrases(one) & _phrases(other)
        assert not set(one.slots["item"]) & set(other.slots["item"])


@pytest.mark.parametrize("split", WORDINGS)
def test_every_template_of_every_intent_expands(split):
    wording, rng = WORDINGS[split], Random(0)
    assert tuple(sorted(wording.intents)) == INTENTS
    filled = {**wording.slots, "core": ("c",), "wish": ("w",), "other": ("o",), "side": ("s",)}
    for template in _phrases(wording):
        for _ in range(5):
            assert not re.search(r"[{}<>|]", expand(template, rng, filled)), template


def test_texts_read_like_messages(messages):
    for rows in messages.values():
        for text, _ in rows:
            assert text == text.strip()
            assert not re.search(r"[{}<>|]|  | [,.?!]", text), text
            assert 2 <= len(text.split()) <= 80, text
    train = [text.lower() for text, _ in messages["train"]]
    negations = r"don'?t|not |instead|never|\bno\b"
    assert sum(bool(re.search(negations, text)) for text in train) > len(train) / 5


def test_mistyping_leaves_about_half_as_they_are_and_the_rest_readable():
    text, rng = "Could you please change the delivery address of my order?", Random(3)
    typed = [mistype(text, rng) for _ in range(400)]
    assert 0.4 < sum(one == text for one in typed) / 400 < 0.65
    assert all(abs(len(one) - len(text)) <= 14 for one in typed)


def test_counting_words_is_not_enough(messages):
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.linear_model import LogisticRegression

    words = TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True)
    features = words.fit_transform([text for text, _ in messages["train"]])
    model = LogisticRegression(C=10, max_iter=1000).fit(features, [intent for _, intent in messages["train"]])
    accuracy = {
        split: model.score(words.transform([text for text, _ in rows]), [intent for _, intent in rows])
        for split, rows in messages.items()
    }
    assert accuracy["train"] > 0.95
    for split in ("validation", "test"):
        assert 0.30 < accuracy[split] <= 0.82, accuracy


def test_as_a_recipe_reads_it():
    data = SupportMessages(train=80, validation=16, test=16)
    splits = data.splits()
    assert [(split, rows.num_rows) for split, rows in splits.items()] == [
        ("train", 80),
        ("validation", 16),
        ("test", 16),
    ]
    assert splits["train"].features["intent"].names == list(INTENTS)
    text, intent = data.messages()["train"][5]
    assert splits["train"][5] == {"text": text, "intent": INTENTS.index(intent)}
    assert "8 intents" in data.describe()


def test_too_few_messages_are_refused():
    with pytest.raises(DataError, match=r"data\.validation: expected 8 messages or more, found 3"):
        SupportMessages(validation=3)


def test_more_messages_than_the_grammar_has_are_refused(monkeypatch):
    from hf_trainpipe.quickstart import messages

    monkeypatch.setattr(messages, "compose", lambda intent, wording, rng: intent)
    monkeypatch.setattr(messages, "mistype", lambda text, rng: text)
    with pytest.raises(DataError, match="no 16 different messages"):
        messages.write_messages(WORDINGS["train"], count=16, seed="0")
