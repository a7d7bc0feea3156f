"""Normalized names of labels, and lists written as text."""

from __future__ import annotations

import math
import unicodedata
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hf_trainpipe.data.spelling import fold, key, names_of, spelt
from hf_trainpipe.data.written_lists import is_written_list, parse_list


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (1, "1"),
        (1.0, "1"),
        ("1", "1"),
        ("1.0", "1"),
        (" 1\u00a0", "1"),
        ("\ufeff1", "1"),
        (-0.0, "0"),
        (Decimal("1.00"), "1"),
        (2**63, str(2**63)),
        (str(2**53 + 1), str(2**53 + 1)),
        (0.5, "0.5"),
        ("01", "01"),
        ("1.00", "1.00"),
        ("+1", "+1"),
        ("1.1", "1.1"),
        ("1.10", "1.10"),
        (True, "True"),
        ("true", "True"),
        ("FALSE", "False"),
        ("New  York", "New York"),
        ("cafe\u0301", "café"),
        ("Positive", "Positive"),
        ("١", "١"),
    ],
)
def test_one_key_for_every_spelling(value: Any, expected: str) -> None:
    spelling = spelt(value)
    assert spelling is not None
    assert key(spelling) == expected


def test_what_is_no_label() -> None:
    assert [spelt(value) for value in (None, math.nan, "", " \u00a0", "\ufeff")] == [None] * 5
    with pytest.raises(ValueError, match="too large for a float"):
        spelt(float(2**53))
    with pytest.raises(TypeError, match="found bytes"):
        spelt(b"x")


def test_names_keep_their_spelling_if_the_data_has_only_one() -> None:
    assert names_of(["cafe\u0301", "bar"]) == ("bar", "cafe\u0301")
    assert names_of(["cafe\u0301", "café", "bar"]) == ("bar", "café")
    assert names_of(["1.0", "10.0", "9.0"]) == ("1", "9", "10")
    assert names_of(["1.0", "1.1", "2.0"]) == ("1.0", "1.1", "2.0")
    assert names_of(["true", "false"]) == ("false", "true")
    assert names_of(["true", "True", "False"]) == ("False", "True")
    assert names_of(["I-B", "B-B", "O", "B-A"]) == ("O", "B-A", "B-B", "I-B")


@given(st.permutations(["1", "01", "001", "-X", "X", "B-X", "O", "1.50", "1.5", "x", "é", "e\u0301"]))
def test_the_order_of_names_is_total(spellings: list[str]) -> None:
    assert names_of(spellings) == names_of(sorted(spellings))


@given(st.text())
def test_a_key_is_its_own_key(text: str) -> None:
    assert key(key(text)) == key(text)
    assert key(unicodedata.normalize("NFD", key(text))) == key(unicodedata.normalize("NFC", text))


def test_labels_that_may_be_meant_as_one() -> None:
    for one, other in (("Positive", "positive"), ("1", "01"), ("1.5", "1.50"), ("ＡＢ", "ab"), ("new york", "NewYork")):
        assert fold(one) == fold(other)
    assert fold("positive") != fold("negative")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("['a', 'b c']", ["a", "b c"]),
        ('["a", "b\\u00e9"]', ["a", "bé"]),
        ("[]", []),
        ("set()", []),
        ("{'a'}", ["a"]),
        ("('a',)", ["a"]),
        ("['it\\'s', \"don't\"]", ["it's", "don't"]),
        ("['a' 'b']", ["a", "b"]),
        ("[0 1 0]", ["0", "1", "0"]),
        ("[0. 1.\n 0.]", ["0.0", "1.0", "0.0"]),
        ("[True, False]", ["True", "False"]),
        ("[np.int64(1), np.str_('a')]", ["1", "a"]),
        ("array(['a', 'b'], dtype=object)", ["a", "b"]),
        ("[very good, bad]", ["very good", "bad"]),
        ("['a, b', 'c']", ["a, b", "c"]),
        (" [1, 2] ", ["1", "2"]),
    ],
)
def test_written_lists(text: str, expected: list[str]) -> None:
    assert is_written_list(text)
    assert parse_list(text) == expected


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[a b]", "separated by spaces alone"),
        ("[['a'], ['b']]", "a list or dictionary"),
        ("{'a': 1}", "follows a quoted item"),
        ("['a', ]b]", "a list or dictionary"),
        ("['a'b]", "follows a quoted item"),
        ("['a', 'b' 'c']", "separated by commas, others by spaces"),
        ("[0 0 ... 1]", "shortened"),
        ("['a', None]", "it holds None"),
        ("['a', nan]", "it holds nan"),
        ("['a', 'b]", "a quote is not closed"),
        ("[__import__('os').system('x')]", "a list or dictionary"),
        ("[" * 50_000 + "]" * 50_000, "a list or dictionary"),
        ("['" + "a" * 100_000 + "']", "100,004 characters"),
    ],
)
def test_lists_that_do_not_parse_are_never_executed(text: str, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        parse_list(text)


@pytest.mark.parametrize("text", ["", "a", "(other)", "{x}", "a [b]", "[a] b", "a]"])
def test_plain_labels_are_no_lists(text: str) -> None:
    assert not is_written_list(text)


@given(st.lists(st.text(st.characters(exclude_categories=("Cs",))), max_size=5))
def test_what_python_and_json_write_is_read_back(labels: list[str]) -> None:
    import json

    assert parse_list(repr(labels)) == labels
    assert parse_list(json.dumps(labels)) == labels
    assert parse_list(json.dumps(labels, ensure_ascii=False)) == labels
