"""Masked language modelling: the tokens that are hidden in a text.

Shapes: N examples, F features (windows of a text), T tokens of all features, B features of a micro-batch, L tokens of the longest,
R hidden tokens, V tokens of the vocabulary, K of the best of them.
"""

from __future__ import annotations

import zlib
from dataclasses import KW_ONLY, dataclass, replace
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

import numpy as np
import numpy.typing as npt

from ..errors import RecipeError
from ..model.outputs import Output, Outputs
from ..tokens.features import Features, Overflow, Ragged
from ..tokens.ragged import ends_of
from .base import Metric, Requests, Task
from .columns import TEXT, Column
from .departures import furthest
from .draws import Draws, generator
from .schema import Parameter, TaskSchema
from .texts import SCORE, record

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import torch

    from ..tokens.batch import Batch
    from ..tokens.encoder import Encoder
    from ..tokens.masking import Masker

Array = npt.NDArray[Any]

ASKED = 1 << 30
"""In the column ``hidden``: a mask that stands in the text itself, of which nobody knows what it hides."""
_OF_MODEL = ("input_ids", "read", "hidden")
MOST = 100
"""Tokens that an answer may list for a mask."""


class Judged(NamedTuple):
    """Of the hidden tokens of N examples."""

    correct: Array
    """[N] how many are guessed."""
    loss: Array
    """[N] the sum of their losses."""
    total: Array
    """[N] how many there are."""


