"""Preprocessing steps by NLTK, which is loaded when one of them first runs.

What they need of its data is found by NLTK's own search before training, and travels in the package.
"""

from __future__ import annotations

import copy
import re
from abc import abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any, ClassVar, Literal, get_args

from ..errors import InputError
from . import nltk_data
from .edits import Edit, spaced, without
from .preprocessor import Preprocessor

_Tokenizer = Literal["words", "treebank", "tweet", "wordpunct"]
_Stemmer = Literal["snowball", "porter", "lancaster"]
_Part = Literal["noun", "verb", "adjective", "adverb", "tagged"]
_WORD = re.compile(r"[^\W_]+(?:['’][^\W_]+)*")
_QUOTES = ("``", "''", '"')
_NEAR = 32
"""Characters behind a token within which the next one is looked for; NLTK writes some differently than the text has them."""


class _NltkStep(Preprocessor):
    """A step with something of NLTK that is made once, from no files or from those it names."""

    needs: ClassVar[tuple[str, ...]] = ("nltk",)

    def _names(self) -> tuple[str, ...]:
        """The files that it reads, below NLTK's folder of data."""
        return ()

    @abstractmethod
    def _made(self, files: Mapping[str, bytes]) -> Any:
        """What the step works with."""

    @cached_property
    def _tool(self) -> Any:
        return self._made(nltk_data.read_all(self._names(), step=self.kind))

    def data_files(self) -> dict[str, bytes]:
        nltk_data.load_nltk()
        found = nltk_data.read_all(self._names(), step=self.kind)
        return {f"{nltk_data.FOLDER}/{name}": content for name, content in found.items()}

    def within(self, package: Path) -> Preprocessor:
        step = copy.copy(self)
        step.__dict__["_tool"] = self._made(nltk_data.of_package(self._names(), package))
        return step


@dataclass(frozen=True, kw_only=True)
class NltkSentences(_NltkStep):
    """Keep the first sentences of a text, by NLTK's Punkt (data: ``punkt_tab``)."""

    language: str = "english"
    """As NLTK names it."""
    keep_first: int
    """Sentences to keep."""

    def __post_init__(self) -> None:
        nltk_data.check_language(self.language, "NltkSentences.language")
        if self.keep_first < 1:
            raise InputError(
                f"NltkSentences.keep_first: expected 1 or more, found {self.keep_first!r}.",
                fix="Keep at least one sentence.",
            )

    def _names(self) -> tuple[str, ...]:
        return nltk_data.punkt_names(self.language)

    def _made(self, files: Mapping[str, bytes]) -> Any:
        return nltk_data.punkt(files)

    def edits(self, texts: Sequence[str]) -> Iterator[list[Edit]]:
        for position, text in enumerate(texts):
            with _in_time(position):
                ends = [end for start, end in self._tool.span_tokenize(text) if text[start:end].strip()]
            cut = ends[self.keep_first - 1] if len(ends) >= self.keep_first else len(text)
            cut = len(text[:cut].rstrip())
            yield [Edit(cut, len(text), "")] if text[cut:].strip() else []


@dataclass(frozen=True, kw_only=True)
class NltkTokens(_NltkStep):
    """Tokens of NLTK, with one space between them; quotation marks stay as they are written."""

    tokenizer: _Tokenizer = "words"
    """``words`` is NLTK's ``word_tokenize`` (data: ``punkt_tab``); ``treebank`` the same over a whole text, ``tweet`` for
    messages, ``wordpunct`` for runs of letters and of signs: these need no data."""
    language: str = "english"
    """Of the sentences that ``words`` cuts first."""

    def __post_init__(self) -> None:
        _check_choice("NltkTokens.tokenizer", self.tokenizer, get_args(_Tokenizer))
        nltk_data.check_language(self.language, "NltkTokens.language")

    def _names(self) -> tuple[str, ...]:
        return nltk_data.punkt_names(self.language) if self.tokenizer == "words" else ()

    def _made(self, files: Mapping[str, bytes]) -> Callable[[str], Iterable[tuple[int, int]]]:
        nltk_data.load_nltk()
        from nltk.tokenize import NLTKWordTokenizer, TweetTokenizer, WordPunctTokenizer

        if self.tokenizer == "wordpunct":
            return lambda text: stretches(text, WordPunctTokenizer().tokenize(text))
        if self.tokenizer == "tweet":
            return lambda text: stretches(text, TweetTokenizer().tokenize(text))
        words = NLTKWordTokenizer()
        if self.tokenizer == "treebank":
            return lambda text: stretches(text, words.tokenize(text))
        sentences = nltk_data.punkt(files)

        def tokens(text: str) -> list[str]:
            return [token for start, end in sentences.span_tokenize(text) for token in words.tokenize(text[start:end])]

        return lambda text: stretches(text, tokens(text))

    def edits(self, texts: Sequence[str]) -> Iterator[list[Edit]]:
        for position, text in enumerate(texts):
            with _in_time(position):
                found = self._tool(text)
            yield spaced(text, ((start, end, text[start:end]) for start, end in found))


