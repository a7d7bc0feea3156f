"""A text in another language."""

from __future__ import annotations

from dataclasses import KW_ONLY, dataclass, replace
from typing import TYPE_CHECKING, ClassVar, Literal

from .base import Metric
from .schema import TaskSchema
from .text_scores import bleu, chrf, require
from .text_to_text import UNFINISHED, Array, TextToText, Written

if TYPE_CHECKING:
    from ..model.outputs import Outputs
    from ..tokens.features import Features


@dataclass(frozen=True)
class Translation(TextToText):
    """Writes a text in another language, by an encoder-decoder such as Marian or T5."""

    text: str = "source"
    """The column with the text."""
    translation: str = "target"
    """The column with its translation, or with a list of translations: the first is learnt, all are right."""
    _: KW_ONLY
    bleu_tokenizer: Literal["13a", "intl", "zh", "char", "none"] = "13a"
    """How sacrebleu cuts texts into words for BLEU; ``zh`` for Chinese, ``char`` for other languages without spaces."""

    answer_name: ClassVar[str] = "translation_text"

    @property
    def names_of_columns(self) -> tuple[str, str]:
        return self.text, self.translation

    def metrics_need(self) -> None:
        require("sacrebleu", metric="BLEU")

    def judge(self, predictions: Outputs, features: Features) -> Written:
        return replace(super().judge(predictions, features), bleu_tokenizer=self.bleu_tokenizer)

    def quality(self, written: Written) -> Array:
        return chrf(written.chrf.statistics)

    def metrics(self) -> tuple[Metric, ...]:
        return (
            Metric(
                "bleu",
                lambda written: written.bleu.statistics,
                finish=bleu,
                signature=lambda written: written.bleu.signature,
            ),
            Metric(
                "chrf",
                lambda written: written.chrf.statistics,
                finish=chrf,
                signature=lambda written: written.chrf.signature,
            ),
            UNFINISHED,
        )

    def schema(self) -> TaskSchema:
        return self.text_schema(
            examples=("A man sleeps.", {"text": "Two dogs play in the snow."}),
            answer_example={"translation_text": "Ein Mann schläft."},
            pipeline="translation",
            does="translates a text",
        )
