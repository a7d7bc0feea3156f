"""Character spans: the same words in training and serving, and every adjusted span is reported."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from datasets import Dataset
from hypothesis import given, settings
from hypothesis import strategies as st

from hf_trainpipe import (
    Files,
    Frame,
    Lowercase,
    NormalizeSpace,
    NormalizeUnicode,
    Pretrained,
    Recipe,
    SpacySentences,
    SpacyTokens,
    StripHtml,
    TokenClassification,
)
from hf_trainpipe.data.prepare import prepare
from hf_trainpipe.data.preview import all_of, check
from hf_trainpipe.data.span_forms import Span
from hf_trainpipe.data.spans import align
from hf_trainpipe.data.unread import UnreadEncoder
from hf_trainpipe.errors import DataError, RecipeError
from hf_trainpipe.model.tokenizer import load_tokenizer
from hf_trainpipe.runtime.errors import InputError
from hf_trainpipe.runtime.text.preprocessing import CleanUrls, Preprocessor, apply, apply_aligned
from hf_trainpipe.runtime.text.words import WordSplitter
from hf_trainpipe.runtime.tokens.encoder import Encoder
from hf_trainpipe.tasks import Labels
from hf_trainpipe.testing import tiny_model
from tests.data.reading import build_targets

TASK = TokenClassification(text="text", spans="spans", names=("A", "B"))
LABELS = Labels(("O", "B-A", "I-A", "B-B", "I-B"))
STEPS: tuple[Preprocessor, ...] = (
    StripHtml(),
    NormalizeSpace(),
    NormalizeUnicode(),
    Lowercase(),
    CleanUrls(),
    SpacyTokens(pipeline="blank:en"),
    SpacySentences(pipeline="blank:en", keep_first=1),
)
PIECES = (
    *(
        "anna",
        "Bob's",
        " ",
        "  ",
        "\r\n",
        "<b>",
        "</b>",
        "<br>",
        "&amp;",
        "ﬁ",
        "e\u0301",
        "İ",
        "https://a.b",
        ". ",
        "\ufeff",
    ),
    *("👨\u200d👩", "北京", "กรุง", "\u200b", "½", "<!-- x -->", "\x00"),
)
TEXTS = st.lists(st.sampled_from(PIECES), min_size=1, max_size=9).map("".join).filter(str.strip)
MARKED = TEXTS.flatmap(
    lambda text: st.tuples(
        st.just(text),
        st.lists(
            st.tuples(st.integers(0, len(text)), st.integers(0, len(text)), st.sampled_from("AB")).filter(
                lambda span: span[0] < span[1]
            ),
            max_size=4,
        ),
    )
)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(tiny_model(tmp_path_factory.mktemp("model")))


def rows(*marked: tuple[str, list[tuple[int, int, str]]]) -> list[dict[str, Any]]:
    return [
        {"text": text, "spans": [{"start": a, "end": b, "label": label} for a, b, label in spans]}
        for text, spans in marked
    ]


def test_words_that_come_as_words_are_preprocessed_one_by_one(model: str) -> None:
    words = [["<b>Anna</b>", "", "&amp;", "a  b", "ﬁ"], ["https://a.b", "<i>"]]
    tokenizer, task = load_tokenizer(Pretrained(model)), TokenClassification()
    cleaned = Encoder(tokenizer, steps=STEPS[:5], max_length=16).clean_words(words)
    assert cleaned == [["anna", "", "&", "a b", "fi"], ["[URL]", ""]]
    with pytest.raises(InputError, match="SpacyTokens cannot run on words that come already split"):
        task.encode({"words": words}, Encoder(tokenizer, steps=(SpacyTokens(),), max_length=16))


@settings(max_examples=100, deadline=None)
@given(marked=MARKED, steps=st.lists(st.sampled_from(STEPS[:5]), max_size=3))
def test_spans_lead_back_to_their_characters(marked: Any, steps: list[Preprocessor]) -> None:
    text, spans = marked
    for start, end, label in spans:
        encoder, (cleaned,) = UnreadEncoder(steps=steps), apply_aligned(steps, [text])
        places = [(low, high) for _, low, high in next(encoder.words_of([text], WordSplitter("regex-2")))]
        tags, kinds = align(text, places, [Span(start, end, label)], clean=lambda text: apply(steps, [text])[0])
        at = [i for i, tag in enumerate(tags) if tag != "O"]
        assert bool(at) is not any(kind in ("blank", "removed") for kind in kinds)
        if not at:
            continue
        low, high = places[at[0]][0], places[at[-1]][1]
        held, left = cleaned.from_original(low, high), cleaned.from_original(start, end)
        assert held is not None
        assert left is not None
        assert "widened" in kinds or (start <= low <= high <= end)
        outside = cleaned.text[left[0] : max(held[0], left[0])] + cleaned.text[held[1] : left[1]]
        assert not outside.strip(" \r\n\u200b\ufeff\u200d"), "nothing that makes a word was lost"
        assert at == list(range(at[0], at[-1] + 1))


def fates(text: str, *spans: tuple[int, int, str], steps: tuple[Preprocessor, ...] = ()) -> tuple[str, dict[str, Any]]:
    dataset = Dataset.from_list(rows((text, list(spans)), ("x", [(0, 1, "A")])))
    targets = build_targets(TASK, LABELS, dataset, "train", steps=steps)
    assert targets.word_starts is not None
    tags = [LABELS.names[i] for i in targets.values[: targets.word_starts[1]]]
    report = {k: v for k, v in targets.report.items() if k not in ("counts", "spans", "places")}
    return " ".join(tags), report


@pytest.mark.parametrize(
    ("spans", "tags", "report"),
    [
        ([(0, 10, "A"), (16, 24, "B")], "B-A I-A O B-B I-B O", {}),
        ([(15, 25, "B")], "O O O B-B I-B I-B", {"trimmed": 1}),
        ([(2, 7, "A")], "B-A I-A O O O O", {"widened": 1}),
        ([(4, 5, "A")], "O O O O O O", {"blank": 1}),
        ([(0, 4, "B"), (0, 10, "A")], "B-A I-A O O O O", {"nested": 1}),
        ([(0, 10, "A"), (5, 15, "B")], "B-A I-A O O O O", {"overlapping": 1}),
        ([(0, 4, "A"), (0, 4, "A"), (0, 4, "B")], "B-A O O O O O", {"doubled": 1, "contradicting": 1}),
        ([(0, 2, "A"), (2, 4, "B")], "B-A O O O O O", {"widened": 1, "crowded": 1}),
        ([(0, 4, "A"), (0, 3, "A")], "B-A O O O O O", {"doubled": 1}),
    ],
)
def test_each_fate_has_its_name(spans: list[Any], tags: str, report: dict[str, int]) -> None:
    assert fates("Anna Smith left New York.", *spans) == (tags, report)


def test_spans_go_through_preprocessing() -> None:
    text = "<p>Anna &amp; <b>Bob</b> left</p>"
    clean = (StripHtml(), NormalizeSpace())
    assert fates(text, (3, 7, "A"), (17, 20, "B"), steps=clean) == ("B-A O B-B O", {})
    assert fates(text, (14, 24, "B"), steps=clean) == ("O O B-B O", {})  # with its mark-up
    assert fates(text, (0, 3, "A"), (14, 17, "B"), steps=clean) == ("O O O O", {"removed": 2})
    assert fates(text, (9, 11, "A"), steps=clean) == ("O B-A O O", {"widened": 1})  # half of an entity
    cut = (SpacySentences(pipeline="blank:en", keep_first=1),)
    assert fates("Anna left. Bob stayed.", (0, 4, "A"), (11, 14, "B"), steps=cut) == ("B-A O O", {"removed": 1})


def test_places_of_what_was_lost_and_the_limit(model: str, tmp_path: Path) -> None:
    data = rows(("Anna left Rome", [(0, 4, "A"), (0, 14, "B")]), ("so  on", [(2, 4, "A")]), ("Bob", [(0, 3, "A")]))
    (tmp_path / "train.jsonl").write_text("".join(json.dumps(row) + "\n" for row in data))

    def recipe(**options: Any) -> Recipe:
        task = TokenClassification(text="text", spans="spans", **options)
        source = Files(train="train.jsonl", root=str(tmp_path))
        return Recipe(name="x", model=Pretrained(model), data=source, task=task)

    def prepared(recipe: Recipe) -> list[str]:
        tokenizer = load_tokenizer(recipe.model)
        root = tmp_path / "cache"
        return prepare(
            recipe, tokenizer=tokenizer, max_length=16, vocab_size=None, root=root, say=lambda _: None
        ).warnings

    def shown(recipe: Recipe) -> list[str]:
        return check(recipe, all_of(recipe.data.splits())).warnings

    for look in (prepared, shown):
        with pytest.raises(DataError) as caught:
            look(recipe())
        assert caught.value.message.splitlines()[0].endswith("2 of 4 character spans would be lost, more than 10%:")
        assert "1 lie inside a longer span" in caught.value.message
        assert "task.lost_spans=0.5" in caught.value.fix
        nested, blank = sorted((line for line in look(recipe(lost_spans=0.5)) if "spans" in line), reverse=True)
        assert nested.startswith("train: 1 of 4 character spans lie inside a longer span")
        assert nested.endswith("(first: train.jsonl, line 1)")
        assert blank.startswith("train: 1 of 4 character spans hold nothing but white space")
        assert blank.endswith("(first: train.jsonl, line 2)")
    with pytest.raises(RecipeError, match=r"task.lost_spans: expected a share"):
        recipe(lost_spans=3)


@pytest.mark.parametrize(("form", "steps"), [("tags", (SpacyTokens(),)), ("spans", (SpacyTokens(),))])
def test_steps_that_move_words_need_whole_texts(model: str, tmp_path: Path, form: str, steps: Any) -> None:
    import pandas as pd

    if form == "tags":
        frame, task = pd.DataFrame({"tokens": [["a"]], "tags": [["B-A"]]}), TokenClassification()
    else:
        frame, task = pd.DataFrame(rows(("don't  go", [(7, 9, "A")]))), TASK
    recipe = Recipe(name="x", model=Pretrained(model), data=Frame(train=frame), task=task, preprocessing=steps)
    tokenizer = load_tokenizer(recipe.model)
    options: dict[str, Any] = {"max_length": 16, "vocab_size": None, "root": tmp_path, "say": lambda _: None}
    if form == "tags":
        with pytest.raises(RecipeError, match="changes which words there are"):
            prepare(recipe, tokenizer=tokenizer, **options)
    else:
        assert prepare(recipe, tokenizer=tokenizer, **options).train.features.within["start"].tolist() == [
            0,
            2,
            3,
            4,
            7,
        ]


def test_an_old_cache_is_not_read(model: str, tmp_path: Path) -> None:
    """Features of one text differ with the preprocessing."""
    import pandas as pd

    frame = pd.DataFrame(rows(("<b>Anna</b>", [(3, 7, "A")])))

    def words(*steps: Preprocessor) -> Any:
        recipe = Recipe(name="x", model=Pretrained(model), data=Frame(train=frame), task=TASK, preprocessing=steps)
        data = prepare(
            recipe,
            tokenizer=load_tokenizer(recipe.model),
            max_length=16,
            vocab_size=None,
            root=tmp_path,
            say=lambda _: None,
        )
        within = data.train.features.within
        assert within is not None
        return within["start"].tolist(), within["tags"].tolist(), len(data.train.features.input["input_ids"])

    raw, stripped = words(), words(StripHtml())
    assert (raw[0], stripped[0]) == ([0, 1, 2, 3, 7, 8, 9, 10], [3])
    assert (raw[1], stripped[1]) == ([0, 0, 0, 1, 0, 0, 0, 0], [1])
    assert stripped[2] < raw[2]


def test_a_package_scores_with_its_own_splitter() -> None:
    dataset = Dataset.from_list(rows(("北京在", [(0, 2, "A")])))
    new = build_targets(replace(TASK, splitter="regex-2"), LABELS, dataset, "train")
    old = build_targets(replace(TASK, splitter="regex"), LABELS, dataset, "train")
    assert (new.words, old.words) == ([["北", "京", "在"]], [["北京在"]])
