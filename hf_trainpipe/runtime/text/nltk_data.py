"""NLTK's data: found by its own search, or in a package, and read by its own formats.

The files are text and JSON; nothing here unpickles. Readers of NLTK that open files refuse folders outside of its search
path, such as a package's, so the files are read here and handed to its models.
"""

from __future__ import annotations

import io
import json
import re
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from functools import lru_cache
from pathlib import Path
from typing import Any

from ..errors import InputError, MissingPipeline

FOLDER = "nltk_data"
"""Where a package holds them."""
PUNKT = ("abbrev_types.txt", "collocations.tab", "sent_starters.txt", "ortho_context.tab")
LICENCE = "corpora/wordnet/LICENSE"
PARTS = {"noun": "noun", "verb": "verb", "adjective": "adj", "adverb": "adv"}
"""WordNet's parts of speech, as a recipe and as WordNet's files call them."""
_TAGGER = "taggers/averaged_perceptron_tagger_eng/averaged_perceptron_tagger_eng"
_TAGGED = {"N": "noun", "V": "verb", "J": "adjective", "R": "adverb"}
_PROPER = "NNP"


def load_nltk() -> Any:
    """The library.

    Raises:
        MissingPipeline: it is not installed.
    """
    try:
        import nltk
    except ImportError as error:
        raise MissingPipeline(
            "This recipe uses a step of NLTK, which is not installed.", fix="python -m pip install 'hf-trainpipe[nltk]'"
        ) from error
    return nltk


def read_all(names: Iterable[str], *, step: str) -> dict[str, bytes]:
    """Files by name, as NLTK's own search finds them: NLTK_DATA, the home folder, the environment, the system; also zipped.

    A licence may be missing.

    Raises:
        MissingPipeline: some are not there; ``fix`` is the command that gets all of them.
    """
    data = load_nltk().data
    found: dict[str, bytes] = {}
    lacking: list[str] = []
    for name in names:
        try:
            with data.find(name).open() as stream:
                found[name] = stream.read()
        except (LookupError, OSError):
            lacking += [name] if name != LICENCE else []
    if lacking:
        raise missing(lacking, step)
    return found


def missing(names: Iterable[str], step: str) -> MissingPipeline:
    """The error of files that are not there, in one screen whatever their number.

    Args:
        step: Who reads them.
    """
    names = list(names)
    first = {name.split("/")[1]: name for name in reversed(names)}
    packages = [*reversed(first)]
    needed = " and ".join(f"{package!r} of NLTK's data ({first[package]})" for package in packages)
    places = "".join(f"\n  {place}" for place in load_nltk().data.path)
    got = " and ".join(f"nltk.download('{package}')" for package in packages)
    return MissingPipeline(
        f"{step} needs {needed}, which none of the folders has that NLTK searches:{places}",
        fix=f'python -c "import nltk, sys; sys.exit(not ({got}))"\n'
        "(nltk.download alone returns False, without an error, where it fails.) Without a network: copy the folder from\n"
        "another machine and name it in the environment variable NLTK_DATA. The package will hold what it needs.",
        files=names,
        step=step,
    )


def of_package(names: Iterable[str], package: Path) -> dict[str, bytes]:
    """The same from the folder of a package.

    Raises:
        MissingPipeline: the package lacks one.
    """
    found: dict[str, bytes] = {}
    for name in names:
        try:
            found[name] = (package / FOLDER / name).read_bytes()
        except OSError as error:
            if name != LICENCE:
                raise MissingPipeline(
                    f"{package}: expected {FOLDER}/{name}, found none.",
                    fix="Fetch the package again, or write it again.",
                ) from error
    return found


def check_language(language: str, where: str) -> None:
    """Refuse what cannot name a language of NLTK's data.

    Raises:
        InputError: as said.
    """
    if not isinstance(language, str) or not re.fullmatch("[a-z]+", language):
        raise InputError(
            f"{where}: expected a language as NLTK names it, found {language!r}.", fix="Write it as in 'english'."
        )


# -- sentences -------------------------------------------------------------------------------------------------------


def punkt_names(language: str) -> tuple[str, ...]:
    """The files of a language's model of sentences."""
    return tuple(f"tokenizers/punkt_tab/{language}/{name}" for name in PUNKT)


