"""What tasks have in common whose models answer in conversations: a chat template, the token that ends an answer, requests.

Legend: N examples, F features, T tokens of all.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import numpy.typing as npt

from ..bounds import check_tokens
from ..errors import InputError, RecipeError
from ..tokens.chat import ROLES, Chat, Message
from ..tokens.features import Features, Ragged, Stream
from ..tokens.ragged import ends_of
from .columns import TEXT, Cell, Text, Unfit
from .continuing import Continuing
from .schema import TaskSchema

if TYPE_CHECKING:
    from typing import Self

    from ..tokens.encoder import Encoder

Array = npt.NDArray[Any]


class Perhaps(Text):
    """A string, which may be empty."""

    def read(self, value: Any, *, allow_empty: bool = False) -> str:
        return super().read("" if value is None else value, allow_empty=True)


class Conversation(Cell):
    """A list of messages, the last one of the user."""

    def read(self, value: Any, *, allow_empty: bool = False) -> list[dict[str, str]]:
        found = messages_of(value)
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


class Conversing(Continuing):
    """A task that asks by a chat template, and learns answers with the token that ends them.

    A subclass is a dataclass, which has these fields:
    """

    system: str | None
    """What the system says in the beginning, where a conversation does not; None: what the template has."""
    template: str | None
    """The chat template, in Jinja; ``plain``: headings without special tokens; None: the tokenizer's own."""
    stop_token: str | None
    """The token that ends an answer; None: the one that the template has there."""

    learned: ClassVar[tuple[str, ...]] = ("stop_token",)

    @abstractmethod
    def said(self, inputs: Mapping[str, Sequence[Any]]) -> list[list[Message]]:
        """What is asked in each example, as it stands there, without the answer."""

    def fit(self, rows: Any) -> Self:
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
        return self.changed({"stop_token": stop})

    def questions(self, inputs: Mapping[str, Sequence[Any]], encoder: Encoder) -> list[list[Message]]:
        """What is asked in each example; users' texts after preprocessing."""
        found = self.said(inputs)
        if self.system is not None:
            first: Message = {"role": "system", "content": self.system}
            found = [asked if asked[0]["role"] == "system" else [first, *asked] for asked in found]
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
        for position, asked in enumerate(self.questions(inputs, encoder)):
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

    def answer_ids(self, chat: Chat, questions: Sequence[Sequence[Message]], answers: Sequence[str]) -> list[Array]:
        """int32 each: what follows a question, from its answer's first token to the one that ends it."""
        contents, counts = chat.encoder.plain_ids(
            [_as_rendered(chat, *pair) for pair in zip(questions, answers, strict=True)]
        )
        at, found = ends_of(counts), []
        for example, asked in enumerate(questions):
            around = chat.answer([message["role"] for message in asked])
            ends, _ = chat.until_stop(around.behind)
            found.append(np.concatenate([chat.ids(around.before), contents[at[example] : at[example + 1]], ends]))
        return found

    @staticmethod
    def leaves_out(encoder: Encoder, example: int, *, tokens: int, room: int, over: int) -> bool:
        """Whether an example is left out for its length, and neither kept nor cut.

        Args:
            tokens: Of its question and longest answer.
            room: For the answer, behind the question.
            over: Tokens of that answer that have no room.

        Raises:
            InputError: ``tokens.overflow`` is ``error``.
        """
        if over <= 0 or (room >= 1 and encoder.overflow not in ("drop", "error")):
            return False
        if encoder.overflow == "error":
            raise InputError(
                f"Example {example} has {tokens} tokens; tokens.max_length is {encoder.max_length}.",
                fix="Raise tokens.max_length, or set tokens.overflow to 'drop' or 'truncate'.",
                position=example,
            )
        return True

    # -- answers -------------------------------------------------------------------------------------------------------

    def conversing_schema(
        self, *, inputs: Sequence[Mapping[str, Cell]], examples: Sequence[Any], reads: str, note: str
    ) -> TaskSchema:
        """The schema of a model that answers instructions.

        Args:
            note: A sentence on what was learnt.
        """
        ends = f" Answers end with `{self.stop_token}`, whose prediction is in the loss." if self.stop_token else ""
        return TaskSchema(
            inputs=tuple(inputs),
            examples=tuple(examples),
            reads=reads,
            answers="text",
            answer_example={
                "generated_text": "Red, green and blue.",
                "finish_reason": "stop",
                "prompt_tokens": 31,
                "completion_tokens": 7,
            },
            does="answers instructions",
            notes=(f"{note}{ends}",),
            **self.writing_schema(),
        )

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


def _as_rendered(chat: Chat, asked: Sequence[Message], answer: str) -> str:
    """An answer as the template takes it: some strip it."""
    pieces = chat.pieces([*asked, {"role": "assistant", "content": answer}], asks=False)
    return next((piece.text for piece in pieces if piece.message == len(asked)), "")


def messages_of(value: Any) -> list[dict[str, str]]:
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


def without_answer(messages: list[dict[str, str]]) -> list[Message]:
    """Without the answer that a conversation ends with."""
    return [*messages[:-1]] if messages[-1]["role"] == "assistant" else [*messages]
