from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hf_trainpipe import (
    Augmentation,
    CausalLM,
    Files,
    Lowercase,
    NormalizeSpace,
    Pretrained,
    QuestionAnswering,
    Recipe,
    RecipeError,
    SynonymReplacement,
    TextClassification,
    TokenClassification,
    TokenMask,
    Typos,
    WordDropout,
    WordNetReplacement,
    WordSwap,
)
from hf_trainpipe.augmentation.encoder import AugmentingEncoder, generator, token_draws
from hf_trainpipe.augmentation.words import WORD
from hf_trainpipe.checkpoint.contract import compare
from hf_trainpipe.codec import from_json, to_json
from hf_trainpipe.data.preview import check
from hf_trainpipe.errors import MissingPipeline
from hf_trainpipe.recipe.interfaces import Preview
from hf_trainpipe.runtime.text.edits import Aligned, Edit, apply_edits
from hf_trainpipe.runtime.text.words import WordSplitter
from hf_trainpipe.runtime.tokens.encoder import Encoder
from tests.package.conftest import tiny_tokenizer

TABLE = {"film": ("movie", "picture"), "fine": ("good",)}
STEPS = (WordDropout(share=0.4), WordSwap(share=0.5), Typos(share=0.9), SynonymReplacement(table=TABLE, share=1.0))
TEXTS = st.text(alphabet="abc déİ'’.,-\n\t 9", max_size=40) | st.sampled_from(["film", "A fine Film, isn't it?", ""])


@settings(max_examples=150, deadline=None)
@given(text=TEXTS, step=st.sampled_from(STEPS), example=st.integers(0, 2**31), epoch=st.integers(0, 1000))
def test_what_a_step_draws_follows_from_its_key(text: str, step: Augmentation, example: int, epoch: int) -> None:
    edits = step.edits(text, generator(17, epoch, example))
    assert edits == step.edits(text, generator(17, epoch, example))
    changed = Aligned(text).edited(edits)  # asserts that they are sorted and do not overlap
    before, after = ([word[0] for word in WORD.finditer(one)] for one in (text, changed.text))
    if step.changes == "words":
        assert len(after) == len(before)
    elif isinstance(step, WordSwap):
        assert sorted(after) == sorted(before)
    else:
        assert bool(after) == bool(before)
        left = iter(before)
        assert all(word in left for word in after)  # in their order


def test_shares_are_as_asked() -> None:
    words = "abcd " * 100
    for step, share in ((WordDropout(share=0.1), 0.1), (Typos(share=0.3), 0.3), (WordSwap(share=0.1), 0.09)):
        edits = [step.edits(words, generator(1, 0, example)) for example in range(50)]
        done = sum(map(len, edits)) / (2 if isinstance(step, WordSwap) else 1)
        assert done / 5000 == pytest.approx(share, abs=0.015)
    ids, masker = np.arange(2000) % 24, Encoder(tiny_tokenizer(), max_length=None).masker
    hidden = TokenMask(share=0.2).hidden(ids, token_draws(1, 0, 0), masker)
    assert (hidden == masker.mask_id).mean() == pytest.approx(0.2 * 19 / 24 + 1 / 24, abs=0.03)
    assert (hidden == ids)[np.isin(ids, masker.ordinary, invert=True)].all()


@dataclass(frozen=True, kw_only=True)
class Marking(Augmentation):
    changes = "words"

    def edits(self, text: str, draws: np.random.Generator) -> list[Edit]:
        return [Edit(len(text), len(text), "!" * int(draws.integers(1, 9)))]


def test_an_epoch_changes_texts_behind_the_preprocessing_and_knows_their_places() -> None:
    plain = Encoder(tiny_tokenizer(), steps=(NormalizeSpace(), Lowercase()), max_length=16, overflow="drop")
    texts = ["  The PARCEL arrived", "nobody  answers the phone", "ada"] * 5
    drawn = [AugmentingEncoder(plain, (WordDropout(share=0.4),), seed=3, epoch=epoch) for epoch in (0, 0, 1)]
    first, again, other = (encoder.texts(texts, texts) for encoder in drawn)
    ids = [np.asarray(one.input["input_ids"]).tolist() for one in (first, again, other)]
    assert ids[0] == ids[1] != ids[2]
    assert first.num_features == len(texts)  # none is dropped that was there
    # Pairs are drawn apart, and equal texts of other rows too.
    lengths = AugmentingEncoder(plain, (Marking(),), seed=3, epoch=0).texts(texts).lengths
    assert len(set(lengths[2::3].tolist())) > 1
    # Half of the examples stay as they are.
    some = AugmentingEncoder(plain, (Marking(examples=0.5),), seed=3, epoch=0).texts(texts * 20).lengths
    assert (some == plain.texts(texts * 20).lengths).mean() == pytest.approx(0.5, abs=0.1)
    places = AugmentingEncoder(plain, (Marking(),), seed=3, epoch=0).texts(texts[:1], with_places=True).input
    assert places["end"].max() == len(texts[0])
    marks = np.asarray(places["input_ids"]) == tiny_tokenizer().convert_tokens_to_ids("!")
    assert (places["start"][marks] == len(texts[0])).all()


