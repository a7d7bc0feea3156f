"""Instructions and conversations: a model learns to answer, by a chat template, and only its answers are learnt.

Legend: N examples, F features, T tokens of all.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import KW_ONLY, dataclass, replace
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from ..errors import RecipeError
from ..tokens.chat import Chat
from ..tokens.features import Features, Overflow, Ragged, Stream
from ..tokens.ragged import ends_of
from .columns import TEXT, Cell, Column, Unfit
from .conversing import MESSAGES, PERHAPS, Conversing, messages_of, without_answer
from .schema import TaskSchema
from .tagging import IGNORED

if TYPE_CHECKING:
    from ..tokens.chat import Message


@dataclass(frozen=True)
class InstructionTuning(Conversing):
    """Learns to answer instructions, or in conversations of any number of turns.

    The loss is on answers alone, the token that ends them included. Examples are ``{instruction, input, output}`` in columns, or
    conversations in one.
    """

    instruction: str = "instruction"
    """The column that says what to do."""
    input: str | None = None
    """The column with what it is to be done with, which may be empty; None: there is none."""
    output: str = "output"
    """The column with the answer."""
    _: KW_ONLY
    messages: str | None = None
    """In place of these three: the column with conversations, each a list of ``{"role", "content"}`` that ends with an answer."""
    system: str | None = None
    """What the system says in the beginning, where a conversation does not; None: what the template has."""
    turns: str = "all"
    """Of a conversation: ``all`` answers are learnt, or only the ``last``."""
    template: str | None = None
    """The chat template, in Jinja; ``plain``: headings without special tokens; None: the tokenizer's own."""
    stop_token: str | None = None
    """The token that ends an answer; None: the one that the template has there."""
    max_new_tokens: int = 256
    """Tokens of an answer at most, its end included."""

    encodes_by: ClassVar[tuple[str, ...]] = ("messages", "system", "template")

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.turns not in ("all", "last"):
            raise RecipeError(f"task.turns: expected 'all' or 'last', found {self.turns!r}.", fix="Choose one of them.")

    def columns(self) -> dict[str, Column]:
        if self.messages is not None:
            return {"messages": Column(self.messages, MESSAGES)}
        more = {} if self.input is None else {"input": Column(self.input, PERHAPS)}
        return {
            "instruction": Column(self.instruction, TEXT),
            **more,
            "output": Column(self.output, TEXT, is_target=True, usual=("output", "response", "completion", "answer")),
        }

    def as_request(self, values: Mapping[str, Any]) -> Mapping[str, Any]:
        if self.messages is None:
            return values
        return {"messages": without_answer(messages_of(values["messages"]))}

    def check(self, rows: Any) -> None:
        """Refuse rows without an answer, with their place."""
        if self.messages is None:
            rows.values(self.columns()["output"])
            return
        for row, cell in enumerate(rows.values(self.columns()["messages"])):
            try:
                found = messages_of(cell)
            except Unfit as unfit:
                raise rows.refuse(
                    row,
                    f"column {self.messages!r}: expected messages, found {unfit.found}.",
                    fix='Write a list of {"role": "user" or "assistant" or "system", "content": "..."}.',
                ) from None
            if found[-1]["role"] != "assistant":
                raise rows.refuse(
                    row,
                    f"column {self.messages!r}: the conversation ends with the {found[-1]['role']}, so that there is no answer "
                    "to learn.",
                    fix="Let each conversation end with an answer of the assistant, or leave the row out.",
                )

    # -- features and targets ------------------------------------------------------------------------------------------

    def said(self, inputs: Mapping[str, Sequence[Any]]) -> list[list[Message]]:
        nothing: list[Any] = [None] * len(next(iter(inputs.values())))
        found: list[list[Message]] = []
        columns = (inputs.get(name, nothing) for name in ("messages", "instruction", "input"))
        for messages, instruction, more in zip(*columns, strict=True):
            if messages is not None:
                found.append(without_answer(messages_of(messages)))
            else:
                found.append([{"role": "user", "content": f"{instruction}\n\n{more}" if more else instruction}])
        return found

    def supervise(self, rows: Any, features: Features) -> Features:
        encoder = rows.encoder
        columns = self.columns()
        if self.messages is None:
            answers = rows.values(columns["output"])
        else:
            answers = [messages_of(cell)[-1]["content"] for cell in rows.values(columns["messages"])]
        if encoder.tokenizer is None:
            return features
        chat, size = Chat(encoder, self.template), encoder.max_length or 1 << 30
        questions = self.questions(rows.inputs(self), encoder)
        written = self.answer_ids(chat, questions, answers)
        stream = features.input
        ids, starts, flags = np.asarray(stream["input_ids"]), np.asarray(stream.starts), np.asarray(stream["learnt"])
        kept, parts, labels = [], [], []
        too_long = cut = tokens = lost = 0
        for example, answer in enumerate(written):
            prompt = slice(int(starts[example]), int(starts[example + 1]))
            whole = np.concatenate([ids[prompt], answer])
            is_learnt = np.concatenate([flags[prompt] * (self.turns == "all"), np.ones(len(answer), dtype=np.int8)])
            tokens += len(whole)
            room = size + 1 - (prompt.stop - prompt.start)  # the last token of all is predicted, and not read
            if self.leaves_out(encoder, example, tokens=len(whole), room=room, over=len(answer) - room):
                too_long, lost = too_long + 1, lost + len(whole)
                continue
            if len(answer) > room:
                cut, lost = cut + 1, lost + len(answer) - room
            else:
                assert (
                    whole[-1] == chat.stop or encoder.tokenizer.convert_ids_to_tokens(int(whole[-1])) == self.stop_token
                )
            kept.append(example)
            parts.append(whole[: size + 1])
            labels.append(np.where(is_learnt[: size + 1] == 1, whole[: size + 1], IGNORED)[1:])
        self._tell(rows, too_long=too_long, cut=cut, answers=answers, size=size)
        lengths = np.array([len(part) - 1 for part in parts], dtype=np.int64)
        nothing = np.zeros(0, dtype=np.int64)
        found = {
            "input_ids": replace(
                stream.columns["input_ids"],
                values=np.concatenate([nothing, *(part[:-1] for part in parts)]).astype(np.int32),
            ),
            "labels": Ragged(np.concatenate([nothing, *labels]), fill=IGNORED, to_loss=True),
        }
        over = Overflow(len(questions), too_long + cut, too_long, tokens, lost)
        there = Stream(ends_of(lengths), found, mask=stream.mask)
        return Features({"input": there}, np.array(kept, dtype=np.int32), len(questions), over)

    def _tell(self, rows: Any, *, too_long: int, cut: int, answers: Sequence[str], size: int) -> None:
        count = len(answers)
        if too_long:
            rows.note(f"{too_long:,} of {count:,} examples are longer than {size} tokens and are left out")
        if cut:
            rows.note(
                f"{cut:,} of {count:,} answers are cut at {size} tokens, without what ends them: see tokens.max_length, or "
                "tokens.overflow='drop'"
            )
        if empty := sum(not answer.strip() for answer in answers):
            rows.note(f"{empty:,} of {count:,} answers are empty: what is learnt of them is to say nothing")

    def schema(self) -> TaskSchema:
        conversation = {"messages": [{"role": "user", "content": "Name three colours."}]}
        forms: tuple[Mapping[str, Cell], ...] = ({"messages": MESSAGES},)
        examples: tuple[Any, ...] = (conversation,)
        if self.messages is None:
            forms = ({"instruction": TEXT}, *forms)
            examples = ("Name three colours.", conversation)
            if self.input is not None:
                forms = ({"instruction": TEXT, "input": PERHAPS}, *forms)
                examples = (*examples, {"instruction": "Translate into French.", "input": "Good morning."})
        reads = "messages" if self.messages is not None else "instruction"
        note = "Only answers were learnt, not what was asked."
        return self.conversing_schema(inputs=forms, examples=examples, reads=reads, note=note)
