"""A short text that says what a long one says."""

from __future__ import annotations

from dataclasses import KW_ONLY, dataclass
from functools import partial
from typing import Any, ClassVar

from .base import Metric
from .schema import TaskSchema
from .text_scores import ROUGE, require, rouge_signature
from .text_to_text import UNFINISHED, Array, TextToText, Written


@dataclass(frozen=True)
class Summarization(TextToText):
    """Writes a summary of a text, by an encoder-decoder such as T5 or BART."""

    text: str = "text"
    """The column with the text."""
    summary: str = "summary"
    """The column with its summary, or with a list of summaries: the first is learnt, all are right."""
    _: KW_ONLY

    answer_name: ClassVar[str] = "summary_text"

    @property
    def names_of_columns(self) -> tuple[str, str]:
        return self.text, self.summary

    def metrics_need(self) -> None:
        require("rouge_score", metric="ROUGE")

    def quality(self, written: Written) -> Array:
        return written.rouge[:, 0]

    def metrics(self) -> tuple[Metric, ...]:
        return (
            *(Metric(name, partial(_rouge, place=place), signature=_signature) for place, name in enumerate(ROUGE)),
            UNFINISHED,
        )

    def schema(self) -> TaskSchema:
        return self.text_schema(
            examples=("Anna called in the morning. She found the letter on the stairs and will bring it on Monday.",),
            answer_example={"summary_text": "Anna found the letter and brings it on Monday."},
            pipeline="summarization",
            does="writes a summary of a text",
        )


def _rouge(written: Written, *, place: int) -> Any:
    return written.rouge[:, place]


def _signature(written: Written) -> str:
    return rouge_signature()
