"""Instructions and conversations: a model learns to answer, by a chat template, and only its answers are learnt.

Legend: N examples, F features, T tokens of all.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import KW_ONLY, dataclass, replace
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import numpy.typing as npt

from ..bounds import check_tokens
from ..errors import InputError, RecipeError
from ..tokens.chat import ROLES, Chat, Message
from ..tokens.features import Features, Overflow, Ragged, Stream
from ..tokens.ragged import ends_of
from .base import TaskSchema
from .columns import TEXT, Cell, Column, Text, Unfit
from .continuing import Continuing
from .tagging import IGNORED

if TYPE_CHECKING:
    from ..tokens.encoder import Encoder

Array = npt.NDArray[Any]


class Perhaps(Text):
    """A string, which may be empty."""

    def read(self, value: Any, *, allow_empty: bool = False) -> str:
        return super().read("" if value is None else value, allow_empty=True)


class Conversation(Cell):
    """A list of messages, the last one of the user."""

    def read(self, value: Any, *, allow_empty: bool = False) -> list[dict[str, str]]:
        found = _messages(value)
        if found[-1]["role"] == "assistant" and not allow_empty:
            raise Unfit("a conversation that ends with an answer", fix="Let the last message be of the user.")
        return found

    def characters(self, value: Any) -> int:
        return sum(len(message["content"]) or 1 for message in value)

    def spelt(self, value: Any) -> str:
        return "\n".join(f"{message['role']}: {message['content']}" for message in value)


PERHAPS = Perhaps("text, or nothing", {"type": "string"}, is_blank_missing=False)
MESSAGES = Conversation(
    "messages",
    {
        "type": "array",
        "minItems": 1,
        "items": {
            "type": "object",
            "properties": {"role": {"type": "string", "enum": list(ROLES)}, "content": {"type": "string"}},
            "required": ["role", "content"],
        },
    },
    is_blank_missing=False,
)


@dataclass(frozen=True)
class InstructionTuning(Continuing):
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

    learned: ClassVar[tuple[str, ...]] = ("stop_token",)
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
        return {"messages": _asked(_messages(values["messages"]))}

    def fit(self, rows: Any) -> InstructionTuning:
        """What the template ends an answer with."""
        encoder = rows.encoder
        if encoder is None or encoder.tokenizer is None:
            return self
        stop = encoder.tokenizer.convert_ids_to_tokens(Chat(encoder, self.template).stop)
        if self.stop_token not in (None, stop):
            raise RecipeError(
                f"task.stop_token: the template ends an answer with {stop!r}, found {self.stop_token!r}.",
                fix="Leave task.stop_token out, or choose another template.",
            )
        return replace(self, stop_token=stop)

    def check(self, rows: Any) -> None:
        """Refuse rows without an answer, with their place."""
        if self.messages is None:
            rows.values(self.columns()["output"])
            return
        for row, cell in enumerate(rows.values(self.columns()["messages"])):
            try:
                found = _messages(cell)
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

    def _questions(self, inputs: Mapping[str, Sequence[Any]], encoder: Encoder) -> list[list[Message]]:
        """What is asked in each example; users' texts after preprocessing."""
        count = len(next(iter(inputs.values())))
        nothing: list[Any] = [None] * count
        found = []
        columns = (inputs.get(name, nothing) for name in ("messages", "instruction", "input"))
        for messages, instruction, more in zip(*columns, strict=True):
            if messages is not None:
                asked = _asked(_messages(messages))
            else:
                asked = [{"role": "user", "content": f"{instruction}\n\n{more}" if more else instruction}]
            if self.system is not None and asked[0]["role"] != "system":
                asked = [{"role": "system", "content": self.system}, *asked]
            found.append(asked)
        if encoder.steps:
            users = [message for asked in found for message in asked if message["role"] == "user"]
            cleaned = iter(encoder.clean([message["content"] for message in users]))
            found = [
                [{**one, "content": next(cleaned)} if one["role"] == "user" else one for one in asked]
                for asked in found
            ]
        return found

    def encode(self, inputs: Mapping[str, Sequence[Any]], encoder: Encoder) -> Features:
        """What is asked, up to where an answer begins; column ``learnt``: the answers in it, and what ends them."""
        if encoder.tokenizer is None:  # data is looked at without a model
            return encoder.texts([""] * len(next(iter(inputs.values()))))
        chat = Chat(encoder, self.template)
        rendered = []
        for position, asked in enumerate(self._questions(inputs, encoder)):
            try:
                rendered.append((asked, chat.pieces(asked, asks=True)))
            except InputError as error:
                raise InputError(f"Example {position} : {error.message}", fix=error.fix, position=position) from error
        contents, counts = encoder.plain_ids(
            [piece.text for _, pieces in rendered for piece in pieces if piece.message is not None]
        )
        starts, at = ends_of(counts), 0
        ids: list[Array] = []
        learnt: list[Array] = []
        lengths = np.zeros(len(rendered), dtype=np.int64)
        for example, (asked, pieces) in enumerate(rendered):
            is_answer = False
            for piece in pieces:
                if piece.message is None:
                    own = chat.ids(piece.text)
                    ends = len(chat.until_stop(piece.text)[0]) if is_answer else 0
                    ids.append(own)
                    learnt.append(np.arange(len(own)) < ends)
                else:
                    is_answer = asked[piece.message]["role"] == "assistant"
                    ids.append(contents[starts[at] : starts[at + 1]])
                    learnt.append(np.full(len(ids[-1]), is_answer))
                    at += 1
                lengths[example] += len(ids[-1])
        check_tokens(int(lengths.sum()))
        columns = {
            "input_ids": Ragged(np.concatenate(ids), fill=int(encoder.tokenizer.pad_token_id or 0)),
            "learnt": Ragged(np.concatenate(learnt).astype(np.int8), to_model=False),
        }
        stream = Stream(ends_of(lengths), columns, mask="attention_mask")
        return Features({"input": stream}, np.arange(len(rendered), dtype=np.int32), len(rendered))

    def supervise(self, rows: Any, features: Features) -> Features:
        encoder = rows.encoder
        columns = self.columns()
        if self.messages is None:
            answers = rows.values(columns["output"])
        else:
            answers = [_messages(cell)[-1]["content"] for cell in rows.values(columns["messages"])]
        if encoder.tokenizer is None:
            return features
        chat, size = Chat(encoder, self.template), encoder.max_length or 1 << 30
        questions = self._questions(rows.inputs(self), encoder)
        contents, counts = encoder.plain_ids(
            [self._as_rendered(chat, *pair) for pair in zip(questions, answers, strict=True)]
        )
        at = ends_of(counts)
        stream = features.input
        ids, starts, flags = np.asarray(stream["input_ids"]), np.asarray(stream.starts), np.asarray(stream["learnt"])
        kept, parts, labels = [], [], []
        too_long = cut = tokens = lost = 0
        for example, asked in enumerate(questions):
            around = chat.answer([message["role"] for message in asked])
            ends, _ = chat.until_stop(around.behind)
            prompt = slice(int(starts[example]), int(starts[example + 1]))
            answer = np.concatenate([chat.ids(around.before), contents[at[example] : at[example + 1]], ends])
            whole = np.concatenate([ids[prompt], answer])
            is_learnt = np.concatenate([flags[prompt] * (self.turns == "all"), np.ones(len(answer), dtype=np.int8)])
            tokens += len(whole)
            room = size + 1 - (prompt.stop - prompt.start)  # the last token of all is predicted, and not read
            if len(answer) > room and (room < 1 or encoder.overflow in ("drop", "error")):
                if encoder.overflow == "error":
                    raise InputError(
                        f"Example {example} has {len(whole)} tokens; tokens.max_length is {size}.",
                        fix="Raise tokens.max_length, or set tokens.overflow to 'drop' or 'truncate'.",
                        position=example,
                    )
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

    def _as_rendered(self, chat: Chat, asked: Sequence[Message], answer: str) -> str:
        """An answer as the template takes it: some strip it."""
        pieces = chat.pieces([*asked, {"role": "assistant", "content": answer}], asks=False)
        return next((piece.text for piece in pieces if piece.message == len(asked)), "")

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

    # -- answers -------------------------------------------------------------------------------------------------------

    def ends(self, encoder: Encoder) -> tuple[int, ...]:
        own = encoder.tokenizer.convert_tokens_to_ids(self.stop_token) if self.stop_token is not None else None
        found = [*super().ends(encoder), *([] if own is None else [int(own)])]
        return tuple(dict.fromkeys(found))

    def asked(self, features: Features, encoder: Encoder, parameters: Mapping[str, Any]) -> Features:
        """Refuse what leaves no room for an answer.

        Raises:
            InputError: as said.
        """
        size, lengths = encoder.max_length or 1 << 30, features.input.lengths
        if (lengths >= size).any():
            position = int(features.example[int(np.argmax(lengths >= size))])
            raise InputError(
                f"Example {position} has {int(lengths.max())} tokens; this model takes {size}, the answer included.",
                fix="Shorten it, or leave early turns out.",
                position=position,
            )
        return super().asked(features, encoder, parameters)

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
        ends = f" Answers end with `{self.stop_token}`, whose prediction is in the loss." if self.stop_token else ""
        return TaskSchema(
            inputs=forms,
            examples=examples,
            reads="messages" if self.messages is not None else "instruction",
            answers="text",
            answer_example={
                "generated_text": "Red, green and blue.",
                "finish_reason": "stop",
                "prompt_tokens": 31,
                "completion_tokens": 7,
            },
            does="answers instructions",
            notes=(f"Only answers were learnt, not what was asked.{ends}",),
            **self.writing_schema(),
        )


def _messages(value: Any) -> list[dict[str, str]]:
    """A conversation in its one shape.

    Raises:
        Unfit: it is none.
    """
    if not isinstance(value, (list, tuple)) or not value:
        raise Unfit(f"{type(value).__name__} {value!r:.80}")
    found = []
    for message in value:
        if not isinstance(message, Mapping) or not isinstance(message.get("content"), str):
            raise Unfit(f"the message {message!r:.80}")
        if message.get("role") not in ROLES:
            raise Unfit(f"the role {message.get('role')!r:.40}", fix=f"Roles are {', '.join(ROLES)}.")
        content = message["content"]
        TEXT.read(content, allow_empty=True)
        found.append({"role": message["role"], "content": content})
    if all(message["role"] == "system" for message in found):
        raise Unfit("a conversation in which nobody speaks but the system")
    return found


def _asked(messages: list[dict[str, str]]) -> list[Message]:
    """Without the answer that a conversation ends with."""
    return [*messages[:-1]] if messages[-1]["role"] == "assistant" else [*messages]
