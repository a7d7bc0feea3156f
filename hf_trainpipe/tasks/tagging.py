"""Token classification: a tag for each word, from word tags or from character spans.

A word is scored once, by its first sub-word, in the window that gives it the most context.
Shapes: B features of a micro-batch, L tokens of the longest, C tags.
"""

from __future__ import annotations

from dataclasses import KW_ONLY, dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from hf_trainpipe.errors import RecipeError
from hf_trainpipe.tasks.base import Column, Labels, Task, model_inputs
from hf_trainpipe.tasks.classification import label_maps

if TYPE_CHECKING:
    from collections.abc import Mapping

    import torch

__all__ = ["IGNORED", "TokenClassification"]

IGNORED = -100
"""The label of tokens that are not scored: sub-words after the first, special tokens, padding."""


@dataclass(frozen=True)
class TokenClassification(Task):
    """A tag for each word.

    From word tags: ``TokenClassification("tokens", tags="ner_tags")``. From character spans:
    ``TokenClassification(text="text", spans="entities")``. Texts are preprocessed and then cut into words by
    ``splitter``, as the package does it. A word has one tag: spans that do not fall on word borders are widened to
    them, and of overlapping ones the longest is kept; all of this is counted and reported. docs/spans.md has the
    forms of spans that are read.
    """

    words: str = "tokens"
    """The column with the words of a sentence."""
    _: KW_ONLY
    tags: str = "tags"
    """The column with a tag for each word."""
    text: str | None = None
    """The column with the text, where character spans are learnt."""
    spans: str | None = None
    """The column with the spans of a text."""
    names: tuple[str, ...] | None = None
    """Tags in the order of their ids, or types of spans; None: read from the data."""
    scheme: Literal["BIO", "IOB1", "BIOES"] | None = "BIO"
    """How entities are spelt in tags; None for tags that stand alone, such as parts of speech."""
    splitter: str = "regex"
    """How text is cut into words: ``regex``, ``whitespace``, ``blank:xx`` or a spaCy pipeline."""
    lost_spans: float = 0.1
    """The share of a split's character spans, in [0, 1], that may be lost (nested, overlapping, white space only,
    taken away by preprocessing); more are refused before training."""

    decoder: ClassVar[str] = "tags"

    def __post_init__(self) -> None:
        if (self.text is None) != (self.spans is None):
            raise RecipeError(
                f"task.text, task.spans: expected both or neither, found {self.text!r} and {self.spans!r}.",
                fix="Character spans need the text column and the spans column; word tags need neither.",
            )
        if self.scheme not in ("BIO", "IOB1", "BIOES", None):
            raise RecipeError(
                f"task.scheme: expected 'BIO', 'IOB1', 'BIOES' or None, found {self.scheme!r}.",
                fix="Name the scheme that the tags are written in; None for parts of speech and the like.",
            )
        if not 0 <= self.lost_spans <= 1:
            raise RecipeError(
                f"task.lost_spans: expected a share in [0, 1], found {self.lost_spans!r}.",
                fix="Write 0.1 to allow a tenth of the character spans to be lost.",
            )
        if self.spans is not None and self.scheme is None:
            raise RecipeError(
                "task.scheme: character spans need a tagging scheme, found None.", fix="Leave scheme='BIO'."
            )

    def inputs(self) -> tuple[Column, ...]:
        return (Column(self.words, "words"),) if self.text is None else (Column(self.text, "text"),)

    def target(self) -> Column:
        return Column(self.tags, "tags") if self.spans is None else Column(self.spans, "spans")

    def metrics(self) -> tuple[str, ...]:
        if self.scheme is None:
            return ("tag_accuracy",)
        return ("entity_f1", "entity_precision", "entity_recall", "tag_accuracy")

    def label_names(self) -> tuple[str, ...] | None:
        return self.names

    def model_class(self) -> type[Any]:
        from transformers import AutoModelForTokenClassification

        return AutoModelForTokenClassification  # type: ignore[no-any-return]

    def model_options(self, labels: Labels) -> dict[str, Any]:
        return label_maps(labels)

    def loss_sum(self, model: torch.nn.Module, batch: Mapping[str, torch.Tensor]) -> torch.Tensor:
        from torch.nn import functional

        logits_BLC = model(**model_inputs(batch)).logits.float()
        return functional.cross_entropy(
            logits_BLC.flatten(0, 1), batch["labels"].flatten(), ignore_index=IGNORED, reduction="sum"
        )

    def count(self, batch: Mapping[str, torch.Tensor]) -> torch.Tensor:
        return (batch["labels"] != IGNORED).double().sum()

    def decoder_options(self, labels: Labels) -> dict[str, Any]:
        return {"scheme": self.scheme}
