"""Synthetic support messages with eight intents: data for a first run without a network."""

from __future__ import annotations

from dataclasses import dataclass
from random import Random
from typing import TYPE_CHECKING

from hf_trainpipe.errors import DataError
from hf_trainpipe.quickstart.grammar import Wording, compose, mistype, read_wordings
from hf_trainpipe.recipe import Data

if TYPE_CHECKING:
    from datasets import DatasetDict

WORDINGS = read_wordings()
INTENTS = tuple(sorted(WORDINGS["train"].intents))
"""The labels, in the order of their ids."""

Message = tuple[str, str]
"""(text, intent)"""


def write_messages(wording: Wording, *, count: int, seed: str) -> list[Message]:
    """``count`` different messages, each intent equally often (to within one), in random order.

    The same arguments give the same messages on every machine and Python version.
    """
    rng = Random(f"support-messages/{seed}")
    intents = [INTENTS[position % len(INTENTS)] for position in range(count)]
    rng.shuffle(intents)
    messages: list[Message] = []
    seen: set[str] = set()
    for intent in intents:
        for _ in range(1000):
            text = mistype(compose(intent, wording, rng), rng)
            if text.lower() not in seen:
                break
        else:
            raise DataError(
                f"The grammar has no {count:,} different messages.",
                fix="Ask SupportMessages for fewer messages.",
            )
        seen.add(text.lower())
        messages.append((text, intent))
    return messages


@dataclass(frozen=True, kw_only=True)
class SupportMessages(Data):
    """Messages to the support of an online shop, with the intent of each: columns ``text`` and ``intent``.

    Some are misspelt, some say what they do *not* want, some touch a second intent. Validation and test are
    built from phrases, frames and products that training never saw, and so measure understanding, not memory.
    """

    train: int = 2496
    """Number of training messages."""
    validation: int = 504
    """Number of validation messages."""
    test: int = 504
    """Number of test messages."""
    seed: int = 7
    """Seed of the messages, independent of the recipe's."""

    def __post_init__(self) -> None:
        for name in ("train", "validation", "test"):
            if getattr(self, name) < len(INTENTS):
                raise DataError(
                    f"data.{name}: expected {len(INTENTS)} messages or more, found {getattr(self, name)}.",
                    fix=f"Set data.{name} to at least {len(INTENTS)}: one an intent.",
                )

    def messages(self) -> dict[str, list[Message]]:
        """Split to its messages. Uses only the standard library."""
        return {
            split: write_messages(wording, count=getattr(self, split), seed=f"{self.seed}/{split}")
            for split, wording in WORDINGS.items()
        }

    def splits(self) -> DatasetDict:
        from datasets import ClassLabel, Dataset, DatasetDict, Features, Value

        features = Features({"text": Value("string"), "intent": ClassLabel(names=list(INTENTS))})
        return DatasetDict(
            {
                split: Dataset.from_list(
                    [{"text": text, "intent": INTENTS.index(intent)} for text, intent in rows], features=features
                )
                for split, rows in self.messages().items()
            }
        )

    def describe(self) -> str:
        counts = f"{self.train:,} / {self.validation:,} / {self.test:,}"
        return f"support messages in {len(INTENTS)} intents, written by a grammar ({counts}, seed {self.seed})"
