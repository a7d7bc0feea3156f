"""What tasks have in common whose models write on: scored by how likely they find what stands in the data, asked to write.

Legend: N examples, F features, B of a batch, L tokens of the longest, n written tokens.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

import numpy as np
import numpy.typing as npt

from ..model.generation import NOTHING, Generation, write
from ..model.listening import LISTENER, tell
from ..model.outputs import Output, Outputs
from .base import Metric, Requests, Task
from .departures import same_beginning
from .merging import by_example
from .schema import Parameter
from .tagging import IGNORED
from .texts import record

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    import torch

    from ..tokens.encoder import Encoder
    from ..tokens.features import Features

Array = npt.NDArray[Any]

_NO_END = -1
_RECORDED_TOKENS = 32
"""Tokens of a recorded answer: enough to tell another model, and few to write twice."""


class Likelihood(NamedTuple):
    """How likely the targets of N examples are."""

    nats: Array
    """[N] minus the logarithm of their probability."""
    tokens: Array
    """int64[N] that were predicted."""
    bytes: Array
    """[N] of UTF-8 that these tokens stand for; 0 where it was not counted."""


def _positive(value: Any) -> bool:
    return type(value) is int and value >= 1


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _are_stops(value: Any) -> bool:
    several = [value] if isinstance(value, str) else value
    return isinstance(several, (list, tuple)) and all(isinstance(one, str) and one for one in several)


PARAMETERS: Mapping[str, Parameter] = {
    "max_tokens": Parameter(
        "a whole number of 1 or more",
        _positive,
        {"type": "integer", "minimum": 1, "description": "Tokens of an answer at most."},
        64,
    ),
    "temperature": Parameter(
        "a number of 0 or more",
        lambda value: _is_number(value) and 0 <= value < float("inf"),
        {"type": "number", "minimum": 0, "description": "0: always the likeliest token; above: tokens are drawn."},
        0.7,
    ),
    "top_p": Parameter(
        "a number above 0, at most 1",
        lambda value: _is_number(value) and 0 < value <= 1,
        {"type": "number", "exclusiveMinimum": 0, "maximum": 1, "description": "Share of the probability drawn from."},
        0.9,
    ),
    "seed": Parameter(
        "a whole number of 0 or more, below 2**63",
        lambda value: type(value) is int and 0 <= value < 1 << 63,
        {"type": "integer", "minimum": 0, "description": "Of the draws: the same seed, the same answer."},
        17,
    ),
    "stop": Parameter(
        "a text, or a list of texts, none of them empty",
        _are_stops,
        {
            "anyOf": [
                {"type": "string", "minLength": 1},
                {"type": "array", "items": {"type": "string", "minLength": 1}},
            ],
            "description": "An answer ends before the first of them.",
        },
        ["\n\n"],
    ),
}
"""What a request may set of how its answers are written; the rest is the task's."""

ANSWER = record(
    {
        "generated_text": {"type": "string"},
        "finish_reason": {"type": "string", "enum": ["stop", "length"]},
        "prompt_tokens": {"type": "integer", "minimum": 0},
        "completion_tokens": {"type": "integer", "minimum": 0},
    }
)
"""JSON Schema of an answer."""


