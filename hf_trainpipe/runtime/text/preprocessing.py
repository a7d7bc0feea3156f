"""Preprocessing: steps that run the same way in training and inside a package.

``preprocessing=(NormalizeSpace(), SpacySentences(pipeline="blank:en", keep_first=8))``
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import chain
from typing import Any

from ..bounds import check_characters
from ..errors import InputError, MissingPipeline
from ..kinds import from_json
from .edits import Aligned, Edit, apply_edits
from .nltk_data import missing
from .preprocessing_nltk import NltkLemmas, NltkSentences, NltkStem, NltkStopwords, NltkTokens
from .preprocessing_spacy import SpacyLemmas, SpacyMaskEntities, SpacySentences, SpacyTokens
from .preprocessing_text import CleanUrls, Lowercase, NormalizeSpace, NormalizeUnicode, StripHtml
from .preprocessor import Preprocessor

__all__ = [
    "BUILT_IN",
    "Aligned",
    "CleanUrls",
    "Edit",
    "Lowercase",
    "NltkLemmas",
    "NltkSentences",
    "NltkStem",
    "NltkStopwords",
    "NltkTokens",
    "NormalizeSpace",
    "NormalizeUnicode",
    "Preprocessor",
    "SpacyLemmas",
    "SpacyMaskEntities",
    "SpacySentences",
    "SpacyTokens",
    "StripHtml",
    "apply",
    "apply_aligned",
    "apply_edits",
    "apply_words",
    "data_files",
    "steps_from_json",
    "steps_to_json",
]

BUILT_IN: Mapping[str, type[Preprocessor]] = {
    step.__name__: step
    for step in (
        CleanUrls,
        Lowercase,
        NltkLemmas,
        NltkSentences,
        NltkStem,
        NltkStopwords,
        NltkTokens,
        NormalizeSpace,
        NormalizeUnicode,
        SpacyLemmas,
        SpacyMaskEntities,
        SpacySentences,
        SpacyTokens,
        StripHtml,
    )
}
"""The steps that every package knows, by name."""


def apply(steps: Iterable[Preprocessor], texts: Sequence[str]) -> list[str]:
    """Run all steps, each over all texts.

    >>> apply((StripHtml(), NormalizeSpace()), ["<p>It &amp;  me</p>"])
    ['It & me']
    """
    result = list(texts)
    for step in steps:
        result = step.transform(result)
        check_characters(result)
    return result


def apply_aligned(steps: Iterable[Preprocessor], texts: Sequence[str]) -> list[Aligned]:
    """Like :func:`apply`, with the way back to places in the original texts. Slower."""
    result = [Aligned(text) for text in texts]
    for step in steps:
        found = list(step.edits([item.text for item in result]))
        assert len(found) == len(result), f"{step.kind}.edits gave {len(found)} lists for {len(result)} texts"
        result = [item.edited(edits) for item, edits in zip(result, found, strict=True)]
        check_characters([item.text for item in result])
    return result


def apply_words(steps: Iterable[Preprocessor], words: Sequence[Sequence[str]]) -> list[list[str]]:
    """Run all steps on each word by itself; the number of words stays, words may become empty.

    Raises:
        InputError: A step changes the words themselves (it is not ``word_safe``).
    """
    steps = tuple(steps)
    for step in steps:
        if not step.word_safe:
            raise InputError(
                f"preprocessing: {step.kind} cannot run on words that come already split.",
                fix=f"Remove {step.kind}, or give texts with character spans instead of words with tags.",
            )
    if not steps:
        return [list(sentence) for sentence in words]
    distinct = list(dict.fromkeys(chain.from_iterable(words)))
    new = dict(zip(distinct, apply(steps, distinct), strict=True))
    return [[new[word] for word in sentence] for sentence in words]


def data_files(steps: Iterable[Any]) -> dict[str, bytes]:
    """What all steps read beside their code, by the name that the file has in a package.

    Raises:
        MissingPipeline: files are not on this machine; what all steps lack.
    """
    found: dict[str, bytes] = {}
    lacking: list[MissingPipeline] = []
    for step in steps:
        try:
            found |= step.data_files()
        except MissingPipeline as error:
            lacking.append(error)
    if files := [name for error in lacking for name in error.data.get("files", ())]:
        raise missing(
            files, " and ".join(dict.fromkeys(error.data["step"] for error in lacking if "step" in error.data))
        )
    if lacking:
        raise lacking[0]
    return found


def steps_to_json(steps: Iterable[Preprocessor]) -> list[dict[str, Any]]:
    """The steps as JSON: ``[{"kind": "NormalizeUnicode", "form": "NFKC"}]``."""
    return [step.to_json() for step in steps]


def steps_from_json(
    items: Sequence[Mapping[str, Any]], *, registry: Mapping[str, type[Preprocessor]] | None = None
) -> tuple[Preprocessor, ...]:
    """Read what :func:`steps_to_json` wrote.

    Args:
        items: One object a step.
        registry: Further classes by name: those of a recipe.

    Raises:
        InputError: A kind or a field is not known, or a field is missing.
    """
    known = {**BUILT_IN, **(registry or {})}
    return tuple(from_json(item, known, where=f"preprocessing[{at}]", what="step") for at, item in enumerate(items))
