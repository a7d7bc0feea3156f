"""Logits of words to tags and entities."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np
import numpy.typing as npt

from ..errors import SchemaError
from ..tokens.ragged import ends_of, ranges
from .decoder import Decoder, Floats, Outputs, softmax
from .tags import SCHEMES, tags_to_spans

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from ..text.words import Word
    from ..tokens.encoding import Encoded

__all__ = ["Tags"]


@dataclass(frozen=True)
class Tags(Decoder):
    """One label a word.

    ``options.scheme`` (``BIO``, ``IOB1``, ``BIOES``, ``BILOU``) tells how labels make up entities; without
    it (parts of speech) every word is an answer of its own.
    """

    kind: ClassVar[str] = "tags"
    level: ClassVar[Literal["sequence", "token"]] = "token"
    parameters: ClassVar[tuple[str, ...]] = ("aggregation",)
    known_options: ClassVar[tuple[str, ...]] = ("scheme",)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.scheme is not None and self.scheme not in SCHEMES:
            raise SchemaError(
                f"decoder.options.scheme: expected null or one of {', '.join(SCHEMES)}, found {self.scheme!r}.",
                fix="Correct the scheme.",
            )

    @property
    def scheme(self) -> str | None:
        """The tagging scheme, or None for labels without spans."""
        value: str | None = self.options.get("scheme")
        return value

    def merge(self, logits: Floats, encoded: Encoded, features: npt.NDArray[Any]) -> Outputs:
        """Rows of words in order, each taken from the window that answers for the word.

        Args:
            logits: [K, C], one row for each token with a word's number, in the order of ``features``.
        """
        assert encoded.words is not None, "tags need words"
        chosen = np.asarray(features, dtype=np.int64)
        lengths = encoded.starts[chosen + 1] - encoded.starts[chosen]
        words = encoded.words[ranges(encoded.starts[chosen], lengths)]
        example = np.repeat(encoded.example[chosen], lengths)[words >= 0]
        words = words[words >= 0]
        assert len(words) == len(logits), (len(words), len(logits))
        order = np.lexsort((words, example))
        examples = np.unique(encoded.example[chosen]).astype(np.int64)
        counts = np.bincount(np.searchsorted(examples, example), minlength=len(examples))
        return Outputs(examples, logits[order], ends_of(counts), words[order])

    def answers(
        self,
        outputs: Outputs,
        *,
        words: Sequence[Sequence[Word]] | None = None,
        texts: Sequence[str | None] | None = None,
        **parameters: Any,
    ) -> list[Any]:
        """Entities (``aggregation="simple"``) or one item a word (``"none"``), of each example.

        An item is ``{"label", "text", "start", "end", "score"}``. ``start`` and ``end`` are characters of
        the example's text; without a text they are word numbers. The score of an entity is the mean of its
        words' probabilities. A word that was cut off has label None in ``"none"``, and belongs to no entity.

        Args:
            words: The words of each example in ``outputs.examples``; None: only numbered.
            texts: The text of each example, or None for one given as words.
        """
        self.check_parameters(parameters)
        return self._answers(outputs, {**parameters, "words": words, "texts": texts})

    def _answers(self, outputs: Outputs, parameters: Mapping[str, Any]) -> list[Any]:
        words: Sequence[Sequence[Word]] | None = parameters.get("words")
        texts: Sequence[str | None] | None = parameters.get("texts")
        aggregation = parameters.get("aggregation")
        assert outputs.word_starts is not None
        assert outputs.words is not None
        probabilities = softmax(outputs.outputs)
        best = probabilities.argmax(axis=1) if len(probabilities) else np.zeros(0, dtype=np.int64)
        scores = probabilities[np.arange(len(best)), best]
        joined = self.scheme is not None and aggregation != "none"
        answers: list[Any] = []
        for number in range(len(outputs.examples)):
            rows = slice(int(outputs.word_starts[number]), int(outputs.word_starts[number + 1]))
            present = outputs.words[rows].tolist()
            known = (
                words[number] if words is not None else [("", i, i + 1) for i in range(max(present, default=-1) + 1)]
            )
            tags: list[str | None] = [None] * len(known)
            score = np.zeros(len(known), dtype=np.float64)
            for word, label in zip(present, best[rows].tolist(), strict=True):
                tags[word] = self.labels[label]
            score[present] = scores[rows]
            if joined:
                spans = tags_to_spans([tag or "O" for tag in tags], self.scheme or "BIO")
                items = [(label, first, end) for label, first, end in spans]
            else:
                items = [(tag, i, i + 1) for i, tag in enumerate(tags)]  # type: ignore[misc]
            text = texts[number] if texts is not None else None
            answers.append([_item(*item, score, known, text) for item in items])
        return answers


def _item(
    label: str | None,
    first: int,
    end: int,
    scores: npt.NDArray[np.float64],
    words: Sequence[Word],
    text: str | None,
) -> dict[str, Any]:
    score = float(scores[first:end].mean())
    if text is None:
        joined = " ".join(word for word, _, _ in words[first:end])
        return {"label": label, "text": joined, "start": first, "end": end, "score": score}
    low, high = words[first][1], words[end - 1][2]
    return {"label": label, "text": text[low:high], "start": low, "end": high, "score": score}
