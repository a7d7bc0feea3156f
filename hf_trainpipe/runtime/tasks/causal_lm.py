"""A language model of texts: from random weights, or further trained; alone or in blocks.

Legend: N documents, F features (windows of documents, or blocks of all of them), T tokens of all.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import numpy.typing as npt

from ..bounds import check_tokens
from ..errors import InputError, RecipeError
from ..tokens.backend import unknown_id
from ..tokens.features import Features, Overflow, Ragged, Stream
from ..tokens.ragged import Cut, ends_of, ranges, windows
from .base import Metric
from .columns import TEXT, Column
from .continuing import Continuing, shifted
from .schema import TaskSchema
from .tagging import IGNORED

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ..tokens.encoder import Encoder

Array = npt.NDArray[Any]


@dataclass(frozen=True)
class CausalLM(Continuing):
    """Learns texts token by token, and continues one.

    Documents stand alone, cut by ``tokens.overflow``, or one behind the other in blocks of ``tokens.max_length``. A token
    is predicted once, whatever windows overlap.
    """

    text: str = "text"
    """The column with the documents."""
    blocks: bool = False
    """Whether all documents are one text, cut into blocks of ``tokens.max_length`` tokens that see nothing of each other; False:
    each document is alone."""
    between: str | None = None
    """Of blocks: the text between two documents; None: the tokens that begin and end a document."""

    encodes_by: ClassVar[tuple[str, ...]] = ("between",)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.between is not None and not self.blocks:
            raise RecipeError(
                f"task.between: expected None where documents stand alone, found {self.between!r}.",
                fix="Set task.blocks=True, or leave task.between out.",
            )

    def columns(self) -> dict[str, Column]:
        return {"text": Column(self.text, TEXT)}

    # -- features and targets ------------------------------------------------------------------------------------------

    def encode(self, inputs: Mapping[str, Sequence[Any]], encoder: Encoder) -> Features:
        """Whole documents behind the token that begins one; ``supervise`` and ``asked`` cut them."""
        tokenizer = encoder.tokenizer
        ids, counts = encoder.plain_ids(encoder.clean(inputs["text"]))
        begin = [] if self.between is not None else _begin(tokenizer)
        check_tokens(len(ids) + len(begin) * len(counts))
        starts = ends_of(counts)
        if begin:
            ids, counts = np.insert(ids, starts[:-1], np.int32(begin[0])), counts + 1
        elif (counts == 0).any():
            ids = np.insert(ids, starts[:-1][counts == 0], np.int32(unknown_id(tokenizer)))
            counts = np.maximum(counts, 1)
        stream = Stream(ends_of(counts), {"input_ids": Ragged(ids, fill=_pad(tokenizer))}, mask="attention_mask")
        return Features({"input": stream}, np.arange(len(counts), dtype=np.int32), len(counts))

    def supervise(self, rows: Any, features: Features) -> Features:
        encoder = rows.encoder
        size, stream = encoder.max_length or 1 << 30, features.input
        ids, starts = np.asarray(stream["input_ids"]), np.asarray(stream.starts)
        sizes = np.array([len(text.encode()) for text in rows.values(self.columns()["text"])], dtype=np.float64)
        end = IGNORED if (found := getattr(encoder.tokenizer, "eos_token_id", None)) is None else int(found)
        begins = len(_begin(encoder.tokenizer)) if self.between is None else 0
        # A document's bytes in equal parts over its tokens: right in sum, and near for a part of it.
        shares = np.repeat(sizes / np.maximum(1, np.diff(starts) - begins), np.diff(starts))
        if begins:
            shares[starts[:-1]] = 0.0
        if self.blocks:
            if self.between is not None:
                ids, starts, shares = self._joined(ids, starts, shares, encoder)
                end = IGNORED
            last = np.full(len(starts) - 1, end)
            if end == IGNORED:  # what follows a document is the next one
                last[:-1] = ids[starts[1:-1]]
            cut = Cut(*_blocks(len(ids), size))
            kept, overflow = shifted(ids, starts, last), Overflow(len(sizes), tokens=len(ids))
            count, first = len(cut.length), cut.begin
        else:
            cut, overflow = self._cut(np.diff(starts), size, encoder)
            kept, count = shifted(ids, starts, np.full(len(starts) - 1, end)), features.num_examples
            first = starts[cut.example] + cut.begin
        place = ranges(first, cut.length)
        labels = kept[place]
        if not self.blocks:  # what an earlier window has predicted
            before = np.concatenate([[0], cut.begin[:-1] + cut.length[:-1]])
            seen = np.where(np.concatenate([[False], cut.example[1:] == cut.example[:-1]]), before - cut.begin, 0)
            labels[ranges(ends_of(cut.length)[:-1], np.maximum(seen, 0))] = IGNORED
        predicted = np.append(shares[1:], 0.0)[place] * (labels != IGNORED)  # of the token behind each place
        bytes_ = np.bincount(np.repeat(cut.example, cut.length), weights=predicted, minlength=count)
        columns = {
            "input_ids": replace(stream.columns["input_ids"], values=ids[place]),
            "labels": Ragged(labels, fill=IGNORED, to_loss=True),
        }
        there = Stream(ends_of(cut.length), columns, mask=stream.mask)
        whole = Features({"input": there}, cut.example.astype(np.int32), count, overflow)
        return whole.with_targets(of_examples={"bytes": bytes_})

    def _joined(self, ids: Array, starts: Array, shares: Array, encoder: Encoder) -> tuple[Array, Array, Array]:
        """Documents with the text between them behind each but the last."""
        glue, _ = encoder.plain_ids([self.between or ""])
        at = np.repeat(starts[1:-1], len(glue))
        lengths = np.diff(starts) + len(glue)
        lengths[-1:] -= len(glue)
        size = len((self.between or "").encode()) / max(1, len(glue))
        several = np.tile(glue, len(starts) - 2)
        return np.insert(ids, at, several), ends_of(lengths), np.insert(shares, at, size)

    def _cut(self, lengths: Array, size: int, encoder: Encoder) -> tuple[Cut, Overflow]:
        """Windows of documents, by the policy for long ones.

        Raises:
            InputError: A document is too long, and the policy is ``error``.
        """
        over, everyone = lengths > size, np.arange(len(lengths), dtype=np.int64)
        if encoder.overflow == "error" and over.any():
            position = int(np.argmax(over))
            raise InputError(
                f"Example {position} has {int(lengths[position])} tokens; tokens.max_length is {size} "
                f"({int(over.sum())} such examples in all).",
                fix="Raise max_length, or set overflow to 'window'.",
                position=position,
            )
        if encoder.overflow == "window":
            cut = windows(lengths, np.full_like(lengths, size), np.full_like(lengths, encoder.stride))
            return cut, Overflow(len(lengths), over_length=int(over.sum()), tokens=int(lengths.sum()))
        example = everyone[~over] if encoder.overflow == "drop" else everyone
        kept = np.minimum(lengths, size)[example]
        lost = int(lengths.sum() - kept.sum())
        dropped = int(over.sum()) if encoder.overflow == "drop" else 0
        facts = Overflow(len(lengths), int(over.sum()), dropped, int(lengths.sum()), lost)
        return Cut(example, np.zeros_like(kept), kept), facts

    def metrics(self) -> tuple[Metric, ...]:
        """Perplexity by token; and bits for a byte of text, which models with other tokens share."""
        return (
            *super().metrics(),
            Metric(
                "bits_per_byte",
                lambda found: np.stack([found.nats, found.bytes], axis=1),
                greater_is_better=False,
                finish=lambda sums: sums[..., 0] / sums[..., 1] / np.log(2.0),
            ),
        )

    # -- answers -------------------------------------------------------------------------------------------------------

    def asked(self, features: Features, encoder: Encoder, parameters: Mapping[str, Any]) -> Features:
        """Of a long prompt its end: half of ``tokens.max_length`` at least, and what the answer leaves free."""
        stream, size = features.input, encoder.max_length or 1 << 30
        room = min(int(parameters.get("max_tokens", self.max_new_tokens)), size // 2)
        kept = np.minimum(stream.lengths, max(1, size - room))
        if (kept < stream.lengths).any():
            place = ranges(np.asarray(stream.starts[1:]) - kept, kept)
            ids = replace(stream.columns["input_ids"], values=np.asarray(stream["input_ids"])[place])
            features = features.with_stream("input", replace(stream, starts=ends_of(kept), columns={"input_ids": ids}))
        return super().asked(features, encoder, parameters)

    def schema(self) -> TaskSchema:
        example = {
            "generated_text": " the morning came.",
            "finish_reason": "stop",
            "prompt_tokens": 4,
            "completion_tokens": 5,
        }
        return TaskSchema(
            inputs=({"text": TEXT},),
            examples=("Before the night was over", {"text": "It was a day"}),
            reads="text",
            answers="text",
            answer_example=example,
            does="continues a text",
            **self.writing_schema(),
        )


def _begin(tokenizer: Any) -> list[int]:
    """The token before a document, from which its first one is predicted; of a tokenizer without any nothing."""
    for name in ("bos_token_id", "eos_token_id"):
        if (found := getattr(tokenizer, name, None)) is not None:
            return [int(found)]
    return []


def _pad(tokenizer: Any) -> int:
    return int(getattr(tokenizer, "pad_token_id", None) or 0)


def _blocks(total: int, size: int) -> tuple[Array, Array, Array]:
    """Number, begin and length of blocks of ``size`` tokens; the last one may be shorter."""
    begin = np.arange(0, total, min(size, max(1, total)), dtype=np.int64)
    return np.arange(len(begin)), begin, np.minimum(size, total - begin)
