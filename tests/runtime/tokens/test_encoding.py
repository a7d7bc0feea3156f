from __future__ import annotations

import functools
import operator
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hf_trainpipe.runtime.errors import InputError
from hf_trainpipe.runtime.tokens.batch import pad
from hf_trainpipe.runtime.tokens.encoding import TextEncoder
from hf_trainpipe.runtime.tokens.features import Features, features_of

WORDS = st.sampled_from(["the", "cat", "dog", "xyz", "Rome", "abcdefgh", "", "\u200b", ".", "a" * 30])
SENTENCES = st.lists(st.lists(WORDS, max_size=25), max_size=4)


def rows(encoded: Features) -> list[list[int]]:
    return [
        encoded.input["input_ids"][a:b].tolist()
        for a, b in zip(encoded.input.starts, encoded.input.starts[1:], strict=False)
    ]


@pytest.fixture(params=["tokenizer", "byte_tokenizer"])
def any_tokenizer(request: pytest.FixtureRequest) -> Any:
    return request.getfixturevalue(request.param)


@pytest.mark.parametrize("side", ["right", "left"])
def test_texts_and_pairs_are_cut_as_transformers_cuts_them(any_tokenizer: Any, side: str) -> None:
    first = ["the cat", "", "the dog sat . " * 9, "bad cat " * 3, "the cat sat " * 8, "a b c d e f g h"]
    second = ["sat", "good dog", "the", "the cat sat " * 20, "anna left rome " * 9, "a b c d e f g"]
    tokenizer = any_tokenizer
    tokenizer.truncation_side = side
    try:
        for max_length in (12, 13, 40):
            encoder = TextEncoder(tokenizer, max_length=max_length)
            for arguments in ((first,), (first, second)):
                expected = tokenizer(*arguments, truncation=True, max_length=max_length)
                encoded = encoder.texts(*arguments)
                assert rows(encoded) == expected["input_ids"]
                if encoded.input.get("token_type_ids") is not None:
                    assert encoded.input.get("token_type_ids").tolist() == functools.reduce(
                        operator.iadd, expected["token_type_ids"], []
                    )
                else:
                    assert not any(map(any, expected.get("token_type_ids", [])))
                full = [len(ids) for ids in tokenizer(*arguments)["input_ids"]]
                assert encoded.overflow.over_length == sum(size > max_length for size in full)
                assert encoded.overflow.tokens_lost == sum(full) - len(encoded.input["input_ids"])
    finally:
        tokenizer.truncation_side = "right"


def test_the_tokenizer_stays_as_it_was(tokenizer: Any) -> None:
    tokenizer(["a b c"], truncation=True, max_length=3, padding="max_length")
    before = tokenizer._tokenizer.to_str()
    encoder = TextEncoder(tokenizer, max_length=8, overflow="window", stride=2)
    assert rows(encoder.texts(["the cat sat good bad dog left rome"]))[0] != []
    encoder.words([["the", "cat"]])
    assert tokenizer._tokenizer.to_str() == before
    tokenizer._tokenizer.no_truncation()
    tokenizer._tokenizer.no_padding()


def test_a_window_shows_every_token_and_is_full(tokenizer: Any) -> None:
    text = " ".join("abcdefghijklmnopqrstuvwxyz")
    encoded = TextEncoder(tokenizer, max_length=10, overflow="window", stride=3).texts([text, "a b"])
    all_ids = tokenizer(text, add_special_tokens=False)["input_ids"]
    windows = rows(encoded)
    assert encoded.example.tolist() == [0, 0, 0, 0, 0, 1]
    assert [len(window) for window in windows] == [10, 10, 10, 10, 10, 4]
    for window in windows:
        assert (window[0], window[-1]) == (tokenizer.cls_token_id, tokenizer.sep_token_id)
    assert [window[1:-1] for window in windows[:5]] == [all_ids[i : i + 8] for i in (0, 5, 10, 15, 18)]
    assert (encoded.overflow.over_length, encoded.overflow.tokens_lost) == (1, 0)


