"""Rows of preferences: what is asked and its answers, from texts, messages, or whole conversations."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import numpy.typing as npt

from .columns import TEXT, Cell, Column, Text, Unfit
from .conversing import MESSAGES, messages_of

if TYPE_CHECKING:
    from ..tokens.chat import Message

_WANTED: Mapping[str, bool] = {
    **dict.fromkeys(("true", "1", "1.0", "yes", "desirable"), True),
    **dict.fromkeys(("false", "0", "0.0", "no", "undesirable"), False),
}


class Asked(Text):
    """A text, or a list of messages."""

    def read(self, value: Any, *, allow_empty: bool = False) -> Any:
        if isinstance(value, str):
            return super().read(value, allow_empty=allow_empty)
        return MESSAGES.read(value, allow_empty=allow_empty)

    def characters(self, value: Any) -> int:
        return len(value) if isinstance(value, str) else MESSAGES.characters(value)

    def spelt(self, value: Any) -> str:
        return value if isinstance(value, str) else MESSAGES.spelt(value)


ASKED = Asked("text, or messages", {"anyOf": [TEXT.schema, MESSAGES.schema]})
"""What a column of questions holds."""
_ANSWER = Cell("an answer", is_blank_missing=False)
_LABEL = Cell("whether the answer is wanted", is_blank_missing=False)


class PreferenceRow(NamedTuple):
    """An example as it stands in the data."""

    asked: list[Message]
    answers: tuple[str, ...]


def read_rows(rows: Any, prompt: str | None, names: Sequence[str]) -> list[PreferenceRow]:
    """Rows of a split.

    Args:
        rows: A :class:`~hf_trainpipe.data.rows.Rows`.
        prompt: The column of questions; None: answers are whole conversations.
        names: The columns of answers, one or two.

    Raises:
        DataError: with the place of a row that cannot be read, or whose conversations part too early.
    """
    prompts: list[Any] = [None] * len(rows)
    if prompt is not None:
        prompts = _each(rows, prompt, rows.values(Column(prompt, ASKED)), question)
    found = []
    for name in names:
        pairs = [*zip(rows.values(Column(name, _ANSWER)), prompts, strict=True)]
        found.append(_each(rows, name, pairs, lambda pair: _answer(*pair)))
    read = []
    for row, answers in enumerate(zip(*found, strict=True)):
        one, other = answers[0][0], answers[-1][0]
        if one != other:
            at = next((place for place, pair in enumerate(zip(one, other, strict=False)) if pair[0] != pair[1]), None)
            raise rows.refuse(
                row,
                f"columns {' and '.join(map(repr, names))}: the conversations part at message "
                f"{min(len(one), len(other)) if at is None else at}, before their last ones, so that they do not answer the same.",
                fix="Let them differ in the last message alone, or leave the row out.",
            )
        read.append(PreferenceRow(one, tuple(answer for _, answer in answers)))
    return read


def read_wanted(rows: Any, name: str) -> npt.NDArray[np.float32]:
    """[N]: 1 of wanted answers, 0 of others.

    Raises:
        DataError: with the place of a row that says neither.
    """

    def read(cell: Any) -> bool:
        if (wanted := _WANTED.get(str(cell).strip().lower())) is None:
            raise Unfit(
                f"expected whether the answer is wanted, found {cell!r:.60}", fix="Write true or false, or 1 or 0."
            )
        return wanted

    return np.array(_each(rows, name, rows.values(Column(name, _LABEL)), read), dtype=np.float32)


def _each(rows: Any, name: str, cells: Sequence[Any], read: Callable[[Any], Any]) -> list[Any]:
    found = []
    for row, cell in enumerate(cells):
        try:
            found.append(read(cell))
        except Unfit as unfit:
            fix = unfit.fix or "Correct the row, or leave it out."
            raise rows.refuse(row, f"column {name!r}: {unfit.found}.", fix=fix) from None
    return found


def question(value: Any) -> list[Message]:
    """What is asked, as messages.

    Raises:
        Unfit: as a sentence.
    """
    if isinstance(value, str):
        if not value.strip():
            raise Unfit("expected what is asked, found an empty text")
        return [{"role": "user", "content": value}]
    found: list[Message] = [*_conversation(value)]
    if found[-1]["role"] == "assistant":
        raise Unfit("expected what is asked, found a conversation that ends with an answer")
    return found


def _answer(value: Any, asked: list[Message] | None) -> tuple[list[Message], str]:
    """What is asked, and the answer to it.

    Args:
        asked: What the column of questions says; None: there is none.

    Raises:
        Unfit: as a sentence.
    """
    if isinstance(value, str):
        if asked is None:
            raise Unfit(
                f"expected a conversation that begins with what is asked, found the text {value!r:.60}",
                fix="Name the column of questions in task.prompt, or write a list of messages.",
            )
        return asked, value
    *before, last = _conversation(value, is_answer=asked is not None)
    if last["role"] != "assistant":
        raise Unfit(f"the conversation ends with the {last['role']}, so that there is no answer")
    if asked is None:
        if not before or before[-1]["role"] == "assistant":
            raise Unfit("expected what is asked before the answer, found none")
        return [*before], last["content"]
    if before and before != asked:
        raise Unfit(
            "the conversation does not begin with what the column of questions says",
            fix="Set task.prompt=None, so that what is asked is read from the conversation; or correct the row.",
        )
    return asked, last["content"]


def _conversation(value: Any, *, is_answer: bool = False) -> list[dict[str, str]]:
    try:
        return messages_of(value)
    except Unfit as unfit:
        expected = "a text, or messages" if is_answer else "messages"
        raise Unfit(f"expected {expected}, found {unfit.found}", fix=unfit.fix) from None
