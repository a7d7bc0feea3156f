from __future__ import annotations

import random
import re
import shutil
from pathlib import Path

import nltk
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hf_trainpipe.runtime.errors import InputError, MissingPipeline
from hf_trainpipe.runtime.safety.files import is_package_file
from hf_trainpipe.runtime.text.nltk_data import Lemmas, wordnet_names
from hf_trainpipe.runtime.text.preprocessing import (
    Aligned,
    NltkLemmas,
    NltkSentences,
    NltkStem,
    NltkStopwords,
    NltkTokens,
    Preprocessor,
    apply,
    apply_aligned,
    apply_words,
    data_files,
    steps_from_json,
    steps_to_json,
)
from tests.runtime.text.nltk_files import write_nltk_data

WITH_DATA: tuple[Preprocessor, ...] = (
    NltkSentences(keep_first=2),
    NltkTokens(),
    NltkStopwords(),
    NltkLemmas(),
    NltkLemmas(part="noun"),
)
PURE: tuple[Preprocessor, ...] = (
    NltkTokens(tokenizer="treebank"),
    NltkTokens(tokenizer="tweet"),
    NltkTokens(tokenizer="wordpunct"),
    NltkStem(),
    NltkStem(stemmer="porter"),
    NltkStem(stemmer="lancaster"),
    NltkStem(language="german"),
)
TEXTS = st.lists(
    st.sampled_from(
        ["Mr. ", "Anna", "was", " the", "'s", "n't", '"', "``", "''", " ", "\n", ".", "!", "?", "&amp;", "$3.88", ":-)",
         "mice", "Running", "İ", "é", "e\u0301", "’", "@bob", "#x", "--", "...", "(", "ﬁ", "http://a.b/c", "👍🏽"]
    ),
    max_size=14,
).map("".join) | st.text(max_size=25)  # fmt: skip


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_nltk_data(tmp_path_factory.mktemp("nltk"))


