"""spaCy pipelines: loaded once a process, with only the parts that a job needs."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from functools import lru_cache
from typing import Any, Literal

from ..errors import InputError, MissingPipeline

Job = Literal["tokens", "sentences", "lemmas", "entities"]

_PARTS: dict[str, tuple[str, ...]] = {
    "tokens": (),
    "lemmas": ("morphologizer", "tagger", "attribute_ruler", "lemmatizer", "trainable_lemmatizer"),
    "entities": ("ner", "entity_ruler", "span_ruler"),
}
_EMBEDDERS = ("tok2vec", "transformer", "curated_transformer")
_NAME = re.compile(r"(blank:)?[A-Za-z0-9_][\w.-]*", re.ASCII)
_LONGEST_TEXT = 1_000_000_000
"""Characters; for jobs without a parser or an entity recogniser, whose memory grows with the text."""


def check_pipeline_name(pipeline: str, where: str) -> None:
    """Refuse what cannot name a pipeline. Loads nothing.

    A path is none: a package could not hold it, and a foreign one could point anywhere.

    Raises:
        InputError: Not a string, empty, a path, or ``blank:`` without a language.
    """
    if not isinstance(pipeline, str) or not _NAME.fullmatch(pipeline):
        raise InputError(
            f"{where}: expected 'blank:LANGUAGE' or the name of a spaCy pipeline, found {pipeline!r}.",
            fix="Name one, such as 'blank:en' or 'en_core_web_sm'.",
        )


@lru_cache(maxsize=16)
def load_pipeline(pipeline: str, job: Job) -> Any:
    """The spaCy ``Language`` object for one job.

    ``blank:xx`` is the bare tokenizer of a language, with rule-based sentence ends for ``sentences``. Of a
    named pipeline only the parts for the job are kept; sentences come from its ``senter``, else its
    ``parser``, else its ``sentencizer``, else rules.

    Raises:
        MissingPipeline: spaCy, the pipeline, or a library of its language is not installed.
        InputError: No such language, or the pipeline has no part for the job.
    """
    try:
        import spacy
    except ImportError as error:
        raise MissingPipeline(
            f"The pipeline {pipeline!r} needs spaCy, which is not installed.",
            fix="python -m pip install spacy",
        ) from error
    nlp = _blank(spacy, pipeline) if pipeline.startswith("blank:") else _named(spacy, pipeline)
    wanted = _sentence_parts(nlp) if job == "sentences" else _PARTS[job]
    kept = [name for name in nlp.component_names if name in wanted]
    if job == "lemmas" and not {"lemmatizer", "trainable_lemmatizer"} & set(kept):
        raise InputError(
            f"SpacyLemmas: the pipeline {pipeline!r} has no lemmatizer.",
            fix="Name a trained pipeline, such as 'en_core_web_sm'.",
        )
    if job == "entities" and not kept:
        raise InputError(
            f"SpacyMaskEntities: the pipeline {pipeline!r} finds no entities.",
            fix="Name a trained pipeline, such as 'en_core_web_sm'.",
        )
    for name in _EMBEDDERS:
        if name in nlp.component_names:
            listeners = getattr(nlp.get_pipe(name), "listening_components", [])
            if set(listeners) & set(kept):
                kept.append(name)
    for name in list(nlp.component_names):
        if name not in kept:
            nlp.remove_pipe(name)
        elif name not in nlp.pipe_names:
            nlp.enable_pipe(name)
    if job == "sentences" and not nlp.pipe_names:
        nlp.add_pipe("sentencizer")
    if not {"parser", "ner"} & set(nlp.pipe_names):
        nlp.max_length = _LONGEST_TEXT
    return nlp


def pipe(nlp: Any, texts: Sequence[str]) -> Iterator[Any]:
    """The ``Doc`` of each text, in order, in this process.

    Raises:
        InputError: A text is longer than the pipeline takes; ``position`` says which.
    """
    for position, text in enumerate(texts):
        if len(text) > nlp.max_length:
            raise InputError(
                f"Text {position} has {len(text):,} characters; the spaCy pipeline takes {nlp.max_length:,}.",
                fix="Split or shorten it.",
                position=position,
            )
    yield from nlp.pipe(texts, batch_size=128, n_process=1)


def _sentence_parts(nlp: Any) -> tuple[str, ...]:
    for name in ("senter", "parser", "sentencizer"):
        if name in nlp.component_names:
            return (name,)
    return ()


def _blank(spacy: Any, pipeline: str) -> Any:
    language = pipeline.removeprefix("blank:")
    try:
        return spacy.blank(language)
    except ImportError as error:
        if "E048" in str(error):
            raise InputError(
                f"pipeline: expected a language of spaCy after 'blank:', found {language!r}.",
                fix="Use a code such as 'en', 'de' or 'xx' (any language).",
            ) from error
        raise MissingPipeline(
            f"The pipeline {pipeline!r} needs a library that is not installed.",
            fix=f'python -m pip install "spacy[{language}]"',
        ) from error


def _named(spacy: Any, pipeline: str) -> Any:
    try:
        return spacy.load(pipeline)
    except OSError as error:
        if "E050" not in str(error):
            raise
        raise MissingPipeline(
            f"The spaCy pipeline {pipeline!r} is not installed.", fix=f"python -m spacy download {pipeline}"
        ) from error
