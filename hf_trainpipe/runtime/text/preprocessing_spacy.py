"""Preprocessing steps by spaCy, which is loaded when one of them first runs."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from ..errors import InputError
from .edits import Edit, spaced
from .pipelines import check_pipeline_name, load_pipeline, pipe
from .preprocessor import Preprocessor


class _SpacyStep(Preprocessor):
    needs: ClassVar[tuple[str, ...]] = ("spacy",)


@dataclass(frozen=True, kw_only=True)
class SpacySentences(_SpacyStep):
    """Keep the first sentences of a text."""

    pipeline: str = "blank:en"
    """``blank:xx`` (sentences end at punctuation) or an installed pipeline."""
    keep_first: int
    """Sentences to keep."""

    def __post_init__(self) -> None:
        check_pipeline_name(self.pipeline, "SpacySentences.pipeline")
        if self.keep_first < 1:
            raise InputError(
                f"SpacySentences.keep_first: expected 1 or more, found {self.keep_first!r}.",
                fix="Keep at least one sentence.",
            )

    def edits(self, texts: Sequence[str]) -> Iterator[list[Edit]]:
        for doc, text in zip(pipe(load_pipeline(self.pipeline, "sentences"), texts), texts, strict=True):
            cut = len(text)
            kept = 0
            for sentence in doc.sents:
                kept += bool(sentence.text.strip())
                if kept == self.keep_first:
                    cut = sentence.start_char + len(sentence.text.rstrip())
                    break
            rest = text[cut:]
            yield [Edit(cut, len(text), "")] if rest.strip() else []


@dataclass(frozen=True, kw_only=True)
class SpacyTokens(_SpacyStep):
    """Tokens of spaCy, with one space between them."""

    pipeline: str = "blank:en"
    """``blank:xx`` or an installed pipeline."""

    def __post_init__(self) -> None:
        check_pipeline_name(self.pipeline, "SpacyTokens.pipeline")

    def edits(self, texts: Sequence[str]) -> Iterator[list[Edit]]:
        for doc, text in zip(pipe(load_pipeline(self.pipeline, "tokens"), texts), texts, strict=True):
            yield _spaced(text, doc)


@dataclass(frozen=True, kw_only=True)
class SpacyLemmas(_SpacyStep):
    """Base forms of spaCy's tokens, with one space between them."""

    pipeline: str
    """An installed pipeline that lemmatizes."""

    def __post_init__(self) -> None:
        check_pipeline_name(self.pipeline, "SpacyLemmas.pipeline")

    def edits(self, texts: Sequence[str]) -> Iterator[list[Edit]]:
        for doc, text in zip(pipe(load_pipeline(self.pipeline, "lemmas"), texts), texts, strict=True):
            yield _spaced(text, doc, as_lemmas=True)


@dataclass(frozen=True, kw_only=True)
class SpacyMaskEntities(_SpacyStep):
    """Put the type of an entity in its place: ``Anna left Rome`` becomes ``[PERSON] left [GPE]``.

    A statistical pipeline misses some entities: this lowers what personal data a model sees, it does not
    promise that none is left.
    """

    pipeline: str
    """A pipeline that finds entities; a blank one does not."""
    types: tuple[str, ...] = ("PERSON", "GPE", "LOC", "FAC", "ORG")
    """Types to mask, as the pipeline names them (``PERSON`` in English ones, ``PER`` in many others)."""

    def __post_init__(self) -> None:
        check_pipeline_name(self.pipeline, "SpacyMaskEntities.pipeline")
        if self.pipeline.startswith("blank:"):
            raise InputError(
                f"SpacyMaskEntities.pipeline: {self.pipeline!r} is blank and finds no entities.",
                fix="Name a trained pipeline, such as 'en_core_web_sm'.",
            )
        types: object = self.types
        if not isinstance(types, tuple) or not types:
            raise InputError(
                f"SpacyMaskEntities.types: expected a tuple of types, found {self.types!r}.",
                fix="Name at least one, such as ('PERSON',).",
            )

    def edits(self, texts: Sequence[str]) -> Iterator[list[Edit]]:
        nlp = load_pipeline(self.pipeline, "entities")
        self._check_types(nlp)
        types = frozenset(self.types)
        for doc in pipe(nlp, texts):
            yield [
                Edit(entity.start_char, entity.end_char, f"[{entity.label_}]")
                for entity in doc.ents
                if entity.label_ in types
            ]

    def _check_types(self, nlp: Any) -> None:
        known = {label for labels in nlp.pipe_labels.values() for label in labels}
        if unknown := [name for name in self.types if name not in known]:
            raise InputError(
                f"SpacyMaskEntities.types: {self.pipeline!r} knows no {unknown[0]!r}; it knows "
                f"{', '.join(sorted(known))}.",
                fix="Choose among these types.",
            )


def _spaced(text: str, doc: Any, *, as_lemmas: bool = False) -> list[Edit]:
    """Edits that leave one space between tokens, or between their base forms."""
    places = [(token.idx, token.idx + len(token), token) for token in doc if not token.is_space]
    return spaced(
        text,
        ((start, end, (as_lemmas and token.lemma_) or text[start:end]) for start, end, token in places),
    )
