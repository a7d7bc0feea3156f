"""Preferences: a model learns which of two answers is wanted (DPO, ORPO), or whether one is (KTO).

A feature is a question with two answers: the chosen and the rejected one; of KTO the answer and that of another example, by which
the drift from the reference is estimated. The question is computed once where the model allows it
(:mod:`..model.branches`). Legend: N examples, F features, E examples of a batch, L tokens of the longest.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import KW_ONLY, dataclass, replace
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np
import numpy.typing as npt

from ..errors import RecipeError
from ..model.outputs import Output, Outputs
from ..tokens.chat import Chat
from ..tokens.features import Features, Overflow, Ragged, Stream, features_of
from ..tokens.ragged import ends_of
from .base import LOOKED_TOKENS, Metric
from .columns import ANYTHING, TEXT, Cell, Column
from .conversing import MESSAGES, Conversing, messages_of, without_answer
from .preference_rows import ASKED, PreferenceRow, question, read_rows, read_wanted
from .preference_scores import METRICS_OF_PAIRS, METRICS_OF_SINGLE, Judged
from .schema import TaskSchema
from .tagging import IGNORED

if TYPE_CHECKING:
    import torch

    from ..tokens.chat import Message

Array = npt.NDArray[Any]

_LOSSES = ("dpo", "orpo", "kto")
_BALANCED = (0.75, 1.5)
"""Of KTO: what wanted answers may count, over what others do; the paper (section 4.2 of arXiv 2402.01306) takes 1 to 1.5."""


@dataclass(frozen=True)
class PreferenceTuning(Conversing):
    """Learns which answers are wanted: from pairs of a chosen and a rejected one, or from single ones that are wanted or not.

    The reference is the model before its first step; what it makes of the data is computed once and kept on disk, so that no second
    model is held. Texts and conversations become tokens as in ``InstructionTuning``.
    """

    prompt: str | None = "prompt"
    """The column with what is asked: a text, or messages. None: the answers are whole conversations that begin with it."""
    chosen: str = "chosen"
    """The column with the wanted answer: a text, or messages that end with it."""
    rejected: str = "rejected"
    """The column with the other one."""
    _: KW_ONLY
    loss: Literal["dpo", "orpo", "kto"] = "dpo"
    """``dpo``: the chosen answer gains more on the reference than the rejected one; ``orpo``: the chosen answer is learnt, with better
    odds than the rejected one, without a reference; ``kto``: of single answers, wanted ones gain and others lose."""
    completion: str = "completion"
    """Of ``kto``: the column with the answer."""
    label: str = "label"
    """Of ``kto``: the column that says whether the answer is wanted (true or false, 1 or 0)."""
    beta: float = 0.1
    """What rewards are multiplied by: the smaller, the farther the model may go from its reference; of ``orpo`` the weight of the
    odds."""
    label_smoothing: float = 0.0
    """Of ``dpo``: the share of pairs that are thought to be the wrong way round, in [0, 0.5)."""
    desirable_weight: float = 1.0
    """Of ``kto``: the weight of wanted answers."""
    undesirable_weight: float = 1.0
    """Of ``kto``: the weight of others; where they are few, raise it."""
    shared_prompt: bool = True
    """Whether what is asked is computed once for both answers, where the model is proven to allow it; False: once for each."""
    system: str | None = None
    """What the system says in the beginning, where a conversation does not; None: what the template has."""
    template: str | None = None
    """The chat template, in Jinja; ``plain``: headings without special tokens; None: the tokenizer's own."""
    stop_token: str | None = None
    """The token that ends an answer; None: the one that the template has there."""
    max_new_tokens: int = 256
    """Tokens of an answer at most, its end included."""

    scored: ClassVar[Mapping[str, Output]] = {"nats": Output()}
    encodes_by: ClassVar[tuple[str, ...]] = ("system", "template")

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.loss not in _LOSSES:
            raise RecipeError(
                f"task.loss: expected {', '.join(_LOSSES)}, found {self.loss!r}.", fix="Choose one of them."
            )
        if self.beta <= 0:
            raise RecipeError(f"task.beta: expected more than 0, found {self.beta}.", fix="Set it to 0.1 or so.")
        if not 0 <= self.label_smoothing < 0.5 or (self.label_smoothing and self.loss != "dpo"):
            raise RecipeError(
                f"task.label_smoothing: expected a share in [0, 0.5), and 0 where the loss is not dpo, found {self.label_smoothing}.",
                fix="Leave it out, or set it to 0.1 or so with task.loss='dpo'.",
            )
        for name in ("desirable_weight", "undesirable_weight"):
            value = getattr(self, name)
            if value <= 0 or (value != 1.0 and self.loss != "kto"):
                raise RecipeError(
                    f"task.{name}: expected more than 0, and 1 where the loss is not kto, found {value}.",
                    fix="Leave it out, or set task.loss='kto'.",
                )

    @property
    def separable(self) -> bool:
        return self.loss != "kto"

    @property
    def refers(self) -> bool:
        return self.loss != "orpo"

    # -- what rows hold ------------------------------------------------------------------------------------------------

    def columns(self) -> dict[str, Column]:
        parts = (self.completion, self.label) if self.loss == "kto" else (self.chosen, self.rejected)
        if self.prompt is not None:
            return {
                "prompt": Column(self.prompt, ASKED),
                "answers": Column("answers", ANYTHING, is_target=True, parts=parts),
            }
        return {
            "messages": Column(parts[0], MESSAGES),
            "answers": Column("answers", ANYTHING, is_target=True, parts=parts[1:]),
        }

    def as_request(self, values: Mapping[str, Any]) -> Mapping[str, Any]:
        if "messages" in values:
            return {"messages": without_answer(messages_of(values["messages"]))}
        return dict(values) if isinstance(values["prompt"], str) else {"messages": messages_of(values["prompt"])}

    def as_input(self, values: Mapping[str, Any]) -> Any:
        if isinstance(asked := values.get("prompt"), str):
            return asked
        return {"messages": values.get("messages", asked)}

    def said(self, inputs: Mapping[str, Sequence[Any]]) -> list[list[Message]]:
        nothing: list[Any] = [None] * len(next(iter(inputs.values())))
        columns = (inputs.get(name, nothing) for name in ("messages", "prompt"))
        return [
            without_answer(messages_of(messages)) if messages is not None else question(prompt)
            for messages, prompt in zip(*columns, strict=True)
        ]

    def check(self, rows: Any) -> None:
        """Refuse rows whose answers cannot be read, with their place."""
        self._rows(rows)
        if self.loss == "kto":
            self._wanted(rows)

    def _rows(self, rows: Any) -> list[PreferenceRow]:
        """What is asked in each row, and its answers; refused with its place where they cannot be read."""
        names = (self.completion,) if self.loss == "kto" else (self.chosen, self.rejected)
        found: list[PreferenceRow] = rows.once(
            ("preferences", self.prompt, names), lambda: read_rows(rows, self.prompt, names)
        )
        return found

    def _wanted(self, rows: Any) -> Array:
        """float32[N]: 1 of wanted answers."""
        found: Array = rows.once(("wanted", self.label), lambda: read_wanted(rows, self.label))
        return found

    # -- features and targets ------------------------------------------------------------------------------------------

    def supervise(self, rows: Any, features: Features) -> Features:
        encoder = rows.encoder
        if encoder.tokenizer is None:
            return features
        found = self._rows(rows)
        chat, size = Chat(encoder, self.template), encoder.max_length or 1 << 30
        questions = self.questions(rows.inputs(self), encoder)
        answers = [
            self.answer_ids(chat, questions, [row.answers[number] for row in found])
            for number in range(len(found[0].answers))
        ]
        stream = features.input
        ids, starts = np.asarray(stream["input_ids"]), np.asarray(stream.starts)
        kept: list[tuple[int, Array, tuple[Array, ...]]] = []
        too_long = cut = tokens = lost = 0
        same: list[int] = []
        for example, own in enumerate(zip(*answers, strict=True)):
            asked = ids[int(starts[example]) : int(starts[example + 1])]
            room = size + 1 - len(asked)  # the last token of all is predicted, and not read
            over = max(len(answer) for answer in own) - room
            tokens += len(asked) + sum(map(len, own))
            if self.leaves_out(encoder, example, tokens=len(asked) + over + room, room=room, over=over):
                too_long, lost = too_long + 1, lost + len(asked) + sum(map(len, own))
                continue
            for answer in own:
                assert len(answer) > room or encoder.tokenizer.convert_ids_to_tokens(int(answer[-1])) == self.stop_token
            if over > 0:
                cut, lost = cut + 1, lost + sum(max(0, len(answer) - room) for answer in own)
            shown = tuple(answer[:room] for answer in own)
            if len(shown) == 2 and np.array_equal(*shown):
                same.append(example)
            else:
                kept.append((example, asked, shown))
        self._tell(rows, too_long=too_long, cut=cut, same=same, size=size)
        if self.loss == "kto":  # beside each answer that of the example before
            kept = [
                (example, asked, (own[0], kept[place - 1][2][0][: size + 1 - len(asked)]))
                for place, (example, asked, own) in enumerate(kept)
            ]
        overflow = Overflow(len(found), too_long + cut, too_long, tokens, lost)
        return self._features(rows, kept, stream, overflow)

    def _features(
        self, rows: Any, kept: Sequence[tuple[int, Array, tuple[Array, ...]]], stream: Stream, overflow: Overflow
    ) -> Features:
        """A feature for each question: all of it but its last token, then for each answer that token and the answer but its own
        last one."""
        nothing = np.zeros(0, dtype=np.int32)
        ids: list[Array] = [nothing]
        labels: list[Array] = [nothing]
        branch: list[Array] = [nothing]
        lengths: list[int] = []
        for _, asked, own in kept:
            ids.append(asked[:-1])
            labels.append(np.full(len(asked) - 1, IGNORED))
            branch.append(np.zeros(len(asked) - 1))
            for number, answer in enumerate(own, 1):
                ids += [asked[-1:], answer[:-1]]
                labels.append(answer)
                branch.append(np.full(len(answer), number))
            lengths.append(len(asked) - 1 + sum(map(len, own)))
        columns = {
            "input_ids": replace(stream.columns["input_ids"], values=np.concatenate(ids).astype(np.int32)),
            "labels": Ragged(np.concatenate(labels).astype(np.int32), fill=IGNORED, to_loss=True),
            "branch": Ragged(np.concatenate(branch).astype(np.int8)),
        }
        there = Stream(ends_of(np.array(lengths, dtype=np.int64)), columns, mask=stream.mask)
        example = np.array([example for example, _, _ in kept], dtype=np.int32)
        answered = np.array([[len(answer) for answer in own] for _, _, own in kept], dtype=np.int64).reshape(-1, 2)
        dense: dict[str, Array] = {"tokens": answered}
        if self.loss == "kto":
            dense["desirable"] = self._wanted(rows)[example]
        return Features({"input": there}, example, overflow.examples, overflow, dense=dense)

    def _tell(self, rows: Any, *, too_long: int, cut: int, same: Sequence[int], size: int) -> None:
        found, count = self._rows(rows), len(rows)
        if too_long:
            rows.note(f"{too_long:,} of {count:,} examples are longer than {size} tokens and are left out")
        if cut:
            rows.note(
                f"{cut:,} of {count:,} examples have answers that are cut at {size} tokens, without what ends them: see "
                "tokens.max_length, or tokens.overflow='drop'"
            )
        if same:
            rows.note(
                f"{len(same):,} of {count:,} examples have the same answer twice, and are left out: the first is "
                f"{rows.place(same[0])}"
            )
        empty = [row for row, one in enumerate(found) if not all(answer.strip() for answer in one.answers)]
        if empty:
            rows.note(f"{len(empty):,} of {count:,} examples have an empty answer: the first is {rows.place(empty[0])}")
        if self.loss == "kto":
            self._tell_balance(rows, wanted=int(self._wanted(rows).sum()))

    def _tell_balance(self, rows: Any, *, wanted: int) -> None:
        """Warn where one kind of answers, by numbers and weights, decides nearly alone."""
        others = len(rows) - wanted
        if not wanted or not others:
            rows.note(
                f"all {len(rows):,} answers are {'wanted' if wanted else 'unwanted'}: none tells them from others"
            )
            return
        share = wanted * self.desirable_weight / (others * self.undesirable_weight)
        if not _BALANCED[0] <= share <= _BALANCED[1]:
            name, even = ("undesirable", share) if share > 1 else ("desirable", 1 / share)
            even *= getattr(self, f"{name}_weight")
            rows.note(
                f"{wanted:,} answers are wanted and {others:,} are not: by their weights the former count {share:.2g} times as "
                f"much as the latter, where about as much is usual: task.{name}_weight={even:.2g} would make them even"
            )

    # -- the model -----------------------------------------------------------------------------------------------------

    def remark(self, model: torch.nn.Module) -> str | None:
        from ..model.branches import why_not_shared

        reason = why_not_shared(model) if self.shared_prompt else None
        return None if reason is None else f"what is asked is computed once for each answer: {reason}"

    def precompute(self, model: torch.nn.Module, features: Features) -> Features:
        """``reference`` float32[F, 2]: the logarithms of both answers' probabilities."""
        if not self.refers:
            return features
        from ..model.inference import run

        everything, device = np.arange(features.num_features, dtype=np.int64), next(model.parameters()).device
        found = run(
            model,
            features,
            task=self,
            chosen=everything,
            max_tokens=LOOKED_TOKENS,
            device=device,
            scores_targets=True,
        )
        return features.with_targets(reference=-found["nats"].reshape(-1, 2).astype(np.float32))

    def forward(self, model: torch.nn.Module, inputs: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        from ..model.branches import Rows, answer_losses

        rows = Rows(*(inputs[name] for name in ("input_ids", "labels", "branch", "attention_mask")))
        return {"nats": answer_losses(model, rows, shared=self.shared_prompt)}

    def likelihood(self, model: torch.nn.Module, batch: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        return self.forward(model, batch)

    def loss_sum(self, outputs: Mapping[str, torch.Tensor], batch: Mapping[str, torch.Tensor]) -> torch.Tensor:
        from .preference_losses import baseline_of, dpo, kto, orpo

        weights_E = batch["weights"]
        if self.loss == "orpo":
            losses_E = orpo(-outputs["nats"] / batch["tokens"].clamp(min=1), beta=self.beta)
            return (losses_E * weights_E).sum()
        gain_E2 = -outputs["nats"] - batch["reference"]
        if self.loss == "dpo":
            losses_E = dpo(gain_E2, beta=self.beta, smoothing=self.label_smoothing)
        else:
            losses_E = kto(
                gain_E2[:, 0],
                batch["desirable"],
                baseline_of(gain_E2[:, 1], weights_E),
                beta=self.beta,
                desirable_weight=self.desirable_weight,
                undesirable_weight=self.undesirable_weight,
            )
        return (losses_E * weights_E).sum()

    def count(self, batch: Mapping[str, torch.Tensor]) -> torch.Tensor:
        return batch["weights"].double().sum()

    # -- scores --------------------------------------------------------------------------------------------------------

    def merged_batch(self, predictions: Outputs, features: Features) -> tuple[dict[str, Any], dict[str, Any]]:
        rows = features_of(features, predictions.items)
        targets = {name: np.asarray(values[rows]) for name, values in features.dense.items()}
        return {"nats": predictions["nats"]}, {**targets, "weights": np.ones(len(rows), dtype=np.float32)}

    def judge(self, predictions: Outputs, features: Features) -> Any:
        rows = features_of(features, predictions.items)
        logs = -np.asarray(predictions["nats"], dtype=np.float64)
        if self.refers:
            gain = logs - np.asarray(features.dense["reference"][rows], dtype=np.float64)
        else:
            gain = logs / np.maximum(1, features.dense["tokens"][rows])
        return Judged(
            gain, self.beta, np.asarray(features.dense.get("desirable", np.ones(len(features.example)))[rows])
        )

    def metrics(self) -> tuple[Metric, ...]:
        """``accuracy``: how often the reward tells wanted from unwanted; ``margin``: by how much; rewards; with a reference ``kl``."""
        if self.loss == "kto":
            return METRICS_OF_SINGLE
        return METRICS_OF_PAIRS if self.refers else METRICS_OF_PAIRS[:-1]

    # -- answers -------------------------------------------------------------------------------------------------------

    def schema(self) -> TaskSchema:
        forms: tuple[Mapping[str, Cell], ...] = ({"prompt": TEXT}, {"messages": MESSAGES})
        examples = ("Name three colours.", {"messages": [{"role": "user", "content": "Name three colours."}]})
        note = f"It was tuned on preferences ({self.loss.upper()}, beta {self.beta:g})."
        return self.conversing_schema(inputs=forms, examples=examples, reads="prompt", note=note)