def test_tags_stay_on_their_words() -> None:
    task = TokenClassification("words", tags="tags")
    plain = Encoder(tiny_tokenizer(), max_length=64, overflow="truncate")
    changing = AugmentingEncoder(plain, (Typos(share=1.0), Marking()), seed=3, epoch=0)
    words = [["the", "parcel", "arrived"], ["nobody", "answers"]]
    before, after = (task.encode({"words": words}, encoder) for encoder in (plain, changing))
    assert not np.array_equal(before.input["input_ids"], after.input["input_ids"])
    assert before.within is not None
    assert after.within is not None
    for one, two in ((before.within["start"], after.within["start"]), (before.within.starts, after.within.starts)):
        assert np.array_equal(one, two)
    owned = [np.asarray(one.input["words"]) for one in (before, after)]
    assert np.array_equal(owned[0][owned[0] >= 0], owned[1][owned[1] >= 0])
    spans = TokenClassification(text="text", spans="spans", splitter="whitespace")
    told = [spans.encode({"text": ["the parcel  arrived"]}, encoder).within for encoder in (plain, changing)]
    assert np.array_equal(told[0]["end"], told[1]["end"])  # type: ignore[index]
    assert [word for word, _, _ in WordSplitter("whitespace")(["the parcel  arrived"])[0]][1] == "parcel"


def recipe(**changes: Any) -> Recipe:
    made = Recipe(
        name="x", model=Pretrained("m"), data=Files(train="t.csv"), task=TextClassification("text", label="label")
    )
    return replace(made, **changes)


def test_a_recipe_takes_what_its_task_can_learn_from() -> None:
    steps = (*STEPS, TokenMask(), WordNetReplacement())
    assert recipe(augmentation=steps).augmentation == steps
    tagging = TokenClassification("words", tags="tags")
    assert recipe(task=tagging, augmentation=(Typos(), TokenMask())).augmentation is not None
    for task, step, message in (
        (tagging, WordDropout(), "augmentation[0]: expected a step that changes no more than words"),
        (QuestionAnswering(), WordSwap(), "found 'WordSwap (changes text)'"),
        (CausalLM("text"), TokenMask(), "expected none for CausalLM"),
    ):
        with pytest.raises(RecipeError) as refused:
            recipe(task=task, augmentation=(step,))
        assert message in str(refused.value)
    for wrong in (WordDropout, lambda: WordDropout(share=1.0), lambda: Typos(kinds=("eaten",)), lambda: TokenMask(examples=0),
                  lambda: SynonymReplacement(table={"Film": ("movie",)})):  # fmt: skip
        with pytest.raises(RecipeError):
            recipe(augmentation=(wrong if isinstance(wrong, type) else wrong(),))


def test_recipes_without_it_are_written_as_before() -> None:
    plain, with_steps = to_json(recipe(augmentation=())), to_json(recipe(augmentation=STEPS))
    assert "augmentation" not in plain
    assert plain == to_json(recipe())
    assert from_json(with_steps) == recipe(augmentation=STEPS)
    [changed] = compare({"recipe": plain}, {"recipe": with_steps})  # a run goes on with what it began with
    assert changed.field == "augmentation"


def test_synonyms_of_wordnet(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import nltk

    folder = tmp_path / "corpora" / "wordnet"
    folder.mkdir(parents=True)
    monkeypatch.setattr(nltk.data, "path", [str(tmp_path)])
    with pytest.raises(MissingPipeline, match="WordNetReplacement needs 'wordnet'"):
        WordNetReplacement().data_files()
    with pytest.raises(
        MissingPipeline, match="WordNetReplacement needs 'wordnet'"
    ):  # told by show, not by training alone
        check(recipe(augmentation=(WordNetReplacement(),)), Preview())
    licence = "  1 This software and database is being provided to you\n"
    lines = {
        "noun": ("03 n 04 film 0 movie 0 moving_picture 0 Picture 0 001 @ 00000001 n 0000 | a story\n", "film"),
        "adj": ("00 a 02 fine 0 all_right(p) 0 000 | well\n", "fine"),
    }
    for part in ("noun", "verb", "adj", "adv"):
        data, index = licence, licence
        if part in lines:
            offset, (line, lemma) = len(licence), lines[part]
            data += f"{offset:08d} {line}"
            index += f"{lemma} {part[0]} 2 1 @ 2 0 {offset:08d} 00000001  \n"
        (folder / f"data.{part}").write_text(data)
        (folder / f"index.{part}").write_text(index)
    step = WordNetReplacement(share=1.0)
    seen = {apply_edits("A Film, fine", step.edits("A Film, fine", generator(1, epoch, 0))) for epoch in range(20)}
    assert seen == {"A Movie, fine", "A Picture, fine"}