@dataclass(frozen=True)
class MaskedLM(Task):
    """Guesses hidden tokens of a text: further pretraining of an encoder on texts of its domain.

    Texts stand alone, and long ones become several features without overlap with ``tokens.overflow="window"``; or all are one
    text in blocks.
    """

    text: str = "text"
    """The column with the text."""
    _: KW_ONLY
    share: float = 0.15
    """The probability of a word to be hidden, drawn anew in each epoch; at least one of each feature is."""
    whole_words: bool = True
    """Whether all tokens of a word are hidden together; else tokens are chosen one by one."""
    masked: float = 0.8
    """The share of hidden tokens that the model reads as the mask."""
    replaced: float = 0.1
    """The share that it reads as another, random token; the rest stays as it is."""
    blocks: bool = False
    """Whether all texts are one, cut into blocks of ``tokens.max_length`` tokens, so that short ones see their neighbours; in
    training and in evaluations. Requests stand alone."""
    mask_token: str | None = None
    """How a text marks what is to be guessed; None: as the tokenizer says."""

    outputs: ClassVar[Mapping[str, Output]] = {
        name: Output("token", where="hidden", picked=True) for name in ("score", "token", "given")
    }
    scored: ClassVar[Mapping[str, Output]] = {
        name: Output("token", where="hidden", picked=True) for name in ("best", "given")
    }
    recorded: ClassVar[tuple[str, ...]] = ("score", "given")
    departs_in: ClassVar[str] = "of probabilities"
    learned: ClassVar[tuple[str, ...]] = ("mask_token",)
    encodes_by: ClassVar[tuple[str, ...]] = ("blocks",)

    def __post_init__(self) -> None:
        for name, value in (("share", self.share), ("masked", self.masked), ("replaced", self.replaced)):
            if not 0.0 <= value <= 1.0 or (name == "share" and value == 0.0):
                raise RecipeError(
                    f"task.{name}: expected a share in {'(' if name == 'share' else '['}0, 1], found {value}.",
                    fix=f"Set task.{name} to {type(self).__dataclass_fields__[name].default}, which is usual.",
                )
        if self.masked + self.replaced > 1.0 + 1e-9:
            raise RecipeError(
                f"task.masked, task.replaced: expected a sum of 1 at most, found {self.masked + self.replaced:g}.",
                fix="Usual are 0.8 and 0.1.",
            )

    def columns(self) -> dict[str, Column]:
        return {"text": Column(self.text, TEXT)}

    def fit(self, rows: Any) -> MaskedLM:
        """How a text marks what is to be guessed, as far as the tokenizer is known.

        Raises:
            RecipeError: preprocessing changes that, or the tokenizer has no mask.
        """
        if getattr(rows.encoder, "tokenizer", None) is None:
            return self
        token = rows.encoder.masker.token
        [cleaned] = rows.encoder.clean([f"it {token} so"])
        if token not in cleaned:
            raise RecipeError(
                f"preprocessing: expected steps that keep the mask {token}, found {cleaned!r} for 'it {token} so'.",
                fix="Remove the step that changes it; tokenizers lower-case by themselves where their model asks for it.",
            )
        return replace(self, mask_token=token)

    # -- features ------------------------------------------------------------------------------------------------------

    def encode(self, inputs: Mapping[str, Sequence[Any]], encoder: Encoder) -> Features:
        """Texts as they are. Column ``word``: the word of each token; ``hidden``: :data:`ASKED` at masks of the text, else -1."""
        encoder = encoder.but(stride=0, overflow="window" if self.blocks else None)
        features = encoder.texts(inputs["text"], with_words=True)
        is_mask = np.asarray(features.input["input_ids"]) == encoder.masker.mask_id
        return _with(features, hidden=np.where(is_mask & (np.asarray(features.input["word"]) >= 0), ASKED, -1))

    def supervise(self, rows: Any, features: Features) -> Features:
        """Hide words as evaluations need it: which ones depends on the feature's tokens alone."""
        if self.blocks:
            features = _in_blocks(features, rows.encoder)
        return self._hide(features, rows.encoder)

    @property
    def recording(self) -> Mapping[str, Any]:
        return {"hide": True}

    def asked(self, features: Features, encoder: Encoder, parameters: Mapping[str, Any]) -> Features:
        """Requests as they are. Those that are recorded, texts of the data, hide what an evaluation would."""
        return self._hide(features, encoder, keeps_asked=True) if parameters.get("hide") else features

    def _hide(self, features: Features, encoder: Encoder, *, keeps_asked: bool = False) -> Features:
        """With the column ``read``, what the model reads in place of the text, and in ``hidden`` what that hides.

        Args:
            keeps_asked: Whether a feature with masks in its text hides nothing else.
        """
        stream, masker = features.input, encoder.masker
        ids, words = (np.array(stream[name], dtype=np.int64) for name in ("input_ids", "word"))
        read, hidden = ids.copy(), np.array(stream["hidden"], dtype=np.int64)
        for feature in range(features.num_features):
            tokens = slice(int(stream.starts[feature]), int(stream.starts[feature + 1]))
            if keeps_asked and (hidden[tokens] >= 0).any():
                continue
            draws = generator(0, 0, zlib.crc32(ids[tokens].astype("<i4").tobytes()))
            read[tokens], hidden[tokens] = self._hidden(ids[tokens], words[tokens], masker, draws)
        return _with(features, hidden=hidden, read=read)

    def _hidden(self, ids: Array, words: Array, masker: Masker, draws: np.random.Generator) -> tuple[Array, Array]:
        """A feature as the model reads it, and what it hides; [n] each."""
        if not self.whole_words:
            words = np.where(words >= 0, np.arange(len(words)), -1)
        chosen = masker.choose(np.where(ids == masker.mask_id, -1, words), draws, share=self.share)
        read = ids.copy()
        read[chosen] = masker.hide(ids[chosen], draws, masked=self.masked, replaced=self.replaced)
        return read, np.where(chosen, ids, -1)

    def vary(self, batch: Batch, draws: Draws) -> Batch:
        """Other words are hidden in each epoch."""
        import torch

        ids, words = batch["input_ids"].numpy(), batch["word"].numpy()
        read, hidden = ids.copy(), np.full_like(ids, -1)
        for row, length in enumerate(batch.lengths["input"].tolist()):
            found = self._hidden(ids[row, :length], words[row, :length], draws.encoder.masker, draws.of(row))
            read[row, :length], hidden[row, :length] = found
        return batch.with_tensors({**batch, "read": torch.from_numpy(read), "hidden": torch.from_numpy(hidden)})

    # -- the model -----------------------------------------------------------------------------------------------------

    def _guessed(self, model: torch.nn.Module, inputs: Mapping[str, torch.Tensor]) -> tuple[torch.Tensor, torch.Tensor]:
        """float32[R, V], the logits of hidden tokens, and int64[R], what they hide; the head sees no other token."""
        from ..model.picked import picked

        hidden = inputs["hidden"].reshape(-1)
        [places] = (hidden >= 0).nonzero(as_tuple=True)
        read = {name: tensor for name, tensor in inputs.items() if name not in ("hidden", "read")}
        with picked(model, places):
            logits = model(**{**read, "input_ids": inputs.get("read", inputs["input_ids"])}).logits[0]
        return logits.float(), hidden.index_select(0, places)

    def forward(self, model: torch.nn.Module, inputs: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        from torch.nn import functional

        logits_RV, hidden_R = self._guessed(model, inputs)
        most = logits_RV.shape[1] - 1
        losses_R = functional.cross_entropy(logits_RV, hidden_R.clamp(max=most), reduction="none")
        return {"losses": losses_R * (hidden_R < ASKED)}

    def predict(self, model: torch.nn.Module, inputs: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        """The best tokens of each hidden one and their log-probabilities [R, K], and that of what is hidden [R]."""
        logits_RV, hidden_R = self._guessed(model, inputs)
        logits_RV = logits_RV.log_softmax(dim=-1)
        vocabulary = logits_RV.shape[1]
        score, token = logits_RV.topk(min(MOST, vocabulary), dim=-1)
        return {"score": score, "token": token, "given": logits_RV.gather(1, hidden_R.clamp(max=vocabulary - 1)[:, None])[:, 0]}  # fmt: skip

    def likelihood(self, model: torch.nn.Module, batch: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        """Of each hidden token the best guess [R], and the log-probability of what is hidden [R]."""
        names = [*_OF_MODEL, *(name for name in ("attention_mask", "token_type_ids") if name in batch)]
        logits_RV, hidden_R = self._guessed(model, {name: batch[name] for name in names})
        logits_RV = logits_RV.log_softmax(dim=-1)
        given = logits_RV.gather(1, hidden_R.clamp(max=logits_RV.shape[1] - 1)[:, None])[:, 0]
        return {"best": logits_RV.argmax(dim=-1), "given": given}

    def loss_sum(self, outputs: Mapping[str, torch.Tensor], batch: Mapping[str, torch.Tensor]) -> torch.Tensor:
        return outputs["losses"].sum()

    def count(self, batch: Mapping[str, torch.Tensor]) -> torch.Tensor:
        hidden = batch["hidden"]
        return ((hidden >= 0) & (hidden < ASKED)).sum().double()

    # -- from hidden tokens to answers ---------------------------------------------------------------------------------

    def merge(self, outputs: Outputs, features: Features) -> Outputs:
        """The hidden tokens of an example, block after block."""
        ordered = outputs.take(np.argsort(outputs.items, kind="stable"))
        items, first = np.unique(features.example[ordered.items], return_index=True)
        ends = np.append(first, len(ordered))
        starts = {name: begin[ends] for name, begin in ordered.starts.items()}
        return Outputs(items.astype(np.int64), ordered.arrays, starts)

    def _hidden_of(self, items: Array, features: Features) -> Array:
        """[R]: what the hidden tokens of examples hide, in the order of :meth:`merge`."""
        hidden = features.input["hidden"]
        low, high = (np.searchsorted(features.example, items, side=side) for side in ("left", "right"))
        starts = features.input.starts
        parts = [np.asarray(hidden[starts[a] : starts[b]]) for a, b in zip(low, high, strict=True)]
        found = np.concatenate([np.zeros(0, dtype=np.int32), *parts])
        return found[found >= 0]

    def merged_batch(self, predictions: Outputs, features: Features) -> tuple[dict[str, Any], dict[str, Any]]:
        hidden = self._hidden_of(predictions.items, features)
        return {"losses": np.where(hidden < ASKED, -predictions["given"], 0.0)}, {"hidden": hidden}

    def judge(self, predictions: Outputs, features: Features) -> Judged:
        hidden = self._hidden_of(predictions.items, features)
        is_known = hidden < ASKED
        of_example = np.repeat(np.arange(len(predictions)), np.diff(predictions.starts["given"]))

        def summed(numbers: Array) -> Array:
            found: Array = np.bincount(of_example, weights=np.where(is_known, numbers, 0.0), minlength=len(predictions))
            return found

        return Judged(
            summed(predictions["best"] == hidden), summed(-predictions["given"]), summed(np.ones(len(hidden)))
        )

    def metrics(self) -> tuple[Metric, ...]:
        return (
            Metric("accuracy", lambda judged: np.stack([judged.correct, judged.total], axis=1), finish=_ratio),
            Metric(
                "perplexity",
                lambda judged: np.stack([judged.loss, judged.total], axis=1),
                greater_is_better=False,
                finish=lambda sums: np.exp(_ratio(sums)),
            ),
        )

    def departure(self, found: Sequence[Any], recorded: Sequence[Any]) -> float:
        return furthest(found, recorded, lambda row: np.exp([*np.ravel(row["score"]), *np.ravel(row["given"])]))

    def answers(self, predictions: Outputs, asked: Requests, **parameters: Any) -> list[Any]:
        """As transformers' pipeline: ``{"score", "token", "token_str", "sequence"}`` for the best tokens of a mask; of several masks
        a list for each. A text without a mask has none."""
        top_k = parameters.get("top_k", 5)
        tokenizer, stream = asked.encoder.tokenizer, asked.features.input
        found: list[Any] = []
        for position, example in enumerate(predictions.items.tolist()):
            low, high = np.searchsorted(asked.features.example, [example, example + 1])
            begin, end = int(stream.starts[low]), int(stream.starts[high])
            hidden, ids = np.asarray(stream["hidden"][begin:end]), np.asarray(stream["input_ids"][begin:end])
            scores, tokens = predictions.rows("score", position), predictions.rows("token", position)
            masks = []
            places = np.flatnonzero(hidden >= 0)
            for row, place in enumerate(places.tolist()):
                if hidden[place] < ASKED:
                    continue
                guesses = []
                for score, token in zip(scores[row, :top_k].tolist(), tokens[row, :top_k].tolist(), strict=True):
                    filled = ids.copy()
                    filled[place] = token
                    guesses.append(
                        {
                            "score": float(np.exp(score)),
                            "token": token,
                            "token_str": tokenizer.decode([token]),
                            "sequence": tokenizer.decode(filled.tolist(), skip_special_tokens=len(places) == 1),
                        }
                    )
                masks.append(guesses)
            found.append(masks[0] if len(masks) == 1 else masks)
        return found

    def answer_columns(self, parameters: Mapping[str, Any]) -> tuple[str, ...]:
        return ("tokens", "answers")

    def answer_cells(self, answer: Any, parameters: Mapping[str, Any]) -> tuple[Any, ...]:
        masks = [answer] if answer and isinstance(answer[0], dict) else answer
        return (" ".join(guesses[0]["token_str"].strip() for guesses in masks), answer)

    def schema(self) -> TaskSchema:
        mask = self.mask_token or "[MASK]"
        guess = record(
            {
                "score": SCORE,
                "token": {"type": "integer", "minimum": 0},
                "token_str": {"type": "string"},
                "sequence": {"type": "string"},
            }
        )
        guesses = {"type": "array", "items": guess}
        top_k = Parameter(
            f"a whole number from 1 to {MOST}",
            lambda value: type(value) is int and 1 <= value <= MOST,
            {"type": "integer", "minimum": 1, "maximum": MOST, "description": "How many tokens for each mask."},
            3,
        )
        return TaskSchema(
            inputs=({"text": TEXT},),
            examples=(f"Anna opened the {mask}.", {"text": f"The {mask} was warm and the {mask} long."}),
            reads="text",
            answers="tokens",
            answer={"anyOf": [guesses, {"type": "array", "items": guesses}]},
            answer_example=[{"score": 0.4, "token": 2341, "token_str": "door", "sequence": "anna opened the door."}],
            parameters={"top_k": top_k},
            options={"mask_token": mask},
            pipeline="fill-mask",
            does=f"guesses what {mask} stands for in a text",
            model="AutoModelForMaskedLM",
        )


def _ratio(sums: Array) -> Array:
    """Sums [..., 2] to quotients; NaN where nothing is hidden."""
    with np.errstate(invalid="ignore"):
        found: Array = sums[..., 0] / np.where(sums[..., 1] > 0, sums[..., 1], np.nan)
    return found


def _with(features: Features, **columns: Array) -> Features:
    """With columns that the model and the loss see; ``word`` among those of the loss."""
    stream = features.input
    stream = stream.with_column("word", replace(stream.columns["word"], to_loss=True))
    fills = {"hidden": -1, "read": stream.columns["input_ids"].fill}
    for name, values in columns.items():
        stream = stream.with_column(name, Ragged(values.astype(np.int32), fill=fills[name], to_loss=True))
    return features.with_stream("input", stream)


def _in_blocks(features: Features, encoder: Encoder) -> Features:
    """All texts, the tokens that end one between them, in blocks of the encoder's length, each with the special tokens of one."""
    stream = features.input
    ids, words = np.asarray(stream["input_ids"]), np.asarray(stream["word"])
    feature_T = np.repeat(np.arange(features.num_features), stream.lengths)
    is_text = words >= 0
    [one] = np.nonzero(feature_T == feature_T[np.argmax(is_text)])  # the tokens of a feature that has text
    inside = one[is_text[one]]
    begin, end = ids[one[0] : inside[0]], ids[inside[-1] + 1 : one[-1] + 1]
    kept, owner = ids[is_text], features.example[feature_T[is_text]]
    # Words are numbered on, over all texts; what stands between two texts is none.
    number = np.cumsum(np.append(False, (words[is_text][1:] != words[is_text][:-1]) | (owner[1:] != owner[:-1])))
    at = np.flatnonzero(np.append(False, owner[1:] != owner[:-1]))
    between = np.repeat(at, len(end))
    kept = np.insert(kept, between, np.tile(end, len(at)))
    number = np.insert(number, between, -1)
    room = (encoder.max_length or len(kept) + len(begin) + len(end)) - len(begin) - len(end)
    cuts = np.arange(0, max(1, len(kept)), room)
    parts = [slice(cut, cut + room) for cut in cuts.tolist()]
    around = np.full(len(begin), -1), np.full(len(end), -1)
    blocks = [np.concatenate([begin, kept[part], end]) for part in parts]
    numbers = [np.concatenate([around[0], number[part], around[1]]) for part in parts]
    values = {
        "input_ids": np.concatenate(blocks).astype(np.int32),
        "word": np.concatenate(numbers).astype(np.int32),
    }
    values["hidden"] = np.full(len(values["word"]), -1, dtype=np.int32)
    columns = {
        name: replace(column, values=values.get(name, np.zeros(len(values["word"]), dtype=column.values.dtype)))
        for name, column in stream.columns.items()
    }
    there = replace(stream, starts=ends_of(np.array([len(one) for one in blocks], dtype=np.int64)), columns=columns)
    overflow = Overflow(len(blocks), tokens=len(kept), empty=features.overflow.empty)
    return Features({"input": there}, np.arange(len(blocks), dtype=np.int32), len(blocks), overflow)