def punkt(files: Mapping[str, bytes]) -> Any:
    """NLTK's tokenizer of sentences (Kiss and Strunk 2006) from its files."""
    load_nltk()
    from nltk.tabdata import PunktDecoder
    from nltk.tokenize.punkt import PunktParameters, PunktSentenceTokenizer

    held = {Path(name).name: io.StringIO(content.decode("utf-8")) for name, content in files.items()}
    decoder, parameters = PunktDecoder(), PunktParameters()
    parameters.abbrev_types = decoder.txt2set(held["abbrev_types.txt"])
    parameters.collocations = set(decoder.tab2tups(held["collocations.tab"]))
    parameters.sent_starters = decoder.txt2set(held["sent_starters.txt"])
    parameters.ortho_context = decoder.tab2intdict(held["ortho_context.tab"])
    return PunktSentenceTokenizer(parameters)


# -- stop words ------------------------------------------------------------------------------------------------------


def stopwords_name(language: str) -> str:
    """The file of a language's stop words."""
    return f"corpora/stopwords/{language}"


# -- base forms ------------------------------------------------------------------------------------------------------


def wordnet_names(part: str | None) -> tuple[str, ...]:
    """The files that base forms are read from: of one part of speech; None: of all, with the tagger that tells them apart."""
    chosen = PARTS.values() if part is None else (PARTS[part],)
    names = [f"corpora/wordnet/{name}" for held in chosen for name in (f"index.{held}", f"{held}.exc")]
    tagger = [] if part is not None else [f"{_TAGGER}.{name}.json" for name in ("weights", "tagdict", "classes")]
    return (*names, LICENCE, *tagger)


class Lemmas:
    """Base forms as NLTK's ``WordNetLemmatizer`` gives them, from WordNet's indexes and lists of exceptions alone.

    Args:
        files: Those of :func:`wordnet_names`.
        part: ``noun``, ``verb``, ``adjective`` or ``adverb``; None: what the tagger says of each word.
    """

    def __init__(self, files: Mapping[str, bytes], part: str | None) -> None:
        load_nltk()
        from nltk.corpus.reader.wordnet import WordNetCorpusReader
        from nltk.tag.perceptron import PerceptronTagger

        rules = WordNetCorpusReader.MORPHOLOGICAL_SUBSTITUTIONS
        letters = {"noun": "n", "verb": "v", "adjective": "a", "adverb": "r"}
        self._part = part
        self._forms: dict[str, Callable[[str], str]] = {}
        for name in PARTS if part is None else (part,):
            held = PARTS[name]
            known = _first_words(files[f"corpora/wordnet/index.{held}"])
            exceptions = _exceptions(files[f"corpora/wordnet/{held}.exc"])
            self._forms[name] = lru_cache(65_536)(_lemmatizer(known, exceptions, rules[letters[name]]))
        self._tagger = None
        if part is None:
            self._tagger = PerceptronTagger(load=False)
            self._tagger.decode_json_params(
                json.loads(files[f"{_TAGGER}.{name}.json"]) for name in ("weights", "tagdict", "classes")
            )

    def __call__(self, words: list[str]) -> list[str]:
        """The base form of each word of a text; a word without one, and by the tagger a name, as it is."""
        if self._tagger is None:
            parts = [self._part] * len(words)
        else:
            tags = [tag for _, tag in self._tagger.tag(words)]
            parts = [None if tag.startswith(_PROPER) else _TAGGED.get(tag[:1]) for tag in tags]
        return [self._form(word, part) for word, part in zip(words, parts, strict=True)]

    def _form(self, word: str, part: str | None) -> str:
        lower = word.lower()
        form = lower if part is None else self._forms[part](lower)
        return word if form == lower else form


def _lemmatizer(
    known: frozenset[str], exceptions: Mapping[str, list[str]], rules: Iterable[tuple[str, str]]
) -> Callable[[str], str]:
    """WordNet's Morphy, and the shortest of what it finds (``WordNetLemmatizer.lemmatize``)."""

    def form_of(word: str) -> str:
        forms = exceptions.get(word)
        if forms is None:
            forms = [word[: -len(old)] + new for old, new in rules if word.endswith(old)]
        return min((form for form in [word, *forms] if form in known), key=len, default=word)

    return form_of


def _first_words(content: bytes) -> frozenset[str]:
    """The lemmas of an index; its licence stands in lines that begin with a space."""
    lines = content.decode("utf-8").splitlines()
    return frozenset(line.split(" ", 1)[0] for line in lines if line and line[0] != " ")


def _exceptions(content: bytes) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for line in content.decode("utf-8").splitlines():
        with suppress(ValueError):
            word, *forms = line.split()
            found[word] = forms
    return found