@pytest.fixture
def searched(data: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(nltk.data, "path", [str(data)])
    return data


@pytest.mark.parametrize(
    ("step", "text", "expected"),
    [
        (NltkSentences(keep_first=1), "It rained on Dr. Smith.  We stayed.", "It rained on Dr. Smith."),
        (NltkSentences(keep_first=2), " One! Two? ", " One! Two? "),
        (NltkTokens(), 'Don\'t go, "Bob". We  stayed.', 'Do n\'t go , " Bob " . We stayed .'),
        (NltkTokens(tokenizer="treebank"), "It's $3.88. Really.", "It 's $ 3.88. Really ."),
        (NltkTokens(tokenizer="tweet"), "so good:-) @bob #fun", "so good :-) @bob #fun"),
        (NltkTokens(tokenizer="tweet"), "you &amp; me", "you & amp; me"),
        (NltkTokens(tokenizer="wordpunct"), "can't", "can ' t"),
        (NltkStopwords(), "The day was not good, and we don’t mind it.", "day good, we mind."),
        (NltkStopwords(keep=("Not",), also=("day",)), "The day was not good", "not good"),
        (NltkStem(), "Running dogs' stories", "run dog' stori"),
        (NltkStem(stemmer="lancaster"), "happily", "happy"),
        (NltkStem(language="german"), "die Häuser", "die haus"),
        (NltkLemmas(), "the mice were running.", "the mouse be run."),
        (NltkLemmas(), "anna sees better days.", "anna see good day."),
        (NltkLemmas(part="noun"), "Mice were running", "mouse were running"),
        (NltkLemmas(part="verb"), "running stories", "run stories"),
    ],
)
def test_step(step: Preprocessor, text: str, expected: str, searched: Path) -> None:
    assert apply((step,), [text, "", text]) == [expected, "", expected]
    aligned = apply_aligned((step,), [text])[0]
    assert (aligned.text, aligned.original) == (expected, text)
    assert steps_from_json(steps_to_json((step,))) == (step,)


def check_places(aligned: Aligned, step: Preprocessor) -> None:
    """Each character leads back to itself, a space between tokens to where it was put, a stem to the whole word it is of."""
    places = [aligned.to_original(at, at + 1) for at in range(len(aligned.text))]
    assert places == sorted(places)
    for character, (start, end) in zip(aligned.text, places, strict=True):
        origin = aligned.original[start:end]
        if isinstance(step, NltkTokens):
            assert character == origin or (character == " " and not origin.strip())
        elif isinstance(step, NltkStopwords | NltkSentences):
            assert character == origin
        else:
            assert character == origin or re.fullmatch(r"[^\W_]+(['’-][^\W_]+)*", origin)


@settings(max_examples=120, deadline=None)
@given(text=TEXTS, step=st.sampled_from(PURE + WITH_DATA))
def test_places_lead_back(text: str, step: Preprocessor, data: Path) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(nltk.data, "path", [str(data)])
        [aligned] = apply_aligned((step,), [text])
        assert step.transform([text]) == [aligned.text]
    check_places(aligned, step)
    if isinstance(step, NltkTokens):  # nothing but white space comes or goes
        assert "".join(aligned.text.split()) == "".join(text.split())


def test_base_forms_are_those_of_nltk(searched: Path) -> None:
    from nltk.corpus.reader.wordnet import WordNetCorpusReader
    from nltk.stem import WordNetLemmatizer

    files = {name: (searched / name).read_bytes() for name in wordnet_names(None)}
    reader = WordNetCorpusReader.__new__(WordNetCorpusReader)
    reader._exception_map, reader._lemma_pos_offset_map = {}, {}
    drawn = random.Random(3)
    stems = ["day", "dog", "mous", "stor", "run", "se", "tell", "be", "good", "happ", "soon", "ox", "wolv"]
    ends = ["", "s", "es", "ies", "ing", "ning", "ed", "er", "est", "ier", "y", "e", "ves", "men"]
    words = ["mice", "were", "better", "running", *(drawn.choice(stems) + drawn.choice(ends) for _ in range(300))]
    for part, letter, suffix in (("noun", "n", "noun"), ("verb", "v", "verb"), ("adjective", "a", "adj"), ("adverb", "r", "adv")):  # fmt: skip
        lines = files[f"corpora/wordnet/{suffix}.exc"].decode().splitlines()
        reader._exception_map[letter] = {line.split()[0]: line.split()[1:] for line in lines}
        lemmas = files[f"corpora/wordnet/index.{suffix}"].decode().splitlines()[1:]
        reader._lemma_pos_offset_map = {line.split()[0]: {letter: [1]} for line in lemmas}
        theirs = WordNetLemmatizer()
        theirs._morphy = lambda form, pos, check_exceptions=True: reader._morphy(form, pos, check_exceptions)
        assert Lemmas(files, part)(words) == [theirs.lemmatize(word, letter) for word in words]


def test_what_travels_is_all_that_is_read(searched: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    texts = ["Dr. Smith met the mice. They weren't running.", "It was a better day with Anna!"]
    here = {step: step.transform(texts) for step in WITH_DATA + PURE}
    files = data_files(WITH_DATA + PURE)
    assert all(is_package_file(name) for name in files)
    for name, content in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(content)
    monkeypatch.setattr(nltk.data, "path", [])  # another machine: NLTK itself finds nothing
    steps = {step: step.within(tmp_path) for step in here}
    shutil.rmtree(tmp_path / "nltk_data")  # read when the package was loaded, not at its first request
    assert {step: there.transform(texts) for step, there in steps.items()} == here
    assert all(there.to_json() == step.to_json() for step, there in steps.items())
    with pytest.raises(MissingPipeline, match="expected nltk_data/corpora/stopwords/english"):
        NltkStopwords().within(tmp_path)


def test_missing_data_name_the_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(nltk.data, "path", [str(tmp_path)])
    for step, package in ((NltkTokens(), "punkt_tab"), (NltkStopwords(), "stopwords"), (NltkLemmas(), "wordnet")):
        with pytest.raises(MissingPipeline, match=package) as refused:
            step.data_files()
        assert f"nltk.download('{package}')" in refused.value.fix
        assert str(tmp_path) in str(refused.value)
    with pytest.raises(MissingPipeline) as refused:
        data_files((NltkTokens(), NltkStopwords(), NltkLemmas()))
    for package in ("punkt_tab", "stopwords", "wordnet", "averaged_perceptron_tagger_eng"):
        assert f"nltk.download('{package}')" in refused.value.fix
    assert str(refused.value).count(str(tmp_path)) == 1, "one screen"
    assert data_files(PURE) == {}


def test_wrong_fields_are_refused() -> None:
    for make, message in (
        (lambda: NltkSentences(keep_first=0), "keep_first"),
        (lambda: NltkStopwords(language="../x"), "language"),
        (lambda: NltkStem(stemmer="porter", language="german"), "porter"),
        (lambda: NltkTokens(tokenizer="spaces"), "words, treebank, tweet, wordpunct"),  # type: ignore[arg-type]
        (lambda: NltkLemmas(part="n"), "tagged"),  # type: ignore[arg-type]
        (lambda: NltkStem(language="klingon").data_files(), "german"),
    ):
        with pytest.raises(InputError, match=message):
            make()


def test_words_stay_apart(searched: Path) -> None:
    assert apply_words((NltkStem(), NltkLemmas(part="noun")), [["Running", "mice"]]) == [["run", "mouse"]]
    with pytest.raises(InputError, match="NltkStopwords"):
        apply_words((NltkStopwords(),), [["the"]])
