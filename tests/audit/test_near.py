"""The join of near texts against a plain one, and normal forms."""

from __future__ import annotations

import random
from itertools import combinations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hf_trainpipe.audit import near
from hf_trainpipe.audit.near import near_pairs
from hf_trainpipe.audit.normal import normal
from hf_trainpipe.quickstart import SupportMessages


def plain(texts: list[str]) -> set[tuple[int, int]]:
    """The definition, pair by pair."""
    grams = [{text[at : at + 5] for at in range(max(len(text) - 4, 1))} for text in texts]
    pairs = combinations(range(len(texts)), 2)
    return {(a, b) for a, b in pairs if 5 * len(grams[a] & grams[b]) >= 4 * len(grams[a] | grams[b])}


def found(texts: list[str]) -> set[tuple[int, int]]:
    return {(a, b) for a, b in near_pairs(texts).pairs.tolist()}


@settings(max_examples=30)
@given(st.lists(st.text("ab", max_size=30), unique=True, max_size=12))
def test_repetitive_texts(texts: list[str]) -> None:
    assert found(texts) == plain(texts)


def test_edits_of_real_texts_in_several_scripts(monkeypatch: pytest.MonkeyPatch) -> None:
    drawn = random.Random(3)
    base = sorted({normal(text) for text in SupportMessages().splits()["train"]["text"][:120]})
    base += ["".join(drawn.choices([chr(0x4E00 + n) for n in range(6000)], k=60)) for _ in range(20)]
    edited = []
    for text in base:
        at = drawn.randrange(len(text))
        edited.append(text[:at] + drawn.choice(("x", "", "漢")) + text[at + 1 :])
    texts = sorted({*base, *edited})
    wanted = plain(texts)
    assert len(wanted) > 60
    assert found(texts) == wanted
    monkeypatch.setattr(near, "_CHARACTERS", 500)  # many small blocks
    monkeypatch.setattr(near, "_CANDIDATES", 50)
    assert found(texts) == wanted


def test_copies_of_a_template_stay_bounded_and_it_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    texts = sorted(f"yourorderhasbeenshippedtoday{number:04}" for number in range(300))
    whole = near_pairs(texts)
    assert (whole.skipped, found(texts)) == (0, plain(texts))
    monkeypatch.setattr(near, "_MOST", 20_000)
    bounded = near_pairs(texts)
    assert bounded.skipped > 0
    assert 0 < len(bounded.pairs) < len(whole.pairs)


def test_normal_forms() -> None:
    assert normal("Ünïté, 3\u00a0¾!") == normal("ünïté 3 3⁄4")
    assert normal("हिन्दी") != normal("हन्द")
    assert normal(":)") == ":)"