@dataclass(frozen=True, kw_only=True)
class Continuing(Generation, Task):
    """A task whose features have ``labels``, the token that follows each position, where it is to be learnt."""

    stop: tuple[str, ...] = ()
    """Texts before which an answer ends, beside the token that ends one."""

    outputs: ClassVar[Mapping[str, Output]] = {"ids": Output("sequence", fill=NOTHING)}
    scored: ClassVar[Mapping[str, Output]] = {"nats": Output(), "tokens": Output()}
    recorded: ClassVar[tuple[str, ...]] = ("ids",)
    num_recorded: ClassVar[int] = 8
    most_departure: ClassVar[float] = 0.5
    departs_in: ClassVar[str] = "the share of recorded tokens behind the first that differs, in the mean"

    def __post_init__(self) -> None:
        self.check_generation()

    # -- training and evaluation ---------------------------------------------------------------------------------------

    def forward(self, model: torch.nn.Module, inputs: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        from ..model.next_token import summed_loss

        read = {name: tensor for name, tensor in inputs.items() if name != "labels"}
        return {"loss": summed_loss(model, read, inputs["labels"])}

    def loss_sum(self, outputs: Mapping[str, torch.Tensor], batch: Mapping[str, torch.Tensor]) -> torch.Tensor:
        return outputs["loss"].sum()

    def count(self, batch: Mapping[str, torch.Tensor]) -> torch.Tensor:
        if "labels" not in batch:  # of an evaluation
            return batch["tokens"].double().sum()
        return (batch["labels"] != IGNORED).double().sum()

    def likelihood(self, model: torch.nn.Module, batch: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        from ..model.next_token import token_losses

        read = {name: batch[name] for name in ("input_ids", "attention_mask")}
        losses_BL = token_losses(model, read, batch["labels"])
        return {"nats": losses_BL.sum(1), "tokens": (batch["labels"] != IGNORED).sum(1)}

    def merge(self, outputs: Outputs, features: Features) -> Outputs:
        """Of scored features the sums of each example; of written ones the ids, in the order of the examples."""
        if "ids" not in outputs.arrays:
            return by_example(outputs, features, _sums)
        found = outputs.take(np.argsort(features.example[outputs.items], kind="stable"))
        return Outputs(features.example[found.items].astype(np.int64), found.arrays, found.starts)

    def merged_batch(self, predictions: Outputs, features: Features) -> tuple[dict[str, Any], dict[str, Any]]:
        return {"loss": predictions["nats"]}, {"tokens": predictions["tokens"]}

    def judge(self, predictions: Outputs, features: Features) -> Likelihood:
        counted = features.of_examples.get("bytes", np.zeros(features.num_examples))
        return Likelihood(predictions["nats"], predictions["tokens"], np.asarray(counted[predictions.items]))

    def metrics(self) -> tuple[Metric, ...]:
        return (
            Metric(
                "perplexity",
                lambda found: np.stack([found.nats, found.tokens], axis=1),
                greater_is_better=False,
                finish=lambda sums: np.exp(sums[..., 0] / sums[..., 1]),
            ),
        )

    # -- answers -------------------------------------------------------------------------------------------------------

    @property
    def recording(self) -> Mapping[str, Any]:
        return {"max_tokens": min(self.max_new_tokens, _RECORDED_TOKENS), "temperature": 0.0}

    def ends(self, encoder: Encoder) -> tuple[int, ...]:
        """Tokens that end an answer."""
        end = encoder.tokenizer.eos_token_id
        return () if end is None else (int(end),)

    def asked(self, features: Features, encoder: Encoder, parameters: Mapping[str, Any]) -> Features:
        count = features.num_features
        room = np.maximum(1, (encoder.max_length or 1 << 30) - features.input.lengths)
        said = {
            "max_new_tokens": np.minimum(parameters.get("max_tokens", self.max_new_tokens), room),
            "temperature": np.full(count, parameters.get("temperature", self.temperature), dtype=np.float64),
            "top_p": np.full(count, parameters.get("top_p", self.top_p), dtype=np.float64),
            "drawing_seed": np.full(count, parameters.get("seed", self.drawing_seed), dtype=np.int64),
            LISTENER: np.full(count, parameters.get(LISTENER, 0), dtype=np.int64),
            "ends": np.tile(np.array(self.ends(encoder) or (_NO_END,), dtype=np.int64), (count, 1)),
        }
        return replace(features, asked=said)

    def widths(self, features: Features) -> npt.NDArray[np.int64]:
        said = features.asked.get("max_new_tokens")
        return features.widths if said is None else features.widths + said[:, None]

    def predict(self, model: torch.nn.Module, inputs: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        """Answers [B, n], rows that ask for the same together."""
        import torch

        ids, mask = inputs["input_ids"], inputs["attention_mask"]
        names = ("max_new_tokens", "temperature", "top_p", "drawing_seed")
        asked = list(zip(*(inputs[name].tolist() for name in names), strict=True))
        written: dict[int, torch.Tensor] = {}
        for settings in dict.fromkeys(asked):
            rows = [row for row, own in enumerate(asked) if own == settings]
            lengths = mask[rows].sum(1)
            width = int(lengths.max())
            places = torch.arange(width, device=ids.device)[None] - (width - lengths)[:, None]  # padded on the left
            read = ids[rows].gather(1, places.clamp(min=0))
            keys = [read[at, width - length :].cpu().numpy().tobytes() for at, length in enumerate(lengths.tolist())]
            said = replace(self, **dict(zip(names, settings, strict=True)))
            listeners = {at: number for at, number in enumerate(inputs[LISTENER][rows].tolist()) if number}
            ends = {*inputs["ends"][rows].flatten().tolist()}

            def watch(ids: torch.Tensor, listeners: dict[int, int] = listeners, ends: set[int] = ends) -> None:
                for at, number in [*listeners.items()]:
                    if (written := ids[at].tolist())[-1] in ends:
                        del listeners[at]
                    else:
                        tell(number, written)

            with _ending(model, inputs["ends"][rows]):
                found = write(
                    model,
                    said,
                    keys=keys,
                    watch=watch if listeners else None,
                    input_ids=read,
                    attention_mask=(places >= 0).to(mask.dtype),
                )
            written |= dict(zip(rows, found, strict=True))
        longest = max(1, *(len(row) for row in written.values()))
        out = ids.new_full((len(asked), longest), NOTHING)
        for place, row in written.items():
            out[place, : len(row)] = row
        return {"ids": out}

    def departure(self, found: Sequence[Any], recorded: Sequence[Any]) -> float:
        """The share of recorded tokens behind the first that differs, in the mean over the answers: where two tokens are about as
        probable, 16 bits may choose the other one, and what follows is another text."""
        shares = [1.0 - same_beginning(*pair) for pair in zip(found, recorded, strict=True)]
        return sum(shares) / max(len(shares), 1)

    def answers(self, predictions: Outputs, asked: Requests, **parameters: Any) -> list[Any]:
        """``{"generated_text", "finish_reason", "prompt_tokens", "completion_tokens"}``: the answer alone, without the prompt."""
        stops = parameters.get("stop", self.stop)
        stops = (stops,) if isinstance(stops, str) else tuple(stops)
        ends, decode = self.ends(asked.encoder), asked.encoder.tokenizer.decode
        found = []
        for position, example in enumerate(predictions.items.tolist()):
            ids = predictions.rows("ids", position).tolist()
            ended = bool(ids) and ids[-1] in ends
            text = decode(ids[:-1] if ended else ids, skip_special_tokens=True, clean_up_tokenization_spaces=False)
            at = min((place for one in stops if (place := text.find(one)) >= 0), default=None)
            found.append(
                {
                    "generated_text": text if at is None else text[:at],
                    "finish_reason": "stop" if ended or at is not None else "length",
                    "prompt_tokens": int(asked.features.input.lengths[example]),
                    "completion_tokens": len(ids),
                }
            )
        return found

    def answer_columns(self, parameters: Mapping[str, Any]) -> tuple[str, ...]:
        return ("generated_text", "finish_reason")

    def answer_cells(self, answer: Any, parameters: Mapping[str, Any]) -> tuple[Any, ...]:
        return tuple(answer[name] for name in self.answer_columns(parameters))

    def writing_schema(self) -> dict[str, Any]:
        """What of a schema follows from how answers are written."""
        said = self.generation_options()
        return {
            "answer": ANSWER,
            "parameters": PARAMETERS,
            "options": {**said, **({"stop": list(self.stop)} if self.stop else {})},
            "pipeline": "text-generation",
            "model": "AutoModelForCausalLM",
        }


def _sums(rows: Array, place: Array, count: int) -> Array:
    sums = np.zeros((count, *rows.shape[1:]), dtype=np.float64 if rows.dtype.kind == "f" else rows.dtype)
    np.add.at(sums, place, rows)
    return sums.astype(rows.dtype)


@contextmanager
def _ending(model: Any, ends: torch.Tensor) -> Iterator[None]:
    """The model's own answers end with these tokens [B, k] meanwhile: those that it was trained with."""
    config = model.generation_config
    before = config.eos_token_id
    config.eos_token_id = sorted({int(one) for one in ends.flatten().tolist()} - {_NO_END}) or None
    try:
        yield
    finally:
        config.eos_token_id = before


def shifted(ids: Array, starts: Array, ends: Sequence[int] | Array) -> Array:
    """int64[T]: behind each token the next one of its document; behind its last one what stands in ``ends`` [documents]."""
    labels = np.full(len(ids), IGNORED, dtype=np.int64)
    labels[:-1] = ids[1:]
    holds = np.diff(starts) > 0
    labels[np.asarray(starts)[1:][holds] - 1] = np.asarray(ends)[holds]
    return labels
