"""What tasks have in common in which an encoder-decoder (T5, BART, Marian, ...) writes a text for a text.

Legend: N examples, F features (one an example), B features of a batch, L tokens of the longest source, n of the longest
written text.
"""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np
import numpy.typing as npt

from ..errors import InputError, RecipeError
from ..model.generation import NOTHING, Generation, check_positions, log_probabilities, settle, write
from ..model.inference import bare
from ..model.outputs import Output, Outputs
from ..tokens.characters import characters_of, texts_of
from ..tokens.features import Stream
from .base import Metric, Requests, Task
from .columns import TEXT, TEXTS, Column
from .schema import TaskSchema
from .texts import record

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import torch

    from ..tokens.encoder import Encoder
    from ..tokens.features import Features

Array = npt.NDArray[Any]

_IGNORED = -100
"""Of targets: padding, which no loss sees."""
_NAMED = 3
"""Rows that a message names."""
_TIE = 1e-4
"""Of beams: how much of a difference between the scores of two whole texts counts as a difference of outputs. Two texts that
were as good as each other somewhere may end up that far apart, if only one was followed."""


@dataclass(frozen=True)
class Written:
    """Texts beside what is right."""

    texts: tuple[str, ...]
    references: tuple[tuple[str, ...], ...]
    has_end: Array
    """bool[N]: whether a text ended before ``max_new_tokens``."""
    bleu_tokenizer: str = "13a"

    @cached_property
    def rouge(self) -> Array:
        """[N, 4]"""
        from .text_scores import rouge_scores

        return rouge_scores(self.texts, self.references)

    @cached_property
    def bleu(self) -> Any:
        from .text_scores import bleu_statistics

        return bleu_statistics(self.texts, self.references, tokenizer=self.bleu_tokenizer)

    @cached_property
    def chrf(self) -> Any:
        from .text_scores import chrf_statistics

        return chrf_statistics(self.texts, self.references)


UNFINISHED = Metric("unfinished", lambda written: ~written.has_end, greater_is_better=False)
"""The share of texts that were cut at ``max_new_tokens``."""


