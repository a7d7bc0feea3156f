"""Conversations as tokens: a chat template around messages that cannot write the template's own tokens.

The template is rendered by transformers, in jinja's sandbox, with a mark in place of each message's content. What stands between the
marks is the template's and may hold special tokens; each content is tokenized by itself, as plain text. So nothing that a
person writes begins or ends a turn, and what was asked is always the beginning of what was learnt, whatever an answer
begins with.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import numpy.typing as npt

from ..brief import one_line
from ..errors import InputError, RecipeError

if TYPE_CHECKING:
    from .encoder import Encoder

Ids = npt.NDArray[np.int32]
Message = Mapping[str, str]

ROLES = ("system", "user", "assistant")
PLAIN = """{% for message in messages %}{% if message['role'] == 'system' %}{{ message['content'] }}

{% elif message['role'] == 'user' %}### Instruction:
{{ message['content'] }}

{% else %}### Response:
{{ message['content'] }}{{ eos_token }}

{% endif %}{% endfor %}{% if add_generation_prompt %}### Response:
{% endif %}"""
"""A template without special tokens of its own, for tokenizers that have none. Its headings are text, which a person can write too."""

_MARK = "\ue000{}\ue001"


class Piece(NamedTuple):
    """A stretch of a rendered conversation."""

    text: str
    message: int | None
    """Whose content it is; None: the template's."""


class Answer(NamedTuple):
    """What follows a question, as the template has it."""

    before: str
    """Of the template, behind what the question ends with: what some begin an answer with."""
    behind: str
    """Of the template, from the end of the answer on."""


@dataclass
class Chat:
    """A tokenizer's chat template, or another.

    Args:
        encoder: Whose tokenizer has special tokens, and the template where none is given.
        template: Jinja, or ``plain``; None: the tokenizer's own.

    Raises:
        RecipeError: there is no template.
    """

    encoder: Encoder
    template: str | None = None

    def __post_init__(self) -> None:
        tokenizer = self.encoder.tokenizer
        said = PLAIN if self.template == "plain" else self.template
        if said is None and not getattr(tokenizer, "chat_template", None):
            raise RecipeError(
                "task.template: the tokenizer has no chat template, and the task gives none.",
                fix="Choose a model that was made for conversations; or set task.template='plain', or to a template in Jinja.",
            )
        self._said = said
        self._shapes: dict[tuple[tuple[str, ...], bool], list[Piece]] = {}
        self._ids: dict[str, Ids] = {}
        special = {*getattr(tokenizer, "all_special_ids", ())}
        added = getattr(tokenizer, "added_tokens_decoder", {})
        self._special = special | {number for number, token in added.items() if token.special}

    def _rendered(self, messages: Sequence[Message], *, asks: bool) -> str:
        """By transformers; what a template raises is an InputError."""
        try:
            text = self.encoder.tokenizer.apply_chat_template(
                [dict(message) for message in messages],
                chat_template=self._said,
                tokenize=False,
                add_generation_prompt=asks,
            )
        except Exception as error:  # a template raises what it likes
            raise InputError(
                f"the chat template refuses the conversation: {one_line(error)}",
                fix="Turns of user and assistant alternate in most templates; correct the conversation.",
            ) from error
        return str(text)

    def pieces(self, messages: Sequence[Message], *, asks: bool) -> list[Piece]:
        """The conversation in stretches: the template's, and the contents.

        Args:
            asks: Whether it ends with what begins an answer.

        Raises:
            InputError: the template makes something else of the contents than to take them as they are, or stripped.
        """
        shape = (tuple(message["role"] for message in messages), asks)
        if shape not in self._shapes:
            marked = [{"role": role, "content": _MARK.format(at)} for at, role in enumerate(shape[0])]
            self._shapes[shape] = _cut(self._rendered(marked, asks=asks), len(marked))
        known = self._shapes[shape]
        whole = self._rendered(messages, asks=asks)
        for strip in (False, True):
            contents = [message["content"].strip() if strip else message["content"] for message in messages]
            found = [
                piece if piece.message is None else Piece(contents[piece.message], piece.message) for piece in known
            ]
            if "".join(piece.text for piece in found) == whole:
                return found
        raise InputError(
            "the chat template changes a message, or leaves one out, by what it says.",
            fix="Choose another template (task.template), or leave such conversations out.",
        )

    def answer(self, roles: Sequence[str]) -> Answer:
        """What stands around an answer behind messages of these roles.

        Raises:
            RecipeError: a question is not how the answered conversation begins.
        """
        asked = self._shape_of([*roles], asks=True)
        whole = self._shape_of([*roles, "assistant"], asks=False)
        at = next(place for place, piece in enumerate(whole) if piece.message == len(roles))
        question, before = _text(asked), _text(whole[:at])
        if not before.startswith(question):
            raise RecipeError(
                "task.template: a conversation that asks for an answer does not begin as one that has it: "
                f"{question[-60:]!r} is not in {before[-60:]!r}.",
                fix="What is learnt would not be what is asked: choose another template.",
            )
        return Answer(before[len(question) :], _text(whole[at + 1 :]))

    def _shape_of(self, roles: Sequence[str], *, asks: bool) -> list[Piece]:
        marked = [{"role": role, "content": _MARK.format(at)} for at, role in enumerate(roles)]
        return self.pieces(marked, asks=asks)

    def ids(self, text: str) -> Ids:
        """Tokens of a stretch of the template, whose special tokens count."""
        if text not in self._ids:
            self._ids[text] = self.encoder.template_ids(text)
        return self._ids[text]

    def until_stop(self, text: str) -> tuple[Ids, Ids]:
        """Tokens of what stands behind an answer: those that end it, up to the first special one; and the rest.

        Raises:
            RecipeError: nothing of it is a special token, so that a model would not learn where an answer ends.
        """
        ids = self.ids(text)
        at = next((place for place, number in enumerate(ids.tolist()) if number in self._special), None)
        if at is None:
            raise RecipeError(
                f"task.template: behind an answer it has {text[:40]!r}, which is no token that ends one: the model would never "
                "learn to stop.",
                fix="Let the template write {{ eos_token }} behind the content of an assistant's message.",
            )
        return ids[: at + 1], ids[at + 1 :]

    @property
    def stop(self) -> int:
        """The token that ends an answer."""
        return int(self.until_stop(self.answer(["user"]).behind)[0][-1])


def _text(pieces: Sequence[Piece]) -> str:
    return "".join(piece.text for piece in pieces)


def _cut(text: str, count: int) -> list[Piece]:
    """A rendered text at its marks."""
    found, begin = [], 0
    for message in range(count):
        mark = _MARK.format(message)
        at = text.find(mark, begin)
        if at < 0 or text.find(mark, at + 1) >= 0:
            raise InputError(
                "the chat template leaves a message out, repeats one, or puts them into another order.",
                fix="Choose another template (task.template), or other turns.",
            )
        found += [Piece(text[begin:at], None), Piece(mark, message)]
        begin = at + len(mark)
    return [piece for piece in (*found, Piece(text[begin:], None)) if piece.text]