@settings(max_examples=60, deadline=None)
@given(
    sizes=st.tuples(st.integers(0, 26), st.integers(0, 26)),
    max_length=st.integers(7, 20),
    stride=st.integers(0, 4),
)
def test_windows_of_pairs(tokenizer: Any, sizes: tuple[int, int], max_length: int, stride: int) -> None:
    first, second = (" ".join("abcdefghijklmnopqrstuvwxyz"[:size]) for size in sizes)
    encoded = TextEncoder(tokenizer, max_length=max_length, overflow="window", stride=stride).texts([first], [second])
    a = tokenizer(first, add_special_tokens=False)["input_ids"]
    b = tokenizer(second, add_special_tokens=False)["input_ids"]
    short, long = (b, a) if len(a) > len(b) else (a, b)
    room = max_length - 3
    kept = short if len(a) + len(b) <= room else short[: room // 2]
    covered = 0
    for row in rows(encoded):
        assert len(row) <= max_length
        middle = row.index(tokenizer.sep_token_id)
        parts = [row[1:middle], row[middle + 1 : -1]]
        if len(a) > len(b):
            parts.reverse()
        assert parts[0] == kept
        start = long.index(parts[1][0]) if parts[1] else 0
        assert long[start : start + len(parts[1])] == parts[1]
        assert start <= covered
        covered = start + len(parts[1])
    assert covered == len(long)
    assert encoded.overflow.tokens_lost == len(short) - len(kept)


@settings(max_examples=100, deadline=None)
@given(sentences=SENTENCES, max_length=st.integers(4, 20), stride=st.integers(0, 6), name=st.sampled_from("ab"))
def test_each_word_is_answered_for_once(
    tokenizer: Any, byte_tokenizer: Any, sentences: list[list[str]], max_length: int, stride: int, name: str
) -> None:
    chosen = tokenizer if name == "a" else byte_tokenizer
    stride = min(stride, max_length - 3)
    encoded = TextEncoder(chosen, max_length=max_length, overflow="window", stride=stride).words(sentences)
    example = np.repeat(encoded.example, np.diff(encoded.input.starts))
    found = [(int(e), int(w)) for e, w in zip(example, encoded.input["words"], strict=True) if w >= 0]
    assert sorted(found) == [(i, j) for i, words in enumerate(sentences) for j in range(len(words))]
    assert np.diff(encoded.input.starts).max(initial=0) <= max_length
    assert encoded.num_examples == len(sentences)
    # The token that stands for a word is its first.
    whole = TextEncoder(chosen, max_length=10_000).words(sentences)
    whole_example = np.repeat(whole.example, np.diff(whole.input.starts))
    firsts = {
        (int(e), int(w)): int(t)
        for e, w, t in zip(whole_example, whole.input["words"], whole.input["input_ids"], strict=True)
    }
    for e, w, t in zip(example, encoded.input["words"], encoded.input["input_ids"], strict=True):
        assert w < 0 or firsts[int(e), int(w)] == t


def test_a_word_belongs_to_the_window_with_the_most_around_it(tokenizer: Any) -> None:
    encoded = TextEncoder(tokenizer, max_length=8, overflow="window", stride=4).words([list("abcdefgh")])
    # Windows a-f, c-h: the text's own ends miss nothing, the middle is shared out.
    assert [w for w in encoded.input["words"][:8].tolist() if w >= 0] == [0, 1, 2, 3]
    assert [w for w in encoded.input["words"][8:].tolist() if w >= 0] == [4, 5, 6, 7]
    # "bad" is whole in the second window only.
    split = TextEncoder(tokenizer, max_length=6, overflow="window", stride=2).words([["a", "b", "c", "xyz", "d", "e"]])
    owner = np.repeat(np.arange(len(split.example)), np.diff(split.input.starts))[split.input["words"] == 3]
    begin, end = split.input.starts[owner[0]], split.input.starts[owner[0] + 1]
    at = int(np.flatnonzero(split.input["words"] == 3)[0])
    assert begin < at
    assert at + 3 <= end - 1


@settings(max_examples=40, deadline=None)
@given(sentences=SENTENCES)
def test_words_become_the_tokens_that_transformers_gives(tokenizer: Any, sentences: list[list[str]]) -> None:
    encoded = TextEncoder(tokenizer, max_length=10_000).words(sentences)
    for row, words in zip(rows(encoded), sentences, strict=True):
        expected: list[int] = [tokenizer.cls_token_id]
        for word in words:
            expected += tokenizer([word], is_split_into_words=True, add_special_tokens=False)["input_ids"] or [
                tokenizer.unk_token_id
            ]
        assert row == [*expected, tokenizer.sep_token_id]


def test_byte_level_words_keep_the_space_before_them(byte_tokenizer: Any) -> None:
    encoder = TextEncoder(byte_tokenizer, max_length=64)
    row = rows(encoder.words([["cat", "cat"]]))[0]
    assert row == byte_tokenizer(" cat cat")["input_ids"]
    assert rows(encoder.texts(["cat cat"]))[0] == byte_tokenizer("cat cat")["input_ids"]


def test_truncated_words_have_no_token(tokenizer: Any) -> None:
    encoded = TextEncoder(tokenizer, max_length=6).words([list("abcdefgh"), ["the"], []])
    assert encoded.input["words"].tolist() == [-1, 0, 1, 2, 3, -1, -1, 0, -1, -1, -1]
    assert (encoded.overflow.tokens, encoded.overflow.tokens_lost, encoded.overflow.over_length) == (9, 4, 1)


def test_drop_and_error(tokenizer: Any) -> None:
    texts = ["the cat", "the cat sat the cat sat", "dog"]
    encoded = TextEncoder(tokenizer, max_length=6, overflow="drop").texts(texts)
    assert (encoded.example.tolist(), encoded.num_examples) == ([0, 2], 3)
    assert (encoded.overflow.dropped, encoded.overflow.tokens_lost) == (1, 6)
    assert features_of(encoded, [2, 1, 0]).tolist() == [1, 0]
    for arguments in ((texts,), (texts, ["", "", ""])):
        with pytest.raises(InputError, match="Example 1 has 6 tokens") as caught:
            TextEncoder(tokenizer, max_length=7 if len(arguments) == 1 else 8, overflow="error").texts(*arguments)
        assert caught.value.data["position"] == 1


def test_no_examples(tokenizer: Any) -> None:
    encoder = TextEncoder(tokenizer, max_length=6, overflow="window", stride=1)
    for encoded in (encoder.texts([]), encoder.texts([], []), encoder.words([])):
        assert (len(encoded.input["input_ids"]), encoded.input.starts.tolist(), encoded.num_examples) == (0, [0], 0)


def test_pad(tokenizer: Any) -> None:
    encoded = TextEncoder(tokenizer, max_length=16).texts(["the cat", "dog"], ["a", "b"])
    assert (
        pad(encoded, [1, 0])["input_ids"].tolist()
        == tokenizer(["dog", "the cat"], ["b", "a"], padding=True)["input_ids"]
    )
    batch = pad(encoded, [1, 0])
    expected = tokenizer(["dog", "the cat"], ["b", "a"], padding=True, return_tensors="pt")
    assert batch["attention_mask"].tolist() == expected["attention_mask"].tolist()
    assert batch["token_type_ids"].tolist() == expected["token_type_ids"].tolist()
    assert "token_type_ids" not in pad(TextEncoder(tokenizer, max_length=16).texts(["a"]), [0])


def test_settings_that_leave_no_room_are_refused(tokenizer: Any) -> None:
    for wrong in (
        {"max_length": 2},
        {"max_length": 8, "overflow": "window", "stride": 6},
        {"max_length": 8, "stride": -1},
        {"max_length": 8, "overflow": "wrap"},
    ):
        with pytest.raises(InputError, match=r"tokens:|overflow:"):
            TextEncoder(tokenizer, **wrong)
    with pytest.raises(InputError, match="expected a fast tokenizer, found object"):
        TextEncoder(object(), max_length=8)
    assert len(rows(TextEncoder(tokenizer, max_length=None).texts(["a " * 100]))[0]) == 64


def test_what_has_no_token_is_read_the_same_alone_and_beside_others(byte_tokenizer: Any) -> None:
    """Decoders put no special tokens around a text; one unknown token then stands for nothing."""
    from tokenizers import Tokenizer, processors

    bare = byte_tokenizer._tokenizer
    whole = bare.to_str()
    bare.post_processor = processors.ByteLevel()
    try:
        encoder = TextEncoder(byte_tokenizer, max_length=8, overflow="window", stride=2)
        unknown = byte_tokenizer.unk_token_id
        assert rows(encoder.texts([""])) == [[unknown]]
        several = encoder.texts(["", "cat", "", "", "ca" * 20, ""])
        assert several.example.tolist() == [0, 1, 2, 3, *[4] * (len(several.example) - 5), 5]
        assert [ids for ids in rows(several) if len(ids) == 1] == [
            [unknown],
            rows(encoder.texts(["cat"]))[0],
            *[[unknown]] * 3,
        ]
        assert several.overflow.empty == 4
        assert rows(encoder.texts(["", "cat"], ["", ""])) == [[unknown], rows(encoder.texts(["cat"]))[0]]
        words = encoder.words([[], ["cat"], []])
        assert rows(words)[::2] == [[unknown], [unknown]]
        assert words.input["words"][[0, -1]].tolist() == [-1, -1]
    finally:
        byte_tokenizer._tokenizer.post_processor = Tokenizer.from_str(whole).post_processor
    assert TextEncoder(byte_tokenizer, max_length=8).texts(["", "cat"]).overflow.empty == 1