@dataclass(frozen=True, kw_only=True)
class TextToText(Generation, Task):
    """A text in, a text out."""

    prefix: str = ""
    """Stands before each input, behind preprocessing: ``summarize: `` for T5. It travels in the package."""
    label_smoothing: float = 0.0
    """The share of each target's probability that is spread over the whole vocabulary in the loss, in [0, 1)."""
    target_max_length: int = 128
    """Tokens of a target that are learnt at most, special tokens included. Scores see the whole text."""
    target_overflow: Literal["truncate", "drop", "error"] = "truncate"
    """For longer targets. ``drop`` leaves such examples out of the training; evaluations keep them."""

    outputs: ClassVar[Mapping[str, Output]] = {
        "ids": Output("sequence", fill=NOTHING),
        "log_probabilities": Output("sequence", fill=1),
    }
    recorded: ClassVar[tuple[str, ...]] = ("ids", "log_probabilities")
    departs_in: ClassVar[str] = "of probabilities"
    unpadded: ClassVar[tuple[str, ...]] = ()
    generates: ClassVar[bool] = True
    encodes_by: ClassVar[tuple[str, ...]] = ("prefix",)

    answer_name: ClassVar[str] = "generated_text"
    """What an answer calls the text, as the pipeline of earlier transformers did."""

    def __post_init__(self) -> None:
        self.check_generation()
        if not 0 <= self.label_smoothing < 1:
            raise RecipeError(
                f"task.label_smoothing: expected a number in [0, 1), found {self.label_smoothing}.",
                fix="Set task.label_smoothing to 0.1, or to 0 for none.",
            )
        if self.target_max_length < 2:
            raise RecipeError(
                f"task.target_max_length: expected 2 or more, found {self.target_max_length}.",
                fix="Set task.target_max_length to the tokens of a long target.",
            )
        choices = ("truncate", "drop", "error")
        if self.target_overflow not in choices:
            raise RecipeError(
                f"task.target_overflow: expected one of {', '.join(choices)}, found {self.target_overflow!r}.",
                fix="Choose one of them.",
            )

    @property
    @abstractmethod
    def names_of_columns(self) -> tuple[str, str]:
        """The columns of the text and of its target."""

    def columns(self) -> dict[str, Column]:
        text, right = self.names_of_columns
        return {"text": Column(text, TEXT), "target": Column(right, TEXTS, is_target=True, usual=(right, "target"))}

    # -- features and targets ------------------------------------------------------------------------------------------

    def encode(self, inputs: Mapping[str, Sequence[Any]], encoder: Encoder) -> Features:
        texts = [f"{self.prefix}{text}" for text in encoder.clean(inputs["text"])]
        features = encoder.but(steps=()).texts(texts)
        columns = {"input_ids": features.input.columns["input_ids"]}
        return replace(features, streams={"source": replace(features.input, columns=columns)})

    def check(self, rows: Any) -> None:
        if rows.encoder is not None and rows.encoder.overflow == "window":
            raise RecipeError(
                f"tokens.overflow: expected 'truncate', 'drop' or 'error' where a {type(self).__name__} writes one text for "
                "a whole text, found 'window'.",
                fix="Choose 'truncate', and raise tokens.max_length as far as the model goes.",
            )
        if rows.encoder is not None and hasattr(rows.encoder.tokenizer, "set_tgt_lang_special_tokens"):
            raise RecipeError(
                f"model.tokenizer: {type(rows.encoder.tokenizer).__name__} marks texts with their languages, which a "
                f"{type(self).__name__} cannot name.",
                fix="Choose a model of one pair of languages (Helsinki-NLP/opus-mt-en-de), or one that reads a prefix (T5).",
            )
        self._references(rows)

    def _references(self, rows: Any) -> list[tuple[str, ...]]:
        column = self.columns()["target"]
        found: list[tuple[str, ...]] = rows.once(("references", column), lambda: self._read(rows, column))
        return found

    def _read(self, rows: Any, column: Column) -> list[tuple[str, ...]]:
        """What is right for each row: a text, or several of them, of which the first is learnt.

        Raises:
            DataError: with the place of a cell that holds no text.
        """
        found = []
        for row, cell in enumerate(rows.values(column)):
            texts = (cell,) if isinstance(cell, str) else tuple(cell) if isinstance(cell, list) else ()
            if not texts or not all(isinstance(text, str) and text.strip() for text in texts):
                raise rows.refuse(
                    row,
                    f"column {column.name!r}: expected a text, or a list of texts, found {cell!r:.80}.",
                    fix="Fill it in, or leave such rows out: data.drop_missing.",
                )
            found.append(texts)
        return found

    def fit(self, rows: Any) -> TextToText:
        """As it is; metrics whose library is missing are refused before anything is trained."""
        self.metrics_need()
        return self

    def metrics_need(self) -> None:
        """Refuse metrics whose library is not installed."""

    def supervise(self, rows: Any, features: Features) -> Features:
        references = self._references(rows)
        is_dropping = self.target_overflow == "drop" and rows.split == "train"
        policy: Any = "error" if self.target_overflow == "error" else "drop" if is_dropping else "truncate"
        encoder = rows.encoder.of_targets(overflow=policy, max_length=self.target_max_length)
        try:
            targets = encoder.texts([texts[0] for texts in references])
        except InputError as error:
            row = getattr(error, "position", 0) or 0
            message = f"column {self.columns()['target'].name!r} (task.target_overflow is 'error'): {error.message}"
            fix = "Shorten it, raise task.target_max_length, or choose 'truncate' or 'drop'."
            raise rows.refuse(row, message, fix=fix) from None
        if targets.overflow.over_length:
            rows.notes.append(self._cut_line(rows, targets))
        kept = np.flatnonzero(np.isin(features.example, targets.example))
        if len(kept) < features.num_features:
            features = features.keep(kept)
        labels = replace(targets.input.columns["input_ids"], fill=_IGNORED, to_loss=True)
        stream = Stream(targets.input.starts, {"labels": labels})
        own = np.searchsorted(targets.example, features.example).astype(np.int64)
        within = characters_of(references, is_target=True)
        return replace(features.with_stream("target", stream.take(own)), within=within)

    def _cut_line(self, rows: Any, targets: Features) -> str:
        """What became of long targets, with the first of them."""
        overflow, limit = targets.overflow, self.target_max_length
        if overflow.dropped:
            found, what = np.flatnonzero(targets.windows == 0), "left out of the training"
        else:
            cut = targets.input.lengths == limit  # those that are exactly as long among them
            found, what = (
                targets.example[cut],
                f"cut, {overflow.tokens_lost / max(1, overflow.tokens):.2%} of all tokens",
            )
        places = ", ".join(str(rows.place(int(row))) for row in found[:_NAMED])
        return (
            f"{rows.split}: {overflow.over_length:,} of {overflow.examples:,} targets have more than {limit} tokens "
            f"(task.target_max_length): {what}; among the first: {places}"
        )

    # -- the model -----------------------------------------------------------------------------------------------------

    def forward(self, model: torch.nn.Module, inputs: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        """Logits [B, n, V]: each target token behind those before it, as the architecture itself shifts them."""
        check_positions(model, self.target_max_length, setting="target_max_length")
        out = model(
            input_ids=inputs["input_ids"],
            attention_mask=inputs["attention_mask"],
            decoder_input_ids=_shifted(bare(model), inputs["labels"]),
            use_cache=False,
        )
        return {"logits": out.logits}

    def loss_sum(self, outputs: Mapping[str, torch.Tensor], batch: Mapping[str, torch.Tensor]) -> torch.Tensor:
        """Cross-entropy of the target tokens, with label smoothing as Szegedy et al. 2016 define it."""
        from torch.nn import functional

        return functional.cross_entropy(
            outputs["logits"].float().flatten(0, 1),
            batch["labels"].flatten(),
            ignore_index=_IGNORED,
            reduction="sum",
            label_smoothing=self.label_smoothing,
        )

    def count(self, batch: Mapping[str, torch.Tensor]) -> torch.Tensor:
        return (batch["labels"] != _IGNORED).double().sum()

    def widths(self, features: Features) -> Array:
        """For each text that is followed: the tokens of the source and those that may be written."""
        source = features.streams["source"].lengths * self.beams
        return np.stack([source, np.full_like(source, self.max_new_tokens * self.beams)], axis=1)

    def predict(self, model: torch.nn.Module, inputs: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        """Written ids [B, n], and what the model thinks of each; the encoder runs once for both."""
        from transformers.modeling_outputs import BaseModelOutput

        check_positions(model, self.max_new_tokens, setting="max_new_tokens")
        plain: Any = bare(model)
        ids_BL, mask_BL = inputs["input_ids"], inputs["attention_mask"]
        encoded = plain.get_encoder()(input_ids=ids_BL, attention_mask=mask_BL)
        keys = None
        if self.temperature > 0:
            keys = [
                row[real].tobytes() for row, real in zip(ids_BL.cpu().numpy(), mask_BL.cpu().numpy() > 0, strict=True)
            ]
        held = BaseModelOutput(
            last_hidden_state=encoded.last_hidden_state
        )  # generate() repeats it for each beam, in place
        ids_Bn = write(plain, self, keys=keys, encoder_outputs=held, attention_mask=mask_BL)
        chosen = log_probabilities(plain, ids_Bn, encoder_outputs=encoded, attention_mask=mask_BL)
        return {"ids": ids_Bn, "log_probabilities": chosen}

    # -- from ids to texts ---------------------------------------------------------------------------------------------

    def merge(self, outputs: Outputs, features: Features) -> Outputs:
        found = outputs.take(np.argsort(features.example[outputs.items], kind="stable"))
        return Outputs(features.example[found.items].astype(np.int64), found.arrays, found.starts)

    def decode(self, predictions: Outputs, encoder: Encoder) -> Outputs:
        """With the texts, as characters; and ``has_end`` bool[N], whether a text ended before ``max_new_tokens``."""
        rows = [predictions.rows("ids", position) for position in range(len(predictions))]
        texts = encoder.tokenizer.batch_decode([row.tolist() for row in rows], skip_special_tokens=True)
        codes = characters_of([[text.strip()] for text in texts])
        arrays = {**predictions.arrays, "text": codes["characters"], "has_end": np.array([len(row) < self.max_new_tokens for row in rows], dtype=bool)}  # fmt: skip
        return Outputs(predictions.items, arrays, {**predictions.starts, "text": codes.starts})

    def gap(self, found: Any, recorded: Any) -> float:
        """Of the probabilities of tokens, as long as both wrote the same. Where they part, two tokens must have been as probable
        as each other; with beams, the two texts."""
        ours, theirs = (np.asarray(one["ids"]) for one in (found, recorded))
        first, second = (np.asarray(one["log_probabilities"], dtype=float) for one in (found, recorded))
        if np.isnan(first).any() or np.isnan(second).any():
            return float("inf")  # neither max nor a comparison would see it
        shared = min(len(ours), len(theirs))
        parted = np.flatnonzero(ours[:shared] != theirs[:shared])
        same = int(parted[0]) if len(parted) else shared
        gaps = np.abs(np.exp(first)[:same] - np.exp(second)[:same])
        largest = float(gaps.max(initial=0.0))
        if len(ours) == len(theirs) == same:
            return largest
        if self.beams > 1:
            apart = first.sum() / len(first) ** self.length_penalty - second.sum() / len(second) ** self.length_penalty
            return max(largest, _TIE * abs(float(apart)))
        return max(largest, abs(float(np.exp(first[same]) - np.exp(second[same])))) if same < shared else float("inf")

    def departure(self, found: Sequence[Any], recorded: Sequence[Any]) -> float:
        """The largest :meth:`gap`."""
        pairs = [
            (ours, theirs)
            for ours, theirs in zip(found, recorded, strict=True)
            if ours is not None or theirs is not None
        ]
        return max((float("inf") if None in pair else self.gap(*pair) for pair in pairs), default=0.0)

    def judge(self, predictions: Outputs, features: Features) -> Written:
        assert features.within is not None
        written, right = [], []
        for position, item in enumerate(predictions.items.tolist()):
            written += texts_of(predictions.rows("text", position))
            right.append(tuple(texts_of(np.asarray(features.within.part(item, item + 1)["characters"]))))
        return Written(tuple(written), tuple(right), predictions["has_end"].astype(bool))

    @abstractmethod
    def quality(self, written: Written) -> Array:
        """[N] how good each text is by itself."""

    def worst(self, judged: Written, number: int) -> list[dict[str, Any]]:
        places = np.argsort(self.quality(judged), kind="stable")[:number].tolist()
        return [{"position": at, "right": judged.references[at][0], "written": judged.texts[at]} for at in places]

    def prepare_model(self, model: torch.nn.Module) -> None:
        """What transformers alone would write by the package, too."""
        settle(bare(model), self)

    def answers(self, predictions: Outputs, asked: Requests, **parameters: Any) -> list[Any]:
        """``{"summary_text": ...}`` and alike, as transformers' pipelines did."""
        return [{self.answer_name: texts_of(predictions.rows("text", at))[0]} for at in range(len(predictions))]

    def answer_columns(self, parameters: Mapping[str, Any]) -> tuple[str, ...]:
        return (self.answer_name,)

    def answer_cells(self, answer: Any, parameters: Mapping[str, Any]) -> tuple[Any, ...]:
        return (answer[self.answer_name],)

    def text_schema(self, **own: Any) -> TaskSchema:
        """The schema but for its words."""
        return TaskSchema(
            inputs=({"text": TEXT},),
            reads="text",
            answers="text",
            answer=record({self.answer_name: {"type": "string"}}),
            options={**self.generation_options(), **({"prefix": self.prefix} if self.prefix else {})},
            model="AutoModelForSeq2SeqLM",
            **own,
        )


def _shifted(model: Any, labels: torch.Tensor) -> torch.Tensor:
    """What the decoder reads where it has to write the labels: the architecture's own shift, else one to the right behind its
    start token."""
    if (own := getattr(model, "prepare_decoder_input_ids_from_labels", None)) is not None:
        found: torch.Tensor = own(labels=labels)
        return found
    start, pad = model.config.decoder_start_token_id, model.config.pad_token_id
    shifted = labels.new_full(labels.shape, start)
    shifted[:, 1:] = labels[:, :-1]
    return shifted.masked_fill(shifted == _IGNORED, pad)