@dataclass(frozen=True, kw_only=True)
class NltkStopwords(_NltkStep):
    """Take the stop words of a language away (data: ``stopwords``), in any case.

    The list of English has negations: ``keep=("not", "no", "nor")`` where they matter, as they do for a sentiment.
    """

    language: str = "english"
    """As NLTK names it."""
    keep: tuple[str, ...] = ()
    """Stop words that stay."""
    also: tuple[str, ...] = ()
    """Further words to take away."""

    def __post_init__(self) -> None:
        nltk_data.check_language(self.language, "NltkStopwords.language")

    def _names(self) -> tuple[str, ...]:
        return (nltk_data.stopwords_name(self.language),)

    def _made(self, files: Mapping[str, bytes]) -> frozenset[str]:
        [content] = files.values()
        listed = {line.strip() for line in content.decode("utf-8").splitlines() if line.strip()}
        kept = {word.lower() for word in self.keep}
        return frozenset((listed | {word.lower() for word in self.also}) - kept)

    def edits(self, texts: Sequence[str]) -> Iterator[list[Edit]]:
        for text in texts:
            words = [match for match in _WORD.finditer(text) if match[0].lower().replace("’", "'") in self._tool]
            yield without(text, [word.span() for word in words])


@dataclass(frozen=True, kw_only=True)
class NltkStem(_NltkStep):
    """Words without their endings (``running`` becomes ``run``), in small letters. Needs no data."""

    word_safe: ClassVar[bool] = True
    stemmer: _Stemmer = "snowball"
    """``snowball`` knows 15 languages; ``porter`` and ``lancaster`` know English."""
    language: str = "english"
    """As NLTK names it."""

    def __post_init__(self) -> None:
        _check_choice("NltkStem.stemmer", self.stemmer, get_args(_Stemmer))
        nltk_data.check_language(self.language, "NltkStem.language")
        if self.stemmer != "snowball" and self.language != "english":
            raise InputError(
                f"NltkStem.language: expected 'english' for {self.stemmer!r}, found {self.language!r}.",
                fix="Choose stemmer='snowball'.",
            )

    def data_files(self) -> dict[str, bytes]:
        self._tool  # noqa: B018  an unknown language is refused before training, as missing data are
        return super().data_files()

    def _made(self, files: Mapping[str, bytes]) -> Callable[[str], str]:
        nltk_data.load_nltk()
        from nltk.stem import LancasterStemmer, PorterStemmer, SnowballStemmer

        if self.stemmer == "snowball":
            known = [name for name in SnowballStemmer.languages if name != "porter"]
            _check_choice("NltkStem.language", self.language, known)
            return lru_cache(65_536)(SnowballStemmer(self.language).stem)
        return lru_cache(65_536)((PorterStemmer() if self.stemmer == "porter" else LancasterStemmer()).stem)

    def edits(self, texts: Sequence[str]) -> Iterator[list[Edit]]:
        for text in texts:
            found = ((match, self._tool(match[0])) for match in _WORD.finditer(text))
            yield [Edit(*match.span(), stem) for match, stem in found if stem and stem != match[0]]


@dataclass(frozen=True, kw_only=True)
class NltkLemmas(_NltkStep):
    """Base forms of English words by WordNet (data: ``wordnet``): ``mice`` becomes ``mouse``. Other words stay as they are."""

    word_safe: ClassVar[bool] = True
    part: _Part = "tagged"
    """What words are taken for: ``noun``, ``verb``, ``adjective`` or ``adverb``; ``tagged``: whatever each is in its text
    (data: ``averaged_perceptron_tagger_eng`` too), and names stay."""

    def __post_init__(self) -> None:
        _check_choice("NltkLemmas.part", self.part, get_args(_Part))

    @property
    def _one(self) -> str | None:
        return None if self.part == "tagged" else self.part

    def _names(self) -> tuple[str, ...]:
        return nltk_data.wordnet_names(self._one)

    def _made(self, files: Mapping[str, bytes]) -> nltk_data.Lemmas:
        return nltk_data.Lemmas(files, self._one)

    def edits(self, texts: Sequence[str]) -> Iterator[list[Edit]]:
        for text in texts:
            places = [match.span() for match in _LEMMATISED.finditer(text)]
            words = [text[start:end] for start, end in places]
            forms = self._tool(words)
            yield [Edit(*place, form) for place, word, form in zip(places, words, forms, strict=True) if form != word]


_LEMMATISED = re.compile(r"[^\W_]+(?:['’-][^\W_]+)*|[^\w\s]")
"""Words, and signs, which tell the tagger where a sentence ends."""


def stretches(text: str, tokens: Iterable[str]) -> list[tuple[int, int]]:
    """Where tokens stand in their text; what no token has as the text writes it is a stretch of its own, so that nothing is lost.

    >>> stretches('a "b"', ["a", "``", "b", "''"])
    [(0, 1), (2, 3), (3, 4), (4, 5)]
    """
    found: list[tuple[int, int]] = []
    position = 0

    def between(end: int) -> None:
        start = position
        for piece in text[position:end].split():
            start = text.index(piece, start, end)
            found.append((start, start + len(piece)))
            start += len(piece)

    for token in tokens:
        spellings = _QUOTES if token in _QUOTES else (token,)
        window = position + _NEAR + len(token)
        places = [(at, len(spelt)) for spelt in spellings if (at := text.find(spelt, position, window)) >= 0]
        if places and token:
            at, length = min(places, key=lambda place: (place[0], -place[1]))
            between(at)
            found.append((at, at + length))
            position = at + length
    between(len(text))
    return found


@contextmanager
def _in_time(position: int) -> Iterator[None]:
    """NLTK gives up a text that its patterns take too long for."""
    try:
        yield
    except TimeoutError as error:
        raise InputError(
            f"Text {position}: NLTK gave it up: {error}", fix="Shorten or clean it.", position=position
        ) from error


def _check_choice(where: str, value: str, choices: Sequence[str]) -> None:
    if value not in choices:
        raise InputError(f"{where}: expected one of {', '.join(choices)}, found {value!r}.", fix="Choose one of them.")
